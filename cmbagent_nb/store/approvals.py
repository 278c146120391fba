"""Reads gates: the pending ones, or one by its id."""

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


def find_gate(db: Database, reference: str, run_id: str | None = None) -> dict[str, Any] | None:
    """Return a gate, open or not, by its id or a unique beginning or end of it; ``None`` where there is none.

    With an empty reference it is the newest gate of the run that is not open.
    """
    if not set(reference) <= _ID_LETTERS:
        return None
    wanted = "id = :id" if len(reference) == _ID_LENGTH else "(id LIKE :beginning OR id LIKE :end)"
    values: dict[str, Any] = {"id": reference, "beginning": f"{reference}%", "end": f"%{reference}"}
    if not reference:
        wanted, values = "status <> 'pending'", {}
    of_run = "" if run_id is None else " AND run_id = :run"
    rows = db.rows(
        f"SELECT * FROM approval_requests WHERE {wanted}{of_run} ORDER BY resolved_at DESC, id DESC LIMIT 2",
        **{name: value for name, value in values.items() if f":{name}" in wanted},
        **({} if run_id is None else {"run": run_id}),
    )
    if not rows or (reference and len(rows) > 1):
        return None
    row = rows[0]
    for name in ("context", "result"):
        row[name] = from_json(row[name]) if row[name] else {}
    return row


#: The length of a whole id, and what it is written with.
_ID_LENGTH = 36
_ID_LETTERS = frozenset("0123456789abcdef-")
