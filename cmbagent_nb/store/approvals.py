"""The gates that wait for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database


def open_gates(db: Database, run_id: str | None = None) -> list[dict[str, Any]]:
    """Return the open gates of all runs, or of one, oldest first; ``context`` is parsed, ``run_name`` is added."""
    where = "" if run_id is None else " AND a.run_id = :run"
    rows = db.rows(
        "SELECT a.id, a.run_id, r.name AS run_name, a.session_id, a.node_id, a.event_id, a.approval_type, a.context,"
        " a.status, a.created_at, a.expires_at FROM approval_requests a JOIN workflow_runs r ON r.id = a.run_id"
        f" WHERE a.status = 'pending'{where} ORDER BY a.created_at, a.id",
        **({} if run_id is None else {"run": run_id}),
    )
    for row in rows:
        row["context"] = from_json(row["context"]) if row["context"] else {}
    return rows
