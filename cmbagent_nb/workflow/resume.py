"""Going on with a run whose process ended, or that failed: from another process, and at most one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, WorkDirError
from cmbagent_nb.execution.attempt_folder import sweep
from cmbagent_nb.logs import get_logger
from cmbagent_nb.store.archive import unarchive_run
from cmbagent_nb.store.archived import archived
from cmbagent_nb.store.claims import check as check_folder
from cmbagent_nb.workflow.context import PLANNED
from cmbagent_nb.workflow.journaled import JournaledWriter
from cmbagent_nb.workflow.launch import Request, asked_for, options_from, run_live
from cmbagent_nb.workflow.ownership import clock, forget_processes, interrupt_orphans, owner
from cmbagent_nb.workflow.process_state import LiveRun, WorkspaceHandle
from cmbagent_nb.workflow.reconcile import reconcile
from cmbagent_nb.workflow.restore import BLOCKED, read_past
from cmbagent_nb.workflow.states import Change, change_node, change_run
from cmbagent_nb.workflow.step_source import NO_MODEL

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.workflow.skill_selector import SkillSelector
    from cmbagent_nb.workflow.step_source import StepSource

LOG = get_logger(__name__)

#: Statuses of a run that can be gone on with by any process.
RESUMABLE = ("interrupted", "failed")


def resume(
    host: WorkspaceHandle,
    run_id: str,
    settings: Settings,
    registry: Registry,
    step_source_of: Callable[[str, dict[str, Any], ModelSpec], StepSource] | None = None,
    then_of: Callable[[dict[str, Any]], Callable[[str], None]] | None = None,
    skill_selector_of: Callable[[dict[str, Any], ModelSpec], SkillSelector] | None = None,
) -> LiveRun:
    """Take a run over and go on where it stood; returns at once.

    ``conduct_of`` makes what stood behind the run anew, from the run's id and what was kept of it; ``then_of`` what is
    done when it has ended, ``offer_of`` what looks for a skill before anything is planned.

    Raises
    ------
    StateError
        The run has ended, or belongs to a process that lives.
    WorkDirError
        Its folder is not there any more.
    """
    from cmbagent_nb.llm.providers import check
    from cmbagent_nb.llm.spec import ModelSpec

    host.writer.check()
    interrupt_orphans(host.db, host.writer)
    if archived(host.db, run_id) is not None:
        unarchive_run(host.db, host.writer, run_id)
    row = host.db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run_id)[0]
    work_dir = Path(row["work_dir"])
    if not work_dir.is_dir():
        raise WorkDirError(
            f"the folder {work_dir} of run {row['name']} is not there", "Put it back.", path=str(work_dir)
        )
    if host.db.is_sqlite:
        check_folder(host.home, work_dir, run_id, row["name"])
    model = NO_MODEL if row["model"] == str(NO_MODEL) else ModelSpec.parse(row["model"])
    if model != NO_MODEL:
        check(model, settings)
    asked = asked_for(row)
    if asked.get("replay_of"):
        raise StateError(f"run {row['name']} is a replay", "Replay the recorded run again.", run_id=run_id)
    options = options_from(asked)
    # A plan that was too long for the limit of then may be allowed by that of now.
    options = replace(options, max_plan_steps=max(options.max_plan_steps, settings.max_plan_steps))
    plans = options.mode in PLANNED or bool(asked.get("offer"))
    kept_conduct = asked.get("conduct")
    step_source = step_source_of(run_id, kept_conduct, model) if step_source_of is not None and kept_conduct else None
    registry = registry.changed(asked.get("models", {}), asked.get("instructions", {}))
    changes = host.writer.call(lambda connection: _take_over(connection, run_id, plans, work_dir)).result()
    journaled = JournaledWriter(host.writer, work_dir)
    for change in changes:
        journaled.state(change)
    request = Request(
        run_id=run_id,
        session_id=row["session_id"],
        name=row["name"],
        task=row["task_description"],
        work_dir=work_dir,
        options=options,
        inputs=asked["inputs"],
        model=model,
        settings=settings,
        registry=registry,
        max_cost_usd=asked["max_cost_usd"],
        gates=asked.get("gates", ""),
        step_source=step_source,
        skill_selector=skill_selector_of(asked["offer"], model)
        if skill_selector_of is not None and asked.get("offer")
        else None,
        after=asked.get("after") or {},
        then=then_of(asked["after"]) if then_of is not None and asked.get("after") else None,
    )
    try:
        sweep(work_dir)
        for difference in reconcile(host.db, host.writer, run_id, work_dir):
            LOG.info("run %s: %s", row["name"], difference)
        past = read_past(host.db, run_id, work_dir)
    except Exception:
        give_back = host.writer.call(
            lambda connection: change_run(connection, run_id, "interrupted", reason="it cannot be read", by="engine")
        )
        given_back = give_back.result()
        if given_back is not None:
            journaled.state(given_back)
        raise
    return run_live(host, request, row["created_at"], past=past)


def _take_over(connection: Connection, run_id: str, plans: bool, work_dir: Path) -> list[Change]:
    """Take the lease and the status in one transaction: of two that try at once, one is refused."""
    found = connection.execute(
        "SELECT status, name, plan, meta, owner FROM workflow_runs WHERE id = :id", {"id": run_id}
    )
    status, name, plan, meta, owned_by = found.fetchall()[0]
    if '"archived":' in (meta or ""):
        raise StateError(f"run {name} is being archived", "Try again.", run_id=run_id)
    if status not in RESUMABLE:
        raise StateError(
            f"run {name} is {status} and cannot be resumed",
            "Only runs that were interrupted or failed can be gone on with.",
            status=status,
        )
    forget_processes(connection, run_id, owned_by, work_dir)
    now = clock(connection)
    connection.execute("DELETE FROM leases WHERE run_id = :id", {"id": run_id})
    connection.execute(
        "INSERT INTO leases (run_id, owner, heartbeat_at) VALUES (:id, :me, :now)",
        {"id": run_id, "me": owner(connection), "now": now},
    )
    # What was asked of the process that died is not asked of this one.
    connection.execute(
        "UPDATE commands SET handled_at = :now, outcome = 'dropped' WHERE run_id = :id AND handled_at IS NULL",
        {"id": run_id, "now": now},
    )
    target = "planning" if plans and not plan else "executing"
    values = {"ended_at": None, "error": None, "owner": owner(connection), "last_heartbeat_at": now}
    changes = [change_run(connection, run_id, target, reason="resumed", by="you", values=values)]
    skipped = connection.execute(
        "SELECT n.node_id, n.node_type, (SELECT h.transition_reason FROM state_history h WHERE h.run_id = n.run_id"
        " AND h.entity_id = n.node_id ORDER BY h.id DESC LIMIT 1) AS reason"
        " FROM dag_nodes n WHERE n.run_id = :id AND n.status = 'skipped'",
        {"id": run_id},
    ).fetchall()
    for node_id, node_type, skipped_for in skipped:
        # What a person skipped stays skipped.
        if node_type != "step" or skipped_for in (BLOCKED, "run failed"):
            changes.append(change_node(connection, run_id, node_id, "pending", reason="resumed", by="you"))
    return [change for change in changes if change is not None]
