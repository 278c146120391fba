"""Rebuilds the tables of a run from its journal, column by column as they were stored.

Images of rows (:mod:`cmbagent_nb.store.images`) tell all that was committed. The other lines tell what was under way:
they are applied in their order, and are all that a journal of an older version has; events and messages are not in
those, and each change of a status becomes a row of the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.llm.tape import JOURNAL_KIND, RESULT_KIND, add_result
from cmbagent_nb.store.columns import JSON, key_of
from cmbagent_nb.store.files import to_record
from cmbagent_nb.store.images import KIND, TABLES
from cmbagent_nb.store.journal import Entry, read_journal
from cmbagent_nb.store.json import from_json
from cmbagent_nb.store.values import prepare
from cmbagent_nb.workflow.history import REWRITTEN
from cmbagent_nb.workflow.states import UNFINISHED

#: What of a reply's usage is in a cost record.
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")

#: By what a row without an id is the same as one with an id.
_PLACES: Mapping[str, tuple[str, ...]] = {
    "dag_edges": ("from_node_id", "to_node_id"),
    "model_replies": ("node_id", "attempt", "agent_name", "ordinal", "request_hash"),
    "state_history": ("entity_type", "entity_id", "from_state", "to_state"),
}

Row = dict[str, Any]


def _unmasked(text: str) -> str:
    return text  # what is in a journal was masked when it was written


@dataclass
class Rebuilt:
    """A run as its journal tells it: rows by table and key, their values as they are stored."""

    path: Path
    tables: dict[str, dict[Any, Row]] = field(default_factory=lambda: {table: {} for table in TABLES})
    session_name: str = "default"
    #: Lines that could not be read, in words.
    faults: list[str] = field(default_factory=list)
    #: The numbers of lines that can be read and tell of no row.
    void: set[int] = field(default_factory=set)
    #: How many of its rows are of other runs: it was copied from elsewhere, and no line of it is to be trusted.
    foreign: int = 0
    #: Whether it holds images of rows: then it holds events and messages, too.
    whole: bool = False
    #: Changes of statuses that its lines tell.
    told: list[Row] = field(default_factory=list)

    @property
    def run(self) -> Row | None:
        """The row of the run; None where no line tells of it."""
        return next(iter(self.tables["workflow_runs"].values()), None)


def rebuild(path: Path, home: Path, run_id: str | None = None) -> Rebuilt:
    """Read a journal; ``run_id`` is its run where that is known.

    Raises
    ------
    StoreError
        It is no file, or cannot be read.
    """
    made = Rebuilt(path)
    replies: list[Row] = []
    expected, gaps = 1, list[str]()
    before, until = dict[str, dict[Any, Row]](), 0
    for entry in read_journal(path, made.faults):
        if entry.kind == REWRITTEN:
            gaps.clear()  # what follows tells all of it again
            before, made.tables = made.tables, {table: {} for table in TABLES}
            until = entry.data.get("until", 0) if isinstance(entry.data, dict) else 0
        elif entry.seq > expected:
            gaps.append(f"lines {expected} to {entry.seq - 1} are missing")
        expected = entry.seq + 1
        try:
            _apply(made, replies, entry)
        except (KeyError, TypeError, ValueError, AttributeError):
            made.faults.append(f"line with the number {entry.seq} tells of no row")
            made.void.add(entry.seq)
    if gaps or not isinstance(until, int) or expected <= until:
        for table, rows in before.items():  # not all of it was told again
            made.tables[table] = {**rows, **made.tables[table]}
    if gaps:
        _drop_twins(made.tables)
    made.faults += gaps
    runs = made.tables["workflow_runs"]
    for other in [key for key in runs if run_id is not None and key != run_id]:
        del runs[other]
        made.foreign += 1
    run = made.run
    if run is not None:
        run["work_dir"] = to_record(home, path.parent)
        _add_replies(made, run, replies)
        if not made.tables["state_history"]:
            _add_history(made, run)
        for table, rows in made.tables.items():
            owner = "id" if table == "workflow_runs" else "run_id"
            for key in [key for key, row in rows.items() if row.setdefault(owner, run["id"]) != run["id"]]:
                del rows[key]  # of another run, whose line came here
                made.foreign += 1
    if made.foreign:
        made.faults.append("rows of another run")
    return made


def _drop_twins(tables: dict[str, dict[Any, Row]]) -> None:
    """Drop rows without a key that others with a key tell of: their lines do not stand in order."""
    for table in _PLACES:
        rows = tables[table]
        keyed = {_place(table, row) for key, row in rows.items() if not isinstance(key, tuple)}
        for place in [key for key in rows if isinstance(key, tuple) and key in keyed]:
            del rows[place]


def _apply(made: Rebuilt, replies: list[Row], entry: Entry) -> None:
    data, tables = entry.data, made.tables
    if not isinstance(data, dict):
        return
    if entry.kind == KIND:
        made.whole = True
        for image in data["rows"]:
            _apply_image(tables, image)
    elif entry.kind == "state":
        _change_state(made, data, entry.at)
    elif entry.kind == "interrupted":
        _interrupt(tables, entry.at)
    elif entry.kind == "session":
        made.session_name = str(data["name"])
    elif entry.kind == "checkpoint":
        tables["checkpoints"].setdefault(data["id"], _stored("checkpoints", {**data, "journal_position": entry.seq}))
    elif entry.kind == JOURNAL_KIND:
        replies.append({**data, "created_at": entry.at})
    elif entry.kind == RESULT_KIND:
        add_result(replies, data)
    elif "row" in data and data.get("table") in tables:
        row, table = _stored(data["table"], data["row"]), data["table"]
        tables[table].setdefault(row.get(key_of(table)) or _place(table, row), row)
    elif "values" in data and data.get("table") in tables:
        row = tables[data["table"]].get(data["id"], {})
        row.update(_stored(data["table"], data["values"]) if row else {})


def _stored(table: str, row: Mapping[str, Any]) -> Row:
    names, values = prepare(table, row, _unmasked)
    return dict(zip(names, values, strict=True))


def _place(table: str, row: Mapping[str, Any]) -> Any:
    return tuple(row.get(name) for name in _PLACES.get(table, tuple(sorted(row))))


def take_twin(free: dict[Any, Row], table: str, row: Row) -> Row | None:
    """Remove and return the stored row that is the same as one whose key the journal does not tell; None if none is."""
    names = _PLACES.get(table) or [name for name, value in row.items() if value is not None and name != "created_at"]
    key = next((key for key, mine in free.items() if all(mine.get(name) == row.get(name) for name in names)), None)
    return None if key is None else free.pop(key)


def _apply_image(tables: dict[str, dict[Any, Row]], image: Mapping[str, Any]) -> None:
    table = image["table"]
    rows, key = tables[table], key_of(table)
    for gone in image.get("deleted", ()):
        rows.pop(gone, None)
    columns = image.get("columns", ())
    for values in image.get("values", ()):
        row = dict(zip(columns, values, strict=True))
        if table in _PLACES:
            rows.pop(_place(table, row), None)  # the line that told of it before it had its key
        identifier = row[key] if key in row else _place(table, row)
        known = rows.get(identifier)
        if known is not None:
            known.update(row)
        elif len(row) > 1 and (table == "workflow_runs" or "run_id" in row):
            rows[identifier] = row


def _change_state(made: Rebuilt, data: Mapping[str, Any], at: float) -> None:
    tables, values = made.tables, dict(data.get("values", {}))
    if data["entity"] == "workflow_run":
        changes = [("workflow_runs", row) for row in tables["workflow_runs"].values()]
        names = set(values)
    else:
        names = {"started_at", "ended_at"}
        changes = [
            (table, row)
            for table in ("dag_nodes", "workflow_steps")
            for row in tables[table].values()
            if row["node_id"] == data["id"]
        ]
    for table, row in changes:
        if row.get("status") == data["to"]:
            continue  # its image was there first
        kept = values if table == "workflow_steps" else {name: values[name] for name in names if name in values}
        first = row.get("started_at")
        # In a change of status, JSON is written as it is stored.
        kept = {
            name: from_json(value) if name in JSON and isinstance(value, str) else value for name, value in kept.items()
        }
        row.update(_stored(table, {**kept, "status": data["to"]}))
        if first and "started_at" in kept:
            row["started_at"] = first
    made.told.append(
        {
            "entity_type": data["entity"],
            "entity_id": data["id"],
            "from_state": data.get("from"),
            "to_state": data["to"],
            "created_at": at,
        }
    )


def _interrupt(tables: dict[str, dict[Any, Row]], at: float) -> None:
    for table, statuses, status, ended in (
        ("dag_nodes", UNFINISHED, "interrupted", "ended_at"),
        ("workflow_steps", UNFINISHED, "interrupted", "ended_at"),
        ("step_attempts", ("running",), "interrupted", "ended_at"),
        ("execution_events", ("running",), "interrupted", "ended_at"),
        ("approval_requests", ("pending",), "expired", "resolved_at"),
    ):
        for row in tables[table].values():
            if row.get("status") in statuses:
                row.update({"status": status, ended: at})
    for row in tables["workflow_runs"].values():
        if row.get("status") not in (*_OVER, "interrupted"):
            row.update({"status": "interrupted", "ended_at": at})


_OVER = ("completed", "failed", "cancelled")


def _add_replies(made: Rebuilt, run: Row, replies: list[Row]) -> None:
    """Add the replies, and their costs, that no image tells of: they were paid for."""
    known = {_place("model_replies", row) for row in made.tables["model_replies"].values()}
    for told in replies:
        if _place("model_replies", told) in known:
            continue
        known.add(_place("model_replies", told))
        names = ("node_id", "attempt", "ordinal", "agent_name", "request_hash", "reply", "usage")
        row = {name: told.get(name) for name in names}
        identifier = new_id()
        reply = _stored(
            "model_replies", {"id": identifier, "run_id": run["id"], **row, "created_at": told["created_at"]}
        )
        made.tables["model_replies"][_place("model_replies", reply)] = reply  # the database may know it by another id
        usage, said = told.get("usage") or {}, told["reply"] if isinstance(told.get("reply"), dict) else {}
        cost = {
            "run_id": run["id"],
            "session_id": run["session_id"],
            "node_id": told["node_id"],
            "agent_name": told["agent_name"],
            # A journal of before these were kept in it has them only where the reply tells them.
            "provider": told.get("provider") or said.get("provider"),
            "model": told.get("model") or said.get("model") or run.get("model"),
            **{name: usage.get(name, 0) for name in TOKENS},
            "cost_usd": told.get("cost_usd"),
            "created_at": told["created_at"],
        }
        made.tables["cost_records"]["of", identifier] = _stored("cost_records", cost)


def _add_history(made: Rebuilt, run: Row) -> None:
    """Make the history of a run whose journal is of a version without images."""
    for number, told in enumerate(made.told):
        row = {**told, "run_id": run["id"], "session_id": run.get("session_id"), "transitioned_by": "journal"}
        made.tables["state_history"]["told", number] = _stored("state_history", row)
