"""The control loop of a run: plan, review, gate, steps, end.

Code decides what comes next; a model is asked only for what needs one. A run of one_shot that works the
first time costs one model call; a plan of n steps costs 2 + n when its review approves, 3 + n when it asks
for changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.errors import CMBAgentError, PlanRefused, PlanTooLong, ReplyInvalid, StoreError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.workflow import gates, prompts, reports
from cmbagent_nb.workflow.context import PLANNED
from cmbagent_nb.workflow.disk_full import LOOK_AGAIN
from cmbagent_nb.workflow.graph import add_graph, add_planning
from cmbagent_nb.workflow.plan import PLAN_APPROVAL, PLANNING, SKILL_MATCH, TERMINATOR, Plan, checked
from cmbagent_nb.workflow.restore import BLOCKED
from cmbagent_nb.workflow.step import Ending, run_step
from cmbagent_nb.workflow.summary import summarize

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context

T = TypeVar("T")

LOG = get_logger(__name__)


async def carry_out(context: Context) -> None:
    """Carry a run from its task to its end; the end is recorded whatever happens, nothing is raised.

    Cancelling the task that awaits this ends the run as ``cancelled``, its processes killed.
    """
    started = time.time()
    status, error = "failed", ""
    try:
        status, error = await _go(context)
    except asyncio.CancelledError:
        status = context.stopped_as()
    except CMBAgentError as problem_met:
        error = str(problem_met)
    except Exception as fault:
        LOG.exception("run %s met an internal error", context.run_id)
        error = f"Internal error: {type(fault).__name__}: {fault}. Please report it with the log."
    finishing = asyncio.ensure_future(_finish(context, status, error, started))
    while not finishing.done():
        try:
            await asyncio.shield(finishing)
        except asyncio.CancelledError:
            continue  # the end is written even if the run is cancelled once more


async def _go(context: Context) -> tuple[str, str]:
    context.stream.emit("workflow_started", task=context.task, mode=context.options.mode)
    if context.past.plan is not None:
        plan = context.past.plan
        await add_graph(context, plan, start=_start_of(context))
    elif await _is_to_plan(context):
        with context.recorder.located_at(PLANNING, agent="planner"):
            made = await _make_plan(context)
        if made is None:
            return "cancelled", "The plan was rejected."
        plan = made
    else:
        assert context.options.plan is not None
        plan = context.options.plan
        await add_graph(context, plan, start=_start_of(context))
        context.last_node = plan.steps[0].node_id
    context.plan = plan
    with context.recorder.located_at(context.last_node):
        await reports.write_plan(context, plan)
        if context.step_source is not None:
            await context.step_source.begin(context, plan)
        await context.scheduler.enter("executing")
    context.last_node = TERMINATOR
    endings = await _run_steps(context, plan)
    failed = [f"step {step.number}: {endings[step.node_id].error}" for step in plan.steps if _failed(endings, step)]
    return ("failed", "; ".join(failed)) if failed else ("completed", "")


async def _is_to_plan(context: Context) -> bool:
    """Tell whether the run has to make a plan; a skill that does the task, when one is looked for, is a plan."""
    if context.skill_selector is not None and context.step_source is None:
        with context.recorder.located_at(SKILL_MATCH, agent="you"):
            await context.skill_selector.select(context)
    return context.options.mode in PLANNED and context.options.plan is None


def _failed(endings: dict[str, Ending], step: Any) -> bool:
    return endings[step.node_id].status == "failed"


# ---- planning


async def _make_plan(context: Context) -> Plan | None:
    """Plan, review, and let a person decide; ``None`` when the plan was rejected."""
    options = context.options
    await add_planning(context, approval="plan" in options.approve)
    await context.scheduler.enter("planning")
    planned = context.past.statuses.get(PLANNING) == "completed"
    if not planned:
        await context.states.node(PLANNING, "running")
    async with context.scheduler.active():
        plan = await _propose(context, None, [], "")
        for _ in range(options.n_plan_reviews):
            recommendations = await _review(context, plan)
            if not recommendations:
                break
            plan = await _propose(context, plan, recommendations, "plan_reviewer")
        if not planned:
            await context.states.node(PLANNING, "completed")
            await summarize(context, PLANNING)
            context.checkpoints.add("step_complete", node_id=PLANNING)
        if "plan" in options.approve:
            with context.recorder.located_at(PLAN_APPROVAL, agent="you"):
                decided = await _approve(context, plan)
            if decided is None:
                return None
            plan = decided
        await add_graph(context, plan, start=PLAN_APPROVAL if "plan" in options.approve else PLANNING)
    return plan


def _start_of(context: Context) -> str | None:
    """The node that the first steps follow, in a graph that is there already."""
    for node_id in (PLAN_APPROVAL, PLANNING, SKILL_MATCH):
        if node_id in context.past.statuses:
            return node_id
    return SKILL_MATCH if context.was_offered else None


async def _propose(context: Context, previous: Plan | None, comments: list[str], comments_by: str) -> Plan:
    """Ask the planner; a plan that cannot be used goes back to it with the reason, at most twice."""
    from cmbagent_nb.agents.ask import ask
    from cmbagent_nb.agents.replies import plan_model

    options, registry = context.options, context.registry
    agents = {name: registry[name].description for name in registry.plannable()}

    # A person who is asked about the plan may allow a longer one.
    most = None if "plan" in options.approve and context.gates.attended else options.max_plan_steps
    too_long: PlanTooLong | None = None

    def check(value: Any) -> str | None:
        nonlocal too_long
        too_long = None
        try:
            checked(Plan.from_reply(value.model_dump()), agents=agents, max_steps=most)
        except PlanTooLong as refused:
            too_long = refused
            return f"The plan has {refused.steps} steps; at most {refused.limit} are allowed."
        except PlanRefused as refused:
            return str(refused)
        return None

    if comments_by:
        context.hand_over(comments_by, "planner", "changes asked for", comments)
    context.stream.emit("agent_start", agent="planner", node_id=PLANNING)
    prompt = prompts.planner(
        context.task,
        agents,
        context.inputs,
        options.max_plan_steps,
        previous=previous,
        comments=comments,
        comments_by=comments_by,
    )
    if options.plan_instructions:
        prompt += f"\n\n# Instructions for the plan\n{options.plan_instructions}"
    try:
        answer = await ask(
            registry["planner"],
            prompt,
            reply=plan_model(list(agents)),
            gateway=context.gateway,
            recorder=context.recorder,
            tools=context.tools(context.work_dir),
            check=check,
        )
    except ReplyInvalid:
        if too_long is not None:
            raise too_long from None
        raise
    plan = Plan.from_reply(answer.value.model_dump())
    context.plan_event = answer.event_id
    context.journaled.note("plan_proposed", plan.to_dict())
    return plan


async def _review(context: Context, plan: Plan) -> list[str]:
    """Ask for a review; returns what should change, empty when the plan is approved."""
    from cmbagent_nb.agents.ask import ask
    from cmbagent_nb.agents.replies import Review

    context.hand_over("planner", "plan_reviewer", "plan to review", plan.to_dict(), context.plan_event)
    context.stream.emit("agent_start", agent="plan_reviewer", node_id=PLANNING)
    answer = await ask(
        context.registry["plan_reviewer"],
        prompts.reviewer(context.task, plan, context.inputs),
        reply=Review,
        gateway=context.gateway,
        recorder=context.recorder,
        tools=context.tools(context.work_dir),
    )
    review = answer.value
    return [] if review.approved else [str(item) for item in review.recommendations]


async def _approve(context: Context, plan: Plan) -> Plan | None:
    """Show the plan to a person until it is approved or rejected; comments go back to the planner."""
    note = ""
    # Decided, and the process died before the plan was stored: the answers are given again and the node stays.
    decided = context.past.statuses.get(PLAN_APPROVAL) in ("completed", "cancelled")

    async def become(target: str, reason: str = "", by: str = "engine") -> None:
        if not decided:
            await context.states.node(PLAN_APPROVAL, target, reason=reason, by=by)

    await become("running")
    for time_shown in count(1):
        question = _plan_question(plan, note, context.options.max_plan_steps)
        answer = await context.ask_gate(question, PLAN_APPROVAL, f"plan:{time_shown}", still=decided)
        if answer.resolution == "approved":
            await become("completed", f"approved by {answer.by}", answer.by)
            return plan
        if answer.resolution == "rejected":
            await become("cancelled", f"rejected by {answer.by}", answer.by)
            return None
        await become("running", "changes asked for", answer.by)
        if context.gateway.source == "playbook":
            note = (
                "This run replays a playbook: its replies are recorded and cannot react to comments. Approve or reject"
                " the plan, or start the run with a model (--model provider:name)."
            )
            continue
        most = context.options.max_plan_steps
        fewer = [f"Use at most {most} steps."] if answer.resolution == "fewer" else []
        comments = [*fewer, *([answer.feedback] if answer.feedback.strip() else [])]
        with context.recorder.located_at(PLANNING, attempt=1, agent="planner"):
            plan = await _propose(context, plan, comments, "you")
    return None


def _plan_question(plan: Plan, note: str, most: int) -> gates.Question:
    """Ask about a plan; one that is longer than the limit says so, and can be allowed or made shorter."""
    title = "Approve the plan?"
    options: tuple[tuple[str, str], ...] = gates.PLAN_OPTIONS
    number = len(plan.steps)
    if number > most:
        title = f"The plan has {number} steps; the limit is {most}. Approve it?"
        fewer = ("fewer", f"Ask for at most {most}")
        options = (("approved", f"Allow {number} steps"), fewer, *gates.PLAN_OPTIONS[1:])
    shown = plan.to_dict()
    return gates.Question("plan_approval", title, options, note or plan.goal, {"plan": shown}, {"plan": shown})


# ---- steps


async def _run_steps(context: Context, plan: Plan) -> dict[str, Ending]:
    """Run every step as soon as those it needs are done, several at once; returns how each ended.

    Steps that were done, or that a person skipped, before the run was interrupted are not run again.
    """
    context.done.update(context.past.done)
    endings = {
        name: Ending(past.status)
        for name, past in context.past.steps.items()
        if past.status in ("completed", "skipped")
    }
    waiting = {step.node_id: step for step in plan.steps if step.node_id not in endings}
    running: dict[asyncio.Task[Ending], str] = {}
    blocked: set[str] = set()
    try:
        while waiting or running:
            for step in list(waiting.values()):
                before = [endings.get(name) for name in step.depends_on]
                if any(name in blocked or _has_failed(endings.get(name)) for name in step.depends_on):
                    del waiting[step.node_id]
                    blocked.add(step.node_id)
                    endings[step.node_id] = Ending("skipped")
                    await context.states.node(step.node_id, "skipped", reason=BLOCKED)
                    context.stream.emit("step_skipped", node_id=step.node_id)
                    break
                if all(before):
                    del waiting[step.node_id]
                    running[asyncio.create_task(run_step(context, step))] = step.node_id
            else:
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    endings[running.pop(task)] = task.result()
                await context.scheduler.update_run_status()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return endings


def _has_failed(ending: Ending | None) -> bool:
    return ending is not None and ending.status == "failed"


# ---- the end


async def _patiently(context: Context, work: Callable[[], Awaitable[T]]) -> T:
    """Do what writes the end of a run, again and again while the database cannot be written and the process lives."""
    while True:
        try:
            return await work()
        except StoreError as error:
            if context.writer.closing:
                raise
            LOG.warning("the end of run %s waits: %s", context.name, error.what)
            context.set_blocked_reason(error.what)
            await asyncio.sleep(LOOK_AGAIN)


async def _finish(context: Context, status: str, error: str, started: float) -> None:
    """Write how the run ended: what was open is closed, the reports are written, the result is kept."""
    with context.recorder.located_at(context.last_node):
        result = None
        try:
            await _patiently(context, lambda: reports.close_nodes(context, status))
            if status == "interrupted":
                context.checkpoints.add("emergency")
            result = await _patiently(context, lambda: reports.write_all(context, status, error, started))
            if context.step_source is not None:
                result |= await context.step_source.end(context, status, error)
        except Exception as fault:
            LOG.exception("the reports of run %s could not be written", context.run_id)
            error = error or f"Its reports could not be written: {fault}"
            status = "failed" if status == "completed" else status
        try:
            ending: dict[str, Any] = {"reason": error, "error": error or None, "result": result}
            await _patiently(context, lambda: context.states.run(status, **ending))
            context.checkpoints.add("end")
            await _patiently(context, context.writer.settled)
        except Exception:
            LOG.exception("the end of run %s could not be written", context.run_id)
    context.stream.emit(f"workflow_{status}", error=error)
    context.stream.close()
