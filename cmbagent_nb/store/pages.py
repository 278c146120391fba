"""Reads a run's messages and events page by page, in constant memory.

| rule | how |
|---|---|
| a page costs the same wherever it stands | the next one begins after the last key, found in an index |
| nothing twice, nothing left out | keys grow with time: rows that come meanwhile come last |
| the database is not held | each page is a transaction of its own, over before its rows are handed out |
| an archived run | is read from its archive in the same way |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.lookup import parsed

if TYPE_CHECKING:
    import pandas as pd

#: Rows of a page, where nothing else is asked for.
PAGE = 1000

#: The columns in whose order each table is gone through; together they are unique in a run.
KEYS = {"messages": ("id",), "execution_events": ("execution_order", "id")}


def pages(
    db: Database, table: str, run_id: str, *, size: int = PAGE, after: tuple[Any, ...] = (), **wanted: str | None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a run in order, ``size`` at a time, with JSON as values.

    Parameters
    ----------
    table
        ``messages`` or ``execution_events``.
    after
        The key of the row to begin after: an ``id``, or ``execution_order`` and ``id``.
    wanted
        Only rows with these values in their columns; None means any.
    """
    for page in _pages(db, table, run_id, size, after, wanted):
        yield [parsed(row) for row in page]


def rows(db: Database, table: str, run_id: str, **options: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of :func:`pages` one by one."""
    for page in pages(db, table, run_id, **options):
        yield from page


def frames(
    db: Database, table: str, run_id: str, *, size: int = PAGE, after: tuple[Any, ...] = (), **wanted: str | None
) -> Iterator[pd.DataFrame]:
    """Yield the pages as DataFrames, with the types that the frames of a whole run have."""
    from cmbagent_nb.store.frames import frame_of

    for page in _pages(db, table, run_id, size, after, wanted):
        names = list(page[0])
        yield frame_of(names, [[row[name] for row in page] for name in names])


def _pages(
    db: Database, table: str, run_id: str, size: int, after: tuple[Any, ...], wanted: dict[str, str | None]
) -> Iterator[list[dict[str, Any]]]:
    if size < 1:
        raise UsageError(f"a page cannot have {size} rows", "Give it 1 or more.", page=size)
    db = record_of(db, run_id)
    keys = KEYS[table]
    given = {name: value for name, value in wanted.items() if value is not None}
    values: dict[str, Any] = {**given, "run": run_id, "n": size}
    where = " AND ".join(["run_id = :run", *(f"{name} = :{name}" for name in given)])
    names, key = ", ".join(keys), after
    while True:
        beyond = f" AND ({names}) > ({', '.join(f':k{place}' for place in range(len(keys)))})" if key else ""
        values |= {f"k{place}": value for place, value in enumerate(key)}
        found = db.rows(f"SELECT * FROM {table} WHERE {where}{beyond} ORDER BY {names} LIMIT :n", **values)
        if not found:
            return
        key, full = tuple(found[-1][name] for name in keys), len(found) == size
        yield found
        if not full:
            return
        del found  # before the next page comes
