"""A workspace whose database is lost, made anew from the journals of its runs.

What the journals hold comes back: runs, plans, graphs, steps, attempts, gates, files, replies and their costs, which
is all that going on with a run needs. Events and messages are only in the database; those of the lost one are gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.store.journal import FILE_NAME, read_journal
from cmbagent_nb.workflow.history import rows_of_journal

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: What of a reply's usage is in a cost record.
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")

#: Columns that may name a row which is not there any more.
_LINKS = ("event_id", "parent_event_id", "parent_file_id")


def set_aside(home: Path) -> Path | None:
    """Move a damaged database out of the way; returns where it is now."""
    from cmbagent_nb.store.database import FILE_NAME as DATABASE

    database = home / DATABASE
    if not database.exists():
        return None
    target = home / f"{DATABASE}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    for suffix in ("", "-wal", "-shm"):
        part = home / f"{DATABASE}{suffix}"
        if part.exists():
            part.replace(f"{target}{suffix}")
    return target


def repair(home: Path, db: Database, writer: Writer) -> list[str]:
    """Take every journal below ``home`` whose run is not in the database into it; returns the runs' names."""
    known = {row["id"] for row in db.rows("SELECT id FROM workflow_runs")}
    repaired = []
    for path in journals(home):
        rows = rows_of_journal(path)
        run = next(iter(rows["workflow_runs"]), None)
        if run is None or run["id"] in known:
            continue
        _take_in(writer, rows, run, session_name(path, run["session_id"]))
        for row in _checkpoints(path, run):
            writer.insert("checkpoints", row)
        repaired.append(str(run["name"]))
    writer.barrier().result()
    return repaired


def journals(home: Path) -> Iterator[Path]:
    """Yield the journals of the runs in a workspace."""
    yield from sorted((home / "runs").glob(f"*/{FILE_NAME}"))


def session_name(path: Path, session_id: str) -> str:
    """Return what a journal says that the run's session is called."""
    for entry in read_journal(path):
        if entry.kind == "session" and entry.data["id"] == session_id:
            return str(entry.data["name"])
    return "default"  # a journal of before names were kept in it


def _checkpoints(path: Path, run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's checkpoints: each is the line of the journal that it names."""
    place = {"run_id": run["id"], "session_id": run["session_id"]}
    found = {entry.data["id"]: entry for entry in read_journal(path) if entry.kind == "checkpoint"}
    for entry in found.values():
        yield {**entry.data, **place, "journal_position": entry.seq}


def _take_in(writer: Writer, rows: dict[str, list[dict[str, Any]]], run: dict[str, Any], session_name: str) -> None:
    session, began = run["session_id"], run["created_at"]
    writer.call(lambda connection: _session(connection, session, session_name, began)).result()
    writer.insert("workflow_runs", run)
    # No process holds it: whoever looks next finds it interrupted and may go on with it.
    writer.insert("leases", {"run_id": run["id"], "owner": run["owner"], "heartbeat_at": run["created_at"]})
    for table in ("dag_nodes", "dag_edges", "workflow_steps", "step_attempts", "approval_requests", "files"):
        for row in rows[table]:
            writer.insert(table, {name: value for name, value in row.items() if name not in _LINKS})
    for row in rows["model_replies"]:
        reply = {
            key: row[key] for key in ("node_id", "attempt", "ordinal", "agent_name", "request_hash", "reply", "usage")
        }
        key = {"run_id": run["id"], "created_at": row["created_at"]}
        writer.insert("model_replies", {"id": new_id(), **key, **reply})
        usage, said = row.get("usage") or {}, row["reply"] if isinstance(row.get("reply"), dict) else {}
        writer.insert(
            "cost_records",
            {
                **key,
                "session_id": session,
                "node_id": row["node_id"],
                "agent_name": row["agent_name"],
                # A journal of before these were kept in it has them only where the reply tells them.
                "provider": row.get("provider") or said.get("provider"),
                "model": row.get("model") or said.get("model") or run["model"],
                **{name: usage.get(name, 0) for name in TOKENS},
                "cost_usd": row.get("cost_usd"),
            },
        )


def _session(connection: Any, session_id: str, name: str, began: float) -> None:
    from sqlalchemy import text

    if connection.execute(text("SELECT 1 FROM sessions WHERE id = :id"), {"id": session_id}).first() is None:
        connection.execute(
            text("INSERT INTO sessions (id, name, status, created_at) VALUES (:id, :name, 'active', :began)"),
            {"id": session_id, "name": name, "began": began},
        )
