"""Starting a run: from what was asked for to the engine at work, and back to a run that has ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, StateError, StoreError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.redaction import redactor
from cmbagent_nb.runtime import Runtime, in_thread
from cmbagent_nb.store.claims import claim
from cmbagent_nb.store.json import from_json
from cmbagent_nb.store.private import tighten_run
from cmbagent_nb.workflow.context import Context, Options
from cmbagent_nb.workflow.disk_full import LOOK_AGAIN
from cmbagent_nb.workflow.journaled import JournaledWriter
from cmbagent_nb.workflow.ownership import HEARTBEAT, beat, check_owner, owner
from cmbagent_nb.workflow.plan import Plan
from cmbagent_nb.workflow.process_state import LiveRun, WorkspaceHandle
from cmbagent_nb.workflow.restore import Past
from cmbagent_nb.workflow.scheduler import RunScheduler
from cmbagent_nb.workflow.states import ACTIVE, Change, change_run
from cmbagent_nb.workflow.step_source import NO_MODEL

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.llm.model_call import CallInfo
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.workflow.skill_selector import SkillSelector
    from cmbagent_nb.workflow.step_source import StepSource

LOG = get_logger(__name__)

#: Modules that every run needs and that take their time to load: AG2 stands behind the first.
HEAVY = ("agents.build", "agents.replies", "execution.launcher", "llm.gateway", "workflow.engine")


@dataclass(frozen=True)
class Request:
    """A run that was asked for, checked: everything that can be refused has been."""

    run_id: str
    session_id: str
    name: str
    task: str
    work_dir: Path
    options: Options
    inputs: list[dict[str, Any]]
    model: ModelSpec
    settings: Settings
    registry: Registry
    max_cost_usd: float = 0.0
    gates: str = ""
    replay_of: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    instructions: Mapping[str, str] = field(default_factory=dict)
    step_source: StepSource | None = None
    skill_selector: SkillSelector | None = None
    #: What is to come of the run when it has ended, as it is kept with the run, and what does it.
    after: Mapping[str, Any] = field(default_factory=dict)
    then: Callable[[str], None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept with the run, so that another process can go on with it in the same way."""
        return {
            "options": options_kept(self.options),
            "gates": self.gates,
            "replay_of": self.replay_of,
            "models": dict(self.models),
            "instructions": dict(self.instructions),
            **({"conduct": self.step_source.to_dict()} if self.step_source else {}),
            **({"offer": self.skill_selector.to_dict()} if self.skill_selector else {}),
            **({"after": dict(self.after)} if self.after else {}),
        }


def asked_for(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for when a run was started, from its row.

    Raises
    ------
    StateError
        The run was not started here: it was imported.
    """
    meta = from_json(row["meta"]) if row["meta"] else {}
    if "request" not in meta:
        raise StateError(
            f"run {row['name']} was not started by cmbagent_nb, and how is not known",
            "Start a new run with its task.",
            run_id=row["id"],
        )
    return {**meta["request"], "inputs": meta.get("inputs", []), "max_cost_usd": meta.get("max_cost_usd") or 0.0}


def options_kept(options: Options) -> dict[str, Any]:
    """Return options as they are kept with a run; :func:`options_from` reads them back."""
    stored = asdict(options)
    stored["approve"] = sorted(options.approve)
    stored["plan"] = options.plan.to_dict() if options.plan else None
    return stored


def options_from(stored: Mapping[str, Any]) -> Options:
    """Read a run's options back from what :meth:`Request.to_dict` kept."""
    known = {item.name for item in fields(Options)}
    options = {name: value for name, value in stored["options"].items() if name in known}
    options["approve"] = frozenset(options["approve"])
    options["plan"] = Plan.from_reply(options["plan"]) if options.get("plan") else None
    return Options(**options)


def start(host: WorkspaceHandle, request: Request, past: Past | None = None) -> LiveRun:
    """Record the run and start it on the event loop; returns at once."""
    redactor().refresh()  # a secret that was set a moment ago, in the same cell
    created = time.time()
    if host.db.is_sqlite:
        claim(host.home, request.work_dir, request.run_id)
    journaled = JournaledWriter(host.writer, request.work_dir)
    journaled.insert(
        "run",
        "workflow_runs",
        {
            "id": request.run_id,
            "session_id": request.session_id,
            "name": request.name,
            "mode": request.options.mode,
            "agent": request.options.agent,
            "model": str(request.model),
            "model_source": _source(request),
            "skill_id": request.step_source.skill_id if request.step_source else None,
            "status": "draft",
            "task_description": request.task,
            "created_at": created,
            "last_heartbeat_at": created,
            "work_dir": str(request.work_dir),
            "owner": owner(host.db),
            "meta": {
                "max_attempts": request.options.max_attempts,
                "max_cost_usd": request.max_cost_usd or None,
                "approve": sorted(request.options.approve),
                "inputs": request.inputs,
                "request": request.to_dict(),
            },
        },
    )
    host.writer.insert("leases", {"run_id": request.run_id, "owner": owner(host.db), "heartbeat_at": created})
    journaled.session(request.session_id)
    host.writer.barrier().result()
    return run_live(host, request, created, past)


def _source(request: Request) -> str:
    """Say what answers the run's model calls."""
    if request.replay_of:
        return "replay"
    return "none" if request.model == NO_MODEL else "playbook" if request.model.is_playbook else "live"


def run_live(host: WorkspaceHandle, request: Request, created: float, past: Past | None = None) -> LiveRun:
    """Start the task of a run that is recorded; ``past`` is what it had done before."""
    live = LiveRun(request.run_id, request.session_id)
    host.live[request.run_id] = live
    Runtime.get().submit(_live(host, request, live, created, past or Past()))
    return live


async def _live(host: WorkspaceHandle, request: Request, live: LiveRun, created: float, past: Past) -> None:
    """The task of a run. Whatever happens, the run has an end and its listeners hear of it."""
    heart = asyncio.create_task(_heartbeat(host, request, live))
    try:
        live.begin()
        host.watcher.own(request.run_id, live.handle_command)
        context = await _prepare(host, request, live, created, past)
        from cmbagent_nb.workflow.engine import carry_out

        clock = asyncio.create_task(context.checkpoints.keep_time(request.settings.checkpoint_minutes))
        try:
            await carry_out(context)
        finally:
            clock.cancel()
        if request.then is not None:
            await in_thread(request.then, request.run_id)
    except asyncio.CancelledError:
        await _end_early(host, request, live.stopped_as, "")
    except CMBAgentError as error:
        await _end_early(host, request, "failed", str(error))
    except Exception as error:
        LOG.exception("run %s could not be started", request.run_id)
        await _end_early(host, request, "failed", f"Internal error: {type(error).__name__}: {error}.")
    finally:
        heart.cancel()
        await _to_the_end(_see_to_the_end(host, request, live))
        await _to_the_end(in_thread(tighten_run, host.home, request.work_dir))
        live.stream.close()
        if host.live.get(request.run_id) is live:  # it may have been resumed meanwhile
            host.watcher.release(request.run_id)
            host.live.pop(request.run_id, None)
        live.ended.set_result(None)
        host.changes.notify([request.run_id])


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do this even if the run is cancelled once more; what goes wrong is logged."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("the end of a run could not be seen to", exc_info=error)


async def _see_to_the_end(host: WorkspaceHandle, request: Request, live: LiveRun) -> None:
    """Close what is open still; a run whose end was not written, whatever went wrong there, has failed."""
    await live.close_gate()
    query = "SELECT r.status, l.owner FROM workflow_runs r JOIN leases l ON l.run_id = r.id WHERE r.id = :id"
    rows = await in_thread(lambda: host.db.rows(query, id=request.run_id))
    mine = host.live.get(request.run_id) is live and rows and rows[0]["owner"] == owner(host.db)
    if mine and rows[0]["status"] in ACTIVE:
        await _end_early(host, request, "failed", "Internal error: its end could not be written; see the log.")


async def _prepare(host: WorkspaceHandle, request: Request, live: LiveRun, created: float, past: Past) -> Context:
    """Build what a run needs; the imports that take long happen in a thread."""
    await in_thread(import_heavy)
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.execution.launcher import Limits
    from cmbagent_nb.governance.budget import budget
    from cmbagent_nb.llm.cost_ledger import spent
    from cmbagent_nb.llm.gateway import Gateway
    from cmbagent_nb.llm.tape import Tape
    from cmbagent_nb.workflow.checkpoints import Checkpoints
    from cmbagent_nb.workflow.file_registry import FileRegistry
    from cmbagent_nb.workflow.gates import Gates
    from cmbagent_nb.workflow.states import States

    settings, writer, work_dir = request.settings, host.writer, request.work_dir
    recorder = Recorder(
        writer, request.run_id, request.session_id, first_order=past.first_order, enabled=settings.capture
    )
    registry = request.registry
    recorder.roles.update({name: registry[name].role for name in registry.names()})
    journaled = JournaledWriter(writer, work_dir)
    gates = Gates(writer, journaled, recorder, request.run_id, request.session_id, request.gates, past.answers)
    states = States(writer, recorder, request.run_id, journaled)
    recorder.change_node = states.sub_agent
    scheduler = RunScheduler(states, request.options.parallel_steps)

    async def hold(call: CallInfo) -> None:
        await scheduler.wait_while_paused(call.node_id.partition(".")[0])

    gateway = Gateway(
        request.model,
        settings=settings,
        recorder=recorder,
        writer=writer,
        journal=journaled.path,
        before_call=[hold, *([budget(request.max_cost_usd)] if request.max_cost_usd else [])],
        work_dir=work_dir,
        tape=await in_thread(Tape.load, host.db, request.replay_of or request.run_id),
        replay=bool(request.replay_of),
    )
    if past.statuses:
        # What was spent before counts against the run's limit.
        gateway.ledger.go_on_from(await in_thread(spent, host.db, request.run_id))
    checkpoints = Checkpoints(writer, work_dir, request.run_id, request.session_id)
    live.gates = gates
    live.stream.position = lambda: recorder.newest
    live.checkpoints = checkpoints
    live.scheduler = scheduler
    # Where gates are answered without a person, a pause stays what it is.
    live.manual = "manual" in request.options.approve and not request.gates
    return Context(
        run_id=request.run_id,
        session_id=request.session_id,
        name=request.name,
        task=request.task,
        work_dir=work_dir,
        options=request.options,
        inputs=request.inputs,
        writer=writer,
        journaled=journaled,
        recorder=recorder,
        states=states,
        gates=gates,
        gateway=gateway,
        registry=registry,
        file_registry=FileRegistry(journaled, recorder, request.run_id, request.session_id, past.files),
        checkpoints=checkpoints,
        stream=live.stream,
        limits=Limits(timeout_s=request.options.step_timeout, memory_mb=request.options.step_memory_mb),
        scheduler=scheduler,
        created_at=created,
        stopped_as=lambda: live.stopped_as,
        set_blocked_reason=live.set_blocked_reason,
        past=past,
        step_source=request.step_source,
        skill_selector=request.skill_selector,
    )


def import_heavy() -> None:
    """Load what every run needs; it takes about a second, once."""
    for name in HEAVY:
        importlib.import_module(f"cmbagent_nb.{name}")


async def _heartbeat(host: WorkspaceHandle, request: Request, live: LiveRun) -> None:
    """Give signs of life; a run that another process has taken over stops here."""
    while True:
        try:
            mine = await asyncio.wrap_future(host.writer.call(lambda connection: beat(connection, request.run_id)))
        except StoreError:  # the database cannot be written for a while: the heart beats on when it can
            mine = True
        if not mine:
            LOG.warning("run %s was taken over by another process", request.name)
            live.interrupt()
            return
        await asyncio.sleep(HEARTBEAT)


async def _end_early(host: WorkspaceHandle, request: Request, status: str, error: str) -> None:
    """End a run past its engine: one that never got as far as that, or whose end it could not write."""
    clean = host.writer.scrub(error)

    def end(connection: Connection) -> Change | None:
        check_owner(connection, request.run_id)
        return change_run(
            connection, request.run_id, status, reason=clean, by="engine", values={"error": clean or None}
        )

    while True:
        try:
            change = await asyncio.shield(asyncio.wrap_future(host.writer.call(end)))
        except StoreError as problem:  # the database cannot be written: its end waits, as long as the process lives
            if host.writer.closing:
                raise
            if problem.data.get("damaged"):  # waiting does not help: the journal has the end
                LOG.error("the end of run %s is in its journal only: %s", request.name, problem)
                ended = {"error": clean or None, "ended_at": time.time()}
                change = Change("workflow_run", request.run_id, "executing", status, ended)
                break
            LOG.warning("the end of run %s waits: %s", request.name, problem.what)
            await asyncio.sleep(LOOK_AGAIN)
        else:
            break
    if change is not None:
        JournaledWriter(host.writer, request.work_dir).state(change)
