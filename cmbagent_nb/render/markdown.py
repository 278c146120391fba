"""Markdown that a model wrote, as HTML that is safe to show.

Markup in the text stays text; links lead only to web pages; pictures are shown only from the
run's own folder, and are put into the page, so that nothing is asked from the network.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cmbagent_nb.render.pictures import data_uri
from cmbagent_nb.render.text import esc

_MOST_BYTES = 3_000_000
_PICTURES = {"image/png", "image/jpeg", "image/gif", "image/webp"}


def markdown_html(text: str, base: Path | None = None) -> str:
    """Render Markdown.

    Parameters
    ----------
    text
        The Markdown; HTML in it is shown as text.
    base
        The folder in which pictures are looked for; none are shown without it.

    Returns
    -------
    str
        HTML without scripts, styles, event handlers or outside requests.

    >>> markdown_html("**5** <script>")
    '<p><strong>5</strong> &lt;script&gt;</p>\\n'
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])

    def image(_: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        source = str(token.attrs.get("src", ""))
        words = esc(token.content)
        data = picture(base, unquote(source)) if base else None
        return f'<img alt="{words}" src="{data}">' if data else f"<em>[{words or 'picture'}: {esc(source)}]</em>"

    def link(renderer: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        target = str(tokens[index].attrs.get("href", ""))
        if not target.startswith(("http://", "https://", "#")):
            tokens[index].attrs["href"] = "#"
            tokens[index].attrs["title"] = target
        tokens[index].attrs["rel"] = "noopener noreferrer"
        return str(renderer.renderToken(tokens, index, options, env))

    reader.add_render_rule("image", image)
    reader.add_render_rule("link_open", link)
    return str(reader.render(text))


def picture(base: Path, name: str) -> str | None:
    """Return a picture of the folder ``base`` as a data URI, or None when there is no such picture there."""
    try:
        path = (base / name).resolve()
        inside = path.is_relative_to(base.resolve())
        kind = mimetypes.guess_type(path.name)[0]
        if not inside or kind not in _PICTURES or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return data_uri(path.read_bytes(), kind)
    except (OSError, ValueError):
        return None
