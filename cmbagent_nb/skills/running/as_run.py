"""A skill as a run: the engine's own run, whose code comes from the skill before any agent is asked.

| what | how |
|---|---|
| graph, statuses, gates, retries, steps side by side | the engine's: the skill's template is the plan |
| code | each step's cell as a script, with the parameters filled in: a process of its own, as in the first run |
| no model call | the code is ready; a model is looked for, and asked only when something deviates |
| deviation | an error, a missing or spoilt file, a result out of range: the attempt fails, and the agents go on |
| what they are told | the skill's code, the error and the parameters |
| ``strict_mode``, ``allow_adaptation=False`` | it fails instead |
| what they changed | :mod:`cmbagent_nb.skills.running.adapt`, in the execution's row |
| cancel, pause, kill, resume | as with any run; nothing that is finished is done again |
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import BudgetExceeded, CMBAgentError, SkillDeviated
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.skills.library import NOTEBOOK, SkillRecord
from cmbagent_nb.skills.running import adapt, deviation, seen
from cmbagent_nb.skills.running.ledger import Belongs, Ended, Ledger, numbers_in
from cmbagent_nb.skills.running.script import are_apart, cells_of, scripts
from cmbagent_nb.workflow.step_source import NO_MODEL, PreparedCode

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.execution.launcher import Outcome
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.skills.running.as_plan import Template
    from cmbagent_nb.skills.running.guided import FittedStep
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.plan import Plan, Step
    from cmbagent_nb.workflow.prompts import Failure

_OUTPUTS = frozenset({"data", "plot", "report", "other"})


@dataclass(frozen=True)
class Wish:
    """Request with which a skill's run was started."""

    skill_id: str
    execution_id: str
    values: dict[str, Any]
    mode: str = "direct"
    allow_adaptation: bool = True
    strict_mode: bool = False
    notes: list[str] = field(default_factory=list)
    #: Files of the skill that every step gets, by their paths in the run.
    seeds: list[str] = field(default_factory=list)
    matched: dict[str, Any] | None = None
    started_at: float = 0.0


class SkillRun:
    """Step source of a run of a skill: a :class:`~cmbagent_nb.workflow.step_source.StepSource`."""

    def __init__(
        self, skill: SkillRecord, wish: Wish, notebook: NotebookNode, template: Template, model: ModelSpec, run_id: str
    ) -> None:
        self.skill, self.wish, self.notebook, self.template = skill, wish, notebook, template
        self.has_model = model != NO_MODEL
        self.run_id = run_id
        own = {item.node_id: item.code for item in scripts(notebook, skill.parameters, wish.values)}
        #: Node of the run → the skill's script.
        self.scripts = {node: own[name] for node, name in template.steps.items() if name in own}
        self.deviations: list[dict[str, Any]] = []
        self._fitted: dict[str, FittedStep] | None = None
        self._fitting = asyncio.Lock()
        #: Whether the question for all steps had no answer: each is asked by itself.
        self._one_by_one = False
        self._ledger: Ledger | None = None
        self._began = time.monotonic()

    @property
    def skill_id(self) -> str:
        """The skill that the run is of."""
        return self.skill.id

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept with the run, so that another process can go on with it."""
        return {name: getattr(self.wish, name) for name in Wish.__dataclass_fields__}

    # ---- beginning

    async def begin(self, context: Context, plan: Plan) -> None:
        """Open the execution's row, or take it up again, and say in the record what runs."""
        self._began = time.monotonic()
        wish, skill = self.wish, self.skill
        belongs = Belongs(context.run_id, context.session_id, wish.mode)
        self._ledger = Ledger(skill, wish.execution_id, context.work_dir, wish.values, belongs, notes=wish.notes)
        if context.past.plan is not None and await in_thread(self._reopen):
            return
        self._ledger.open()
        about = {"skill_id": skill.id, "name": skill.name, "version": skill.version}
        if wish.matched is not None:
            context.recorder.record("skill", subtype="matched", inputs={**about, **wish.matched}, parent=None)
            context.stream.emit("skill_matched", **about, **wish.matched)
        inputs = {**about, "parameters": wish.values, "mode": wish.mode, "execution_id": wish.execution_id}
        context.recorder.record("skill", subtype="start", inputs=inputs, parent=None)
        context.stream.emit("skill_execution_start", **inputs)

    def _reopen(self) -> bool:
        from cmbagent_nb.skills import rows
        from cmbagent_nb.store.lookup import parsed

        assert self._ledger is not None
        self.skill.writer.barrier().result()
        # the process that had it may have died without a word
        rows.interrupt_executions(self.skill.db, self.skill.writer)
        found = self.skill.db.rows("SELECT * FROM skill_executions WHERE id = :id", id=self.wish.execution_id)
        if not found:
            return False
        row = parsed(found[0])
        self.deviations = list((row["meta"] or {}).get("deviations", []))
        if row["status"] != "running":
            self._ledger.reopen(row)
        return True

    def seeds(self) -> Sequence[str]:
        """Return the skill's own files that do not lie in the input: those of steps that are not part of it."""
        return self.wish.seeds

    # ---- the code of a step

    async def code_for(self, context: Context, step: Step, *, other: bool) -> PreparedCode | None:
        """Return the skill's code for a first attempt; in guided mode as an agent has fitted it to the task."""
        code = self.scripts.get(step.node_id)
        if code is None or other:
            if not self.has_model:
                raise self._refusal(step, "there is no model that could write other code for it")
            return None
        fitted: FittedStep | None = None
        if self.wish.mode == "guided":
            every = await self._fit(context)
            if every is None:
                return None
            fitted = every.get(step.node_id)
        about = {"skill": self.skill.name, "version": self.skill.version, "node_id": self.template.steps[step.node_id]}
        name = re.sub(r"\W+", "_", step.title.lower()).strip("_")[:40] or step.node_id
        said = f"The code of {self.skill.name} v{self.skill.version}, with its parameters filled in."
        if fitted is None:
            return PreparedCode(code, f"{name}.py", said, about)
        about |= {"tailored": True, "reason": fitted.reason}
        changed = context.writer.scrub(fitted.python_code)
        if changed != code:
            self._tell(context, step, changed, fitted.reason, step.agent)
        return PreparedCode(changed, f"{name}.py", f"{said} Changed for the task: {fitted.reason}", about)

    async def _fit(self, context: Context) -> dict[str, FittedStep] | None:
        """Ask once for all steps; None when they are to be asked for one by one."""
        from cmbagent_nb.skills.running.guided import fit

        assert context.plan is not None
        async with self._fitting:
            if self._fitted is None and len(self.scripts) > 1 and not self._one_by_one:
                try:
                    self._fitted = await fit(context, context.plan, self.skill, self.scripts, self.wish.values)
                except BudgetExceeded:
                    raise
                except CMBAgentError as error:
                    context.recorder.record(
                        "info", inputs={"what": "the skill is fitted step by step", "why": str(error)}
                    )
                    self._one_by_one = True
            return self._fitted

    def guide(self, step: Step, failures: Sequence[Failure]) -> str:
        """Return what an agent is told of the skill: its code for this step, its parameters, what must stay."""
        from cmbagent_nb.skills.running.guided import parameters_text

        code = self.scripts.get(step.node_id)
        if code is None:
            return ""
        skill = self.skill
        parts = [
            f"# The skill {skill.name} v{skill.version} does this step\n"
            "Its code is verified for the task that it was made from. Take it as the template: change what has to"
            " change, keep the rest, and keep the names of the files that it makes.",
            parameters_text(skill, self.wish.values),
        ]
        if not any(item.code == code for item in failures[-1:]):
            parts.append(f"Its code:\n```python\n{code}```")
        return "\n\n".join(part for part in parts if part)

    # ---- what came of it

    async def check_outcome(self, context: Context, step: Step, attempt: int, outcome: Outcome, folder: Path) -> str:
        """Say what deviates in a step whose code ran; empty when all is as it has been seen."""
        return await in_thread(self._judge, step, outcome, folder)

    def _judge(self, step: Step, outcome: Outcome, folder: Path) -> str:
        outputs = [entry.path for entry in outcome.made if not entry.path.startswith("codebase/")]
        numbers = numbers_in(folder, outputs)
        metrics = {name: number for name, (_, number) in numbers.items()}
        # names that two files of the skill share are told apart by the file, though this step makes one of them
        metrics |= {f"{PurePosixPath(path).stem}.{name}": number for name, (path, number) in numbers.items()}
        node = self.template.steps[step.node_id]
        happened = deviation.Happened("completed", "", self.wish.values, outputs, metrics, folder, node)
        found = deviation.find(self.skill, happened, expected=self.template.made.get(step.node_id, []))
        self.deviations += [item.as_dict() for item in found]
        return "; ".join(item.reason for item in found)

    async def on_deviation(self, context: Context, step: Step, failure: Failure) -> None:
        """Keep the deviation, and refuse to go on where no agent may or can."""
        node = self.template.steps[step.node_id]
        if not any(item["node_id"] == node and item["kind"] != "error" for item in self.deviations):
            status = "timeout" if "time limit" in failure.error else "failed"
            happened = deviation.Happened(status, failure.error, self.wish.values, [], {}, context.work_dir, node)
            self.deviations += [item.as_dict() for item in deviation.find(self.skill, happened)]
        assert self._ledger is not None
        self._ledger.note(deviations=self.deviations)
        if self.wish.strict_mode:
            raise self._refusal(step, f"{failure.error}; strict_mode does not let agents mend it")
        if not self.wish.allow_adaptation:
            raise self._refusal(step, f"{failure.error}; allow_adaptation=False does not let agents mend it")
        if not self.has_model:
            raise self._refusal(step, f"{failure.error}; there is no model, and a model would adapt the skill")

    def _refusal(self, step: Step, why: str) -> SkillDeviated:
        return SkillDeviated(
            f"the skill {self.skill.name} v{self.skill.version} deviated in step {step.number}: {why}",
            "Run it with a model (model='provider:name') and adaptation allowed, or change its parameters.",
            node_id=step.node_id,
            skill=self.skill.name,
        )

    async def on_adapted(self, context: Context, step: Step, code: str, reason: str, agent: str) -> None:
        """Say in the record that an agent's code did a step of the skill."""
        self._tell(context, step, code, reason, agent)

    def _tell(self, context: Context, step: Step, code: str, reason: str, agent: str) -> None:
        node = self.template.steps.get(step.node_id, step.node_id)
        names = {item.name for item in self.skill.parameters}
        changes = adapt.changes_of_code(node, self.scripts.get(step.node_id, ""), code, names, reason)
        for item in changes:
            context.recorder.record("skill", subtype="adapted", agent=agent, inputs=item)
            context.stream.emit("skill_adapted", kind=item["kind"], node_id=step.node_id, reason=reason)

    # ---- the end

    async def end(self, context: Context, status: str, error: str) -> dict[str, Any]:
        """Close the execution's row with what the run made and what agents changed."""
        if self._ledger is None:
            return {}
        if status == "interrupted":
            self._ledger.interrupted()
            return {}
        plan = context.plan
        nodes = [step.node_id for step in plan.steps] if plan is not None else []
        paths = context.file_registry.of(nodes)
        ended = await in_thread(self._ended, context, status, error, paths)
        about = {"skill_id": self.skill.id, "name": self.skill.name, "version": self.skill.version}
        outputs = {"execution_id": self.wish.execution_id, "status": status, "outputs": ended.outputs}
        more = {"adapted": bool(ended.adaptations), "deviations": len(self.deviations)}
        context.recorder.record(
            "skill",
            subtype="complete",
            inputs={**about, "parameters": self.wish.values},
            outputs={**outputs, **more},
            status="completed" if status == "completed" else "failed",
            error=error or None,
            parent=None,
        )
        context.stream.emit("skill_execution_complete", **about, **outputs, **more)
        return {
            "skill_execution": {
                **about,
                "execution_id": self.wish.execution_id,
                "mode": self.wish.mode,
                "parameters": self.wish.values,
                "metrics": ended.metrics,
                "adapted": bool(ended.adaptations),
                "adaptations": ended.adaptations,
                "deviations": self.deviations,
                "notes": self.wish.notes,
            }
        }

    def _ended(self, context: Context, status: str, error: str, paths: list[str]) -> Ended:
        from cmbagent_nb.execution.kinds import file_type

        assert self._ledger is not None
        context.writer.barrier().result()
        folder = context.work_dir
        outputs = [path for path in paths if file_type(path) in _OUTPUTS and (folder / path).is_file()]
        numbers = numbers_in(folder, outputs)
        after = {node: item.code for node, item in self._by_agents().items()}
        adaptations = self._adaptations()
        reasons = [item["reason"] for item in adaptations if item["reason"]]
        defaults = {item.name: item.default for item in self.skill.parameters}
        given = {
            name: (defaults[name], value)
            for name, value in self.wish.values.items()
            if name in defaults and defaults[name] != value
        }
        calls, cost = context.gateway.calls, context.gateway.cost_usd
        ended = Ended(
            status,
            self._ledger.seconds_before + time.monotonic() - self._began,
            error,
            outputs,
            {name: number for name, (_, number) in numbers.items()},
            cost_usd=cost,
            model_calls=calls,
            cells=self._seconds(),
            deviations=self.deviations,
            adaptations=adaptations,
            adaptation_reason="; ".join(dict.fromkeys(reasons)),
            context_diff=adapt.context_diff(self.scripts, after, given) if after or given else None,
        )
        self._write_notebook(folder)
        self._ledger.close(ended)
        if status == "completed" and not adaptations and not self.deviations:
            seen.observe(self.skill, self.wish.values, numbers, folder)
        return ended

    def _by_agents(self) -> dict[str, adapt.Changed]:
        """Return the steps that agents' code did, fitted before or mended after."""
        db = self.skill.db
        return {**adapt.tailored_steps(db, self.run_id), **adapt.changed_steps(db, self.run_id)}

    def _adaptations(self) -> list[dict[str, Any]]:
        names = {item.name for item in self.skill.parameters}
        found: list[dict[str, Any]] = []
        for node, item in self._by_agents().items():
            own = self.template.steps.get(node, node)
            found += adapt.changes_of_code(own, self.scripts.get(node, ""), item.code, names, item.reason)
        for node, (old, new) in self.template.replaced.items():
            own = self.template.steps[node]
            reason = f"there is no agent {old!r} here"
            found.append({"kind": "agent", "node_id": own, "before": old, "after": new, "reason": reason})
        for node, (status, error) in adapt.skipped_steps(self.skill.db, self.run_id).items():
            own = self.template.steps.get(node, node)
            reason = error or "it was skipped"
            found.append({"kind": "graph", "node_id": own, "before": "done", "after": status, "reason": reason})
        return found

    def _seconds(self) -> dict[str, float]:
        rows = self.skill.db.rows(
            "SELECT node_id, SUM(duration_ms) AS ms FROM execution_events WHERE run_id = :run"
            " AND event_type = 'code_exec' GROUP BY node_id",
            run=self.run_id,
        )
        own = self.template.steps
        return {own.get(row["node_id"], row["node_id"]): round((row["ms"] or 0.0) / 1e3, 3) for row in rows}

    def _write_notebook(self, folder: Path) -> None:
        """Write the notebook as it was run: with the values, the code and what it printed."""
        import copy

        from cmbagent_nb.skills.notebook import notebook_text
        from cmbagent_nb.skills.running.script import assignments
        from cmbagent_nb.store.json import from_json

        notebook = copy.deepcopy(self.notebook)
        rows = self.skill.db.rows(
            "SELECT node_id, inputs, outputs FROM execution_events WHERE run_id = :run AND event_type = 'code_exec'"
            " ORDER BY execution_order",
            run=self.run_id,
        )
        ran = {row["node_id"]: row for row in rows}
        changed = {self.template.steps.get(node, node): item for node, item in self._by_agents().items()}
        names = {item.name for item in self.skill.parameters}
        nodes = {own: node for node, own in self.template.steps.items()}
        own_cells = {name for name, _ in cells_of(notebook)}
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []) and are_apart(self.notebook):
                cell.source = assignments(self.skill.parameters, self.wish.values) or cell.source
            name = str(cell.metadata.get("cmbagent_nb", {}).get("node_id") or cell.get("id", ""))
            if cell.cell_type != "code" or name not in own_cells or name not in nodes:
                continue
            if name in changed:
                cell.source = adapt.take_apart(changed[name].code, names)[0]
            row = ran.get(nodes[name])
            printed = str((from_json(row["outputs"]) or {}).get("stdout") or "") if row and row["outputs"] else ""
            if printed:
                cell.outputs = [_stream(printed)]
        (folder / NOTEBOOK).write_text(self.skill.writer.scrub(notebook_text(notebook)), encoding="utf-8")


def _stream(text: str) -> Any:
    import nbformat

    v4: Any = nbformat.v4  # it has no types
    return v4.new_output("stream", name="stdout", text=text)
