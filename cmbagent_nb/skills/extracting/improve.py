"""Better names and prose from a model, for a skill that is complete without them.

| invariant | how |
|---|---|
| what the notebook computes does not change | only names of parameters and texts are taken; it is verified again |
| a name that breaks anything is thrown away | first the names are left out, then all of it |
| no answer, no harm | a model that fails leaves the skill as it was, and the report says so |
| what it costs is in the record | the call belongs to the run that the skill is made of |
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, NoModel
from cmbagent_nb.skills.extracting.making import remove
from cmbagent_nb.skills.model import Parameter

if TYPE_CHECKING:
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.extracting.extract import Source
    from cmbagent_nb.skills.extracting.making import Draft, Maker
    from cmbagent_nb.skills.verifying.verify import Report
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

NAME = "skill_writer"
_INSTRUCTIONS = """\
You give names and words to a notebook that will be run again with other values by people who did not write it.
You do not change what it computes. For each parameter give a name that says what it is (a Python identifier, in the
style of the code; the same name where it is good already), a meaning in a few words, and its unit if the code, the task
or physics tell it. For each step give a short title and one or two sentences about what it does and why. Give one
sentence that says what the whole notebook is for, and a few tags in lower case.
"""
#: Characters of code that the model is shown.
_MOST_CODE = 24_000


@dataclass(frozen=True)
class Words:
    """Words of a model: names and meanings of parameters, titles and prose of steps."""

    names: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    prose: dict[str, str] = field(default_factory=dict)
    description: str = ""
    tags: tuple[str, ...] = ()

    def said_of(self, parameter: Parameter) -> Parameter:
        """Return a parameter with its meaning and unit; by its own name or the one it got."""
        old = next((known for known, new in self.names.items() if new == parameter.name), parameter.name)
        help_, unit = self.helps.get(old, ""), self.units.get(old, "")
        return replace(parameter, help=help_ or parameter.help, unit=parameter.unit or unit)


def find_model(model: str | None, settings: Settings) -> ModelSpec:
    """Return the model to ask.

    Raises
    ------
    NoModel, UnknownModel, MissingKey, MissingExtra
        There is none, or it cannot be used.
    """
    from cmbagent_nb.llm.providers import available, check
    from cmbagent_nb.llm.spec import HOW_TO_SET, ModelSpec

    spec = ModelSpec.parse(model or settings.model)
    if spec.provider != "auto":
        check(spec, settings)
        return spec
    choices = available(settings=settings)
    if not choices:
        raise NoModel("there is no model to improve the skill's words", f"Leave improve out. {HOW_TO_SET}")
    return choices[0].spec


def improved(source: Source, draft: Draft, report: Report, maker: Maker, words: Words) -> tuple[Source, Draft, Report]:
    """Return the notebook with a model's words, as far as it is right with them; else as it was."""
    tries = [words] if not words.names else [words, replace(words, names={})]
    for said in tries:
        better = replace(source, words=said, description=source.description or said.description)
        candidate = better.build(draft.way, draft.without)
        work = maker.folder("verify-")
        try:
            again = maker.verify(candidate.notebook, work)
        finally:
            remove(work)
        if again.verified or not report.verified:
            again.duration_s += report.duration_s
            taken = {item.name for item in candidate.parameters}
            names = {old: new for old, new in said.names.items() if new in taken}
            again.liveness, again.notes = _renamed(report.liveness, names), [*report.notes, *again.notes]
            if said is not words:
                again.notes.append("names that a model gave were thrown away: with them it was not reproduced")
            return better, candidate, again
    report.notes.append("words that a model gave were thrown away: with them it was not reproduced")
    return source, draft, report


def _renamed(liveness: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    told = {
        key: {names.get(name, name): why for name, why in value.items()} if isinstance(value, dict) else value
        for key, value in liveness.items()
    }
    return told


def ask_model(
    db: Database, writer: Writer, settings: Settings, spec: ModelSpec, source: Source, draft: Draft, folder: Path
) -> Words:
    """Ask a model for words.

    Raises
    ------
    CMBAgentError
        It gave no answer that can be used.
    """
    from cmbagent_nb.runtime import Runtime

    work = _ask(db, writer, settings, spec, source, draft, folder)
    runtime = Runtime.get()
    reply = runtime.submit(work).result()
    known = {item.name for item in draft.parameters}
    steps = {step.node_id for step in source.chosen}
    rows = [item for item in reply.parameters if item.name in known]
    names = {item.name: item.better_name for item in rows if item.better_name not in ("", item.name, *known)}
    return Words(
        names={old: new for old, new in names.items() if list(names.values()).count(new) == 1},
        helps={item.name: _line(item.meaning, 160) for item in rows if item.meaning.strip()},
        units={item.name: _line(item.unit, 20) for item in rows if item.unit.strip()},
        titles={item.node_id: _line(item.title, 120) for item in reply.steps if item.node_id in steps},
        prose={item.node_id: item.about.strip()[:1000] for item in reply.steps if item.node_id in steps},
        description=_line(reply.description, 500),
        tags=tuple(dict.fromkeys(_line(tag, 40).lower() for tag in reply.tags if tag.strip()))[:8],
    )


def _line(text: str, most: int) -> str:
    return " ".join(text.split())[:most]


async def _ask(
    db: Database, writer: Writer, settings: Settings, spec: ModelSpec, source: Source, draft: Draft, folder: Path
) -> Any:
    from pydantic import BaseModel, Field

    from cmbagent_nb.agents.ask import ask
    from cmbagent_nb.agents.registry import AgentSpec
    from cmbagent_nb.agents.replies import Reply, Text, Texts
    from cmbagent_nb.agents.tools import ToolBox
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.governance.budget import budget
    from cmbagent_nb.llm.gateway import Gateway

    class ParameterWords(BaseModel):
        """Words about a parameter."""

        name: str
        better_name: Text = ""
        meaning: Text = ""
        unit: Text = ""

    class StepWords(BaseModel):
        """Words about a step."""

        node_id: str
        title: Text = ""
        about: Text = ""

    class SkillWords(Reply):
        """Names and words for a notebook."""

        description: Text = ""
        parameters: list[ParameterWords] = Field(default_factory=list)
        steps: list[StepWords] = Field(default_factory=list)
        tags: Texts = Field(default_factory=list)

    run = source.record.run
    newest = db.rows(
        "SELECT COALESCE(MAX(execution_order), 0) AS newest FROM execution_events WHERE run_id = :id", id=run["id"]
    )[0]["newest"]
    recorder = Recorder(writer, run["id"], run["session_id"], first_order=newest + 1, enabled=settings.capture)
    gateway = Gateway(
        spec,
        settings=settings,
        recorder=recorder,
        writer=writer,
        before_call=[budget(settings.max_cost_usd)] if settings.max_cost_usd else [],
        work_dir=source.record.work_dir,
    )
    agent = AgentSpec(NAME, "Gives names and words to skills.", _INSTRUCTIONS, role="helper", plannable=False)
    answer = await ask(
        agent, prompt(source, draft), reply=SkillWords, gateway=gateway, recorder=recorder, tools=ToolBox(folder)
    )
    return answer.value


def prompt(source: Source, draft: Draft) -> str:
    """Return what the model is asked."""
    parameters = "\n".join(
        f"- `{item.name}` ({item.kind}, {item.type}) = {item.default!r}{'  # ' + item.help if item.help else ''}"
        for item in draft.parameters
    )
    steps = "\n\n".join(
        f"## {step.node_id}: {step.title}\n\n{step.instructions.strip()}\n\n```python\n{code.strip()}\n```"
        for step, code in zip(source.range(pruned=draft.way.pruned).steps, draft.codes, strict=True)
    )
    return (
        f"# The task that the notebook was made for\n\n{source.task}\n\n# Its parameters\n\n{parameters or 'none'}\n\n"
        f"# Its steps\n\n{steps[:_MOST_CODE]}\n"
    )


def say_why_not(report: Report, error: CMBAgentError) -> None:
    """Note that a model gave nothing."""
    report.notes.append(f"a model was asked for better words and gave none: {error.what}")
