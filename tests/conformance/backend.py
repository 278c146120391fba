"""A store under test: opens databases, writers and workspaces on it, and makes it go away for a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workspace import Workspace

ROOT = Path(__file__).parents[2]


class Backend:
    """A store; ``gone`` makes it refuse to be written as long as its context lasts."""

    def __init__(self, home: Path, url: str, gone: Callable[[], AbstractContextManager[None]]) -> None:
        self.home = home
        self.url = url
        self.gone = gone
        self.expected_faults = 0
        self._writers: list[Writer] = []
        self._databases: list[Database] = []
        self._workspaces: list[Workspace] = []
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def is_sqlite(self) -> bool:
        return not self.url

    def database(self) -> Database:
        """Open the database once more."""
        self._databases.append(Database.open(self.home, self.url))
        return self._databases[-1]

    def writer(self, db: Database | None = None, **options: Any) -> Writer:
        """Start a writer."""
        self._writers.append(Writer(db or self.database(), **options))
        return self._writers[-1]

    def elsewhere(self) -> Database:
        """Open a database of the embedded kind, to compare with."""
        self._databases.append(Database.open(self.home.parent / "elsewhere"))
        return self._databases[-1]

    def workspace(self, **settings: str) -> Workspace:
        """Open the workspace; other processes find the same settings in its folder."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in {"database_url": self.url, **settings}.items()]
        self.home.mkdir(exist_ok=True)
        (self.home / "config.toml").write_text("\n".join(line for line in lines if not line.endswith('""')) + "\n")
        self._workspaces.append(Workspace(self.home))
        return self._workspaces[-1]

    def process(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run code in a process of its own, with the home, the URL and ``arguments`` as its arguments."""
        command = [sys.executable, "-W", "error", "-c", code, str(self.home), self.url, *arguments]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._processes.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
        )
        return self._processes[-1]

    def close(self) -> None:
        """Close everything; nothing may have been refused that the spec did not expect."""
        faults = sum(writer.faults for writer in self._writers)
        for process in self._processes:
            process.kill()
            process.communicate()
        for workspace in self._workspaces:
            faults += workspace._core.writer.faults
            workspace.close()
        for writer in self._writers:
            writer.close()
        for db in self._databases:
            db.close()
        assert faults == self.expected_faults


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold SQLite's lock."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")
