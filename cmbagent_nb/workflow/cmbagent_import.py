"""Taking a CMBAgent work dir into the record, as a run that has ended.

The plan becomes the run's plan, steps and graph, the chats its messages, the cost reports its costs, and all files
are copied as they are and listed with type, size and hash. Nothing is made up: a message has the time of its file,
since it has none of its own, and there are no events of agents.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, WorkDirError
from cmbagent_nb.execution.kinds import file_type, mime
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.json import from_json
from cmbagent_nb.workflow.graph import LAST
from cmbagent_nb.workflow.journaled import JournaledWriter
from cmbagent_nb.workflow.plan import PLANNING, TERMINATOR, Plan, Step

if TYPE_CHECKING:
    from cmbagent_nb.capture.file_scan import Entry
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.cmbagent_dir import WorkDir

#: What ``model_source`` says of an imported run.
SOURCE = "imported"

#: Folders whose files take their kind from the folder below: ``control/data/x.csv`` is data.
_WRAPPERS = ("control", "planning")


def import_run(writer: Writer, session_id: str, found: WorkDir, work_dir: Path, name: str, *, task: str = "") -> str:
    """Copy a work dir to ``work_dir`` and write it as a run that is completed; returns the run's id."""
    _copy(found, work_dir)
    run_id = new_id()
    keys = {"run_id": run_id, "session_id": session_id}
    journaled = JournaledWriter(writer, work_dir)
    began = found.ended_at - found.seconds
    models = [item["model"] for item in found.costs if item["model"]]
    planned, carried = found.plan is not None, any(path.startswith("context/") for path in found.files)
    journaled.insert(
        "run",
        "workflow_runs",
        {
            "id": run_id,
            "session_id": session_id,
            "name": name,
            "mode": "deep_research" if planned and carried else "planning_and_control" if planned else "one_shot",
            "agent": None if planned else "engineer",
            "model": max(sorted(set(models)), key=models.count) if models else None,
            "model_source": SOURCE,
            "status": "completed",
            "task_description": task or found.task or found.folder.name,
            "created_at": began,
            "started_at": began,
            "ended_at": found.ended_at,
            "work_dir": str(work_dir),
            "plan": found.plan.to_dict() if found.plan else None,
            "result": _result(found),
            "meta": {
                "imported": {
                    "from": str(found.folder),
                    "fingerprint": found.fingerprint,
                    "at": time.time(),
                    "skipped": found.skipped,
                }
            },
        },
    )
    journaled.session(session_id)
    _graph(journaled, keys, found, began)
    info: dict[str, Any] = {
        "id": new_id(),
        **keys,
        "event_type": "info",
        "event_subtype": SOURCE,
        "status": "completed",
    }
    info |= {"inputs": {"from": str(found.folder), "skipped": found.skipped}, "execution_order": 1, "depth": 0}
    writer.insert("execution_events", {**info, "started_at": found.ended_at, "ended_at": found.ended_at})
    for order, entry in enumerate(sorted(found.files.values(), key=lambda entry: entry.mtime_ns), start=2):
        _file(journaled, writer, keys, found, entry, order)
    for message in found.messages:
        writer.insert("messages", {**keys, **message})
    for cost in found.costs:
        writer.insert("cost_records", {**keys, **cost})
    writer.barrier().result()
    return run_id


def _copy(found: WorkDir, work_dir: Path) -> None:
    try:
        for path in found.files:
            target = work_dir / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found.folder / path, target)
    except OSError as error:
        shutil.rmtree(work_dir, ignore_errors=True)
        raise WorkDirError(
            f"{found.folder} cannot be copied to {work_dir} ({error.strerror or error})",
            "Check the disk's space and permissions.",
            path=str(found.folder),
        ) from error


def imported_before(db: Database, found: WorkDir) -> str | None:
    """Return the name of the run that this work dir, or a copy of it, was imported as."""
    for row in db.rows(
        "SELECT name, meta FROM workflow_runs WHERE model_source = :source ORDER BY created_at", source=SOURCE
    ):
        about = (from_json(row["meta"]) if row["meta"] else {}).get("imported", {})
        if about.get("fingerprint") == found.fingerprint or about.get("from") == str(found.folder):
            return str(row["name"])
    return None


def refuse_again(db: Database, found: WorkDir) -> None:
    """Refuse a work dir that is in the record already.

    Raises
    ------
    StateError
        It was imported before.
    """
    before = imported_before(db, found)
    if before is not None:
        raise StateError(
            f"{found.folder} was imported as the run {before}",
            f"Look at it with `cmbagent show {before}`, or import it once more with --again.",
            name=before,
        )


# ---- the rows


def _graph(journaled: JournaledWriter, keys: Mapping[str, Any], found: WorkDir, began: float) -> None:
    steps = found.plan.steps if found.plan else (Step(1, "The task", "engineer", found.task),)
    times = {"started_at": began, "ended_at": found.ended_at}
    nodes = [(PLANNING, PLANNING, "Planning", "planner", 0)] if found.plan else []
    nodes += [(step.node_id, "step", step.title, step.agent, step.number + 1) for step in steps]
    nodes.append((TERMINATOR, TERMINATOR, "End", "", LAST))
    for node_id, kind, title, agent, order in nodes:
        node = {"node_id": node_id, "node_type": kind, "title": title, "agent": agent or None, "order_index": order}
        journaled.insert(
            "node", "dag_nodes", {"id": new_id(), **keys, **node, "status": "completed", "depth": 0, **times}
        )
    plan = found.plan or Plan("", tuple(steps))
    for before, after in plan.edges(PLANNING if found.plan else None):
        edge = {"run_id": keys["run_id"], "from_node_id": before, "to_node_id": after}
        journaled.insert("edge", "dag_edges", {**edge, "dependency_type": "sequential"})
    for step in steps:
        row: dict[str, Any] = {
            "node_id": step.node_id,
            "step_number": step.number,
            "title": step.title,
            "agent": step.agent,
            "goal": step.title,
            "instructions": step.instructions,
            "depends_on": list(step.depends_on),
            "expected_outputs": [],
            "inputs": {"bullet_points": list(step.bullet_points)},
        }
        journaled.insert("step", "workflow_steps", {"id": new_id(), **keys, **row, "status": "completed", **times})


def _file(
    journaled: JournaledWriter, writer: Writer, keys: Mapping[str, Any], found: WorkDir, entry: Entry, order: int
) -> None:
    """Write the event and the row of a file."""
    kind = _kind(entry.path)
    final = kind in ("data", "plot", "report")
    at = entry.mtime_ns / 1e9
    common = {**keys, "node_id": PLANNING if entry.path.startswith("planning/") and found.plan else None}
    event = {"id": new_id(), **common, "event_type": "file_gen", "event_subtype": "create", "status": "completed"}
    event |= {"outputs": {"path": entry.path, "size": entry.size, "sha256": entry.sha256}, "duration_ms": 0.0}
    writer.insert("execution_events", {**event, "started_at": at, "ended_at": at, "execution_order": order, "depth": 0})
    row = {"id": new_id(), **common, "event_id": event["id"], "file_path": entry.path, "file_type": kind}
    row |= {"mime": mime(entry.path), "size_bytes": entry.size, "content_hash": entry.sha256, "version": 1}
    row |= {"is_final_output": final, "priority": "primary" if final else "secondary", "created_at": at}
    journaled.insert("file", "files", row)


def _kind(name: str) -> str:
    path = PurePosixPath(name)
    if len(path.parts) > 2 and path.parts[0] in _WRAPPERS:
        path = PurePosixPath(*path.parts[1:])
    return file_type(str(path))


def _result(found: WorkDir) -> dict[str, Any]:
    said = [item["content"] for item in found.messages if item["content"].strip()]
    made = [name for name in found.files if _kind(name) in ("data", "plot", "report")]
    report = next((name for name in sorted(made) if name.endswith(".md")), None)
    text = ""
    if report is not None:
        text = (found.folder / report).read_text(encoding="utf-8", errors="replace")
    return {"text": text or (said[-1] if said else ""), "report": report, "files": sorted(made)}
