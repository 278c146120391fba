"""Lends connections to a database by its own driver, sqlite3 or psycopg: nothing heavy is imported.

| rule | |
|---|---|
| a transaction is begun and ended here | the drivers commit nothing by themselves |
| ``execute`` | takes ``:name`` parameters on every database; ``exec_driver_sql`` takes the driver's own marks |
| texts among the parameters | are cleaned of what a database refuses, unless the caller says ``clean=True`` |
| a connection that was given back | is lent again while its file, or its server, is still there |
| a fork | :meth:`Pool.dispose` closes what is idle, and what is lent as soon as it is given back |
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from cmbagent_nb.store import sqlite
from cmbagent_nb.store.json import clean as clean_text

#: Connections that are kept for the next one who needs one.
KEPT = 5

#: How a connection to a server is made, where the URL does not say it: nobody waits for ever for one that is gone.
CONNECTING = {
    "application_name": "cmbagent_nb",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_PREPARATION = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -16000",
    # Pages that many transactions change are copied, and the disk is waited for, a quarter as often as by default.
    "PRAGMA wal_autocheckpoint = 4000",
)

#: A parameter in a text; neither a cast (``::text``) nor a part of a JSON text.
_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")

#: Called with each statement, its parameters, and whether these are many rows, before it is executed.
Listener = Callable[[str, Any, bool], None]


class Result:
    """The rows of a statement."""

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor
        #: How many rows a statement changed.
        self.rowcount: int = cursor.rowcount

    def keys(self) -> list[str]:
        """Return the names of the columns."""
        return [column[0] for column in self.cursor.description or ()]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.cursor)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return self.cursor.fetchall()  # type: ignore[no-any-return]

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return self.cursor.fetchone()  # type: ignore[no-any-return]

    def dicts(self) -> list[dict[str, Any]]:
        """Return all rows as dicts."""
        names = self.keys()
        return [dict(zip(names, row, strict=True)) for row in self.fetchall()]

    def scalar(self) -> Any:
        """Return the first value of the first row; None where there is no row."""
        row = self.fetchone()
        return None if row is None else row[0]

    def partitions(self, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows in groups."""
        while rows := self.cursor.fetchmany(size):
            yield rows


class Connection:
    """A connection that is lent: see :class:`Pool`."""

    def __init__(self, raw: Any, pool: Pool, generation: int, file: str = "") -> None:
        self.raw = raw
        self.generation = generation
        self.file = file
        self.is_sqlite = pool.path is not None
        #: The workspace's folder and the runs without a process, by which rows are read as they are meant.
        self.home: Path | None = pool.home if self.is_sqlite else None
        self.orphans: set[str] = pool.orphans if self.is_sqlite else set()
        #: What is noted of the connection by whoever prepares it.
        self.info: dict[str, Any] = {}
        self.listener: Listener | None = None
        self._listeners = pool.listeners

    @property
    def in_transaction(self) -> bool:
        """Tell whether a transaction goes on."""
        return bool(self.raw.in_transaction if self.is_sqlite else self.raw.info.transaction_status)

    def execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] = ()) -> Result:
        """Execute a statement with ``:name`` parameters, once, or once for each of a list of them."""
        return self.exec_driver_sql(sql if self.is_sqlite else _of_server(sql), parameters)

    def exec_driver_sql(self, sql: str, parameters: Any = (), *, clean: bool = False) -> Result:
        """Execute a statement in the driver's own form, once, or once for each row of a list."""
        many = isinstance(parameters, list)
        if parameters and not clean:
            parameters = cleaned(parameters)
        for listener in (self.listener, *self._listeners):
            if listener is not None:
                listener(sql, parameters, many)
        cursor = self.raw.cursor()
        if many:
            cursor.executemany(sql, parameters)
        elif parameters or self.is_sqlite:
            cursor.execute(sql, parameters)
        else:
            cursor.execute(sql)  # psycopg leaves % alone where there are no parameters
        return Result(cursor)

    def stream(self, sql: str, parameters: Mapping[str, Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query with ``:name`` parameters in groups: they are not in memory all at once."""
        if self.is_sqlite:
            yield from self.execute(sql, parameters).partitions(size)
            return
        with self.raw.cursor(name="cmbagent_stream") as cursor:
            cursor.execute(_of_server(sql), parameters)
            yield from Result(cursor).partitions(size)

    @contextmanager
    def begin(self, kind: str = "") -> Iterator[Transaction]:
        """Begin a transaction, which is committed at its end if nothing was raised: ``IMMEDIATE``, say."""
        self.raw.execute(f"BEGIN {kind}")
        transaction = Transaction(self.raw)
        try:
            yield transaction
        except BaseException:
            transaction.rollback()
            raise
        transaction.commit()

    @contextmanager
    def begin_nested(self) -> Iterator[None]:
        """Begin a part of a transaction that can be taken back by itself."""
        self.raw.execute("SAVEPOINT cmbagent_part")
        try:
            yield
        except BaseException:
            with suppress(Exception):
                self.raw.execute("ROLLBACK TO SAVEPOINT cmbagent_part")
                self.raw.execute("RELEASE SAVEPOINT cmbagent_part")
            raise
        self.raw.execute("RELEASE SAVEPOINT cmbagent_part")


class Transaction:
    """A transaction that goes on."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._ended = False

    def commit(self) -> None:
        """Commit it, once."""
        if not self._ended:
            self._raw.commit()
            self._ended = True

    def rollback(self) -> None:
        """Take it back; a connection that is broken has done that by itself."""
        if not self._ended:
            self._ended = True
            with suppress(Exception):
                self._raw.rollback()


class Source(Protocol):
    """Protocol of a database, as far as a connection pool needs it."""

    home: Path
    url: str
    orphans: set[str]


class Pool:
    """Lends connections to any thread; made by the database, which it does not hold."""

    def __init__(self, database: Source, path: Path | None, mode: str = "rw", timeout: float = 5.0) -> None:
        self.home, self.url, self.orphans = database.home, database.url, database.orphans
        self.path, self.mode, self.timeout = path, mode, timeout
        #: Hear of every statement; for tests.
        self.listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._generation = 0
        self.lent = 0

    def take(self) -> Connection:
        """Lend a connection; give it back with :meth:`give` or :meth:`drop`."""
        while True:
            with self._lock:
                self.lent += 1
                generation, kept = self._generation, self._idle.pop() if self._idle else None
            try:
                if kept is None:
                    return self._made(generation)
                if self._is_good(kept):
                    return kept
            except BaseException:
                self._counted()
                raise
            self.drop(kept)

    def give(self, connection: Connection) -> None:
        """Take a connection back that is in no transaction."""
        connection.listener = None
        with self._lock:
            keep = connection.generation == self._generation and len(self._idle) < KEPT
            if keep:
                self._idle.append(connection)
                self.lent -= 1
        if not keep:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection that was lent: it may be in an unclear state."""
        with suppress(Exception):
            connection.raw.close()
        self._counted()

    def dispose(self) -> None:
        """Close all connections: those that are lent, when they are given back."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(Exception):
                connection.raw.close()

    def _counted(self) -> None:
        with self._lock:
            self.lent -= 1

    def _is_good(self, connection: Connection) -> bool:
        if self.path is not None:
            return connection.file == sqlite.identity(self.path)
        try:
            connection.raw.execute("SELECT 1")
        except Exception:
            return False
        return True

    def _made(self, generation: int) -> Connection:
        if self.path is None:
            import psycopg

            return Connection(psycopg.connect(**server_arguments(self.url), autocommit=True), self, generation)
        file = sqlite.identity(self.path)
        raw = sqlite.connect(self.path, self.mode, self.timeout)
        try:
            for statement in _PREPARATION:
                raw.execute(statement)
        except BaseException:
            raw.close()
            raise
        return Connection(raw, self, generation, file)


def server_arguments(url: str) -> dict[str, Any]:
    """Return the arguments with which the server's driver makes a connection."""
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
    return {**CONNECTING, **given}


@lru_cache(maxsize=512)
def _of_server(sql: str) -> str:
    """Return a text with ``:name`` parameters as psycopg takes it.

    >>> _of_server("SELECT a::text FROM b WHERE c = :c AND d LIKE '%:%'")
    "SELECT a::text FROM b WHERE c = %(c)s AND d LIKE '%%:%%'"
    """
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")) if _PARAMETER.search(sql) else sql


def cleaned(parameters: Any) -> Any:
    """Take from texts what a database refuses; here for whatever goes past the writer's queue."""
    if isinstance(parameters, str):
        return parameters if parameters.isascii() and "\x00" not in parameters else clean_text(parameters)
    if isinstance(parameters, Mapping):
        return {name: cleaned(value) for name, value in parameters.items()}
    if isinstance(parameters, list | tuple):
        return type(parameters)([cleaned(value) for value in parameters])
    return parameters


def is_wrong(error: BaseException) -> bool:
    """Tell whether an error comes from a database's driver."""
    return isinstance(error, sqlite3.Error) or any(
        kind.__module__.partition(".")[0] == "psycopg" for kind in type(error).__mro__
    )
