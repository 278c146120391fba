"""A run that looks for a skill first: it is shown at a gate, or used by itself where that is safe, or the run plans.

| asked for by | a person can be asked | what happens to the best skill that fits |
|---|---|---|
| ``auto_match=True``, ``skill="auto"`` | yes | the gate ``skill_match``: use it, or plan instead |
| the same | no (``gates`` answers) | used if it is verified, trusted, can run here and reaches the limit for that |
| the setting ``skill_mode = auto`` | gates are asked for (``approve``) | the gate |
| the same | else | used under the same conditions |

Where several skills fit alike, the gate asks which; without a person none is used, unless they are copies.

Whatever happens is a row of ``skill_matches``: ``offered``, then ``accepted`` or ``refused``; ``applied`` by itself; or
``abstained``. A skill that came from elsewhere is offered only when it is trusted.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, NoModel, SkillError
from cmbagent_nb.ids import new_id
from cmbagent_nb.llm.spec import HOW_TO_SET
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.skills.matching.fill import named_values, stored_value, taken_values
from cmbagent_nb.skills.matching.match import Found, Match, match
from cmbagent_nb.skills.sharing.trust import code as shown_code
from cmbagent_nb.store.json import from_json
from cmbagent_nb.workflow import gates
from cmbagent_nb.workflow.graph import add_offer
from cmbagent_nb.workflow.plan import SKILL_MATCH
from cmbagent_nb.workflow.step_source import NO_MODEL

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.running.start_run import Prepared
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.process_state import WorkspaceHandle

#: Skills that a row of ``skill_matches`` names, and how many a gate offers at most.
_KEPT, _OFFERED = 5, 3


@dataclass(frozen=True)
class MatchPolicy:
    """The options of the search for a skill, kept with the run."""

    #: Whether a person is asked.
    ask: bool
    required_tags: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    #: Whether a skill may be used at all without a person (``gates=reject`` says no).
    allow_unattended: bool = True


@dataclass(frozen=True)
class _Choice:
    """A skill that can be used, ready to run, with the values it would be run with."""

    match: Match
    made: Prepared
    values: dict[str, Any]

    @property
    def title(self) -> str:
        """The skill's name and version."""
        return f"{self.match.name} v{self.match.version}"

    def does_as(self, other: _Choice) -> bool:
        """Tell whether both skills are described alike: copies, of which either will do."""
        mine, others = self.match.skill, other.match.skill
        return (mine.description, mine.task) == (others.description, others.task)


class SkillOffer:
    """Looks for a skill that does a run's task: an :class:`~cmbagent_nb.workflow.skill_selector.SkillSelector`."""

    def __init__(
        self,
        host: WorkspaceHandle,
        settings: Settings,
        registry: Registry,
        model: ModelSpec,
        policy: MatchPolicy,
        *,
        inputs: Mapping[str, Any] | None = None,
        no_model: CMBAgentError | None = None,
    ) -> None:
        self._host, self._settings, self._registry, self._model = host, settings, registry, model
        self._policy, self._inputs, self._no_model = policy, inputs, no_model

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept with the run, so that another process can look again."""
        return asdict(self._policy)

    async def select(self, context: Context) -> None:
        """Look for a skill, ask or decide, and let the skill stand behind the run when it is to be used."""
        await context.scheduler.enter("planning")
        async with context.scheduler.active():
            found, choices = await in_thread(self._look, context)
            match_id = self._record(context, found, choices)
            taken: _Choice | None = None
            if choices and self._policy.ask:
                taken = await self._ask(context, found, choices)
                shown = taken or choices[0]
                status = "refused" if taken is None else "accepted"
                self._close(context, match_id, status, skill_id=shown.match.id, score=shown.match.score)
            elif choices:
                taken = choices[0]
                self._close(context, match_id, "applied")
            else:
                self._close(context, match_id, "abstained")
            if taken is not None:
                await self._take(context, taken, match_id)
                return
        if self._no_model is not None:
            fits = bool(found.fitting)
            why = "no skill is used" if fits else "no skill fits this task"
            raise NoModel(f"{why}, and {self._no_model.what}", self._no_model.next_step)

    # ---- looking

    def _look(self, context: Context) -> tuple[Found, list[_Choice]]:
        settings, policy = self._settings, self._policy
        if settings.starter_skills:
            from cmbagent_nb.skills.starter.install import install_quietly

            install_quietly(self._host.db, self._host.writer, self._host.home)
        inputs = self._inputs
        if inputs is None:
            inputs = {item["name"]: stored_value(context.work_dir / item["path"]) for item in context.inputs}
        found = match(
            self._host.db,
            self._host.writer,
            self._host.home,
            context.task,
            k=_KEPT,
            min_similarity=settings.skill_min_similarity if policy.ask else settings.skill_auto_similarity,
            required_tags=policy.required_tags,
            inputs=inputs,
            plan=context.options.plan.to_dict() if context.options.plan and not _is_one_shot(context) else None,
            embeddings=settings.embeddings,
        )
        if not policy.ask and not policy.allow_unattended:
            return found, []
        alike = found.alike()
        choices: list[_Choice] = []
        for item in found.fitting:
            if choices and (item not in alike or len(choices) >= _OFFERED):
                break
            usable = not item.conditions and (policy.ask or item.skill.verified)
            choice = self._prepare(context, item, inputs) if usable else None
            if choice is not None:
                choices.append(choice)
        if not policy.ask and any(not choice.does_as(choices[0]) for choice in choices):
            return found, []  # which of them is not for us to say
        return found, choices

    def _prepare(self, context: Context, found: Match, inputs: Mapping[str, Any]) -> _Choice | None:
        from cmbagent_nb.skills.running.start_run import prepare

        said = named_values(context.task, found.skill.parameters)
        known = {item.name for item in found.skill.parameters}
        given = {name: value for name, value in self._policy.parameters.items() if name in known}
        taken = taken_values(found.taken, inputs)
        files = {item.name for item in found.skill.parameters if item.kind == "input"}
        values = {**said, **{name: value for name, value in taken.items() if name not in files}, **given}
        try:
            made = prepare(
                found.skill,
                values,
                {name: value for name, value in taken.items() if name in files},
                settings=self._settings,
                registry=self._registry,
                task=context.task,
                approve=",".join(sorted(context.options.approve - {"plan"})) or None,
            )
        except SkillError:
            return None  # it cannot run with what the task gives: it is not offered
        return _Choice(found, made, values)

    # ---- asking

    async def _ask(self, context: Context, found: Found, choices: list[_Choice]) -> _Choice | None:
        """Ask whether to use the skill, or which of several; returns the one to use, None to plan."""
        await add_offer(context)
        # Decided, and the process died before the choice was stored: the answer is given again and the node stays.
        decided = context.past.statuses.get(SKILL_MATCH) == "completed"
        offered = {"use" if not place else f"use_{place + 1}": choice for place, choice in enumerate(choices)}
        several = len(choices) > 1
        options: tuple[tuple[str, str], ...] = gates.SKILL_OPTIONS
        title = f"Use the skill {choices[0].title} for this task?"
        if several:
            title = f"{len(choices)} skills fit this task. Which one?"
            options = (*((name, f"Use {choice.title}") for name, choice in offered.items()), gates.SKILL_OPTIONS[-1])
        codes = {name: str(await in_thread(shown_code, choice.match.skill)) for name, choice in offered.items()}
        headed = [f"# ---- {offered[name].title}\n{code}" for name, code in codes.items()]
        details = {
            "skill": choices[0].match.as_dict(),
            "code": "\n\n".join(headed) if several else codes["use"],
            "file": ", ".join(choice.title for choice in choices),
            "parameters": choices[0].values,
            "choices": {
                name: {"skill": choice.match.as_dict(), "parameters": choice.values} for name, choice in offered.items()
            },
            "candidates": [other.as_dict() for other in found.matches],
        }
        body = "\n\n".join(_described(choice, several=several) for choice in choices)
        subject = {name: _subject(choice, codes[name]) for name, choice in offered.items()}
        question = gates.Question("skill_match", title, options, body, details, subject)
        if not decided:
            await context.states.node(SKILL_MATCH, "running")
        moment = f"skill:{','.join(choice.match.id for choice in choices)}"
        answer = await context.ask_gate(question, SKILL_MATCH, moment, still=decided)
        if not decided:
            await context.states.node(
                SKILL_MATCH, "completed", reason=f"{answer.resolution}, said {answer.by}", by=answer.by
            )
        return offered.get(answer.resolution)

    # ---- using it

    async def _take(self, context: Context, choice: _Choice, match_id: str) -> None:
        from cmbagent_nb.skills.running.start_run import furnish

        item = choice.match
        how = "asked" if self._policy.ask else "auto"
        matched = {"match_id": match_id, "score": item.score, "reason": item.reason, "how": how}

        def fill() -> tuple[list[dict[str, Any]], Any]:
            return furnish(choice.made, context.work_dir, context.run_id, model=self._model, matched=matched)

        stored, step_source = await in_thread(fill)
        context.step_source = step_source
        context.options = choice.made.options
        context.inputs = [*context.inputs, *(entry for entry in stored if entry not in context.inputs)]
        await self._keep(context, step_source)

    async def _keep(self, context: Context, step_source: Any) -> None:
        """Keep with the run that it is a skill's from here on, so that another process goes on with it as such."""
        from cmbagent_nb.workflow.launch import options_kept

        rows = await in_thread(
            lambda: self._host.db.rows("SELECT meta FROM workflow_runs WHERE id = :id", id=context.run_id)
        )
        meta = from_json(rows[0]["meta"]) if rows and rows[0]["meta"] else {}
        request = {
            **meta.get("request", {}),
            "options": options_kept(context.options),
            "conduct": step_source.to_dict(),
        }
        request.pop("offer", None)
        values = {
            "mode": context.options.mode,
            "skill_id": step_source.skill_id,
            "meta": {**meta, "inputs": context.inputs, "request": request},
        }
        context.journaled.update("skill_taken", "workflow_runs", context.run_id, values)
        await context.writer.settled()

    # ---- the record

    def _record(self, context: Context, found: Found, choices: list[_Choice]) -> str:
        choice = choices[0] if choices else None
        best = choice.match if choice is not None else (found.matches[0] if found.matches else None)
        row = _row(
            found,
            run_id=context.run_id,
            session_id=context.session_id,
            task_description=context.task,
            status="abstained" if choice is None else "offered",
            mode="manual" if self._policy.ask else "auto",
            skill_id=None if choice is None else choice.match.id,
            score=None if best is None else best.score,
        )
        context.journaled.insert("skill_match", "skill_matches", row)
        if choice is None:
            shown = {
                "fits": bool(found.fitting),
                "best": best.name if best else None,
                "score": best.score if best else None,
            }
            context.recorder.record("skill", subtype="matched", inputs={"task": context.task}, outputs=shown)
        return str(row["id"])

    def _close(self, context: Context, match_id: str, status: str, **more: Any) -> None:
        context.journaled.update("skill_match", "skill_matches", match_id, {"status": status, **more})


def _subject(choice: _Choice, code: str) -> dict[str, Any]:
    """Return what an approval of a skill holds for."""
    skill = choice.match.skill
    return {
        "skill": skill.name,
        "version": skill.version,
        "notebook": skill.notebook_hash,
        "code": hashlib.sha256(code.encode("utf-8", "replace")).hexdigest(),
        "parameters": choice.values,
    }


def _described(choice: _Choice, *, several: bool) -> str:
    """Describe a skill on the gate: what it does, why it fits, and with which values it would run."""
    item = choice.match
    varied = ", ".join(f"{name} = {value!r}" for name, value in choice.values.items())
    name = f"{choice.title}: " if several else ""
    percent = f"{round(item.score * 100)} % match"
    return f"{name}{item.skill.description}\n\n{percent} · {item.reason}." + (f"\n\nWith {varied}." if varied else "")


def _is_one_shot(context: Context) -> bool:
    return context.options.mode == "one_shot"


def _row(found: Found | None = None, **columns: Any) -> dict[str, Any]:
    """Return a row of ``skill_matches``."""
    looked = {
        "candidates": [item.as_dict() for item in found.matches] if found else [],
        "duration_ms": found.duration_ms if found else None,
        "meta": {"model": found.model, "min_similarity": found.min_similarity} if found else {},
    }
    return {"id": new_id(), "created_at": time.time(), "skill_id": None, "score": None, **looked, **columns}


def record_named(host: WorkspaceHandle, run_id: str, session_id: str, task: str, skill_id: str) -> None:
    """Keep that a skill was named for a task: it was the person's choice."""
    about = {"run_id": run_id, "session_id": session_id, "task_description": task, "skill_id": skill_id}
    row = _row(None, **about, status="accepted", mode="manual")
    host.writer.insert("skill_matches", row)


def skill_selector_of(
    host: WorkspaceHandle, settings: Settings, registry: Registry, model: ModelSpec, kept: Mapping[str, Any]
) -> SkillOffer:
    """Make a run's offer anew, to go on with the run; its inputs are read from where they were stored."""
    known = {name: value for name, value in kept.items() if name in MatchPolicy.__dataclass_fields__}
    known.setdefault("allow_unattended", kept.get("alone", True))  # its name in runs of 0.1
    missing = NoModel("there is no model to plan with", HOW_TO_SET) if model == NO_MODEL else None
    return SkillOffer(host, settings, registry, model, MatchPolicy(**known), no_model=missing)
