"""Keeps the user's workspaces open for the server, isolated from each other.

| rule | |
|---|---|
| which | those in the user's list of opened workspaces, and the default one when it has a database |
| looking makes nothing | a folder without a database is passed over, not made into a workspace |
| one that cannot be read | is a :class:`Problem` in the answer; the others are served |
| one whose database was replaced | is opened again |
| a look writes nothing | it is opened read-only; a change opens it a second time (:meth:`WorkspacePool.writable`) |
| ``CMBAGENT_HOME`` is set | that workspace alone is served |
| nothing was written since | the last answer is given again: a look costs microseconds |
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.errors import CMBAgentError, RunNotFound
from cmbagent_nb.settings import default_home, load_settings
from cmbagent_nb.store.database import FILE_NAME
from cmbagent_nb.store.workspaces import listed

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace

T = TypeVar("T")

#: Seconds before a workspace that could not be opened is tried again.
RETRY = 5.0


@dataclass(frozen=True)
class Problem:
    """A workspace that could not be read, and what can be done about it."""

    workspace: Path
    error: str
    next_step: str


@dataclass
class _Open:
    workspace: Workspace
    stamp: Hashable
    #: What was answered to a question, and the version of the data that it was read from.
    answers: dict[Hashable, tuple[Hashable, Any]] = field(default_factory=dict)


class WorkspacePool:
    """All workspaces of the user; safe to use from any thread."""

    def __init__(self, homes: Callable[[], list[Path]] | None = None) -> None:
        self._homes = homes or _known_homes
        self._lock = threading.Lock()
        self._open: dict[Path, _Open] = {}
        self._writable: dict[Path, Workspace] = {}
        self._broken: dict[Path, tuple[float, Problem]] = {}

    def read(
        self, question: Callable[[Workspace], T], key: Hashable = None
    ) -> tuple[list[tuple[Path, Workspace, T]], list[Problem]]:
        """Ask every workspace the same, and return the answers and the workspaces that gave none.

        With a ``key`` that names the question, a workspace is asked again only after something was written.
        """
        answers: list[tuple[Path, Workspace, T]] = []
        problems: list[Problem] = []
        for home in self._homes():
            found = self._workspace(home)
            if isinstance(found, Problem):
                problems.append(found)
                continue
            try:
                answers.append((home, found.workspace, _answer(found, question, key)))
            except Exception as error:  # whatever is wrong with one, the others are served
                problems.append(_problem(home, error))
        return answers, problems

    def close(self) -> None:
        """Close what was opened."""
        with self._lock:
            opened = [*(entry.workspace for entry in self._open.values()), *self._writable.values()]
            self._open, self._writable = {}, {}
        for workspace in opened:
            workspace.close()

    def writable(self, home: Path) -> Workspace:
        """Return a workspace to change something in; only what is not a GET asks for it."""
        from cmbagent_nb.workspace import Workspace

        with self._lock:
            if home not in self._writable:
                self._writable[home] = Workspace(home)
            return self._writable[home]

    def _workspace(self, home: Path) -> _Open | Problem:
        from cmbagent_nb.workspace import Workspace

        with self._lock:
            known = self._open.get(home)
            stamp = _stamp(home, changes=known is not None and known.workspace._core.db.is_copy)
            if known is not None and known.stamp == stamp:
                return known
            if known is not None:
                del self._open[home]
                known.workspace.close()
            failed = self._broken.get(home)
            if failed is not None and time.monotonic() - failed[0] < RETRY:
                return failed[1]
            try:
                workspace = Workspace(home, read_only=True)
                workspace._core.db.data_version()
            except Exception as error:  # shown to the user, who can do something about it
                problem = _problem(home, error)
                self._broken[home] = (time.monotonic(), problem)
                return problem
            self._broken.pop(home, None)
            opened = self._open[home] = _Open(workspace, _stamp(home, changes=workspace._core.db.is_copy))
            return opened


def _answer(place: _Open, question: Callable[[Workspace], T], key: Hashable) -> T:
    if key is None:
        return question(place.workspace)
    version = (place.workspace._core.db.data_version(), frozenset(place.workspace._core.db.orphans))
    known = place.answers.get(key)
    if known is not None and known[0] == version:
        answer: T = known[1]
        return answer
    answer = question(place.workspace)
    place.answers[key] = (version, answer)
    return answer


def no_such(kind: str, reference: str) -> RunNotFound:
    """The error for an id that no workspace has."""
    return RunNotFound(f"no {kind} matches {reference!r}", "List them with %cmbagent runs.", reference=reference)


def _known_homes() -> list[Path]:
    others = [] if os.environ.get("CMBAGENT_HOME") else listed()
    homes = dict.fromkeys([default_home().absolute(), *(Path(home).absolute() for home in others)])
    return [home for home in homes if _stamp(home) is not None or _has_server(home)]


def _stamp(home: Path, *, changes: bool = False) -> Hashable:
    """Return what tells a database file from one that has taken its place; with ``changes``, from its older content."""
    try:
        found = (home / FILE_NAME).stat()
    except OSError:
        return None
    if not changes:
        return found.st_dev, found.st_ino
    log = home / f"{FILE_NAME}-wal"
    newest = (log.stat().st_mtime_ns, log.stat().st_size) if log.exists() else ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, newest


def _has_server(home: Path) -> bool:
    """Whether this workspace keeps its record on a database server."""
    if not home.is_dir():
        return False
    try:
        return bool(load_settings(home).database_url)
    except CMBAgentError:
        return True


def _problem(home: Path, error: Exception) -> Problem:
    if isinstance(error, CMBAgentError):
        return Problem(home, f"{error.what[:1].upper()}{error.what[1:]}.", error.next_step)
    return Problem(home, f"It cannot be read ({type(error).__name__}: {error}).", "See the log of the Jupyter server.")
