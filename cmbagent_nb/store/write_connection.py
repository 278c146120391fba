"""Holds the writing connection: transactions of a batch, of single rows, of a caller's function.

| rule | |
|---|---|
| a batch with a bad row | is written again row by row, each behind a savepoint: good rows go in, bad ones are faults |
| a caller's function | runs alone: no other process is within one at the same time |
| the connection breaks during COMMIT | the server is asked whether it took place before anything is done again |
| what is committed | is reported as images of rows, for the journals (:mod:`cmbagent_nb.store.images`) |
| the database file is replaced | the connection is replaced before the next transaction |
| PostgreSQL | each commit notifies other processes of the runs it touched (:mod:`cmbagent_nb.store.notifications`) |

For the writer's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.store.batch import Batch, Statement, statements
from cmbagent_nb.store.columns import COUNTED, SOFT_LINKS, key_of
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.images import TABLES as RUN_TABLES
from cmbagent_nb.store.images import Image, Images
from cmbagent_nb.store.notifications import CHANNEL, payload
from cmbagent_nb.store.sqlite import BUSY_TIMEOUT, identity
from cmbagent_nb.store.totals import TOTALS, drop_totals
from cmbagent_nb.store.transient_errors import UnclearError, is_transient
from cmbagent_nb.store.values import Row, Scrub, prepare

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

T = TypeVar("T")

#: Rows whose run is remembered, so that a change to one is told to those who watch the run.
_REMEMBERED = 20_000

#: Seconds within a transaction without a statement after which PostgreSQL takes a connection for dead.
IDLE = 60.0

#: The key of the lock that calls take on PostgreSQL, so that one runs at a time, as on SQLite.
_CALLS_KEY = 0x636D63

#: The most bytes that PostgreSQL takes along with a notification are 8,000; more runs than this are told as "any".
_MOST_TOLD = 150


class MissingRowError(LookupError):
    """A change to a row that is not there."""


class WriteConnection:
    """The one connection that writes."""

    def __init__(
        self,
        db: Database,
        scrub: Scrub,
        fault: Callable[[str, str, Any, BaseException], None],
        yield_to_producers: Callable[[], None],
    ) -> None:
        self._db = db
        self._yield_to_producers = yield_to_producers
        self._scrub = scrub
        self._fault = fault
        self._connection: Connection | None = None
        self._mark = "?" if db.is_sqlite else "%s"
        self._runs: set[str] = set()
        self._run_of: OrderedDict[Any, Any] = OrderedDict()
        self._seen: set[str] | None = None
        self._doubt: tuple[object, str, Any] | None = None
        self._file = ""
        self._images = Images()
        #: Images of what was committed, which the writer takes from here.
        self.committed: list[Image] = []

    def write(self, batch: Batch) -> set[str]:
        """Write a batch in one transaction and return the ids of the runs it touched.

        Where it cannot be written as a whole, its rows are tried one by one. What this raises is about the
        database, not about the rows: nothing is written then, and the batch can be tried again.
        """
        faults: list[tuple[str, str, Any, BaseException]] = []

        def whole(connection: Connection) -> tuple[None, set[str]]:
            faults.clear()
            return None, self._write(connection, batch, faults)

        def singly(connection: Connection) -> tuple[None, set[str]]:
            faults.clear()
            return None, self._write_singly(connection, batch, faults)

        try:
            _, touched = self._transaction(batch, whole)
        except Exception as error:
            if self._is_about_database(error):
                raise
            _, touched = self._transaction(batch, singly)
        for fault in faults:
            self._fault(*fault)
        return touched

    def take_committed(self) -> list[Image]:
        """Return the images of what was committed since this was asked last."""
        committed, self.committed = self.committed, []
        return committed

    def work_dir(self, run_id: str) -> str | None:
        """Return the work dir of a run as its row has it."""
        query = f"SELECT work_dir FROM workflow_runs WHERE id = {self._mark}"

        def work(connection: Connection) -> tuple[str | None, set[str]]:
            row = connection.exec_driver_sql(query, (run_id,)).fetchone()
            return (None if row is None else row[0]), set()

        return self._transaction(query, work)[0]

    def call(
        self, fn: Callable[[Connection], T], touches: Iterable[str] = (), *, journal: bool = True
    ) -> tuple[T, set[str]]:
        """Run a caller's function in a transaction and return its result and the runs it touched."""
        sqlite = self._db.is_sqlite

        def work(connection: Connection) -> tuple[T, set[str]]:
            if not self._db.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CALLS_KEY})")
            self._seen = set()
            if journal:
                self._images.begin(connection, sqlite=sqlite)
            try:
                result = fn(connection)
                seen = self._seen
            finally:
                self._seen = None
            touched = seen & self._runs
            if seen and not touched:
                touched = self._runs_among(connection, seen)
            touched = touched.union(touches)
            if journal:
                self._images.end(connection, touched, sqlite=sqlite)
            return result, touched

        return self._transaction(fn, work)

    def without_stored(self, batch: Batch) -> Batch:
        """Return a batch without the new rows that are stored already.

        A row is known by its key, and where the database counts those up by all that it holds.
        """
        rows = list(batch.rows())

        def work(connection: Connection) -> tuple[Batch, set[str]]:
            left = Batch()
            for operation, table, row in rows:
                if operation != "insert":
                    left.change(table, row)
                elif not self._holds(connection, table, row):
                    left.insert(table, row)
            return left, set()

        try:
            return self._transaction(rows, work)[0]
        except Exception as error:
            if self._is_about_database(error):
                raise
            return batch  # with a row that is refused when it is written, one by one

    def _holds(self, connection: Connection, table: str, row: Row) -> bool:
        try:
            columns, values = prepare(table, row, self._scrub)
        except (ValueError, TypeError):
            return False  # a row that is refused when it is written
        known = dict(zip(columns, values, strict=True))
        key = key_of(table)
        if known.get(key) is not None:
            known = {key: known[key]}
        given = {name: value for name, value in known.items() if value is not None}
        same = [f'"{name}" = {self._mark}' if name in given else f'"{name}" IS NULL' for name in known]
        query = f'SELECT 1 FROM "{table}" WHERE {" AND ".join(same)} LIMIT 1'
        return connection.exec_driver_sql(query, tuple(given.values())).fetchone() is not None

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool_of.give(connection)

    def _transaction(self, key: object, work: Callable[[Connection], tuple[T, set[str]]]) -> tuple[T, set[str]]:
        """Do ``work`` in a transaction of its own; ``key`` is what it is known by when it is tried again."""
        try:
            if self._connection is not None and self._db.path is not None and identity(self._db.path) != self._file:
                self._drop()  # the file was replaced, by a repair perhaps
            connection = self._connection
            if connection is None:
                connection = self._connection = self._connected()
            if self._doubt is not None:
                doubtful, number, outcome = self._doubt
                took_place = self._took_place(connection, number)
                self._doubt = None
                if took_place and doubtful is key:  # its images are still those that were taken last
                    self.committed += self._images.taken
                    return outcome  # type: ignore[no-any-return]
            self._images.taken = []
            with connection.begin("IMMEDIATE" if self._db.is_sqlite else "") as transaction:
                result, touched = work(connection)
                known_as = self._notify(connection, touched)
                try:
                    transaction.commit()
                except Exception:
                    if known_as is not None:
                        self._doubt = key, known_as, (result, touched)
                    raise
            self.committed += self._images.taken
            return result, touched
        except BaseException as error:
            if self._is_about_database(error):
                self._drop()
            raise

    def _is_about_database(self, error: BaseException) -> bool:
        return is_transient(error) or self._db.is_lost(error)

    def _notify(self, connection: Connection, touched: set[str]) -> str | None:
        """Tell other processes with the commit; return the number by which the server knows the transaction."""
        if self._db.is_sqlite:
            return None
        told = payload(self._db.token, touched if len(touched) <= _MOST_TOLD else None)
        query = "SELECT pg_current_xact_id_if_assigned()::text, pg_notify(%s, %s)"
        found = connection.exec_driver_sql(query, (CHANNEL, told)).scalar()
        return None if found is None else str(found)

    def _took_place(self, connection: Connection, number: str) -> bool:
        """Tell whether a transaction whose end was not heard of was committed."""
        with connection.begin():
            status = connection.exec_driver_sql("SELECT pg_xact_status(%s::xid8)", (number,)).scalar()
        if status == "in progress":
            raise UnclearError(f"transaction {number} is still in progress")
        return bool(status == "committed")

    def _connected(self) -> Connection:
        self._pool_of = self._db.pool
        connection = self._pool_of.take()
        try:
            if self._db.path is not None:
                self._file = identity(self._db.path)
                if "noting" not in connection.info:
                    self._images.prepare(connection)
                    connection.info["noting"] = True
            else:
                # As on SQLite, a lock is waited for so long; a process that is stopped does not hold up others.
                for name, seconds in (("lock_timeout", BUSY_TIMEOUT), ("idle_in_transaction_session_timeout", IDLE)):
                    connection.exec_driver_sql(f"SET {name} = {round(seconds * 1000)}")
        except BaseException:
            self._pool_of.drop(connection)
            raise
        connection.listener = self._notice
        return connection

    def _notice(self, sql: str, parameters: Any, many: bool) -> None:
        if self._seen is None:
            return
        self._images.see(sql)
        if len(self._seen) < 200:
            for row in parameters if many else (parameters,):
                values: Iterable[Any] = row.values() if isinstance(row, Mapping) else row
                self._seen.update(item for item in values if isinstance(item, str) and len(item) == 36)

    def _drop(self) -> None:
        """Let go of a connection that may be in an unclear state."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool_of.drop(connection)
        self._run_of.clear()

    def _write(
        self, connection: Connection, batch: Batch, faults: list[tuple[str, str, Any, BaseException]]
    ) -> set[str]:
        for item in statements(batch, self._scrub, self._mark):
            self._yield_to_producers()
            for values in self._execute(connection, item):
                row = dict(zip(item.columns, values, strict=True))
                faults.append(("update", item.table, row, MissingRowError("no such row")))
        spent = {row.get("run_id") for row in batch.inserts.get("cost_records", ())}
        for run in drop_totals(connection, (run for run in spent if isinstance(run, str)), self._mark):
            self._images.update("workflow_runs", (*TOTALS, "id"), [(*[None] * len(TOTALS), run)], [run])
        return self._touched(connection, batch)

    def _write_singly(
        self, connection: Connection, batch: Batch, faults: list[tuple[str, str, Any, BaseException]]
    ) -> set[str]:
        """Write each row of a batch behind a savepoint: good rows go in, each bad one is a fault."""
        touched: set[str] = set()
        for operation, table, row in batch.rows():
            try:
                touched |= self._write_one(connection, operation, table, row, faults)
            except Exception as error:
                if self._is_about_database(error):
                    raise
                faults.append((operation, table, row, error))
                # Once more without the link to an event: the row is worth more than the link.
                bare = {name: None if name in SOFT_LINKS else value for name, value in row.items()}
                if operation != "insert" or bare == row:
                    continue
                try:
                    touched |= self._write_one(connection, operation, table, bare, faults)
                except Exception as again:  # a fault already
                    if self._is_about_database(again):
                        raise
        return touched

    def _write_one(
        self,
        connection: Connection,
        operation: str,
        table: str,
        row: Row,
        faults: list[tuple[str, str, Any, BaseException]],
    ) -> set[str]:
        single = Batch()
        if operation == "insert":
            single.insert(table, row)
        else:
            single.change(table, row)
        taken = len(self._images.taken)
        try:
            with connection.begin_nested():
                return self._write(connection, single, faults)
        except BaseException:
            del self._images.taken[taken:]
            raise

    def _execute(self, connection: Connection, item: Statement) -> list[tuple[Any, ...]]:
        """Execute a statement for its rows; return the changes whose row is not there."""
        rows = item.rows
        given: Any = rows if len(rows) > 1 else rows[0]
        if item.at_once:
            given = tuple(chain.from_iterable(rows))
        cursor = connection.exec_driver_sql(item.sql, given, clean=True)
        if item.operation == "insert":
            last = None
            if item.table in COUNTED:
                if "id" in item.columns:
                    if not self._db.is_sqlite:
                        self._count_on(connection, item.table)
                elif self._db.is_sqlite:
                    last = int(connection.exec_driver_sql("SELECT last_insert_rowid()").scalar())
            self._images.insert(item.table, item.columns, rows, last)
            return []
        if item.table in RUN_TABLES:
            runs = [self._run_of_row(connection, item.table, values[-1]) for values in rows]
            self._images.update(item.table, item.columns, rows, runs)
        if cursor.rowcount in (len(rows), -1):
            return []
        query = f'SELECT 1 FROM "{item.table}" WHERE {key_of(item.table)} = {self._mark}'
        return [values for values in rows if connection.exec_driver_sql(query, (values[-1],)).fetchone() is None]

    def _count_on(self, connection: Connection, table: str) -> None:
        """Let the database count on from the greatest key: rows came with keys of their own, from a backup."""
        connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT MAX(id) FROM {table}))"
        )

    # -- which runs a batch is about --------------------------------------------------------

    def _touched(self, connection: Connection, batch: Batch) -> set[str]:
        touched: set[str] = set()
        for table, rows in batch.inserts.items():
            key, run_key = key_of(table), "id" if table == "workflow_runs" else "run_id"
            pairs = [(row.get(key), row.get(run_key)) for row in rows]
            touched.update(run for _, run in pairs if isinstance(run, str))
            if table not in COUNTED:
                self._run_of.update(pairs)
        for (table, identifier), values in batch.updates.items():
            run = self._run_of.get(identifier)
            if run is None:
                run = identifier if key_of(table) == "run_id" or table == "workflow_runs" else values.get("run_id")
                run = self._run_of[identifier] = run or self._looked_up(connection, table, identifier)
            if isinstance(run, str):
                touched.add(run)
        while len(self._run_of) > _REMEMBERED:
            self._run_of.popitem(last=False)
        self._runs |= touched
        return touched

    def _run_of_row(self, connection: Connection, table: str, identifier: str) -> str | None:
        if table == "workflow_runs":
            return identifier
        run = self._run_of.get(identifier)
        if run is None:
            run = self._run_of[identifier] = self._looked_up(connection, table, identifier)
        return run

    def _looked_up(self, connection: Connection, table: str, identifier: str) -> str | None:
        if table in {"sessions", "projects", "skills", "skill_artifacts", "skill_trials", "skill_sources"}:
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
