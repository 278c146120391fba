"""One attempt at a step: ask the agent, run its code, credit its files.

An attempt either leaves a :class:`~cmbagent_nb.workflow.prompts.Done` or says as a
:class:`~cmbagent_nb.workflow.prompts.Failure` why it did not. What cannot be mended by trying again (no reply,
no budget) is raised.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.execution.attempt_folder import attempt_folder, prepare
from cmbagent_nb.execution.group import kill_folder
from cmbagent_nb.execution.launcher import kill_group, launch
from cmbagent_nb.execution.marks import Mark
from cmbagent_nb.execution.recovery import load_trusted_exit, outcome_of
from cmbagent_nb.ids import new_id
from cmbagent_nb.redaction import MARK
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.store.transient_errors import is_full
from cmbagent_nb.workflow import gates, prompts
from cmbagent_nb.workflow.disk_full import full, retry_while_disk_full
from cmbagent_nb.workflow.judging import (
    EXECUTOR,
    check_outputs,
    error_category,
    error_text,
    failure_of,
    note_changed,
    note_skipped,
    output_of,
)
from cmbagent_nb.workflow.prompts import Done, Failure
from cmbagent_nb.workflow.publishing import (
    Handed,
    hand,
    left_files,
    links_of,
    publish_files,
    report_ambiguous,
    report_conflicts,
)
from cmbagent_nb.workflow.step_context import MODE as CARRYING
from cmbagent_nb.workflow.step_context import CarriedContext, carry
from cmbagent_nb.workflow.versions import Order

if TYPE_CHECKING:
    from cmbagent_nb.agents.ask import Answer
    from cmbagent_nb.agents.registry import AgentSpec
    from cmbagent_nb.capture.file_scan import Entry
    from cmbagent_nb.execution.launcher import Outcome
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.file_registry import MadeFile
    from cmbagent_nb.workflow.plan import Step
    from cmbagent_nb.workflow.restore import PastAttempt
    from cmbagent_nb.workflow.scheduler import Slot
    from cmbagent_nb.workflow.step_source import PreparedCode

PHASE = "control"


class Stopped(CMBAgentError):
    """A person stopped the run at a gate."""


def stopped(step: int, by: str, after: str = "") -> Stopped:
    """Return what ends a run that a person stopped at a step, and after which error.

    >>> str(stopped(2, "you", "IndexError: list index out of range"))
    'You stopped the run at step 2, after IndexError: list index out of range. Resume asks again.'
    """
    who = "you" if by.startswith("you") else by
    last = after.strip().splitlines()[-1] if after.strip() else ""
    return Stopped(f"{who} stopped the run at step {step}" + (f", after {last}" if last else ""), "Resume asks again.")


@dataclass(frozen=True)
class _Written:
    """The code of an attempt: an agent's reply, or what was ready."""

    code: str
    filename: str
    explanation: str
    #: The agent's turn that wrote it.
    event_id: str | None
    reason: str = ""
    ready: PreparedCode | None = None


class Attempt:
    """One attempt at one step."""

    def __init__(
        self,
        context: Context,
        step: Step,
        number: int,
        *,
        failures: Sequence[Failure],
        comments: Sequence[str],
        slot: Slot | None,
        past: PastAttempt | None = None,
    ) -> None:
        self.context = context
        self.step = step
        self.number = number
        self.failures = failures
        self.comments = comments
        self.slot = slot
        self.transitions: list[dict[str, Any]] = []
        self.past = past
        self._id = past.id if past else new_id()
        self._folder = attempt_folder(context.work_dir, step.node_id, number)
        self._exit: dict[str, Any] | None = None
        self._given: list[str] = []
        self._handed = Handed()
        self._carried: CarriedContext | None = None
        self._started = False
        self._ended = False

    async def run(self) -> Done | Failure:
        """Do the attempt; its end is recorded whatever happens."""
        context, step = self.context, self.step
        assert context.plan is not None
        if context.options.mode == CARRYING:
            self._carried = await carry(context, step, self.number)
        before = self._carried.steps if self._carried else context.plan.before(step.node_id)
        self._handed = await hand(context, step, before)
        self._given = [*(str(item["path"]) for item in context.inputs), *self._handed.seeds]
        if self.past is not None:
            self._exit = await in_thread(self._take_over)
        if self._exit is None:
            await retry_while_disk_full(
                context, prepare, context.work_dir, step.node_id, self.number, self._handed.seeds
            )
        row = {"status": "running", "started_at": time.time()}
        if self.past is not None:
            context.journaled.update("attempt_resumed", "step_attempts", self._id, {**row, "ended_at": None})
        else:
            context.journaled.insert(
                "attempt_started",
                "step_attempts",
                {
                    "id": self._id,
                    "run_id": context.run_id,
                    "node_id": step.node_id,
                    "attempt": self.number,
                    "folder": self._folder.relative_to(context.work_dir).as_posix(),
                    **row,
                },
            )
        try:
            spec = context.registry[step.agent]
            work = {"code": self._code, "report": self._report}.get(spec.reply or "text", self._text)
            with context.recorder.located_at(step.node_id, attempt=self.number, agent=spec.name):
                if self.past is None:
                    report_ambiguous(context, step, self._handed)
                return await work(spec)
        except asyncio.CancelledError:
            self._end("cancelled")
            raise
        except Stopped as error:  # whoever resumes the run is asked about the same code again
            self._end("interrupted", error=str(error))
            raise
        except Exception as error:
            if is_full(error):  # what was asked and computed counts when the run is gone on with
                self._end("interrupted", error=str(error))
                raise full(context) from error
            self._end("failed", error=str(error), error_category="model")
            raise

    def _take_over(self) -> dict[str, Any] | None:
        """Make sure that nothing of the attempt runs any more; return its end if that was written."""
        assert self.past is not None
        if self.past.pid and self.past.process_started_at:
            kill_group(self.past.pid, self.past.process_started_at, self._mark())
        kill_folder(self._folder)
        return load_trusted_exit(self._folder)

    def _mark(self) -> Mark:
        return Mark.of(self.context.run_id, self._id, self._folder)

    def _end(self, status: str, **values: Any) -> None:
        """Write the attempt's end, once: the first that says it knows best."""
        if self._ended:
            return
        self._ended = True
        ended = {"status": status, "ended_at": time.time(), **values}
        self.context.journaled.update("attempt_ended", "step_attempts", self._id, ended)

    def _prompt(self) -> str:
        context, step = self.context, self.step
        assert context.plan is not None
        before = [context.done[name] for name in context.plan.before(step.node_id) if name in context.done]
        return prompts.step(
            context.task,
            step,
            context.inputs,
            before,
            self._folder,
            self.failures,
            context.options.max_attempts,
            self.comments,
            self._carried.text if self._carried else "",
            context.step_source.guide(step, self.failures) if context.step_source else "",
            replaced=self._handed.replaced(before),
        )

    async def _ask(self, spec: AgentSpec, reply: Any, check: Any = None) -> Answer[Any]:
        from cmbagent_nb.agents.ask import ask

        context = self.context
        context.stream.emit("agent_start", agent=spec.name, node_id=self.step.node_id, attempt=self.number)
        answer = await ask(
            spec,
            self._prompt(),
            reply=reply,
            gateway=context.gateway,
            recorder=context.recorder,
            tools=context.tools(self._folder),
            check=check,
        )
        context.checkpoints.add("reply", node_id=self.step.node_id)
        context.stream.emit("agent_complete", agent=spec.name, node_id=self.step.node_id, attempt=self.number)
        return answer

    # ---- agents that write code

    async def _get_code(self, spec: AgentSpec) -> _Written:
        """Take the code that is ready, or ask the agent for it."""
        context, step_source = self.context, self.context.step_source
        if step_source is not None:
            other = self.number > 1 or bool(self.failures or self.comments)
            ready = await step_source.code_for(context, self.step, other=other)
            if ready is not None:
                return _Written(ready.code, ready.filename, ready.explanation, None, ready=ready)
        from cmbagent_nb.agents.replies import Code

        def check(value: Any) -> str | None:
            return _secrets_in(value.python_code, context.writer.scrub)

        answer = await self._ask(spec, Code, check)
        reply = answer.value
        reason = reply.modification_summary or reply.explanation
        return _Written(reply.python_code, reply.filename, reply.explanation, answer.event_id, reason)

    async def _code(self, spec: AgentSpec) -> Done | Failure:
        reply = await self._get_code(spec)
        code, step_source = reply.code, self.context.step_source
        script = self._folder / "codebase" / script_name(reply.filename, self.step)
        code_hash = hashlib.sha256(code.encode()).hexdigest()
        if self._exit is not None and not await in_thread(_is, script, code_hash):
            # The code is another than the one whose end was written: its attempt begins anew.
            self._exit = None
            await retry_while_disk_full(
                self.context, prepare, self.context.work_dir, self.step.node_id, self.number, self._handed.seeds
            )
        if self._exit is None:
            await retry_while_disk_full(self.context, _write, script, code)
        self.context.stream.emit("code_generated", node_id=self.step.node_id, path=f"codebase/{script.name}")
        self._hand(spec.name, EXECUTOR, "code to run", {"path": f"codebase/{script.name}"}, reply.event_id)
        refusal = await self._may_run(script.name, code)
        if refusal is not None:
            return self._refused(refusal, script, code_hash, spec, reply)
        # What was allowed is what is run, whatever happened to the file while it was shown.
        if self._exit is None:
            await retry_while_disk_full(self.context, _put_back, script, code, code_hash)
        outcome, event_id = await self._launch(script, code_hash, reply, spec)
        await in_thread(_put_back, script, code, code_hash)
        note_changed(self.context, outcome.changed_links, event_id)
        note_skipped(self.context, outcome.skipped, event_id)
        failure = await self._judge(outcome, reply)
        files, hashes = await self._keep(
            outcome.made, script, code_hash, spec, reply.event_id, event_id, published=failure is None
        )
        self._end(
            "completed" if failure is None else "failed" if outcome.status == "completed" else outcome.status,
            exit_code=outcome.exit_code,
            error=failure.error if failure else None,
            error_category=error_category(outcome) if failure else None,
            meta={
                "reads": self._reads(outcome, code),
                "script": f"codebase/{script.name}",
                "code_hash": code_hash,
                **({"output": failure.output, "suggestion": failure.suggestion} if failure else {}),
            },
        )
        if failure is not None:
            if step_source is not None and reply.ready is not None:
                await step_source.on_deviation(self.context, self.step, failure)
            self._hand(EXECUTOR, spec.name, "the attempt failed", {"error": failure.error}, event_id)
            return failure
        if step_source is not None and reply.ready is None:
            await step_source.on_adapted(self.context, self.step, code, reply.reason, spec.name)
        return Done(
            node_id=self.step.node_id,
            title=self.step.title,
            agent=spec.name,
            summary=reply.explanation,
            files=files,
            output=outcome.stdout,
            hashes=hashes,
        )

    async def _may_run(self, name: str, code: str) -> gates.Answer | None:
        """Ask whether the code may run, where that is wanted; returns the answer of a person who does not allow it."""
        if "tool" not in self.context.options.approve:
            return None
        shown = {"file": f"codebase/{name}", "code": code}
        title = f"Run this code? ({name}, step {self.step.number})"
        question = gates.Question("tool_call", title, gates.TOOL_OPTIONS, "", shown, shown)
        node_id = self.step.node_id
        answer = await self.context.ask_gate(question, node_id, f"tool:{self.number}", self.slot)
        if answer.resolution == "abort":
            raise stopped(self.step.number, answer.by)
        await self.context.states.node(node_id, "running")
        return None if answer.resolution == "approved" else answer

    def _refused(self, answer: gates.Answer, script: Path, code_hash: str, spec: AgentSpec, reply: _Written) -> Failure:
        """End the attempt whose code a person does not allow; the reason goes to the agent, who writes other code."""
        comment = answer.feedback.strip()
        error = "You did not allow this code to run" + (f": {comment}" if comment else ".")
        told = (
            "The person you work for did not allow this code to run, and it was not run. "
            + (f"Their reason: {comment}" if comment else "They gave no reason.")
            + " Write other code that does the step."
        )
        self._end(
            "failed",
            error=error,
            error_category="refused",
            meta={"script": f"codebase/{script.name}", "code_hash": code_hash, "suggestion": told, "comment": comment},
        )
        self._hand("you", spec.name, "the code was not allowed to run", {"reason": comment}, reply.event_id)
        return Failure(self.number, error, reply.code, suggestion=told, comment=comment)

    async def _launch(self, script: Path, code_hash: str, reply: _Written, spec: AgentSpec) -> tuple[Outcome, str]:
        context, code = self.context, reply.code
        inputs = {
            "path": f"codebase/{script.name}",
            "code": code,
            "code_hash": code_hash,
            "explanation": reply.explanation,
            "written_by": spec.name,
            **({"ready": dict(reply.ready.about)} if reply.ready else {"reason": reply.reason}),
        }
        with context.recorder.span("code_exec", agent=EXECUTOR, inputs=inputs, parent=reply.event_id) as span:
            if self._exit is not None:
                seeds = self._handed.seeds
                outcome = await in_thread(outcome_of, self._exit, self._folder, script, seeds, context.work_dir)
                span.meta = {"ended_before_it_was_resumed": True}
            else:
                outcome = await context.scheduler.run_code(self.step.node_id, lambda: self._start(script, code))
            reads = self._reads(outcome, code)
            span.outputs = {
                "exit_code": outcome.exit_code,
                "status": outcome.status,
                "stdout": outcome.stdout,
                "stderr": outcome.stderr,
                "files": [entry.path for entry in outcome.made],
                "reads": reads,
            }
            versions = {path: row for path in reads if (row := self._handed.row(path))}
            span.meta = {**(span.meta or {}), **({"versions": versions} if versions else {})} or None
            if outcome.status != "completed":
                span.fail(error_text(outcome))
                span.subtype = {"timeout": "timeout", "memory": "killed", "killed": "killed"}.get(
                    outcome.status, "error"
                )
        context.recorder.message(
            sender=EXECUTOR,
            recipient=spec.name,
            content=outcome.stdout if outcome.status == "completed" else error_text(outcome),
            event_id=span.reference,
            execution_result={"exit_code": outcome.exit_code, "status": outcome.status},
            duration_ms=outcome.duration_s * 1e3,
        )
        return outcome, span.id

    async def _start(self, script: Path, code: str) -> Outcome:
        """Run the code; when a pause had stopped it, in a folder as it was before."""
        context = self.context
        if self._started:
            await retry_while_disk_full(
                context, prepare, context.work_dir, self.step.node_id, self.number, self._handed.seeds
            )
            await retry_while_disk_full(context, _write, script, code)
        self._started = True
        return await launch(
            script,
            self._folder,
            limits=context.limits,
            mark=self._mark(),
            pass_env=context.options.pass_env,
            on_output=lambda stream, text: context.stream.emit(
                "step_progress", node_id=self.step.node_id, stream=stream, text=text
            ),
            on_start=lambda pid, started: context.journaled.update(
                "process_started", "step_attempts", self._id, {"pid": pid, "process_started_at": started}
            ),
        )

    def _reads(self, outcome: Outcome, code: str) -> list[str]:
        """The files that the code read: those seen to be opened, and those it was given and names.

        Libraries written in C open files unseen (pyarrow reads Parquet like that).
        """
        return sorted({*outcome.reads, *(name for name in self._given if name in code)})

    async def _judge(self, outcome: Outcome, reply: _Written) -> Failure | None:
        """Tell whether the attempt reached its goal."""
        context, step_source, code = self.context, self.context.step_source, reply.code
        failure = failure_of(self.number, outcome, code, context.options.pass_env)
        if failure is not None:
            return failure
        if step_source is not None and reply.ready is not None:
            reason = await step_source.check_outcome(context, self.step, self.number, outcome, self._folder)
            return Failure(self.number, reason, code, output_of(outcome)) if reason else None
        return await check_outputs(context, self.step, self.number, self._folder, outcome, code)

    async def _keep(
        self,
        made: Sequence[Entry],
        script: Path,
        code_hash: str,
        spec: AgentSpec,
        written: str | None,
        event_id: str,
        *,
        published: bool,
    ) -> tuple[list[str], dict[str, str]]:
        """Credit the code to its author and the files to the run of the code; publish them if it succeeded."""
        path = f"codebase/{script.name}"
        entries = [await in_thread(_entry, script, path), *(entry for entry in made if entry.path != path)]
        async with self.context.publishing:
            files = await self._place(entries) if published else left_files(self.context, self._folder, entries)
            for file in files:
                is_code = file.path.endswith(path)
                self._credit(
                    file,
                    spec.name,
                    written if is_code else event_id,
                    code_hash=code_hash,
                    final=published,
                )
            if not published:
                return [], {}
            report_conflicts(self.context, self.step.node_id, event_id, [path])
        return [file.path for file in files], {file.path: file.sha256 for file in files}

    async def _place(self, entries: Sequence[Entry]) -> list[MadeFile]:
        return await publish_files(self.context, self.step.node_id, self.number, self._folder, entries)

    # ---- agents that write

    async def _report(self, spec: AgentSpec) -> Done | Failure:
        from cmbagent_nb.agents.references import resolve
        from cmbagent_nb.agents.replies import Report

        def check(value: Any) -> str | None:
            if not value.markdown.strip():
                return "The report is empty."
            missing = resolve(value.markdown, self._folder).missing
            return f"These references are not in the run's files: {', '.join(missing)}." if missing else None

        answer = await self._ask(spec, Report, check)
        resolved = await in_thread(resolve, answer.value.markdown, self._folder, links_of(self.context, self._handed))
        used = [item | {"file_id": self._handed.row(item["path"])} for item in resolved.used]
        return await self._written(spec, answer, resolved.markdown, "report.md", {"references": used})

    async def _text(self, spec: AgentSpec) -> Done | Failure:
        answer = await self._ask(spec, None)
        if not answer.text.strip():
            self._end("failed", error="The reply is empty.", error_category="model")
            return Failure(self.number, "The reply is empty.")
        return await self._written(spec, answer, answer.text, f"{self.step.node_id}.md", {})

    async def _written(
        self, spec: AgentSpec, answer: Answer[Any], markdown: str, default: str, meta: dict[str, Any]
    ) -> Done:
        name = _text_name(self.step, default)
        path = self._folder / name
        await retry_while_disk_full(self.context, _write, path, self.context.writer.scrub(markdown))
        entry = await in_thread(_entry, path, name)
        async with self.context.publishing:
            files = await self._place([entry])
            for file in files:
                self._credit(file, spec.name, answer.event_id, meta=meta)
            report_conflicts(self.context, self.step.node_id, answer.event_id)
        self._end("completed", meta={"reads": sorted({item["path"] for item in meta.get("references", [])})})
        return Done(
            node_id=self.step.node_id,
            title=self.step.title,
            agent=spec.name,
            summary=markdown,
            files=[file.path for file in files],
            hashes={file.path: file.sha256 for file in files},
        )

    def _credit(self, file: MadeFile, agent: str, parent: str | None, *, final: bool = True, **more: Any) -> None:
        context, node_id = self.context, self.step.node_id
        assert context.plan is not None
        order = Order(context.plan)
        context.file_registry.register(file, agent=agent, parent=parent, phase=PHASE, final=final, order=order, **more)
        if final:
            context.stream.emit("file_created", path=file.path, node_id=node_id, file_type=file.file_type)

    def _hand(self, from_agent: str, to_agent: str, reason: str, passed: Any, parent: str | None) -> None:
        change = self.context.hand_over(from_agent, to_agent, reason, passed, parent)
        self.transitions.append({**change, "attempt": self.number, "at": time.time()})


def script_name(asked: str, step: Step) -> str:
    """Return a safe file name for a step's code, whatever the model called it.

    >>> from cmbagent_nb.workflow.plan import Step
    >>> script_name("../../etc/My fit.py", Step(2, "t", "engineer", "i"))
    'My_fit.py'
    >>> script_name("", Step(2, "t", "engineer", "i"))
    'step_2.py'
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(asked.replace("\\", "/")).name.removesuffix(".py")).strip("_")
    return f"{stem[:80] or step.node_id}.py"


def _text_name(step: Step, default: str) -> str:
    named = [pattern for pattern in step.expected_outputs if pattern.endswith(".md") and not set(pattern) & set("*?[")]
    name = named[0].removeprefix("./") if named else default
    parts = PurePosixPath(name.replace("\\", "/")).parts
    safe = not PurePosixPath(name).is_absolute() and ".." not in parts and all(len(part) < 200 for part in parts)
    return name if safe else default


def _secrets_in(code: str, scrub: Callable[[str], str]) -> str | None:
    """Return why code is not run that holds a secret, or the mark of one: masked, it would do something else."""
    lines = code.splitlines()
    found = [str(number) for number, line in enumerate(scrub(code).splitlines(), 1) if MARK in line]
    if not found:
        return None
    where = f"line{'s' if len(found) > 1 else ''} {', '.join(found[:5])}" if len(lines) > 1 else "it"
    return (
        f"The code was not run: {where} holds what looks like a password or an API key. Read it from an environment"
        " variable instead, or name another value."
    )


def _is(path: Path, code_hash: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == code_hash


def _put_back(path: Path, code: str, code_hash: str) -> None:
    """See to it that a script is there as it ran, whatever it did to itself."""
    if path.is_symlink() or not _is(path, code_hash):
        path.unlink(missing_ok=True)
        _write(path, code)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")


def _entry(path: Path, name: str) -> Entry:
    from cmbagent_nb.capture.file_scan import Entry

    status = path.stat()
    return Entry(
        path=name,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        mode=status.st_mode,
    )
