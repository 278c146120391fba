"""Provides the notebook front end: magics, the live view of a run, and its rich display."""

from __future__ import annotations

from typing import Any


def load(shell: Any) -> None:
    """Set up a notebook: what ``%load_ext cmbagent_nb`` does. Prints one line and returns at once."""
    from cmbagent_nb.notebook.loading import load_into

    load_into(shell)
