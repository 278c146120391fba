"""Keeps databases whole when the process is forked.

A connection of SQLite must not be carried over a fork, not even one that the child never uses: the library's view of
which locks are held would be wrong in the child, and what it wrote could be lost. So all connections are closed for the
moment of the fork; parent and child open new ones when they need them. Where that cannot be done in time, since a
thread is in the middle of something, the child gets one line that says so and the parent is not harmed.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import AbstractContextManager
from typing import Protocol

from cmbagent_nb.errors import StoreError

#: Seconds to wait for threads that use a database.
PATIENCE = 5.0


class Forkable(Protocol):
    """Protocol of objects that are notified of a fork."""

    def before_fork(self, deadline: float) -> bool:
        """Close all connections and hold still; tell whether that was done."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Start again: locks, threads and queues belong to the parent."""


_known: list[weakref.ref[Forkable]] = []


class _State:
    """State of the fork in progress."""

    def __init__(self) -> None:
        self.opening = threading.RLock()
        self.forking = threading.RLock()
        self.held: list[bool] = []
        self.safe = True
        self.unsafe_in = 0


_state = _State()


def opening() -> AbstractContextManager[bool]:
    """Return the lock that is held while a connection of SQLite is opened."""
    return _state.opening


def tell(known: Forkable) -> None:
    """Tell an object of forks from now on, after those that were given before it."""
    _known[:] = [reference for reference in _known if reference() is not None]
    _known.append(weakref.ref(known))


def fresh(holder: object, name: str) -> None:
    """Give an object, or a module, a new lock in a process that is forked: another thread may have held the old one."""
    kept = weakref.ref(holder)

    def renew() -> None:
        found = kept()
        if found is not None:
            setattr(found, name, threading.Lock())

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


def check() -> None:
    """Refuse to use a database in a process that was forked while one was in use.

    Raises
    ------
    StoreError
        This is such a process.
    """
    if _state.unsafe_in == os.getpid():
        raise StoreError(
            "the workspace was in use while this process was forked",
            "Use multiprocessing.get_context('spawn'), or fork while no run goes on.",
        )


def _living() -> list[Forkable]:
    return [known for reference in _known if (known := reference()) is not None]


def _before() -> None:
    _state.forking.acquire()
    deadline = time.monotonic() + PATIENCE
    _state.held.append(_state.opening.acquire(timeout=PATIENCE))
    _state.safe = _state.held[-1]
    for known in reversed(_living()):  # a writer before the database that it uses
        _state.safe = known.before_fork(deadline) and _state.safe


def _in_parent() -> None:
    for known in _living():
        known.after_fork_in_parent()
    if _state.held.pop():
        _state.opening.release()
    _state.forking.release()


def _in_child() -> None:
    _state.opening, _state.forking = threading.RLock(), threading.RLock()
    _state.held.clear()
    if not _state.safe and _known:
        _state.unsafe_in = os.getpid()
    for known in _living():
        known.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
