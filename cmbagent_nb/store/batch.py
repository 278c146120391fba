"""Coalesces, prepares and orders the rows of one batch for the writer.

| rule | |
|---|---|
| an update of a row inserted in the same group | becomes part of the insert |
| several updates of one row | become one, the later value winning |
| tables | are written in an order in which every row finds what it refers to |
| rows of one table | keep their order |
| changes | in the order of their keys, so that two processes that change the same rows do not lock each other out |
| values | become what their column holds, the same on every database, or the row is refused |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cmbagent_nb.store.columns import RANK, key_of
from cmbagent_nb.store.values import Row, Scrub, prepare, prepare_alike

#: The most rows of one statement: while the next ones are prepared, other threads wait.
SLICE = 32


@dataclass(frozen=True)
class Statement:
    """One SQL statement with the rows that it is executed for: once for each, or ``at_once`` for all."""

    sql: str
    table: str
    operation: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    at_once: bool = False


@dataclass
class Batch:
    """Rows of one transaction, in the making."""

    inserts: dict[str, list[Row]] = field(default_factory=dict)
    updates: dict[tuple[str, str], Row] = field(default_factory=dict)
    _places: dict[tuple[str, Any], int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inserts or self.updates)

    def insert(self, table: str, row: Row) -> None:
        """Add a row to insert."""
        rows = self.inserts.get(table)
        if rows is None:
            rows = self.inserts[table] = []
        identifier = row.get(key_of(table))
        if identifier is not None:
            self._places[table, identifier] = len(rows)
        rows.append(row)

    def update(self, table: str, identifier: str, values: Row) -> None:
        """Add a change to a row."""
        place = self._places.get((table, identifier))
        if place is not None:
            rows = self.inserts[table]
            rows[place] = {**rows[place], **values}
            return
        earlier = self.updates.get((table, identifier))
        self.updates[table, identifier] = values if earlier is None else {**earlier, **values}

    def change(self, table: str, row: Row) -> None:
        """Add a change that is given as a row with its key, as :meth:`rows` gives it."""
        key = key_of(table)
        self.update(table, row[key], {name: value for name, value in row.items() if name != key})

    def rows(self) -> Iterator[tuple[str, str, Row]]:
        """Yield (operation, table, row) of every row; an update's row has its key."""
        for table in sorted(self.inserts, key=_rank):
            for row in self.inserts[table]:
                yield "insert", table, row
        for (table, identifier), values in self.updates.items():
            yield "update", table, {**values, key_of(table): identifier}


def _rank(table: str) -> int:
    return RANK.get(table, len(RANK))


def _place(change: tuple[tuple[str, str], Row]) -> tuple[int, str]:
    (table, identifier), _ = change
    return _rank(table), identifier


def statements(batch: Batch, scrub: Scrub, mark: str) -> Iterator[Statement]:
    """Turn a batch into statements, each for some rows that follow one another with the same columns."""
    for table in sorted(batch.inserts, key=_rank):
        for columns, rows in _prepared(table, batch.inserts[table], scrub):
            full = len(rows) == SLICE
            sql = insert_sql(table, columns, mark, SLICE if full else 1)
            yield Statement(sql, table, "insert", columns, rows, at_once=full)
    changes: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    # SQLite has one writer at a time; there the order does not matter.
    for (table, identifier), change in (
        batch.updates.items() if mark == "?" else sorted(batch.updates.items(), key=_place)
    ):
        if change:
            changes.setdefault((table, tuple(change)), []).append({**change, key_of(table): identifier})
    for (table, _), changed in changes.items():
        for columns, rows in _prepared(table, changed, scrub):
            yield Statement(update_sql(table, columns[:-1], mark), table, "update", columns, rows)


def _prepared(table: str, rows: Sequence[Row], scrub: Scrub) -> Iterator[tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """Yield columns and values of rows that have the same columns, :data:`SLICE` rows at most."""
    start = 0
    while start < len(rows):
        names, end = tuple(rows[start]), start + 1
        while end < len(rows) and end < start + SLICE and tuple(rows[end]) == names:
            end += 1
        alike = rows[start:end]
        start = end
        values = prepare_alike(table, alike, scrub)
        if values is not None:
            yield names, values
            continue
        for row in alike:
            columns, single = prepare(table, row, scrub)
            yield columns, [tuple(single)]


@lru_cache(maxsize=512)
def insert_sql(table: str, columns: tuple[str, ...], mark: str, rows: int = 1) -> str:
    """Return the statement that inserts rows with these columns."""
    names, marks = ", ".join(map(_name, columns)), ", ".join([mark] * len(columns))
    return f"INSERT INTO {_name(table)} ({names}) VALUES {', '.join([f'({marks})'] * rows)}"


@lru_cache(maxsize=512)
def update_sql(table: str, columns: tuple[str, ...], mark: str) -> str:
    """Return the statement that changes these columns of a row."""
    changes = ", ".join(f"{_name(column)} = {mark}" for column in columns)
    return f"UPDATE {_name(table)} SET {changes} WHERE {key_of(table)} = {mark}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
