"""What the writer does with a group of rows: coalesce, prepare and order them.

| rule | |
|---|---|
| an update of a row inserted in the same group | becomes part of the insert |
| several updates of one row | become one, the later value winning |
| tables | are written in an order in which every row finds what it refers to |
| rows of one table | keep their order |
| values | become what their column holds, the same on every database, or the row is refused |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from cmbagent_nb.store.columns import BOOLEAN, BYTES, COUNTED, INTEGER, JSON, RANK, is_real, is_verbatim, key_of
from cmbagent_nb.store.json import clean, to_json

Scrub = Callable[[str], str]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """One SQL statement with the rows that it is executed for."""

    sql: str
    table: str
    operation: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


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


def statements(batch: Batch, scrub: Scrub, mark: str) -> Iterator[Statement]:
    """Turn a batch into statements, each for all the rows that follow one another with the same columns."""
    for table in sorted(batch.inserts, key=_rank):
        columns: tuple[str, ...] = ()
        rows: list[tuple[Any, ...]] = []
        for row in batch.inserts[table]:
            names, values = prepare(table, row, scrub)
            if names != columns and rows:
                yield Statement(insert_sql(table, columns, mark), table, "insert", columns, rows)
                rows = []
            columns = names
            rows.append(tuple(values))
        if rows:
            yield Statement(insert_sql(table, columns, mark), table, "insert", columns, rows)
    changes: dict[tuple[str, tuple[str, ...]], list[tuple[Any, ...]]] = {}
    for (table, identifier), change in batch.updates.items():
        names, values = prepare(table, change, scrub)
        if names:
            changes.setdefault((table, names), []).append((*values, identifier))
    for (table, columns), rows in changes.items():
        names = (*columns, key_of(table))
        yield Statement(update_sql(table, columns, mark), table, "update", names, rows)


_JSON, _VERBATIM, _BOOLEAN, _TEXT, _INTEGER, _REAL, _BYTES = range(7)


@lru_cache(maxsize=1024)
def _kinds(names: tuple[str, ...], counted: bool) -> tuple[int, ...]:
    return tuple(_kind(name, counted) for name in names)


def _kind(name: str, counted: bool) -> int:
    if name in JSON:
        return _JSON
    if name in BOOLEAN:
        return _BOOLEAN
    if name in INTEGER or (counted and name == "id"):
        return _INTEGER
    if is_real(name):
        return _REAL
    if name in BYTES:
        return _BYTES
    return _VERBATIM if is_verbatim(name) else _TEXT


def prepare(table: str, row: Row, scrub: Scrub) -> tuple[tuple[str, ...], list[Any]]:
    """Return a row's columns and values as every driver takes them: JSON as text, texts masked and clean.

    Raises
    ------
    ValueError, TypeError
        A column for numbers is given something else.
    """
    names = tuple(row)
    values: list[Any] = []
    masked = False
    for kind, value in zip(_kinds(names, table in COUNTED), row.values(), strict=True):
        if value is None:
            values.append(None)
        elif kind in _PLAIN:
            values.append(_PLAIN[kind](value))
        else:
            if kind == _JSON:
                text = to_json(value)
            elif isinstance(value, str):
                text = value if value.isascii() and "\x00" not in value else clean(value)
            else:
                text = _text(value)
            shown = text if kind == _VERBATIM else scrub(text)
            masked = masked or shown != text
            values.append(shown)
    if masked and table == "model_replies":
        if "masked" not in row:
            return (*names, "masked"), [*values, True]
        values[names.index("masked")] = True
    return names, values


def _integer(value: Any) -> int:
    """Return a whole number; SQLite would take anything, PostgreSQL nothing else.

    >>> _integer(2.0), _integer("7")
    (2, 7)
    """
    if type(value) is int:
        return value
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _real(value: Any) -> float | None:
    """Return a number; NaN is none, as SQLite has it."""
    number = value if type(value) is float else float(value)
    return None if math.isnan(number) else number


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        raise TypeError(f"{value!r} is neither yes nor no")
    return bool(value)


def _bytes(value: Any) -> bytes:
    return bytes(memoryview(value))


#: What turns a value into one for its column, for columns that hold no text.
_PLAIN: dict[int, Callable[[Any], Any]] = {_INTEGER: _integer, _REAL: _real, _BOOLEAN: _truth, _BYTES: _bytes}


def _text(value: Any) -> str:
    """Return the text of a value that is no text, in a column for texts."""
    if isinstance(value, PurePath):
        return clean(value.as_posix())
    return clean(str(value)) if isinstance(value, BaseException) else to_json(value)


@lru_cache(maxsize=512)
def insert_sql(table: str, columns: tuple[str, ...], mark: str) -> str:
    """Return the statement that inserts a row with these columns."""
    names, marks = ", ".join(map(_name, columns)), ", ".join([mark] * len(columns))
    return f"INSERT INTO {_name(table)} ({names}) VALUES ({marks})"


@lru_cache(maxsize=512)
def update_sql(table: str, columns: tuple[str, ...], mark: str) -> str:
    """Return the statement that changes these columns of a row."""
    changes = ", ".join(f"{_name(column)} = {mark}" for column in columns)
    return f"UPDATE {_name(table)} SET {changes} WHERE {key_of(table)} = {mark}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
