"""Collects the rows that a transaction wrote for a run, for the run's journal.

A line ``{"kind": "rows", "data": {"rows": [{"table", "columns", "values"}, …]}}`` holds the rows that a transaction
inserted or changed, as they are stored: whole ones, or the columns that were changed and the key. ``deleted`` in place
of ``columns`` holds keys. Applied one after the other they give the tables of the run again, column by column.

| where a row is written | how its image is made |
|---|---|
| by a batch of the writer | of the values that the statement was given |
| by a caller's function, SQLite | triggers of the writing connection name the rows; they are read once it has ended |
| by a caller's function, PostgreSQL | the rows of the touched runs that this transaction wrote are read |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.store.columns import key_of

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

#: The kind of a journal's line that holds images.
KIND = "rows"

#: The tables of a run that its journal can rebuild, in the order in which rows can be inserted. A lease is not among
#: them: it says which process has the run just now.
TABLES = (
    "workflow_runs", "commands", "workflow_steps", "dag_nodes", "dag_edges", "step_attempts", "checkpoints",
    "execution_events", "messages", "files", "model_replies", "cost_records", "approval_requests", "state_history",
)  # fmt: skip

_WRITES = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+\"?(\w+)", re.IGNORECASE)


@dataclass
class Image:
    """Rows of one table of one run: their columns and values, or the keys of rows that were deleted."""

    run_id: str
    table: str
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]
    deleted: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return it as it stands in a journal."""
        if self.deleted:
            return {"table": self.table, "deleted": [row[0] for row in self.values]}
        return {"table": self.table, "columns": self.columns, "values": self.values}


@dataclass
class Images:
    """The images of one transaction, in the making; for the writing connection."""

    taken: list[Image] = field(default_factory=list)
    _tables: set[str] = field(default_factory=set)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], last_key: int | None) -> None:
        """Take rows that were inserted; ``last_key`` is the one that the database gave to the last of them."""
        if table not in TABLES:
            return
        if last_key is not None:
            first = last_key - len(rows) + 1
            columns, rows = ("id", *columns), [(first + place, *row) for place, row in enumerate(rows)]
        place = columns.index("id" if table == "workflow_runs" else "run_id")
        runs = {row[place] for row in rows}
        for run in runs:
            mine = rows if len(runs) == 1 else [row for row in rows if row[place] == run]
            self.taken.append(Image(run, table, columns, mine))

    def update(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], runs: Sequence[Any]) -> None:
        """Take changes, each with its row's key as the last value; ``runs`` says whose rows they are."""
        if table not in TABLES:
            return
        for run in dict.fromkeys(runs):
            if isinstance(run, str):
                mine = [row for row, whose in zip(rows, runs, strict=True) if whose == run]
                self.taken.append(Image(run, table, columns, mine))

    # -- what a caller's function writes

    def prepare(self, connection: Connection) -> None:
        """Let a new SQLite connection name the rows that functions write."""
        execute = connection.exec_driver_sql
        execute("CREATE TEMP TABLE noting (yes INTEGER)")
        execute("CREATE TEMP TABLE noted (tab TEXT, id, run TEXT, gone INTEGER)")
        for table in TABLES:
            run = "id" if table == "workflow_runs" else "run_id"
            for event, row, gone in (("INSERT", "NEW", 0), ("UPDATE", "NEW", 0), ("DELETE", "OLD", 1)):
                execute(
                    f"CREATE TEMP TRIGGER note_{table}_{event} AFTER {event} ON main.{table} WHEN EXISTS"
                    f" (SELECT 1 FROM noting) BEGIN INSERT INTO noted VALUES ('{table}', {row}.{key_of(table)},"
                    f" {row}.{run}, {gone}); END"
                )

    def begin(self, connection: Connection, *, sqlite: bool) -> None:
        """Begin to note what is written."""
        self._tables = set()
        if sqlite:
            connection.exec_driver_sql("DELETE FROM noted")
            connection.exec_driver_sql("INSERT INTO noting VALUES (1)")

    def see(self, sql: str) -> None:
        """Take note of the table that a statement writes to."""
        found = _WRITES.match(sql)
        if found:
            self._tables.add(found[1].lower())

    def end(self, connection: Connection, runs: Iterable[str], *, sqlite: bool) -> None:
        """Read what was written; ``runs`` are those that were touched."""
        if not sqlite:
            self._end_on_server(connection, runs)
            return
        connection.exec_driver_sql("DELETE FROM noting")
        noted: dict[tuple[str, Any], tuple[str, int]] = {}
        for table, key, run, gone in connection.exec_driver_sql("SELECT * FROM noted").fetchall():
            noted[table, key] = (run, gone)
        groups: dict[tuple[str, str, int], list[Any]] = {}
        for (table, key), (run, gone) in noted.items():
            groups.setdefault((table, run, gone), []).append(key)
        for table in TABLES:
            for (name, run, gone), keys in groups.items():
                if name == table:
                    self._read(connection, table, run, keys, gone=bool(gone))

    def _read(self, connection: Connection, table: str, run: str, keys: list[Any], *, gone: bool) -> None:
        if gone:
            self.taken.append(Image(run, table, (), [(key,) for key in keys], deleted=True))
            return
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ", ".join("?" * len(some))
            cursor = connection.exec_driver_sql(
                f'SELECT * FROM "{table}" WHERE {key_of(table)} IN ({marks})', tuple(some)
            )
            self.taken.append(Image(run, table, tuple(cursor.keys()), [tuple(row) for row in cursor.fetchall()]))

    def _end_on_server(self, connection: Connection, runs: Iterable[str]) -> None:
        for table in TABLES:
            for run in sorted(runs) if table in self._tables else ():
                key = "id" if table == "workflow_runs" else "run_id"
                cursor = connection.exec_driver_sql(
                    f'SELECT * FROM "{table}" WHERE {key} = %s AND xmin = pg_current_xact_id()::xid', (run,)
                )
                found = [tuple(row) for row in cursor.fetchall()]
                if found:
                    self.taken.append(Image(run, table, tuple(cursor.keys()), found))
