"""The style sheets of the notebook: of the live view, and of the static copy beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cmbagent_nb.render.css import css, sheet


@cache
def live_css() -> str:
    """The shared style sheet, and what the widgets need on top."""
    return css() + sheet(Path(__file__).with_name("live.css"))


@cache
def saved_css() -> str:
    """What hides the static copy while a live view is there, and a dead live view beside a static copy."""
    return sheet(Path(__file__).with_name("saved.css"))
