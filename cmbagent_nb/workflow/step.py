"""One step: its gates, its attempts, and how it ends.

A step that fails never stops what does not depend on it, and the record of its attempts stands.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import BudgetExceeded, CMBAgentError
from cmbagent_nb.workflow import gates, prompts
from cmbagent_nb.workflow.attempt import Attempt, Stopped, stopped
from cmbagent_nb.workflow.prompts import Done, Failure
from cmbagent_nb.workflow.restore import STOPPING, PastStep
from cmbagent_nb.workflow.summary import summarize

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.gates import Answer
    from cmbagent_nb.workflow.plan import Step
    from cmbagent_nb.workflow.scheduler import Slot


#: Characters of an output that a gate shows; the whole is in the step's folder.
SHOWN = 20_000


@dataclass(frozen=True)
class Ending:
    """End of a step."""

    status: str
    error: str = ""


async def run_step(context: Context, step: Step) -> Ending:
    """Carry out a step that is ready; returns when it has its final status.

    Raises
    ------
    Stopped
        A person stopped the run at one of the step's gates.
    """
    async with context.scheduler.active(), context.scheduler.slot() as slot:
        await context.scheduler.wait_while_paused(step.node_id)
        work = _Step(context, step, slot)
        with context.recorder.located_at(step.node_id, agent=step.agent):
            ending = await work.run()
        await summarize(context, step.node_id)
        context.checkpoints.add("error" if ending.status == "failed" else "step_complete", node_id=step.node_id)
        context.stream.emit(f"step_{ending.status}", node_id=step.node_id, error=ending.error)
        return ending


class _Step:
    def __init__(self, context: Context, step: Step, slot: Slot) -> None:
        self.context = context
        self.step = step
        self.slot = slot
        past = context.past.steps.get(step.node_id) or PastStep("pending")
        self.failures: list[Failure] = list(past.failures)
        self.comments: list[str] = list(past.comments)
        self.transitions: list[dict[str, Any]] = []
        self.current = past.current
        #: The attempts that have been begun; the one that was under way counts when it is gone on with.
        self.attempts = past.begun - (1 if past.current else 0)
        most = context.options.max_attempts
        self.allowed = max(most, past.begun)
        if past.redone:
            self.allowed = max(self.allowed, past.redone + most)
        if past.retried:
            self.allowed = max(self.allowed, past.retried + 1)
        if past.exhausted:
            self.allowed = past.begun + most
        self.allowed = max(self.allowed, context.past.granted.get(step.node_id, 0))

    async def run(self) -> Ending:
        try:
            if not await self._may_start():
                return await self._end("skipped", reason="skipped at its gate")
            await self.context.states.node(self.step.node_id, "running")
            self.context.stream.emit("step_started", node_id=self.step.node_id, title=self.step.title)
            return await self._attempts()
        except (BudgetExceeded, Stopped) as error:
            await self._end("failed", error=str(error))
            raise
        except CMBAgentError as error:
            return await self._end("failed", error=str(error))
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            return await self._end("failed", error=f"A file cannot be used: {error.strerror or error}{place}.")

    async def _may_start(self) -> bool:
        wanted = self.context.options.approve - {"manual"}  # which a person opens, no step
        if not ("before_step" in wanted or (self.step.needs_approval and wanted)):
            return True
        title = f"Start step {self.step.number}: {self.step.title}?"
        shown = asdict(self.step)
        question = gates.Question("step_approval", title, gates.START_OPTIONS, "", {"step": shown}, {"step": shown})
        return (await self._ask(question, "before")).resolution == "approved"

    async def _attempts(self) -> Ending:
        context = self.context
        if self.failures and self.current is None and self.attempts >= self.allowed:
            # Killed after its last attempt had failed: what to do about that is still to be decided.
            ending = await self._exhausted(self.failures[-1])
            if ending is not None:
                return ending
            await context.states.node(self.step.node_id, "running")
        while True:
            self.attempts += 1
            result = await self._attempt()
            if isinstance(result, Done):
                if self.failures:
                    self._record_retry("succeeded", {"attempt": self.attempts})
                if await self._accepted(result):
                    context.done[self.step.node_id] = result
                    return await self._end("completed", result=result)
                self.allowed = self.attempts + context.options.max_attempts
                await context.states.node(self.step.node_id, "retrying", reason="redo")
            else:
                self.failures.append(result)
                if result.comment and result.comment not in self.comments:
                    self.comments.append(result.comment)
                if self.attempts < self.allowed:
                    self._note_retry("scheduled", result)
                    await context.states.node(self.step.node_id, "retrying", reason=_line(result.error))
                else:
                    ending = await self._exhausted(result)
                    if ending is not None:
                        return ending
            await context.states.node(self.step.node_id, "running")

    async def _exhausted(self, failure: Failure) -> Ending | None:
        """Decide about a step that has no attempt left; ``None`` when it gets one more."""
        self._note_retry("exhausted", failure)
        decision = await self._error_gate(failure)
        if decision != "retry":
            return decision if isinstance(decision, Ending) else await self._fail(failure)
        self.allowed = self.attempts + 1
        await self.context.states.node(self.step.node_id, "retrying", reason="retry asked for")
        return None

    async def _attempt(self) -> Done | Failure:
        attempt = Attempt(
            self.context,
            self.step,
            self.attempts,
            failures=self.failures,
            comments=self.comments,
            slot=self.slot,
            past=self.current,
        )
        self.current = None
        try:
            return await attempt.run()
        finally:
            self.transitions.extend(attempt.transitions)

    async def _accepted(self, result: Done) -> bool:
        if "after_step" not in self.context.options.approve:
            return True
        question = gates.Question(
            "step_approval",
            f"Step {self.step.number} “{self.step.title}” is done. Continue?",
            gates.STEP_OPTIONS,
            result.summary,
            {"output": prompts.output(result.output, limit=SHOWN), "files": dict(result.hashes) or list(result.files)},
        )
        answer = await self._ask(question, f"after:{self.attempts}")
        if answer.resolution == "redo":
            self.comments.append(answer.feedback)
        return answer.resolution == "approved"

    async def _error_gate(self, failure: Failure) -> str | Ending:
        if "error" not in self.context.options.approve:
            return "fail"
        times = {1: "once", 2: "twice"}.get(self.attempts, f"{self.attempts} times")
        question = gates.Question(
            "error_recovery",
            f"Step {self.step.number} failed {times}. What next?",
            gates.ERROR_OPTIONS,
            failure.error,
            {"code": failure.code, "output": failure.output, "attempts": self.attempts},
        )
        answer = await self._ask(question, f"error:{self.attempts}")
        if answer.resolution == "skip":
            return await self._end("skipped", error=failure.error, reason="skipped by " + answer.by)
        if answer.feedback.strip() and answer.feedback not in self.comments:
            self.comments.append(answer.feedback)
        return "retry"

    async def _ask(self, question: gates.Question, moment: str) -> Answer:
        return self._go_on_after(await self.context.ask_gate(question, self.step.node_id, moment, self.slot))

    def _go_on_after(self, answer: Answer) -> Answer:
        if answer.resolution in STOPPING:
            raise stopped(self.step.number, answer.by, self.failures[-1].error if self.failures else "")
        return answer

    async def _fail(self, failure: Failure) -> Ending:
        times = "attempt" if self.attempts == 1 else "attempts"
        return await self._end("failed", error=f"{failure.error} (after {self.attempts} {times})")

    async def _end(self, status: str, *, result: Done | None = None, error: str = "", reason: str = "") -> Ending:
        values: dict[str, Any] = {
            "attempts": self.attempts,
            "agent_transitions": self.transitions,
            "error": error or None,
            "progress_percentage": 100.0 if status == "completed" else None,
        }
        if result is not None:
            values |= {"summary": result.summary, "outputs": {"files": list(result.files), "stdout": result.output}}
        # A step that was never started ends where it stands.
        await self.context.states.node(self.step.node_id, status, reason=reason or _line(error), **values)
        return Ending(status, error)

    def _note_retry(self, subtype: str, failure: Failure) -> None:
        inputs = {"attempt": failure.attempt, "error": failure.error, "suggestion": failure.suggestion}
        self._record_retry(subtype, inputs)
        kind = {"scheduled": "step_retry_started", "exhausted": "step_retry_exhausted"}[subtype]
        self.context.stream.emit(kind, node_id=self.step.node_id, attempt=failure.attempt, error=failure.error)

    def _record_retry(self, subtype: str, inputs: dict[str, Any]) -> None:
        with self.context.recorder.located_at(self.step.node_id, attempt=self.attempts, agent=self.step.agent):
            self.context.recorder.record("retry", subtype=subtype, inputs=inputs)


def _line(error: str) -> str:
    lines = error.strip().splitlines()
    return lines[-1][:200] if lines else ""
