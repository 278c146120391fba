"""Shows a progress bar while a skill runs in a cell.

It is plain HTML that is replaced, not a widget: what is left of it in a saved notebook is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cmbagent_nb.render.text import esc


def progress_bar(name: str) -> Callable[[int, int, str], None]:
    """Return a callback that shows a bar with its first call, moves it, and takes it away at the end."""
    import IPython.display

    page: Any = IPython.display
    handle: Any = None

    def report(done: int, total: int, text: str) -> None:
        nonlocal handle
        ended = bool(total) and done >= total
        bar = f'<progress value="{done}" max="{max(total, 1)}"></progress> {esc(name)} · {esc(text)}'
        shown = page.HTML("" if ended else f'<span style="opacity:.8">{bar}</span>')
        if handle is None:
            handle = page.display(shown, display_id=True)
        else:
            handle.update(shown)

    return report
