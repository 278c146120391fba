"""Provides the style sheets of the live view and of its static copy."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cmbagent_nb.render.css import css, sheet
from cmbagent_nb.render.text import esc


@cache
def live_css() -> str:
    """The shared style sheet, and what the widgets need on top."""
    return css() + sheet(Path(__file__).with_name("live.css"))


@cache
def _saved_css() -> str:
    """Return the CSS that hides the static copy beside a live view, and a dead live view beside a static copy."""
    return sheet(Path(__file__).with_name("saved.css"))


def saved_html(html: str, command: str) -> str:
    """Return the static copy of a live view, to be put out right after it.

    It is hidden as long as the view is connected to its kernel. After a restart it takes the view's place, with a line
    that says how to have it live again: by ``command``.
    """
    line = f"The kernel was restarted. Show it live: <code>{esc(command)}</code>"
    return f'<div class="cmbv-saved"><style>{_saved_css()}</style><div class="cmbv-restarted">{line}</div>{html}</div>'
