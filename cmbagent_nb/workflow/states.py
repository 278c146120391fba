"""The statuses of runs, steps and nodes, and the only way in which they change.

Invariants
----------
- A status changes by ``UPDATE … WHERE status IN (allowed sources)`` with the row count checked.
- The row in ``state_history`` is written in the same transaction.
- A step's row and its node in the graph always have the same status.
- Changing to the status that is already there is no change: nothing is written.
- A process whose run another has taken over changes nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError
from cmbagent_nb.redaction import scrub
from cmbagent_nb.store.json import to_json
from cmbagent_nb.store.totals import keep_totals

if TYPE_CHECKING:
    import asyncio

    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.journaled import JournaledWriter

#: From each status of a run to those that may follow.
RUN: Mapping[str, frozenset[str]] = {
    "draft": frozenset({"planning", "executing", "failed", "cancelled", "interrupted"}),
    "planning": frozenset({"executing", "paused", "waiting_approval", "interrupted", "failed", "cancelled"}),
    "executing": frozenset({"paused", "waiting_approval", "interrupted", "completed", "failed", "cancelled"}),
    # Completed: what was under way when the pause was asked for was the last thing to do.
    "paused": frozenset({"planning", "executing", "interrupted", "completed", "failed", "cancelled"}),
    "waiting_approval": frozenset({"planning", "executing", "paused", "interrupted", "failed", "cancelled"}),
    "interrupted": frozenset({"planning", "executing", "cancelled"}),
    "failed": frozenset({"planning", "executing"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
}

#: From each status of a step, or of any other node, to those that may follow.
STEP: Mapping[str, frozenset[str]] = {
    "pending": frozenset({"running", "waiting_approval", "skipped", "cancelled", "interrupted"}),
    "running": frozenset(
        {"waiting_approval", "paused", "retrying", "completed", "failed", "skipped", "cancelled", "interrupted"}
    ),
    "waiting_approval": frozenset(
        {"running", "retrying", "completed", "failed", "skipped", "cancelled", "interrupted"}
    ),
    # Failed, skipped: a person stopped the run at another step's gate meanwhile.
    "paused": frozenset({"running", "failed", "skipped", "cancelled", "interrupted"}),
    "retrying": frozenset({"running", "waiting_approval", "failed", "skipped", "cancelled", "interrupted"}),
    "failed": frozenset({"running", "retrying", "skipped", "pending"}),
    # Waiting: its process ended before it was allowed to start. Failed, skipped: it could not be gone on with.
    "interrupted": frozenset({"running", "waiting_approval", "pending", "failed", "skipped", "cancelled"}),
    "completed": frozenset(),
    "skipped": frozenset({"pending"}),
    "cancelled": frozenset(),
}

#: The same for the node of an agent within a step: it runs again whenever the step calls the agent again.
SUB_AGENT: Mapping[str, frozenset[str]] = {
    state: following | ({"running"} if state in ("completed", "cancelled") else frozenset())
    for state, following in STEP.items()
}

#: Statuses of a run that is going on, in the hands of the process that holds its lease.
ACTIVE = ("draft", "planning", "executing", "paused", "waiting_approval")
#: Statuses in which a run has come to its end (some of them can be left again).
ENDED = ("completed", "failed", "cancelled", "interrupted")
#: Statuses of a node on which work has begun and not ended.
UNFINISHED = ("running", "waiting_approval", "paused", "retrying")


def sources(table: Mapping[str, frozenset[str]], target: str) -> list[str]:
    """Return the statuses from which ``target`` may be entered.

    >>> sources(RUN, "completed")
    ['executing', 'paused']
    """
    return [state for state, following in table.items() if target in following]


@dataclass(frozen=True)
class Change:
    """A status that has changed."""

    entity_type: str
    entity_id: str
    from_state: str
    to_state: str
    #: Further columns of the run, or of the step, that were set with it.
    values: Mapping[str, Any] = field(default_factory=dict)


def change_run(
    connection: Connection, run_id: str, target: str, *, reason: str, by: str, values: Mapping[str, Any] | None = None
) -> Change | None:
    """Change the status of a run inside the caller's transaction; ``None`` when it has that status already.

    Raises
    ------
    StateError
        The run's status does not allow it.
    """
    now = time.time()
    columns: dict[str, Any] = dict(values or {})
    if target in ENDED:
        columns.setdefault("ended_at", now)
    current = _scalar(connection, "SELECT status FROM workflow_runs WHERE id = :id", id=run_id)
    if not _update(connection, "workflow_runs", "id = :key_id", {"key_id": run_id}, current, target, RUN, columns):
        return None
    if target in ENDED:
        keep_totals(connection, run_id)
    change = Change("workflow_run", run_id, current, target, columns)
    _history(connection, change, run_id, reason, by, now)
    return change


def change_node(
    connection: Connection,
    run_id: str,
    node_id: str,
    target: str,
    *,
    reason: str,
    by: str,
    values: Mapping[str, Any] | None = None,
) -> Change | None:
    """Change the status of a node, and of the step it stands for; ``None`` when it has that status already."""
    now = time.time()
    times: dict[str, Any] = {}
    if target == "running":
        times = {"started_at": now, "ended_at": None}
    elif target in {"completed", "failed", "skipped", "cancelled", "interrupted"}:
        times["ended_at"] = now
    key = {"key_run": run_id, "key_node": node_id}
    where = "run_id = :key_run AND node_id = :key_node"
    query = "SELECT status, node_type FROM dag_nodes WHERE run_id = :run AND node_id = :node"
    current, kind = _row(connection, query, run=run_id, node=node_id) or (None, "")
    allowed = SUB_AGENT if kind == "sub_agent" else STEP
    if not _update(connection, "dag_nodes", where, key, current, target, allowed, times):
        return None
    step = _scalar(
        connection,
        "SELECT status FROM workflow_steps WHERE run_id = :run AND node_id = :node",
        run=run_id,
        node=node_id,
    )
    entity = "dag_node"
    if step is not None:
        entity = "workflow_step"
        _update(connection, "workflow_steps", where, key, step, target, STEP, {**times, **(values or {})})
    change = Change(entity, node_id, str(current), target, {**times, **(values or {})})
    _history(connection, change, run_id, reason, by, now)
    return change


#: A run's start is its first one: going on after a pause or a retry does not move it. Its end is not before its start,
#: though somebody sets the clock back.
_SETS: Mapping[str, str] = {
    "started_at": "{0} = COALESCE({0}, :{0})",
    "ended_at": "{0} = CASE WHEN started_at > :{0} THEN started_at ELSE :{0} END",
}


def _update(
    connection: Connection,
    table: str,
    where: str,
    key: Mapping[str, Any],
    current: str | None,
    target: str,
    allowed: Mapping[str, frozenset[str]],
    values: Mapping[str, Any],
) -> bool:
    if current == target:
        return False
    if current is None or target not in allowed.get(current, frozenset()):
        raise StateError(
            f"{' '.join(str(value) for value in key.values())} cannot go from {current} to {target}",
            "Look at its state with %cmbagent show.",
            from_state=current,
            to_state=target,
        )
    sets = [
        _SETS.get(name, "{0} = :{0}").format(name) if value is not None else f"{name} = :{name}"
        for name, value in values.items()
    ]
    statement = f"UPDATE {table} SET {', '.join(['status = :target', *sets])} WHERE {where} AND status = :current"
    result = connection.execute(statement, {**values, **key, "target": target, "current": current})
    if result.rowcount != 1:
        raise StateError(f"the status of {table} changed meanwhile", "Try again.", to_state=target)
    return True


def _history(connection: Connection, change: Change, run_id: str, reason: str, by: str, now: float) -> None:
    connection.execute(
        "INSERT INTO state_history (entity_type, entity_id, run_id, session_id, from_state, to_state,"
        " transition_reason, transitioned_by, created_at, meta) SELECT :type, :entity, id, session_id, :old, :new,"
        " :reason, :by, :now, NULL FROM workflow_runs WHERE id = :run",
        {
            "type": change.entity_type,
            "entity": change.entity_id,
            "old": change.from_state,
            "new": change.to_state,
            "reason": scrub(reason),
            "by": by,
            "now": now,
            "run": run_id,
        },
    )


def _row(connection: Connection, statement: str, **parameters: Any) -> Any:
    return connection.execute(statement, parameters).fetchone()


def _scalar(connection: Connection, statement: str, **parameters: Any) -> Any:
    found = _row(connection, statement, **parameters)
    return None if found is None else found[0]


class States:
    """The statuses of one run, changed from the event loop; each change is durable before it returns."""

    def __init__(self, writer: Writer, recorder: Recorder, run_id: str, journaled: JournaledWriter) -> None:
        self._writer = writer
        self._recorder = recorder
        self._run_id = run_id
        self._journaled = journaled

    async def run(self, target: str, *, reason: str = "", by: str = "engine", **values: Any) -> Change | None:
        """Change the status of the run; ``values`` are further columns to set with it."""
        if target in ("planning", "executing"):
            values.setdefault("started_at", time.time())
        clean = self._clean(values)
        change = await self._apply(
            lambda connection: change_run(connection, self._run_id, target, reason=reason, by=by, values=clean)
        )
        if change is not None:
            self._record(change, "workflow")
        return change

    async def node(
        self, node_id: str, target: str, *, reason: str = "", by: str = "engine", **values: Any
    ) -> Change | None:
        """Change the status of a node; ``values`` are further columns of the step's row."""
        clean = self._clean(values)
        change = await self._apply(
            lambda connection: change_node(
                connection, self._run_id, node_id, target, reason=reason, by=by, values=clean
            )
        )
        if change is not None:
            with self._recorder.located_at(node_id):
                self._record(change, "step" if change.entity_type == "workflow_step" else "node")
        return change

    def sub_agent(self, connection: Connection, node_id: str, target: str) -> None:
        """Change the status of an agent's node within a step, in the transaction of those who record its turns."""
        change_node(connection, self._run_id, node_id, target, reason="sub-agent", by="capture")

    async def hold(self, node_id: str) -> bool:
        """Mark a node that runs as paused; tell whether it was running."""

        def pause(connection: Connection) -> Change | None:
            status = _scalar(
                connection,
                "SELECT status FROM dag_nodes WHERE run_id = :run AND node_id = :node",
                run=self._run_id,
                node=node_id,
            )
            if status != "running":
                return None
            return change_node(connection, self._run_id, node_id, "paused", reason="the run is paused", by="engine")

        change = await self._apply(pause)
        if change is not None:
            with self._recorder.located_at(node_id):
                self._record(change, "step" if change.entity_type == "workflow_step" else "node")
        return change is not None

    def _clean(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Mask secrets in texts: they go to the database past the writer's queue."""
        scrub = self._writer.scrub
        return {
            name: scrub(value if isinstance(value, str) else to_json(value))
            if isinstance(value, str | dict | list)
            else value
            for name, value in values.items()
        }

    def _record(self, change: Change, subtype: str) -> None:
        self._recorder.record(
            "state_transition",
            subtype=subtype,
            inputs={"entity": change.entity_id, "from": change.from_state},
            outputs={"to": change.to_state},
            parent=None,
        )

    async def _apply(self, change_status: Any) -> Change | None:
        import asyncio

        from cmbagent_nb.workflow.ownership import check_owner

        def work(connection: Connection) -> Change | None:
            check_owner(connection, self._run_id)
            change: Change | None = change_status(connection)
            return change

        future: asyncio.Future[Change | None] = asyncio.wrap_future(self._writer.call(work))
        # A cancelled run still has to know how its change ended: the transaction is not undone by cancelling.
        change = await asyncio.shield(future)
        if change is not None:
            self._journaled.state(change)
        return change
