"""A run as it stood at some moment, told by the database or by the journal alone.

Both hold the same rows; :func:`state_of` makes the same state of either. That is tested on recorded runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.llm.tape import JOURNAL_KIND, RESULT_KIND, add_result
from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.columns import JSON
from cmbagent_nb.store.images import KIND as IMAGES
from cmbagent_nb.store.journal import Entry, read_journal
from cmbagent_nb.store.json import from_json
from cmbagent_nb.workflow.states import UNFINISHED

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database

#: The tables that are kept twice.
TABLES = (
    "workflow_runs",
    "dag_nodes",
    "dag_edges",
    "workflow_steps",
    "step_attempts",
    "approval_requests",
    "files",
    "model_replies",
)

#: The kind of the line after which a repair has written all rows of the run anew, up to the line ``until``.
REWRITTEN = "rewritten"

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class State:
    """State of a run: enough to resume it, and to compare it with another."""

    status: str = "draft"
    task: str = ""
    mode: str = ""
    plan: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    nodes: dict[str, str] = field(default_factory=dict)
    edges: frozenset[tuple[str, str]] = frozenset()
    attempts: dict[tuple[str, int], str] = field(default_factory=dict)
    gates: dict[str, tuple[str, str, str | None, str | None]] = field(default_factory=dict)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    replies: tuple[tuple[str, int, str, int, str], ...] = ()

    def differences(self, other: State) -> list[str]:
        """Name what differs, part by part."""
        found = []
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"{name}: {mine!r} != {theirs!r}")
        return found


def rows_of_database(db: Database, run_id: str) -> Rows:
    """Read the rows of a run that are kept twice."""
    db = record_of(db, run_id)
    rows: Rows = {}
    for table in TABLES:
        key = "id" if table == "workflow_runs" else "run_id"
        found = db.rows(f"SELECT * FROM {table} WHERE {key} = :id", id=run_id)
        rows[table] = [{name: _value(name, value) for name, value in row.items()} for row in found]
    return rows


def rows_of_journal(path: Path, until: int | None = None) -> Rows:
    """Build the rows of a run from its journal, up to the line numbered ``until``.

    Lines that are torn or of kinds that hold no row are passed over.
    """
    rows: Rows = {table: [] for table in TABLES}
    for entry in read_journal(path, without=IMAGES.encode()):
        if until is not None and entry.seq > until:
            break
        _apply(rows, entry)
    return rows


def state_of(rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> State:
    """Make the state of a run of its rows."""
    run = next(iter(rows["workflow_runs"]), None)
    if run is None:
        return State()
    newest: dict[str, tuple[int, str]] = {}
    for file in rows["files"]:
        if file["version"] >= newest.get(file["file_path"], (0, ""))[0]:
            newest[file["file_path"]] = (file["version"], file["content_hash"])
    return State(
        status=run["status"],
        task=run["task_description"],
        mode=run["mode"],
        plan=run.get("plan"),
        result=run.get("result"),
        error=run.get("error"),
        # Nodes of agents within a step are for looking at: nothing is decided by them.
        nodes={row["node_id"]: row["status"] for row in rows["dag_nodes"] if row["node_type"] != "sub_agent"},
        edges=frozenset((row["from_node_id"], row["to_node_id"]) for row in rows["dag_edges"]),
        attempts={(row["node_id"], row["attempt"]): row["status"] for row in rows["step_attempts"]},
        gates={
            row["id"]: (row["node_id"], row["status"], row.get("resolution"), row.get("user_feedback"))
            for row in rows["approval_requests"]
        },
        files=newest,
        replies=tuple(
            sorted(
                (row["node_id"], row["attempt"], row["agent_name"], row["ordinal"], row["request_hash"])
                for row in rows["model_replies"]
            )
        ),
    )


def _value(name: str, value: Any) -> Any:
    return from_json(value) if name in JSON and isinstance(value, str) else value


def _apply(rows: Rows, entry: Entry) -> None:
    data = entry.data
    if not isinstance(data, dict):
        return
    if entry.kind == REWRITTEN:
        for table in rows.values():
            table.clear()  # the lines that follow tell all of it again
    elif entry.kind == "state":
        _change_state(rows, data)
    elif entry.kind == "interrupted":
        _interrupt(rows, entry.at)
    elif entry.kind == JOURNAL_KIND:
        rows["model_replies"].append({**data, "created_at": entry.at})
    elif entry.kind == RESULT_KIND:
        add_result(rows["model_replies"], data)
    elif "row" in data and data.get("table") in rows:
        rows[data["table"]].append(dict(data["row"]))
    elif "values" in data and data.get("table") in rows:
        for row in rows[data["table"]]:
            if row.get("id") == data["id"]:
                row.update(data["values"])


def _change_state(rows: Rows, data: Mapping[str, Any]) -> None:
    values = {name: _value(name, value) for name, value in data.get("values", {}).items()}
    changed = {**values, "status": data["to"]}
    if data["entity"] == "workflow_run":
        started = rows["workflow_runs"][0].get("started_at") if rows["workflow_runs"] else None
        for row in rows["workflow_runs"]:
            row.update({**changed, **({"started_at": started} if started else {})})
        return
    times = {name: value for name, value in changed.items() if name in ("status", "started_at", "ended_at")}
    for table, columns in (("dag_nodes", times), ("workflow_steps", changed)):
        for row in rows[table]:
            if row["node_id"] == data["id"]:
                first = row.get("started_at")
                row.update({**columns, **({"started_at": first} if first and "started_at" in columns else {})})


def _interrupt(rows: Rows, at: float) -> None:
    for table, statuses, status, ended in (
        ("dag_nodes", UNFINISHED, "interrupted", "ended_at"),
        ("workflow_steps", UNFINISHED, "interrupted", "ended_at"),
        ("step_attempts", ("running",), "interrupted", "ended_at"),
        ("approval_requests", ("pending",), "expired", "resolved_at"),
    ):
        for row in rows[table]:
            if row["status"] in statuses:
                row.update({"status": status, ended: at})
    for row in rows["workflow_runs"]:
        row.update({"status": "interrupted", "ended_at": at})
