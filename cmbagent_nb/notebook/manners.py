"""Importing in the background without slowing down the cell that runs.

Two threads that both want the interpreter share it half and half; an import of a second in the background
would make the cell that starts a run twice as slow. So a polite thread rests a moment before each module
that it imports while a cell is running, and the cell has the interpreter nearly to itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

_REST = 0.004


class _Manners:
    """A finder that finds nothing: it only rests."""

    def __init__(self, idle: threading.Event) -> None:
        self._idle = idle
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Rest if this is the polite thread and a cell is running."""
        if threading.get_ident() == self._thread and not self._idle.is_set():
            time.sleep(_REST)
        return None


@contextlib.contextmanager
def polite(idle: threading.Event) -> Iterator[None]:
    """Make the imports of this thread give way for as long as ``idle`` is not set."""
    manners = _Manners(idle)
    sys.meta_path.insert(0, manners)
    try:
        yield
    finally:
        sys.meta_path.remove(manners)
