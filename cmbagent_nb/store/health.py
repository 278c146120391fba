"""Checks the integrity of an SQLite database, and reads the rows that a damaged one still has.

Looking takes bounded time, and changes nothing.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store import sqlite
from cmbagent_nb.store.columns import TABLES
from cmbagent_nb.store.database import NO_SCHEMA, VERSIONS

#: Seconds that one look at a database may take.
LIMIT = 60.0

#: Instructions of SQLite between two looks at the clock.
_STEPS = 100_000

#: The most rows that are left out in a row before a table counts as read to its end.
_GAP = 1 << 40


def damage(path: Path) -> list[str]:
    """Return what is wrong with a database, in words; nothing where it is whole, or not there."""
    if found := sqlite.odd_part(path):
        return [f"{found[0].name} is {found[1]}"]
    if not path.exists():
        return []
    try:
        source, mode, copy = sqlite.readable(path)
    except sqlite3.Error as error:
        return [str(error)]
    try:
        with closing(sqlite.connect(source, mode)) as connection:
            return _damage(connection)
    except sqlite3.Error as error:
        return [str(error)]
    finally:
        if copy is not None:
            shutil.rmtree(copy, ignore_errors=True)


def _damage(connection: sqlite3.Connection) -> list[str]:
    until = time.monotonic() + LIMIT
    connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not there:
            return []  # it is empty
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
        if found == ["ok"]:
            found = []
        version = None
        if "alembic_version" in there:
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if version is None and "workflow_runs" in there:
            found.append(NO_SCHEMA)
        if version == (VERSIONS[-1],) and (gone := [table for table in TABLES if table not in there]):
            found.append(f"the table {gone[0]} is gone")
        links: dict[tuple[str, str], int] = {}
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            links[table, parent] = links.get((table, parent), 0) + 1
        found += [f"{count} of {table} name a row of {parent} that is gone" for (table, parent), count in links.items()]
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return []  # too large to be looked at as a whole; what was seen is well
        raise
    return found


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (table, row) of all that can be read of a database, also of a damaged one, in an order for inserting."""
    if sqlite.kind_of(path) or not path.exists():
        return
    folder: Path | None = None
    try:
        folder = sqlite.copy_of(path)
    except StoreError:
        source, mode = path, "immutable"
    else:
        source, mode = folder / path.name, "rw"
    try:
        with closing(sqlite.connect(source, mode)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            for table in TABLES:
                yield from ((table, row) for row in _rows(connection, table))
    except sqlite3.Error:
        return  # nothing, or no more, can be read
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, passing over pages that cannot be read."""
    place, step = -1, 1
    while step < _GAP:
        try:
            cursor = connection.execute(f'SELECT rowid, * FROM "{table}" WHERE rowid > ? ORDER BY rowid', (place,))
            names = [item[0] for item in cursor.description]
            for row in cursor:
                place, step = int(row[0]), 1
                yield dict(zip(names[1:], row[1:], strict=True))
        except sqlite3.Error:
            place += step
            step *= 2
        else:
            return
