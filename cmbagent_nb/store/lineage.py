"""Traces a file to its task: file ← file_gen ← code_exec ← agent_call ← model_call ← step ← task.

Each link is found by the ids of the record: the file's event, the parents of that event, the
model's reply that came before the code within the same attempt, the step of the plan, the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import AmbiguousReference, RunNotFound
from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.conflicts import rivals
from cmbagent_nb.store.database import Database, rows
from cmbagent_nb.store.event_labels import event_label
from cmbagent_nb.store.files import is_missing
from cmbagent_nb.store.lookup import parsed

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection


def lineage(db: Database, run_id: str, path: str) -> list[dict[str, Any]]:
    """Return the chain from a file of a run back to the task, the file first.

    Each link is a dict with ``kind`` (file, file_gen, code_exec, agent_call, model_call, step, task),
    ``id``, ``label``, ``node_id``, ``agent`` and ``at``, and what belongs to its kind: ``code`` and ``reads``
    (the files that were read, each with ``made_by``) of the execution, ``prompt`` and ``reply`` of the model
    call, ``instructions`` of the step, ``task`` of the run.

    Raises
    ------
    RunNotFound
        The run has no such file.
    AmbiguousReference
        The end of a path fits more than one file.
    """
    with record_of(db, run_id).reading() as connection:
        file = _file(connection, run_id, path)
        work_dir = rows(connection, "SELECT work_dir FROM workflow_runs WHERE id = :run", {"run": run_id})
        file["missing"] = is_missing(work_dir[0]["work_dir"] if work_dir else None, file["file_path"])
        chain = [_file_link(file)]
        references = file["meta"].get("references") if isinstance(file["meta"], dict) else None
        if references:
            chain[0]["reads"] = _referred(connection, references)
        events = _ancestors(connection, run_id, file["event_id"])
        execution = next((event for event in events if event["event_type"] == "code_exec"), None)
        execution = execution or _before(connection, run_id, file, events, "code_exec")
        if execution is not None and execution not in events:
            events += [event for event in _ancestors(connection, run_id, execution["id"]) if event not in events]
        call = next((event for event in events if event["event_type"] == "agent_call"), None)
        if call is None:
            call = _before(connection, run_id, file, events, "agent_call")
            if call is not None:
                events.append(call)
        reply = _model_call(connection, run_id, call, execution or (events[0] if events else None))
        for kind in ("file_gen", "code_exec", "agent_call"):
            chain += [_event_link(connection, run_id, event, file) for event in events if event["event_type"] == kind]
        if reply is not None:
            chain.append(_reply_link(connection, reply))
        node_id = file["node_id"] or (events[0]["node_id"] if events else None)
        return chain + _plan_links(connection, run_id, node_id)


def _file(connection: Connection, run_id: str, path: str) -> dict[str, Any]:
    """Return the newest version of a file by its path, or by the unique end of it."""
    path = path.replace("\\", "/").removeprefix("./")
    select = "SELECT * FROM files WHERE run_id = :run AND "
    order = " ORDER BY version DESC, created_at DESC, id DESC"
    found = rows(connection, select + "file_path = :path" + order, {"run": run_id, "path": path})
    if not found:
        condition = "SUBSTR(file_path, LENGTH(file_path) - LENGTH(:end) + 1) = :end"
        found = rows(connection, select + condition + order, {"run": run_id, "end": "/" + path})
        paths = sorted({row["file_path"] for row in found})
        if len(paths) > 1:
            raise AmbiguousReference(
                f"{path!r} fits {len(paths)} files: {', '.join(paths[:5])}",
                "Give more of the path.",
                reference=path,
                candidates=paths,
            )
    if not found:
        raise RunNotFound(
            f"the run made no file {path!r}", "List its files with run.files().", run_id=run_id, path=path
        )
    return parsed(found[0])


def _referred(connection: Connection, references: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the files that the numbers of a report are from, with their versions and who made them."""
    ids = {str(item["path"]): item.get("file_id") for item in references}
    columns = "id, version, content_hash, node_id, event_id, created_by_agent"
    found = []
    for path, file_id in sorted(ids.items()):
        made = rows(connection, f"SELECT {columns} FROM files WHERE id = :id", {"id": file_id}) if file_id else []
        found.append({"path": path, "made_by": made[0] if made else None})
    return found


def _ancestors(connection: Connection, run_id: str, event_id: str | None) -> list[dict[str, Any]]:
    """Return an event and those around it, the innermost first."""
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    while event_id and event_id not in seen:
        seen.add(event_id)
        found = rows(
            connection,
            "SELECT * FROM execution_events WHERE id = :id AND run_id = :run",
            {"id": event_id, "run": run_id},
        )
        if not found:
            break
        chain.append(parsed(found[0]))
        event_id = chain[-1]["parent_event_id"]
    return chain


def _before(
    connection: Connection, run_id: str, file: dict[str, Any], events: list[dict[str, Any]], kind: str
) -> dict[str, Any] | None:
    """Return the last event of a kind before the known ones, in the same node and attempt."""
    if not events:
        return None
    first = events[0]
    sql = (
        "SELECT * FROM execution_events WHERE run_id = :run AND node_id = :node AND event_type = :kind "
        "AND execution_order < :order AND COALESCE(attempt, 1) = :attempt ORDER BY execution_order DESC LIMIT 1"
    )
    values = {
        "run": run_id,
        "node": first["node_id"] or file["node_id"],
        "kind": kind,
        "order": first["execution_order"],
        "attempt": first["attempt"] or 1,
    }
    found = rows(connection, sql, values)
    return parsed(found[0]) if found else None


def _model_call(
    connection: Connection, run_id: str, call: dict[str, Any] | None, before: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Return the model call whose reply an agent acted on: the last that completed before the agent's next event."""
    if call is None:
        return None
    sql = (
        "SELECT * FROM execution_events WHERE run_id = :run AND event_type = 'model_call' AND status = 'completed' "
        "AND parent_event_id = :call AND (:before = 0 OR execution_order < :before) "
        "ORDER BY execution_order DESC LIMIT 1"
    )
    limit = before["execution_order"] if before is not None and before["id"] != call["id"] else 0
    found = rows(connection, sql, {"run": run_id, "call": call["id"], "before": limit})
    if not found:
        found = rows(
            connection,
            "SELECT * FROM execution_events WHERE run_id = :run AND node_id = :node AND event_type = 'model_call' "
            "AND status = 'completed' AND COALESCE(attempt, 1) = :attempt AND agent_name = :agent "
            "AND (:before = 0 OR execution_order < :before) ORDER BY execution_order DESC LIMIT 1",
            {
                "run": run_id,
                "node": call["node_id"],
                "attempt": call["attempt"] or 1,
                "agent": call["agent_name"],
                "before": limit,
            },
        )
    return parsed(found[0]) if found else None


def _link(kind: str, row: dict[str, Any], label: str, at: float | None, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "id": row["id"],
        "label": label,
        "node_id": row.get("node_id"),
        "agent": row.get("agent_name") or row.get("created_by_agent") or row.get("agent"),
        "at": at,
        **more,
    }


def _file_link(file: dict[str, Any]) -> dict[str, Any]:
    names = ("file_path", "file_type", "version", "content_hash", "size_bytes", "missing")
    label = f"{file['file_path']} (missing)" if file["missing"] else file["file_path"]
    link = _link("file", file, label, file["created_at"], **{name: file[name] for name in names})
    others = rivals(file["meta"])
    if others:
        link["conflict"] = others
        link["label"] = f"{label} (also written by {', '.join(others)}, independently)"
    return link


def _event_link(connection: Connection, run_id: str, event: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    link = _link(event["event_type"], event, event_label(event), event["started_at"], attempt=event["attempt"])
    link["inputs"], link["outputs"] = event["inputs"], event["outputs"]
    if event["event_type"] == "code_exec":
        link["code"] = _held(event, "code", "python_code", "source") or _code_said(connection, run_id, event)
        link["code_hash"] = file["generating_code_hash"]
        versions = event["meta"].get("versions", {}) if isinstance(event["meta"], dict) else {}
        link["reads"] = [_maker(connection, run_id, path, event, versions.get(path)) for path in _reads(event)]
    return link


def _held(event: dict[str, Any], *keys: str) -> Any:
    for part in ("inputs", "outputs", "meta"):
        if isinstance(event[part], dict):
            for key in keys:
                if event[part].get(key):
                    return event[part][key]
    return None


def _code_said(connection: Connection, run_id: str, event: dict[str, Any]) -> str | None:
    """Return the code that an agent wrote for this execution, from its message."""
    found = rows(
        connection,
        "SELECT m.code_generated FROM messages AS m JOIN execution_events AS e ON e.id = m.event_id "
        "WHERE m.run_id = :run AND m.node_id = :node AND m.code_generated IS NOT NULL "
        "AND COALESCE(e.attempt, 1) = :attempt AND e.execution_order <= :order ORDER BY m.id DESC LIMIT 1",
        {
            "run": run_id,
            "node": event["node_id"],
            "attempt": event["attempt"] or 1,
            "order": event["execution_order"],
        },
    )
    return found[0]["code_generated"] if found else None


def _reads(event: dict[str, Any]) -> list[str]:
    found = _held(event, "reads", "files_read") or []
    return [str(item.get("path") if isinstance(item, dict) else item) for item in found]


def _maker(
    connection: Connection, run_id: str, path: str, event: dict[str, Any], file_id: str | None
) -> dict[str, Any]:
    """Return a file that was read, with its version and who made it.

    That is the version that the step was given; where the record does not tell it, the one that stood there then.
    """
    columns = "f.id, f.version, f.content_hash, f.node_id, f.event_id, f.created_by_agent"
    if file_id is not None:
        found = rows(connection, f"SELECT {columns} FROM files AS f WHERE f.id = :id", {"id": file_id})
        return {"path": path, "made_by": found[0] if found else None}
    found = rows(
        connection,
        f"SELECT {columns} FROM files AS f "
        "LEFT JOIN execution_events AS e ON e.id = f.event_id WHERE f.run_id = :run AND f.file_path = :path "
        "AND (e.id IS NULL OR e.execution_order < :order) ORDER BY f.version DESC LIMIT 1",
        {"run": run_id, "path": path, "order": event["execution_order"]},
    )
    return {"path": path, "made_by": found[0] if found else None}


def _reply_link(connection: Connection, event: dict[str, Any]) -> dict[str, Any]:
    link = _link("model_call", event, event_label(event), event["started_at"], attempt=event["attempt"])
    found = rows(
        connection,
        "SELECT request, reply, request_hash, masked FROM model_replies WHERE event_id = :event",
        {"event": event["id"]},
    )
    reply = parsed(found[0]) if found else {}
    link["prompt"] = reply.get("request") or event["inputs"]
    link["reply"] = reply.get("reply") or event["outputs"]
    link["request_hash"] = reply.get("request_hash")
    link["model"] = _held(event, "model")
    return link


def _plan_links(connection: Connection, run_id: str, node_id: str | None) -> list[dict[str, Any]]:
    chain = []
    step_id = (node_id or "").partition(".")[0]
    found = rows(
        connection,
        "SELECT * FROM workflow_steps WHERE run_id = :run AND node_id = :node",
        {"run": run_id, "node": step_id},
    )
    if found:
        step = parsed(found[0])
        names = ("title", "instructions", "goal", "depends_on", "expected_outputs")
        label = f"step {step['step_number']} · {step['title'] or step['goal'] or ''}".rstrip(" ·")
        chain.append(_link("step", step, label, step["started_at"], **{name: step[name] for name in names}))
    (run,) = rows(connection, "SELECT * FROM workflow_runs WHERE id = :run", {"run": run_id})
    task = run["task_description"] or ""
    label = " ".join(task.split())[:80] or run["name"] or "task"
    chain.append(
        _link("task", {**run, "node_id": None, "agent": "you"}, label, run["created_at"], task=task, model=run["model"])
    )
    return chain
