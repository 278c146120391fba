"""Compares the journals of a workspace with its database, and changes neither; in bounded time.

A run that a living process carries on is left out: its copies are written one after the other.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.store import sqlite
from cmbagent_nb.store.columns import key_of
from cmbagent_nb.store.files import from_record
from cmbagent_nb.store.images import TABLES
from cmbagent_nb.store.journal import FILE_NAME
from cmbagent_nb.workflow.ownership import is_alive
from cmbagent_nb.workflow.rebuild import Rebuilt, rebuild, take_twin
from cmbagent_nb.workflow.repair import differing, journals, misplaced, unreadable
from cmbagent_nb.workflow.states import ACTIVE

#: Seconds that all comparisons together may take.
LIMIT = 60.0


@dataclass(frozen=True)
class Finding:
    """Fault in the record of a run; ``slight`` where nothing is lost or wrong."""

    run: str
    what: str
    slight: bool = False


def inspect(home: Path, database: Path | None) -> Iterator[Finding]:
    """Yield what is wrong with the records of the runs in a workspace, run by run."""
    until = time.monotonic() + LIMIT
    with _reading(database) as connection:
        seen: set[str] = set()
        for path in journals(home):
            if time.monotonic() > until:
                yield Finding("others", f"were not compared: {LIMIT:g} s were over", slight=True)
                return
            found = list(_journal(connection, home, path, seen))
            yield from found
        if connection is not None:
            yield from _without(connection, home, seen)


@contextmanager
def _reading(database: Path | None) -> Iterator[sqlite3.Connection | None]:
    """Lend a connection that changes nothing; None where there is no database that can be read."""
    copy: Path | None = None
    try:
        if database is None or not database.exists() or sqlite.odd_part(database):
            yield None
            return
        try:
            source, mode, copy = sqlite.readable(database)
            connection = sqlite.connect(source, mode)
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            connection.execute("SELECT COUNT(*) FROM workflow_runs").fetchone()
        except (sqlite3.Error, CMBAgentError):
            yield None
            return
        with closing(connection):
            yield connection
    finally:
        if copy is not None:
            shutil.rmtree(copy, ignore_errors=True)


def _journal(connection: sqlite3.Connection | None, home: Path, path: Path, seen: set[str]) -> Iterator[Finding]:
    name = path.parent.name
    known = None if connection is None else _run_in(connection, home, path.parent)
    if known is not None:
        seen.add(known["id"])
        if connection is not None and _goes_on(connection, home, known):
            return
    try:
        told = rebuild(path, home, None if known is None else known["id"])
    except CMBAgentError as error:
        yield Finding(name, error.what)
        return
    if told.faults:
        more = f" and {len(told.faults) - 2} more" if len(told.faults) > 2 else ""
        yield Finding(name, f"in its journal, {'; '.join(told.faults[:2])}{more}")
    if told.run is None:
        yield Finding(name, "its journal names no run")
        return
    seen.add(told.run["id"])
    if connection is None:
        yield Finding(name, "is in its journal only")
        return
    try:
        yield from _compared(connection, home, name, told)
    except sqlite3.Error as error:
        yield Finding(name, f"its rows cannot be read ({error})")


def _compared(connection: sqlite3.Connection, home: Path, name: str, told: Rebuilt) -> Iterator[Finding]:
    assert told.run is not None
    missing, wrong, more = 0, [], 0
    for table in TABLES:
        stored = _rows(connection, table, told.run["id"])
        if table == "workflow_runs" and not stored:
            yield Finding(name, "is in its journal only")
            return
        mine = told.tables[table]
        if table == "workflow_runs" and misplaced(home, stored[told.run["id"]]["work_dir"], told.path.parent):
            yield Finding(name, "its folder is not where the database says")
        keyed = {key: row for key, row in mine.items() if not isinstance(key, tuple)}
        others = [row for key, row in mine.items() if isinstance(key, tuple)]
        free = {key: row for key, row in stored.items() if key not in keyed}
        lost = len(keyed.keys() - stored.keys()) + sum(take_twin(free, table, row) is None for row in others)
        missing += lost if told.whole else max(0, len(mine) - len(stored))
        more += len(stored.keys() - mine.keys()) if told.whole else 0
        for key in keyed.keys() & stored.keys():
            names = differing(stored[key], mine[key]) if told.whole else []
            names += [column for column, value in stored[key].items() if unreadable(column, value)]
            if names:
                wrong.append(f"{table}.{names[0]}")
    if missing:
        yield Finding(name, f"{missing} row{'s' if missing != 1 else ''} of its journal are not in the database")
    if wrong:
        yield Finding(name, f"{len(wrong)} rows are not as in its journal (the first: {wrong[0]})")
    if more:
        yield Finding(name, f"{more} row{'s' if more != 1 else ''} of the database are not in its journal", slight=True)


def _without(connection: sqlite3.Connection, home: Path, seen: set[str]) -> Iterator[Finding]:
    """Yield the runs of the database that have no journal."""
    connection.row_factory = sqlite3.Row
    try:
        runs = [dict(row) for row in connection.execute("SELECT * FROM workflow_runs ORDER BY created_at")]
    except sqlite3.Error as error:
        yield Finding("all", f"the list of runs cannot be read ({error})")
        return
    for run in runs:
        folder = Path(from_record(home, run["work_dir"]) or "") if run["work_dir"] else None
        if run["id"] in seen or folder is None:
            continue
        name = str(run["name"])
        if not folder.is_dir():
            yield Finding(name, f"its folder {folder} is not there", slight=True)
        elif folder.parent != home / "runs":
            yield from _journal(connection, home, folder / FILE_NAME, seen)
        elif not os.path.lexists(folder / FILE_NAME):
            yield Finding(name, "its journal is not there")


def _run_in(connection: sqlite3.Connection, home: Path, folder: Path) -> dict[str, Any] | None:
    try:
        cursor = connection.execute(
            "SELECT id, status FROM workflow_runs WHERE work_dir IN (?, ?)",
            (str(folder), folder.relative_to(home).as_posix() if folder.is_relative_to(home) else ""),
        )
        row = cursor.fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else {"id": row[0], "status": row[1]}


def _goes_on(connection: sqlite3.Connection, home: Path, run: dict[str, Any]) -> bool:
    if run["status"] not in ACTIVE:
        return False
    query = "SELECT owner, heartbeat_at FROM leases WHERE run_id = ?"
    try:
        lease = connection.execute(query, (run["id"],)).fetchone()
    except sqlite3.Error:
        return False
    return lease is not None and is_alive(lease[0], lease[1])


def _rows(connection: sqlite3.Connection, table: str, run_id: str) -> dict[Any, dict[str, Any]]:
    key = "id" if table == "workflow_runs" else "run_id"
    cursor = connection.execute(f'SELECT * FROM "{table}" WHERE {key} = ?', (run_id,))
    names = [item[0] for item in cursor.description]
    rows = (dict(zip(names, row, strict=True)) for row in cursor)
    return {row[key_of(table)]: row for row in rows}
