"""Opens a database safely, migrates it to the current schema, and reads it from any thread.

| rule | |
|---|---|
| SQLite in ``<home>/cmbagent.db`` by default | write-ahead log, foreign keys on, waits for locks |
| a database at the current version opens without Alembic | the version is read with the driver |
| migrations run under a lock | two processes that open at once migrate once |
| refused, with the way out | a newer schema, a damaged file, a network file system, a folder not writable |
| on a medium that is only readable | what is there is read, and writing is refused (``read_only``) |
| only the writer writes | see :mod:`cmbagent_nb.store.writer` |
| the same on both | what is read belongs to one moment; flags are true or false; texts are clean |
| a server that is gone for a moment | reading waits for it for some seconds, then says so in one line |
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.errors import DatabaseTooNew, StoreError, WorkDirError
from cmbagent_nb.ids import new_id
from cmbagent_nb.store import forks, sqlite
from cmbagent_nb.store.columns import BOOLEAN, key_of
from cmbagent_nb.store.connection import Connection, Pool, server_arguments
from cmbagent_nb.store.files import COLUMNS as PATHS
from cmbagent_nb.store.files import from_record
from cmbagent_nb.store.filesystem import network_file_system
from cmbagent_nb.store.private import make_folder, tighten_workspace
from cmbagent_nb.store.sqlite import BUSY_TIMEOUT, patiently
from cmbagent_nb.store.transient_errors import is_damage, is_full, is_transient, reason

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.store.tables import Table

    T = TypeVar("T", bound=Table)

#: The schema versions that this code knows, oldest first; the last is the current one.
VERSIONS = ("0001", "0002", "0003", "0004", "0005", "0006")

#: What is wrong with a database that has tables and no version.
NO_SCHEMA = "it does not say its schema"

#: The tables that a new SQLite database begins with: what all migrations come to, without loading Alembic.
SCHEMA = Path(__file__).parent / "migrations" / "schema.sql"

#: The name of the database file in a workspace.
FILE_NAME = "cmbagent.db"

#: Seconds that reading waits for a server that does not answer.
READ_PATIENCE = 5.0


_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*(?=@)")

#: Connections of a parent process, which must neither be used nor closed in a child.
_abandoned: list[object] = []

#: Statuses of what no process carries on any more, where that could not be written.
_MEANT = PATHS | {"status", "run_id", "id"}
_GOING_ON = frozenset({"draft", "planning", "executing", "paused", "waiting_approval", "running", "retrying"})


class Database:
    """An open database; made by :meth:`open`."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self.path: Path | None = None if url else home / FILE_NAME
        #: Why nothing can be written, in words; empty where it can.
        self.read_only = ""
        #: Runs whose process is gone where that cannot be written: they are read as interrupted.
        self.orphans: set[str] = set()
        self._source = self.path
        self._mode = "rw"
        self._copy: Path | None = None
        #: What its notifications carry, so that they are not news to itself.
        self.token = new_id()
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._watcher: sqlite3.Connection | None = None
        self._watched = ""
        self._closed = False
        forks.tell(self)

    @classmethod
    def open(cls, home: Path, url: str = "", *, read_only: bool = False) -> Database:
        """Open the database of the workspace in ``home``; make or migrate it where needed.

        With ``read_only`` nothing is made or changed: an older schema is read in a copy that has the current one.

        Raises
        ------
        DatabaseTooNew
            A newer version of this package made it.
        StoreError
            It is damaged, on a network file system, or cannot be reached.
        WorkDirError
            The folder cannot be made or written.
        """
        home = Path(home).absolute()
        database = cls(home, driver_url(url))
        if read_only:
            try:
                database._prepare_to_read()
            except BaseException:
                database.close()
                raise
            return database
        try:
            make_folder(home)
        except OSError as error:
            raise WorkDirError(
                f"the workspace folder {home} cannot be made ({error.strerror})",
                "Choose another with CMBAGENT_HOME or Workspace(path).",
                path=home,
            ) from error
        if database.path is not None:
            kind = network_file_system(home)
            if kind:
                raise StoreError(
                    f"the workspace {home} is on a network file system ({kind}), where SQLite can lose data",
                    "Set CMBAGENT_HOME to a folder on a local disk, or CMBAGENT_DATABASE_URL to a PostgreSQL server.",
                    path=home,
                    kind=kind,
                )
        try:
            database._prepare()
        except BaseException:
            database.close()
            raise
        if not database.read_only:
            tighten_workspace(home)
        return database

    # -- reading ---------------------------------------------------------------------------

    @property
    def pool(self) -> Pool:
        """The connections to the database."""
        if self._pool is None:
            forks.check()
            with self._lock:
                if self._closed:
                    raise StoreError("the workspace is closed", "Make a new Workspace.")
                if self._pool is None:
                    self._pool = Pool(self, self._source, self._mode, BUSY_TIMEOUT)
        return self._pool

    @property
    def is_sqlite(self) -> bool:
        """Tell whether the database is the embedded one."""
        return self.path is not None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Lend a connection for reading: what is read within it belongs to one moment.

        Raises
        ------
        StoreError
            The database cannot be reached.
        """
        try:
            connection = self._lent("" if self.is_sqlite else "ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield connection
            finally:
                self._give_back(connection)
        except Exception as error:
            raise self.told(error) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Lend a connection within a transaction past the writer: for migrations and tests."""
        connection = self.pool.take()
        try:
            with connection.begin("IMMEDIATE" if self.is_sqlite else ""):
                yield connection
        finally:
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        try:
            if connection.in_transaction:
                connection.raw.execute("ROLLBACK")
        except Exception:
            self.pool.drop(connection)
        else:
            self.pool.give(connection)

    def told(self, error: Exception) -> Exception:
        """Return the error for the user in place of the driver's; any other error as it is."""
        if self.is_lost(error):
            there = self.path is None or self.path.exists()
            return self._damaged(reason(error) if there else "it is not there any more")
        if not is_transient(error):
            return error
        return StoreError(
            f"the database {self._shown} cannot be read ({reason(error)})",
            "See whether its server runs or its disk is full, and try again.",
        )

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether an error is about a file that is damaged or gone: waiting does not bring it back."""
        if is_damage(error):
            return True
        if self.path is None or not is_transient(error):
            return False
        return not self.path.exists() or sqlite.odd_part(self.path) is not None

    def _lent(self, kind: str) -> Connection:
        """Return a connection within a transaction for reading, waiting a little for a server that is gone."""
        until = time.monotonic() + READ_PATIENCE
        while True:
            try:
                pool = self.pool
                connection = pool.take()
                try:
                    connection.raw.execute(f"BEGIN {kind}")
                except BaseException:
                    pool.drop(connection)
                    raise
            except Exception as error:
                if self.is_sqlite or not is_transient(error) or time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return connection

    def rows(self, sql: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """Run a query with ``:name`` parameters and return its rows as dicts."""
        with self.reading() as connection:
            return rows(connection, sql, parameters)

    def frame(self, sql: str, /, **parameters: Any) -> pd.DataFrame:
        """Run a query and return a DataFrame with its columns as they are stored."""
        import pandas as pd

        with self.reading() as connection:
            cursor = connection.execute(sql, parameters)
            names, found = cursor.keys(), cursor.fetchall()
            columns = zip(*found, strict=True) if found else ((),) * len(names)
            data = as_meant(connection, {name: list(column) for name, column in zip(names, columns, strict=True)})
        return pd.DataFrame(data, columns=names)

    def get(self, table: type[T], key: object) -> T | None:
        """Read one object by its key: ``db.get(WorkflowRun, run_id)``."""
        name = str(table.__tablename__)
        found = self.rows(f'SELECT * FROM "{name}" WHERE {key_of(name)} = :key', key=key)
        return table(**found[0]) if found else None

    def data_version(self) -> int:
        """Return a number that changes when any connection, of any process, has committed."""
        if self.path is None:
            with self.reading() as connection:
                # Which transactions have ended: their number alone would miss one that ends after a later one.
                snapshot = connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar()
                return zlib.crc32(str(snapshot).encode())
        with self._lock:
            if self._closed:
                raise StoreError("the workspace is closed", "Make a new Workspace.")
            if self._source is not None and self._watched != sqlite.identity(self._source):
                self._stop_watching()
            try:
                if self._watcher is None:
                    forks.check()
                    assert self._source is not None
                    self._watched = sqlite.identity(self._source)
                    self._watcher = sqlite.connect(self._source, "rw" if self._mode == "rw" else self._mode)
                return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error as error:
                self._stop_watching()
                if self.is_lost(error):
                    raise self.told(error) from error
                raise

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def connecting(self) -> dict[str, Any]:
        """Return the arguments with which the server's driver makes a connection; loads the driver."""
        return server_arguments(self.url)

    def close(self) -> None:
        """Close all connections; the database cannot be used afterwards."""
        with self._lock:
            self._closed = True
            self._stop_watching()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.dispose()
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)

    # -- forks -----------------------------------------------------------------------------

    def before_fork(self, deadline: float) -> bool:
        """Close all connections, as soon as they are not in use."""
        if self.path is None:
            return True
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        try:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        finally:
            self._lock.release()
        pool = self._pool
        if pool is None:
            return True
        while True:
            pool.dispose()
            if pool.lent == 0:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)

    def after_fork_in_parent(self) -> None:
        """Go on: connections are opened again when they are needed."""

    def after_fork_in_child(self) -> None:
        """Start again in a forked child; connections that cannot be closed are abandoned."""
        _abandoned.append((self._pool, self._watcher))
        self._lock = threading.Lock()
        self._pool = self._watcher = None
        self.token = new_id()

    # -- opening ---------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self.path is None:
            version = _version_on_server(self)
        else:
            if found := sqlite.odd_part(self.path):
                raise self._damaged(f"{found[0].name} is {found[1]}")
            if self.path.exists() and not sqlite.writable(self.path):
                self._read_only(f"the workspace {self.home} cannot be written")
            version = self._version_of_file()
        self._bring_up_to_date(version)

    def _bring_up_to_date(self, version: str | None) -> None:
        if version == VERSIONS[-1]:
            return
        if version is not None and version not in VERSIONS:
            raise DatabaseTooNew(
                f"the database {self._shown} has the schema {version}, which is newer than this cmbagent_nb knows",
                "Update cmbagent_nb, or choose another workspace with CMBAGENT_HOME.",
                path=self.path,
                version=version,
            )
        if self._mode != "rw" and self.path is not None:  # it is brought to the current schema in a copy
            self._copy = sqlite.copy_of(self.path)
            self._source, self._mode = self._copy / FILE_NAME, "rw"
        from cmbagent_nb.store.migrate import migrate

        migrate(self)

    def _prepare_to_read(self) -> None:
        self.read_only = "the workspace is only looked at"
        if self.path is None:
            version = _version_on_server(self)
            if version != VERSIONS[-1]:
                raise StoreError(
                    f"the database {self._shown} has tables of another version of cmbagent_nb",
                    "Run any command in its workspace to bring them up to date, such as: cmbagent runs.",
                )
            return
        if not self.path.exists():
            raise StoreError(f"there is no workspace in {self.home}", "Name the folder of one.", path=self.home)
        if found := sqlite.odd_part(self.path):
            raise self._damaged(f"{found[0].name} is {found[1]}")
        self._read_only(self.read_only)
        self._bring_up_to_date(self._version_of_file())

    @property
    def is_copy(self) -> bool:
        """Tell whether a copy is read, which does not follow the original."""
        return self._copy is not None

    def _read_only(self, why: str) -> None:
        """Read the database without writing to it, or beside it."""
        assert self.path is not None
        try:
            self._source, self._mode, self._copy = sqlite.readable(self.path)
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        self.read_only = why

    def _version_of_file(self) -> str | None:
        try:
            return patiently(self.version)
        except sqlite3.Error as error:
            if self.read_only or not (is_full(error) or is_transient(error)):
                raise self._refusal(error) from error
            # SQLite needs space beside a database even to read it: a copy elsewhere can be read.
            self._read_only(f"the database {self._shown} cannot be written ({reason(error)})")
        try:
            return patiently(self.version)
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def version(self) -> str | None:
        """Return the schema version of an SQLite database; None where there is no schema.

        Raises
        ------
        StoreError
            It has tables, and does not say of which version.
        """
        assert self._source is not None
        if not self._source.exists():
            return None
        with closing(sqlite.connect(self._source, self._mode, BUSY_TIMEOUT)) as connection:
            if self._mode == "rw" and connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                return None  # it is made just now, or it is empty: see under the lock
            connection.execute("BEGIN")  # both looks are at one moment
            there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" in there:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if row is not None:
                    return str(row[0])
            if "workflow_runs" in there:
                raise self._damaged(NO_SCHEMA)
            return None

    def _damaged(self, why: str) -> StoreError:
        return StoreError(
            f"the database {self._shown} is damaged ({why})",
            "Run `cmbagent doctor --repair`: it moves the file aside and takes the runs from their journals.",
            path=self.path,
            damaged=True,
        )

    def _refusal(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "")
        if is_damage(error):
            return self._damaged(str(error))
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            return StoreError(
                f"the database {self._shown} cannot be written ({error})",
                "Make the folder writable, or choose another workspace with CMBAGENT_HOME.",
                path=self.path,
            )
        return StoreError(
            f"the database {self._shown} cannot be opened ({error})",
            "See whether another process holds it or the disk is full, and try again.",
            path=self.path,
        )

    @property
    def source(self) -> Path | None:
        """The file that is read: the database itself, or a copy of one that cannot be written."""
        return self._source

    @property
    def _shown(self) -> str:
        """The database's place without a password."""
        if self.path is not None:
            return str(self.path)
        return without_password(self.url)


def rows(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run a query on a connection that is open and return its rows as dicts."""
    cursor = connection.execute(sql, parameters)
    names = tuple(cursor.keys())
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for name in BOOLEAN.intersection(names):  # SQLite has 0 and 1
        for row in found:
            if row[name] is not None:
                row[name] = bool(row[name])
    if PATHS.isdisjoint(names) and not connection.orphans:
        return found
    for name, values in _meant(connection, {name: [row[name] for row in found] for name in _MEANT & set(names)}):
        for row, value in zip(found, values, strict=True):
            row[name] = value
    return found


def as_meant(connection: Connection, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return columns as they are meant: paths where the workspace lies now, and runs without a process interrupted."""
    return columns | dict(_meant(connection, columns))


def _meant(connection: Connection, columns: dict[str, list[Any]]) -> Iterator[tuple[str, list[Any]]]:
    if not columns:
        return
    home, orphans = connection.home, connection.orphans
    if home is not None:
        for name in PATHS.intersection(columns):
            yield name, [from_record(home, value) for value in columns[name]]
    if orphans and "status" in columns and (runs := columns.get("run_id", columns.get("id"))):
        yield (
            "status",
            [
                "interrupted" if run in orphans and status in _GOING_ON else status
                for run, status in zip(runs, columns["status"], strict=True)
            ],
        )


def driver_url(url: str) -> str:
    """Return a database's URL with the driver that we use; empty for SQLite.

    >>> driver_url("postgres://me@host/name") == driver_url("postgresql+psycopg://me@host/name")
    True
    """
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    if url and not url.startswith("postgresql+"):
        raise StoreError(
            f"a database of the kind {url.partition(':')[0]!r} is not known",
            "Set CMBAGENT_DATABASE_URL to postgresql://user:password@host/name, or leave it empty for SQLite.",
        )
    return url


def without_password(url: str) -> str:
    """Hide the password in a URL.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    return _PASSWORD.sub(r"\1:***", url)


def _version_on_server(database: Database) -> str | None:
    try:
        import psycopg
    except ImportError as error:
        raise _unreachable(database, error) from error
    try:
        connection = database.pool.take()
        try:
            if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None:
                return None
            row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchone()
            return None if row is None else str(row[0])
        finally:
            database.pool.give(connection)
    except psycopg.Error as error:
        raise _unreachable(database, error) from error


def _unreachable(database: Database, error: Exception) -> StoreError:
    return StoreError(
        f"the database {database._shown} cannot be reached ({reason(error)})",
        "Check CMBAGENT_DATABASE_URL and that the server runs; pip install 'cmbagent-nb[postgres]' has the driver.",
    )
