"""Imports modules in a background thread without slowing down the cell that runs.

Two threads that both want the interpreter share it half and half, so an import of a second in the background
would make the cell that starts a run twice as slow. The background thread therefore sleeps a moment before each module
that it imports while a cell has just started. Only then, and at most 1.5 s in all: a run that the cell has started
waits for the same modules.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

#: Seconds: of one delay, of a cell's start, and of all delays together.
_DELAY, _START, _ALLOWANCE = 0.004, 0.7, 1.5


class Cells:
    """Records when the running cell started."""

    def __init__(self) -> None:
        self._started: float | None = None

    def begin(self, _: Any = None) -> None:
        """Note that a cell starts."""
        self._started = time.monotonic()

    def end(self, _: Any = None) -> None:
        """Note that the cell has ended, or has done what it had to do at once."""
        self._started = None

    @property
    def just_started(self) -> bool:
        """Tell whether a cell has just started."""
        started = self._started
        return started is not None and time.monotonic() - started < _START


class ImportThrottle:
    """Meta-path finder that delays the imports of one thread while a cell has just started; it finds no module."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._thread = threading.get_ident()
        self._allowance = _ALLOWANCE

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Sleep if this is the background thread and a cell has just started; return None always."""
        if threading.get_ident() == self._thread and self._allowance > 0 and self._cells.just_started:
            self._allowance -= _DELAY
            time.sleep(_DELAY)
        return None


@contextlib.contextmanager
def throttled_imports(cells: Cells) -> Iterator[None]:
    """Delay the imports of this thread while a cell has just started."""
    throttle = ImportThrottle(cells)
    sys.meta_path.insert(0, throttle)
    try:
        yield
    finally:
        sys.meta_path.remove(throttle)
