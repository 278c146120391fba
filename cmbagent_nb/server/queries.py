"""Reads runs and gates for the server: plain rows with the names of the tables' columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.render.gate import shown
from cmbagent_nb.store import columns
from cmbagent_nb.store.archived import find_archived, record_of
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database

#: Statuses in which a run needs a living process.
ACTIVE = ("planning", "executing", "waiting_approval", "paused")

_LISTED = (
    "id, session_id, name, mode, agent, model, model_source, status, task_description, started_at, ended_at,"
    " created_at, work_dir, error"
)
_RUNS = f"""
SELECT {", ".join("r." + name.strip() for name in _LISTED.split(","))}, l.owner AS lease_owner, l.heartbeat_at,
  (SELECT COUNT(*) FROM workflow_steps s WHERE s.run_id = r.id) AS steps,
  (SELECT COUNT(*) FROM workflow_steps s WHERE s.run_id = r.id AND s.status IN ('completed', 'skipped')) AS steps_done,
  (SELECT COUNT(*) FROM cost_records c WHERE c.run_id = r.id) AS calls,
  (SELECT COUNT(*) FROM cost_records c WHERE c.run_id = r.id AND c.cost_usd IS NULL) AS unknown_cost_calls,
  (SELECT SUM(c.cost_usd) FROM cost_records c WHERE c.run_id = r.id) AS cost_usd,
  (SELECT COUNT(*) FROM approval_requests a WHERE a.run_id = r.id AND a.status = 'pending') AS open_gates
FROM (SELECT * FROM workflow_runs WHERE (:status = '' OR status = :status) ORDER BY created_at DESC LIMIT :limit) r
LEFT JOIN leases l ON l.run_id = r.id ORDER BY r.created_at DESC
"""
_APPROVALS = """
SELECT a.*, r.name AS run_name FROM approval_requests a JOIN workflow_runs r ON r.id = a.run_id
"""


def runs(db: Database, *, limit: int, status: str = "") -> list[dict[str, Any]]:
    """The newest runs with what a list shows: steps done, calls, cost, open gates, and who owns them."""
    found = [plain(row) for row in db.rows(_RUNS, limit=limit, status=status)]
    for row in found:
        if row.pop("unknown_cost_calls"):
            row["cost_usd"] = None
    return found


def run(db: Database, run_id: str) -> dict[str, Any]:
    """One run as it stands in its table, with its plan and result."""
    return plain(db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run_id)[0])


def steps(db: Database, run_id: str) -> list[dict[str, Any]]:
    """The steps of a run in their order."""
    return [
        plain(row)
        for row in db.rows("SELECT * FROM workflow_steps WHERE run_id = :run ORDER BY step_number", run=run_id)
    ]


def events(db: Database, run_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    """The events of a run that began after the one with this ``execution_order``."""
    query = (
        "SELECT * FROM execution_events WHERE run_id = :run AND execution_order > :after"
        " ORDER BY execution_order LIMIT :limit"
    )
    return [plain(row) for row in record_of(db, run_id).rows(query, run=run_id, after=after, limit=limit)]


#: The parts of a run that are sent in pages: the table, the order of its rows, and the column after which a page
#: begins; where there is none, it begins after so many rows.
PARTS = {
    "history": ("state_history", "id", "id"),
    "messages": ("messages", "id", "id"),
    "costs": ("cost_records", "id", "id"),
    "files": ("files", "created_at, id", ""),
    "checkpoints": ("checkpoints", "journal_position, id", ""),
}


def page(db: Database, run_id: str, part: str, *, after: int, limit: int) -> dict[str, Any]:
    """A page of a part of a run, and as ``after`` where the next one begins."""
    table, order, key = PARTS[part]
    begin = (
        f"AND {key} > :after ORDER BY {order} LIMIT :limit" if key else f"ORDER BY {order} LIMIT :limit OFFSET :after"
    )
    query = f"SELECT * FROM {table} WHERE run_id = :run {begin}"
    found = [plain(row) for row in record_of(db, run_id).rows(query, run=run_id, after=after, limit=limit)]
    last = (found[-1][key] if found else after) if key else after + len(found)
    return {part: found, "after": last}


def command(db: Database, command_id: str) -> str | None:
    """Return the outcome of a command from the run's owner; None until it has acted."""
    (row,) = db.rows("SELECT handled_at, outcome FROM commands WHERE id = :id", id=command_id)
    return None if row["handled_at"] is None else str(row["outcome"] or "")


def graph(db: Database, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """The nodes and edges of a run."""
    nodes = db.rows("SELECT * FROM dag_nodes WHERE run_id = :run ORDER BY order_index", run=run_id)
    edges = db.rows("SELECT * FROM dag_edges WHERE run_id = :run ORDER BY id", run=run_id)
    return {"nodes": [plain(row) for row in nodes], "edges": [plain(row) for row in edges]}


def pending(db: Database) -> list[dict[str, Any]]:
    """The gates that wait for an answer, the oldest first."""
    rows = db.rows(_APPROVALS + " WHERE a.status = 'pending' ORDER BY a.created_at")
    return [_gate(row) for row in rows]


def approval(db: Database, approval_id: str) -> dict[str, Any] | None:
    """A gate, open or answered."""
    found = db.rows(_APPROVALS + " WHERE a.id = :id", id=approval_id)
    if found:
        return _gate(found[0])
    row = find_archived(db, "approval_requests", approval_id)
    return None if row is None else _gate({**row, "run_name": run(db, row["run_id"])["name"]})


def _gate(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a gate with ``shown``: everything that is decided on, in a form that a front end shows part by part."""
    gate = plain(row)
    return {**gate, "shown": shown(gate).as_dict()}


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON can carry it: JSON columns parsed, yes and no as such, no NaN.

    >>> plain({"id": "x", "meta": '{"a": 1}', "is_branch": 0, "cost_usd": float("nan")})
    {'id': 'x', 'meta': {'a': 1}, 'is_branch': False, 'cost_usd': None}
    """
    return {name: _finite(_parsed(name, value)) for name, value in row.items()}


def _parsed(name: str, value: Any) -> Any:
    if name in columns.JSON and isinstance(value, str):
        return from_json(value)
    return bool(value) if name in columns.BOOLEAN and value is not None else value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def with_life(row: Mapping[str, Any], db: Database) -> dict[str, Any]:
    """Return a listed run with ``silent``: whether it should go on but its process is gone."""
    from cmbagent_nb.workflow.ownership import is_alive

    shown = dict(row)
    owner, beat = shown.pop("lease_owner"), shown.pop("heartbeat_at")
    shown["silent"] = bool(owner) and shown["status"] in ACTIVE and not is_alive(owner, beat, of=db)
    return shown
