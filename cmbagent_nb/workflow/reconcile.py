"""The two copies of a run made alike after its process died: what one of them holds, the other gets.

A line of the journal and a row of the database are written one after the other. A process that dies between them, a
disk that was full for one of them, or a journal that somebody deleted leaves them different by what was under way.
Whoever goes on with the run owns it, and sees to it first that either copy is enough again.

=========================================  ==========================================================
a row that only the journal has            goes into the database: a reply was paid for, also if it
                                           was not acted on yet; files are published once more instead
a row that only the database has           gets its line
a row that they tell differently           stands as in the database, which the run goes on from
=========================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.llm.tape import JOURNAL_KIND
from cmbagent_nb.store.columns import SOFT_LINKS
from cmbagent_nb.store.journal import FILE_NAME
from cmbagent_nb.workflow.history import Rows, rows_of_database, rows_of_journal
from cmbagent_nb.workflow.journaled import JournaledWriter

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: By what a row is the same in both copies, where that is not its id.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "dag_edges": ("from_node_id", "to_node_id"),
    "model_replies": ("node_id", "attempt", "agent_name", "ordinal", "request_hash"),
}
#: What a reply's line holds.
_REPLY = ("node_id", "attempt", "ordinal", "agent_name", "event_id", "request_hash", "reply", "usage")
#: What changes all the time and is in no line, and links that the database may have cut.
_PASSING = frozenset({"last_heartbeat_at", "progress_percentage", "owner", "event_id", "parent_file_id", "work_dir"})
#: What is made of other columns.
_DERIVED = frozenset({("dag_nodes", "meta"), ("approval_requests", "result")})
#: What nobody waits for any more.
_ENDED = {"running": "interrupted", "pending": "expired"}


def reconcile(db: Database, writer: Writer, run_id: str, work_dir: Path) -> list[str]:
    """Make the copies of a run alike that this process owns; returns in words what was missing or different."""
    writer.barrier().result()
    journaled = JournaledWriter(writer, work_dir)
    stored, told = rows_of_database(db, run_id), rows_of_journal(work_dir / FILE_NAME)
    found = [*_take_in(writer, run_id, stored, told), *_tell(journaled, stored, told)]
    writer.barrier().result()
    return found


def _take_in(writer: Writer, run_id: str, stored: Rows, told: Rows) -> Iterator[str]:
    """Put into the database what only the journal has."""
    for table, rows in told.items():
        if table in ("workflow_runs", "files"):  # a file is published again, and its event with it
            continue
        known = _by_key(table, stored[table])
        for key, row in _by_key(table, rows).items():
            if key in known:
                continue
            clean = {name: value for name, value in row.items() if name not in SOFT_LINKS}
            if table == "model_replies":
                _insert_reply(writer, run_id, stored, clean)
            else:
                if table in ("step_attempts", "approval_requests"):
                    clean["status"] = _ENDED.get(clean["status"], clean["status"])
                writer.insert(table, clean)
            yield f"{table} {key} was only in the journal"


def _insert_reply(writer: Writer, run_id: str, stored: Rows, row: Mapping[str, Any]) -> None:
    run = stored["workflow_runs"][0]
    place = {"run_id": run_id, "node_id": row["node_id"], "agent_name": row["agent_name"]}
    reply = {name: row[name] for name in ("attempt", "ordinal", "request_hash", "reply", "usage")}
    writer.insert("model_replies", {"id": new_id(), **place, **reply, "created_at": row["created_at"]})
    usage = row.get("usage") or {}
    tokens = {name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    cost = {"session_id": run["session_id"], "model": run["model"], "cost_usd": row.get("cost_usd")}
    writer.insert("cost_records", {**place, **tokens, **cost, "created_at": row["created_at"]})


def _tell(journaled: JournaledWriter, stored: Rows, told: Rows) -> Iterator[str]:
    """Write a line for what only the database has, and for what the journal tells otherwise."""
    for table, rows in stored.items():
        known = _by_key(table, told[table])
        for key, row in _by_key(table, rows).items():
            earlier = known.get(key)
            if earlier is None:
                full = {name: value for name, value in row.items() if value is not None}
                if table == "model_replies":
                    journaled.note(JOURNAL_KIND, {name: row.get(name) for name in _REPLY})
                else:
                    journaled.note("restored", {"table": table, "row": full})
                yield f"{table} {key} was not in the journal"
            elif table not in _KEYS:
                values = {name: value for name, value in row.items() if _differs(table, name, value, earlier)}
                if values:
                    journaled.changed("restored", table, row["id"], values)
                    yield f"{table} {key}: {', '.join(values)}"


def _differs(table: str, name: str, value: Any, earlier: Mapping[str, Any]) -> bool:
    sums = table == "workflow_runs" and name.startswith("total_")
    if sums or name in _PASSING or (table, name) in _DERIVED or name.endswith("_at") or value == earlier.get(name):
        return False
    return name in earlier or not (value is None or value == 0)  # what was never told is as the table has it


def _by_key(table: str, rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    names = _KEYS.get(table, ("id",))
    return {tuple(row.get(name) for name in names): row for row in rows}
