"""Importing in the background without slowing down the cell that runs.

Two threads that both want the interpreter share it half and half; an import of a second in the background
would make the cell that starts a run twice as slow. So a polite thread rests a moment before each module
that it imports while a cell has just begun, and the cell has the interpreter nearly to itself. Only just begun,
and not often: a run that the cell has started waits for the same modules.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

#: Seconds: of one rest, of a cell's beginning, and of all rests together.
_REST, _BEGINNING, _PATIENCE = 0.004, 0.7, 1.5


class Cells:
    """When the cell that runs began."""

    def __init__(self) -> None:
        self._began: float | None = None

    def begin(self, _: Any = None) -> None:
        """A cell begins."""
        self._began = time.monotonic()

    def end(self, _: Any = None) -> None:
        """The cell has ended, or what it had to do at once is done."""
        self._began = None

    @property
    def beginning(self) -> bool:
        """Whether a cell has just begun."""
        began = self._began
        return began is not None and time.monotonic() - began < _BEGINNING


class _Manners:
    """A finder that finds nothing: it only rests."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._thread = threading.get_ident()
        self._patience = _PATIENCE

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Rest if this is the polite thread and a cell has just begun."""
        if threading.get_ident() == self._thread and self._patience > 0 and self._cells.beginning:
            self._patience -= _REST
            time.sleep(_REST)
        return None


@contextlib.contextmanager
def polite(cells: Cells) -> Iterator[None]:
    """Make the imports of this thread give way to cells that begin."""
    manners = _Manners(cells)
    sys.meta_path.insert(0, manners)
    try:
        yield
    finally:
        sys.meta_path.remove(manners)
