"""Rows of the skills' tables: writing one within a transaction of the writer, and closing those that nobody closes.

A row is masked as the writer masks it. An execution says which process it belongs to: when that process
is gone, whoever looks next marks the execution as interrupted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


def mark(db: Database) -> str:
    """Return what stands for a value in a statement of this database's driver."""
    return "?" if db.is_sqlite else "%s"


def insert(connection: Connection, db: Database, writer: Writer, table: str, row: dict[str, Any]) -> None:
    """Insert a row; JSON columns take any value."""
    from cmbagent_nb.store.columns import JSON, is_verbatim
    from cmbagent_nb.store.files import row_to_record
    from cmbagent_nb.store.json import clean, to_json

    values: list[Any] = []
    row = dict(row_to_record(db.home, table, row)) if db.is_sqlite else row
    for name, value in row.items():
        if name in JSON and value is not None:
            values.append(writer.scrub(to_json(value)))
        elif isinstance(value, str):
            text = clean(value)
            values.append(text if is_verbatim(name) else writer.scrub(text))
        else:
            values.append(value)
    marks = ", ".join([mark(db)] * len(row))
    sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
    connection.exec_driver_sql(sql, tuple(values))


#: Seconds after which an execution without a limit, in a process of another machine, counts as dead.
LONGEST = 86_400.0


def belongs(db: Database, timeout_s: float | None) -> dict[str, Any]:
    """Return what an execution's ``meta`` says of its process while it runs, and how long it may take."""
    from cmbagent_nb.store.json import from_json
    from cmbagent_nb.workflow.ownership import owner

    return {"owner": from_json(owner(db)), "timeout_s": timeout_s}


def interrupt_executions(db: Database, writer: Writer) -> list[str]:
    """Mark the executions whose process has died as interrupted; returns their ids; none where nothing is written."""
    if db.read_only:
        return []
    running = db.rows("SELECT id, meta, started_at FROM skill_executions WHERE status = 'running'")
    dead = [row["id"] for row in running if not _is_alive(db, row)]
    if not dead:
        return []
    sql = (
        "UPDATE skill_executions SET status = 'interrupted', ended_at = {0}, success = {0}, error = {0}"
        " WHERE id = {0} AND status = 'running'"
    ).format(mark(db))
    error = "Its process ended before it did."

    def close(connection: Connection) -> list[str]:
        now = time.time()
        return [id for id in dead if connection.exec_driver_sql(sql, (now, False, error, id)).rowcount == 1]

    return writer.call(close).result()


def _is_alive(db: Database, row: dict[str, Any]) -> bool:
    """Tell whether an execution's process lives; one of another machine is given the time that it may take."""
    from cmbagent_nb.store.json import from_json, to_json
    from cmbagent_nb.workflow.ownership import is_alive

    meta = from_json(row["meta"]) if row["meta"] else {}
    if "owner" not in meta:
        return False
    until = row["started_at"] + (meta.get("timeout_s") or LONGEST)
    return is_alive(to_json(meta["owner"]), until, of=db)
