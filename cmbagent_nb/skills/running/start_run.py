"""Starting a run of a skill: everything is checked, its files are put into the run's folder, and the engine begins."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, SkillError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.library import SkillRecord
from cmbagent_nb.skills.running.as_plan import plan_of
from cmbagent_nb.skills.running.as_run import SkillRun, Wish
from cmbagent_nb.skills.running.check import find_parameter
from cmbagent_nb.skills.running.run import check_start, place_file
from cmbagent_nb.skills.running.script import are_apart
from cmbagent_nb.skills.source_hash import check_notebook
from cmbagent_nb.tool_files import files_below
from cmbagent_nb.workflow.step_source import MODE

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.running.as_plan import Template
    from cmbagent_nb.workflow.context import Options
    from cmbagent_nb.workflow.process_state import LiveRun, WorkspaceHandle

MODES = ("direct", "guided")


def start_run(
    host: WorkspaceHandle,
    skill: SkillRecord,
    parameters: Mapping[str, Any],
    *,
    settings: Settings,
    registry: Registry,
    session_id: str,
    model: ModelSpec,
    task: str | None = None,
    mode: str = "direct",
    allow_adaptation: bool = True,
    strict_mode: bool = False,
    approve: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    name: str | None = None,
    work_dir: str | Path | None = None,
    gates: str = "",
    max_cost_usd: float = 0.0,
    matched: Mapping[str, Any] | None = None,
    max_attempts: int | None = None,
    step_timeout: float | None = None,
    models: Mapping[str, str] | None = None,
    instructions: Mapping[str, str] | None = None,
) -> tuple[LiveRun, str]:
    """Start a run of a skill; returns it and its id. Everything that can be refused is refused first."""
    from cmbagent_nb.workflow import folders
    from cmbagent_nb.workflow.launch import Request, start

    execution_id = new_id()
    made = prepare(
        skill,
        parameters,
        inputs or {},
        settings=settings,
        registry=registry,
        task=task,
        mode=mode,
        approve=approve,
        max_attempts=max_attempts,
        step_timeout=step_timeout,
    )
    reserved = folders.reserve(host.home / "runs", name or folders.slug(skill.name), named=name is not None)
    run_id = new_id()
    folder = reserved
    try:
        if work_dir is not None:
            folder = folders.take(work_dir, host.db, clear=False)
        stored, step_source = furnish(
            made,
            folder,
            run_id,
            model=model,
            allow_adaptation=allow_adaptation,
            strict_mode=strict_mode,
            matched=matched,
            execution_id=execution_id,
        )
    except CMBAgentError:
        if folder != reserved:
            folders.give_back(folder)
        shutil.rmtree(reserved, ignore_errors=True)
        raise
    request = Request(
        run_id=run_id,
        session_id=session_id,
        name=reserved.name,
        task=made.task,
        work_dir=folder,
        options=made.options,
        inputs=stored,
        model=model,
        settings=settings,
        registry=registry.changed(models or {}, instructions or {}),
        models=dict(models or {}),
        instructions=dict(instructions or {}),
        max_cost_usd=max_cost_usd,
        gates=gates,
        step_source=step_source,
    )
    return start(host, request), run_id


@dataclass(frozen=True)
class Prepared:
    """A skill that can be run as it is asked for: all that can be refused has been, and nothing is made."""

    skill: SkillRecord
    values: dict[str, Any]
    others: dict[str, Any]
    notebook: NotebookNode
    template: Template
    options: Options
    task: str
    mode: str
    notes: list[str]


def prepare(
    skill: SkillRecord,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    settings: Settings,
    registry: Registry,
    task: str | None = None,
    mode: str = "direct",
    approve: str | None = None,
    max_attempts: int | None = None,
    step_timeout: float | None = None,
) -> Prepared:
    """Check what a skill is to be run with, and make a plan of its graph."""
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.workflow import run_options

    if mode not in MODES:
        raise UsageError(run_options.unknown("mode", mode, MODES), "Modes of a skill are direct and guided.", mode=mode)
    given, others = _sort_inputs(skill, parameters, inputs)
    text, values, notes = check_start(skill, given)
    notebook = read_notebook(text)
    template = plan_of(skill, notebook, apart=are_apart(notebook), agents=registry.plannable(), values=values)
    said = (task or skill.task or skill.description or f"Run the skill {skill.name}.").strip()
    options = run_options.parse_options(
        settings,
        registry,
        said,
        mode=MODE,
        agent=template.plan.steps[0].agent,
        approve=template.approve if approve is None else approve,
        plan=template.plan.to_dict(),
        max_attempts=template.max_attempts if max_attempts is None else max_attempts,
        max_plan_steps=max(len(template.plan.steps), settings.max_plan_steps),
        n_plan_reviews=0,
        plan_instructions="",
        step_timeout=step_timeout,
    )
    return Prepared(skill, values, others, notebook, template, options, said, mode, notes)


def furnish(
    made: Prepared,
    folder: Path,
    run_id: str,
    *,
    model: ModelSpec,
    allow_adaptation: bool = True,
    strict_mode: bool = False,
    matched: Mapping[str, Any] | None = None,
    execution_id: str = "",
) -> tuple[list[dict[str, Any]], SkillRun]:
    """Put a skill's files into a run's folder; returns what agents are told of them, and who stands behind the run."""
    skill = made.skill
    try:
        stored, values, seeds = _fill(skill, made.values, made.others, folder)
    except (OSError, TypeError, ValueError) as error:
        raise SkillError(
            f"the folder for running skill {skill.name} cannot be made ({error})", "Check the disk's space."
        ) from error
    wish = Wish(
        skill_id=skill.id,
        execution_id=execution_id or new_id(),
        values=values,
        mode=made.mode,
        allow_adaptation=allow_adaptation,
        strict_mode=strict_mode,
        notes=made.notes,
        seeds=seeds,
        matched=dict(matched) if matched is not None else None,
        started_at=time.time(),
    )
    return stored, SkillRun(skill, wish, made.notebook, made.template, model, run_id)


def _sort_inputs(
    skill: SkillRecord, parameters: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values for parameters, and inputs that are none: these only agents see."""
    given, others = dict(parameters), {}
    for name, value in inputs.items():
        try:
            known = find_parameter(skill, name)
        except SkillError:
            others[name] = value
            continue
        if known.kind != "input" or name in given or known.name in given:
            others[name] = value
        else:
            given[known.name] = value
    return given, others


def _fill(
    skill: SkillRecord, values: dict[str, Any], others: Mapping[str, Any], folder: Path
) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Put all files into the run's folder; returns what agents are told of, the values, and the seeds."""
    from cmbagent_nb.execution.attempt_folder import place
    from cmbagent_nb.execution.inputs import store_inputs

    (folder / "input").mkdir(parents=True, exist_ok=True)
    seeds: list[str] = []
    stored: list[dict[str, Any]] = []
    instead = {
        str(item.default)
        for item in skill.parameters
        if item.kind == "input" and item.name in values and not _is_default(values[item.name], item.default)
    }
    for path in files_below(skill.assets):
        inside = path.relative_to(skill.assets).as_posix()
        # a file that another is given for is not there: nobody reads it by mistake
        if inside in instead or path.name in instead:
            continue
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        place(path, folder / inside)
        if inside.startswith("input/"):
            stored.append({"name": PurePosixPath(inside).stem, "path": inside, "description": "an input of the skill"})
        else:
            seeds.append(inside)
    placed = {}
    for name, value in values.items():
        parameter = find_parameter(skill, name)
        placed[name] = (
            _own_copy(parameter.default, name, place_file(skill, name, value, folder), folder)
            if (parameter.kind == "input")
            else value
        )
        if parameter.kind == "input" and placed[name] != parameter.default:
            inside = str(placed[name])
            stored.append({"name": name, "path": inside, "description": f"given for {parameter.default}"})
    if others:
        stored += store_inputs(dict(others), folder / "input")
    return stored, placed, seeds


def _is_default(value: Any, default: Any) -> bool:
    return isinstance(value, str) and value == default


def _own_copy(default: Any, name: str, value: Any, folder: Path) -> Any:
    """Copy a file that was given into the run, so that the run is whole in its folder."""
    from cmbagent_nb.execution.attempt_folder import LINK_ABOVE, place

    path = Path(str(value))
    if value == default or not path.is_absolute() or path.is_relative_to(folder) or "/" not in str(default):
        return value
    if path.stat().st_size > LINK_ABOVE:
        return value  # read from its place: a copy would cost more than it is worth
    inside = f"input/{name}{path.suffix}"
    place(path, folder / inside)
    return inside


def step_source_of(
    host: WorkspaceHandle, registry: Registry, run_id: str, kept: Mapping[str, Any], model: ModelSpec
) -> SkillRun:
    """Rebuild the step source of a run, to resume it."""
    from cmbagent_nb.skills.library import find
    from cmbagent_nb.skills.notebook import read_notebook

    wish = Wish(**{name: value for name, value in kept.items() if name in Wish.__dataclass_fields__})
    skill = find(host.db, host.writer, host.home, wish.skill_id)
    notebook = read_notebook(check_notebook(skill))
    template = plan_of(skill, notebook, apart=are_apart(notebook), agents=registry.plannable())
    return SkillRun(skill, wish, notebook, template, model, run_id)
