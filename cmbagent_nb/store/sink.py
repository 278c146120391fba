"""The writing connection: transactions of a batch, of single rows, of a caller's function.

For the writer's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.store.batch import Batch, Row, Scrub, Statement, statements
from cmbagent_nb.store.columns import SOFT_LINKS, key_of
from cmbagent_nb.store.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

#: Rows whose run is remembered, so that a change to one is told to those who watch the run.
_REMEMBERED = 20_000

#: Names of SQLite's errors that go away by waiting or by the user's doing.
_TRANSIENT = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")


class MissingRowError(LookupError):
    """A change to a row that is not there."""


def is_transient(error: BaseException) -> bool:
    """Tell whether an error is about the database and not about the rows."""
    original = getattr(error, "orig", None) or error
    name = getattr(original, "sqlite_errorname", None)
    if name is not None:
        return str(name).startswith(_TRANSIENT)
    if getattr(error, "connection_invalidated", False):
        return True
    return type(original).__name__ in {"OperationalError", "InterfaceError"} and not _is_sqlite(original)


def _is_sqlite(error: BaseException) -> bool:
    return type(error).__module__ == "sqlite3"


class Sink:
    """The one connection that writes."""

    def __init__(self, db: Database, scrub: Scrub, fault: Callable[[str, str, Any, BaseException], None]) -> None:
        self._db = db
        self._scrub = scrub
        self._fault = fault
        self._connection: Connection | None = None
        self._mark = "?" if db.is_sqlite else "%s"
        self._runs: set[str] = set()
        self._run_of: OrderedDict[str, str] = OrderedDict()
        self._seen: set[str] | None = None

    def write(self, batch: Batch) -> set[str]:
        """Write a batch in one transaction and return the ids of the runs it touched."""
        missing: list[tuple[Statement, tuple[Any, ...]]] = []
        with self._transaction() as connection:
            for item in statements(batch, self._scrub, self._mark):
                missing += self._execute(connection, item)
            touched = self._touched(connection, batch)
        for item, values in missing:
            self._fault(
                "update", item.table, dict(zip(item.columns, values, strict=True)), MissingRowError("no such row")
            )
        return touched

    def write_one_by_one(self, batch: Batch) -> set[str]:
        """Write each row of a batch on its own: good rows go in, each bad one is a fault."""
        touched: set[str] = set()
        for operation, table, row in batch.rows():
            single = Batch()
            if operation == "insert":
                single.insert(table, row)
            else:
                single.change(table, row)
            try:
                touched |= self.write(single)
            except Exception as error:
                self._fault(operation, table, row, error)
                bare = {name: None if name in SOFT_LINKS else value for name, value in row.items()}
                if operation == "insert" and bare != row:
                    touched |= self._kept_without_links(table, bare)
        return touched

    def _kept_without_links(self, table: str, row: Row) -> set[str]:
        """Try once more without the link to an event: the row is worth more than the link."""
        single = Batch()
        single.insert(table, row)
        try:
            return self.write(single)
        except Exception:
            return set()  # counted by the caller already

    def call(self, fn: Callable[[Connection], T]) -> tuple[T, set[str]]:
        """Run a caller's function in a transaction and return its result and the runs it touched."""
        self._seen = set()
        try:
            with self._transaction() as connection:
                result = fn(connection)
                seen, self._seen = self._seen, None
                touched = seen & self._runs
                if seen and not touched:
                    touched = self._runs_among(connection, seen)
            return result, touched
        finally:
            self._seen = None

    def ready(self) -> None:
        """Raise what keeps a transaction from beginning."""
        with self._transaction():
            pass

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connected()
        try:
            with connection.begin():
                yield connection
        except BaseException as error:
            if is_transient(error):
                self._drop()
            raise

    def _connected(self) -> Connection:
        from sqlalchemy import event

        connection = self._db.engine.connect().execution_options(writing=True)

        @event.listens_for(connection, "before_cursor_execute")
        def notice(_c: object, _cursor: object, _sql: str, parameters: Any, _context: object, many: bool) -> None:
            if self._seen is not None and len(self._seen) < 200:
                for row in parameters if many else (parameters,):
                    values: Iterable[Any] = row.values() if isinstance(row, dict) else row
                    self._seen.update(item for item in values if isinstance(item, str) and len(item) == 36)

        return connection

    def _drop(self) -> None:
        """Let go of a connection that may be in an unclear state."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _execute(self, connection: Connection, item: Statement) -> list[tuple[Statement, tuple[Any, ...]]]:
        """Execute a statement for its rows; return the changes whose row is not there."""
        rows = item.rows
        cursor = connection.exec_driver_sql(item.sql, rows if len(rows) > 1 else rows[0])
        if item.operation == "insert" or cursor.rowcount in (len(rows), -1):
            return []
        key = key_of(item.table)
        query = f'SELECT 1 FROM "{item.table}" WHERE {key} = {self._mark}'
        return [
            (item, values) for values in rows if connection.exec_driver_sql(query, (values[-1],)).fetchone() is None
        ]

    # -- which runs a batch is about --------------------------------------------------------

    def _touched(self, connection: Connection, batch: Batch) -> set[str]:
        touched: set[str] = set()
        for table, rows in batch.inserts.items():
            key = key_of(table)
            for row in rows:
                run = row.get("id") if table == "workflow_runs" else row.get("run_id")
                if isinstance(run, str):
                    touched.add(run)
                    identifier = row.get(key)
                    if isinstance(identifier, str):
                        self._remember(identifier, run)
        for (table, identifier), values in batch.updates.items():
            run = identifier if key_of(table) == "run_id" or table == "workflow_runs" else values.get("run_id")
            run = run or self._run_of.get(identifier) or self._looked_up(connection, table, identifier)
            if isinstance(run, str):
                touched.add(run)
                self._remember(identifier, run)
        self._runs |= touched
        return touched

    def _remember(self, identifier: str, run: str) -> None:
        self._run_of[identifier] = run
        if len(self._run_of) > _REMEMBERED:
            self._run_of.popitem(last=False)

    def _looked_up(self, connection: Connection, table: str, identifier: str) -> str | None:
        if table in {"sessions", "projects", "skills"}:
            return None
        query = f'SELECT run_id FROM "{table}" WHERE id = {self._mark}'
        found = connection.exec_driver_sql(query, (identifier,)).fetchone()
        return found[0] if found else None

    def _runs_among(self, connection: Connection, identifiers: set[str]) -> set[str]:
        some = sorted(identifiers)[:50]
        marks = ", ".join([self._mark] * len(some))
        query = f"SELECT id FROM workflow_runs WHERE id IN ({marks})"
        found = {row[0] for row in connection.exec_driver_sql(query, tuple(some)).fetchall()}
        self._runs |= found
        return found
