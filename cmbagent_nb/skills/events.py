"""Notes in a run's record what was done with it: a skill was made of it, or run within it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import new_id

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

_OVER = ("completed", "failed", "cancelled", "interrupted")


def note(
    db: Database,
    writer: Writer,
    run_id: str,
    subtype: str,
    *,
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    error: str = "",
    node_id: str | None = None,
    started_at: float | None = None,
) -> str | None:
    """Add an event of the type ``skill`` to a run that is over, as its last one.

    A run that is still going numbers its events itself and is left alone; then None is returned.
    """
    from cmbagent_nb.skills import rows

    event_id, now = new_id(), time.time()
    mark = rows.mark(db)

    def store(connection: Connection) -> bool:
        query = f"SELECT session_id, status FROM workflow_runs WHERE id = {mark}"
        run = connection.exec_driver_sql(query, (run_id,)).fetchone()
        if run is None or run[1] not in _OVER:
            return False
        last = f"SELECT COALESCE(MAX(execution_order), 0) FROM execution_events WHERE run_id = {mark}"
        order = connection.exec_driver_sql(last, (run_id,)).scalar()
        began = started_at if started_at is not None else now
        row = {
            "id": event_id,
            "run_id": run_id,
            "session_id": run[0],
            "node_id": node_id or "terminator",
            "event_type": "skill",
            "event_subtype": subtype,
            "status": "failed" if error else "completed",
            "started_at": began,
            "ended_at": now,
            "duration_ms": (now - began) * 1e3,
            "inputs": inputs,
            "outputs": outputs,
            "error": error or None,
            "execution_order": order + 1,
            "depth": 0,
        }
        rows.insert(connection, db, writer, "execution_events", row)
        return True

    return event_id if writer.call(store, touches=[run_id]).result() else None
