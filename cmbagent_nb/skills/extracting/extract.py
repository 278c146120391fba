"""Extraction: from the record of a run to a verified skill in the library. No model is needed.

The code of the successful attempts becomes a notebook (:mod:`~cmbagent_nb.skills.extracting.making` says how it is
made right), and what the record knows besides goes into the skill's row: schemas, conditions, the graph, agents,
tags, provenance. A notebook that cannot be verified at all is kept as a draft with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb._version import __version__
from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.skills.extracting import template
from cmbagent_nb.skills.extracting.assets import Needs, copy_assets, find_needs
from cmbagent_nb.skills.extracting.improve import Words
from cmbagent_nb.skills.extracting.making import Draft, Maker, Reference, Way
from cmbagent_nb.skills.extracting.record import RunRecord, check_code, choose, read_record
from cmbagent_nb.skills.model import StepCode
from cmbagent_nb.skills.verifying import expected, liveness, shown
from cmbagent_nb.skills.verifying.verify import Original, Report

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.running.engine import OnProgress
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


def extract(
    db: Database,
    writer: Writer,
    home: Path,
    run_id: str,
    *,
    name: str | None = None,
    version_of: str | None = None,
    steps: str | int | Iterable[int | str] | None = None,
    tags: Iterable[str] = (),
    description: str = "",
    public: bool = False,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    liveness_s: float = liveness.BUDGET_S,
    improve: bool = False,
    model: str | None = None,
) -> SkillRecord:
    """Make a skill of a run's finished steps, verify it, and put it into the library.

    Parameters
    ----------
    version_of
        The skill of which this is the next version; else a name that something else has is refused.
    steps
        ``"1"``, ``"4-7"``, ``"1,3"`` or a list; all steps with code by default, but for those that only looked.
    tags
        Words by which the skill is found; those that its code tells are added.
    public
        Whether whoever shares the library sees it.
    on_progress
        Called as ``on_progress(done, total, label)`` in this thread.
    timeout_s
        Seconds that the verification may take; the setting ``step_timeout`` for each step by default.
    liveness_s
        Seconds in which each parameter is shown to have an effect; 0 leaves that out.
    improve
        Ask a model (``model``, else the setting) for better names and prose; what breaks anything is thrown away.

    Raises
    ------
    SkillError
        The run has no such step, or no code that succeeded; the name cannot be used.
    ModelError
        A model is asked for and there is none.
    """
    from cmbagent_nb.skills import library, naming

    started = time.time()
    claim = naming.claim(db, name, version_of=version_of, same_origin=naming.of_run(db, run_id))
    name = claim.name
    if on_progress is not None:
        on_progress(0, 1, "reading the record")
    from cmbagent_nb.settings import load_settings
    from cmbagent_nb.skills.extracting import improve as words

    settings = load_settings(home)
    spec = words.find_model(model, settings) if improve or model else None
    writer.barrier().result()
    record = read_record(db, run_id)
    chosen, without = choose(record, steps)
    check_code(chosen)
    source = Source(name, description, record, template.ordered(chosen), without, whole=steps is None)
    if timeout_s is None:
        timeout_s = settings.step_timeout * len(chosen) or None
    with library.staging(home, name) as folder:
        assets = folder / library.ASSETS
        assets.mkdir()
        copy_assets(source.range(pruned=False).needs.assets, assets)
        maker = Maker(
            source.reference(), assets, folder.parent, timeout_s=timeout_s, on_progress=on_progress, budget_s=liveness_s
        )
        draft, report = maker.make(source.build)
        if spec is not None:
            try:
                said = words.ask_model(db, writer, settings, spec, source, draft, assets)
                source, draft, report = words.improved(source, draft, report, maker, said)
            except CMBAgentError as error:
                words.say_why_not(report, error)
        _check_task(source, report)
        row = _finish(folder, source, draft, report, tags)
        row["visibility"] = "public" if public else "private"
        skill = library.add(db, writer, Path(home), folder, row, claim=claim)
    _note(db, writer, skill, run_id, chosen, started)
    return skill


def _check_task(source: Source, report: Report) -> None:
    """Let a run whose task names a file that is not there be no source of a verified skill."""
    from cmbagent_nb.skills.verifying.named import absent

    steps = source.record.steps
    there = [path for step in steps for path in (*step.reads, *step.made)]
    missing = absent(source.task, there, source.record.work_dir)
    if missing and report.verified:
        report.verified = False
        report.reason = f"the run's task names {', '.join(missing)}, which the run neither had nor made"


@dataclass(frozen=True)
class _Range:
    """The steps that the notebook has, what they need, and what was left out."""

    steps: list[StepCode]
    without: dict[str, str]
    needs: Needs


@dataclass(frozen=True)
class Source:
    """The steps of a run that a skill is made of, and how its notebook is built from them."""

    name: str
    description: str
    record: RunRecord
    chosen: list[StepCode]
    without: dict[str, str]
    #: Whether no steps were asked for, so that those that only looked at something may be left out.
    whole: bool
    #: What a model said, if one was asked.
    words: Words = field(default_factory=Words)

    @property
    def task(self) -> str:
        """The run's task."""
        return self.record.run["task_description"] or ""

    @property
    def does_task(self) -> bool:
        """Whether it has all of the run's steps, asked for or not: then the run's task is its own."""
        return self.whole or {step.node_id for step in self.record.steps} <= {step.node_id for step in self.chosen}

    @cached_property
    def _ranges(self) -> dict[bool, _Range]:
        from cmbagent_nb.skills.extracting.dead_code import prune_steps

        all_ = _Range(self.chosen, self.without, find_needs(self.record, self.chosen))
        if not self.whole:
            return {False: all_, True: all_}
        kept, out = prune_steps(self.chosen)
        less = _Range(kept, {**self.without, **out}, find_needs(self.record, kept)) if out else all_
        return {False: all_, True: less}

    def range(self, *, pruned: bool) -> _Range:
        """Return the steps: all that were chosen, or without those that made nothing."""
        return self._ranges[pruned]

    def reference(self) -> Reference:
        """Return what the steps made, which the notebook has to make again."""
        originals: dict[str, Path] = {}
        for step in self.chosen:
            for path in step.made:
                own = Path(step.folder) / path
                originals[path] = own if own.is_file() else self.record.work_dir / path
        return Reference(
            [Original(path, place) for path, place in sorted(originals.items())],
            shown.printed_by((step.node_id, step.code, step.printed) for step in self.chosen),
            (str(self.record.work_dir), *(step.folder for step in self.chosen)),
        )

    def build(self, way: Way, without: frozenset[str] = frozenset()) -> Draft:
        """Build the notebook in one way."""
        from cmbagent_nb.skills.extracting.cell_imports import Script
        from cmbagent_nb.skills.extracting.cells import make_cells
        from cmbagent_nb.skills.extracting.dead_code import prune
        from cmbagent_nb.skills.extracting.parameters import StepSource, find_parameters
        from cmbagent_nb.skills.notebook import Content, build

        own = self.range(pruned=way.pruned)
        needs = own.needs
        left_out: dict[str, list[str]] = {}
        sources = []
        for step in own.steps:
            code = step.code
            if way.pruned:
                code, gone = prune(code)
                left_out.update({step.node_id: gone} if gone else {})
            inputs = needs.inputs[step.node_id]
            sources.append(StepSource(step.node_id, code, inputs, frozenset(step.made), self._columns))
        found = find_parameters(sources, self.task, kinds=way.kinds, without=without, renamed=self.words.names)
        parameters = [self.words.said_of(item) for item in found.parameters]
        scripts = [
            Script(step.node_id, step.script, code, needs.modules[step.node_id])
            for step, code in zip(own.steps, found.codes, strict=True)
        ]
        cells = make_cells(scripts)
        before = template.needed(self.record, own.steps)
        content = Content(
            name=self.name,
            task=self.task,
            description=self.description,
            parameters=parameters,
            imports=cells.imports,
            steps=[(self._told(step), code) for step, code in zip(own.steps, cells.steps, strict=True)],
            assets=sorted(needs.assets),
            modules=sorted({module for names in needs.modules.values() for module in names}),
            fresh_kernels=way.fresh and len(own.steps) > 1,
            provenance=_provenance(self.record, own, left_out),
            parallel=template.side_by_side(own.steps, before),
            needs=before,
        )
        return Draft(build(content), parameters, found.codes, way, without)

    def _told(self, step: StepCode) -> StepCode:
        """Return a step with the title and the prose that a model gave it."""
        title, prose = self.words.titles.get(step.node_id), self.words.prose.get(step.node_id)
        return replace(step, title=title or step.title, instructions=prose or step.instructions)

    @cached_property
    def _columns(self) -> frozenset[str]:
        """The names of the inputs' columns."""
        from cmbagent_nb.skills.schema import describe

        places = self.range(pruned=False).needs.assets.values()
        return frozenset(name for place in places for name in describe(place).get("columns", ()))


def _provenance(record: RunRecord, own: _Range, left_out: dict[str, list[str]]) -> dict[str, Any]:
    """Return where the notebook comes from, for its metadata."""
    from cmbagent_nb.skills.notebook import FORMAT, code_hash, package_versions

    run = record.run
    return {
        "format": FORMAT,
        "made_by": f"cmbagent_nb {__version__}",
        "run": {key: run.get(key) for key in ("id", "name", "mode", "model", "model_source", "branch_parent_id")},
        "task": run["task_description"] or "",
        "steps": [
            {
                "node_id": step.node_id,
                "title": step.title,
                "agent": step.agent,
                "attempt": step.attempt,
                "depends_on": list(step.depends_on),
                "code_exec_event": step.event_id,
                "code_hash": code_hash(step.code),
                "made": sorted(step.made),
                "duration_s": step.duration_s,
            }
            for step in own.steps
        ],
        "left_out": own.without,
        "dead_code": left_out,
        "agents": sorted({step.agent for step in own.steps if step.agent}),
        "models": record.models,
        "cost_usd": record.cost_usd,
        "assets": sorted(own.needs.assets),
        "reads_outside": own.needs.outside,
        "versions": package_versions([step.code for step in own.steps]),
    }


def _finish(folder: Path, source: Source, draft: Draft, report: Report, tags: Iterable[str]) -> dict[str, Any]:
    """Write the folder's files and return the skill's row, with the rows of its artifacts."""
    from cmbagent_nb.skills import library
    from cmbagent_nb.skills.artifacts import artifact_rows
    from cmbagent_nb.skills.extracting.skill_row import verified_columns

    reference = source.reference()
    large = expected.keep(folder, reference.originals, reference.shown, reference.folders)
    report.notes += [f"{path} is compared with the run's own file only: it is too large to be kept" for path in large]
    assets = folder / library.ASSETS
    provenance = draft.notebook.metadata["cmbagent_nb"]
    for name in source.range(pruned=False).needs.assets.keys() - set(provenance["assets"]):
        (assets / name).unlink()  # of a step that was left out
    known = {item["node_id"] for item in provenance["steps"]}
    steps = [step for step in source.chosen if step.node_id in known]
    places = {item.path: item.place for item in reference.originals}
    modules = sorted(path for path in provenance["assets"] if path.endswith(".py"))
    outside, versions = provenance["reads_outside"], provenance["versions"]
    columns = verified_columns(folder, draft, report, places, outside, versions, modules)
    schemas = {**columns["input_schema"], **columns["output_schema"]}
    # a part of a run does its steps' task, not the run's
    task = (
        source.task
        if source.does_task
        else "\n".join(filter(None, (step.instructions for step in steps))) or source.task
    )
    return {
        **columns,
        "name": source.name,
        "session_id": source.record.run["session_id"],
        "description": source.description or task,
        "tags": sorted({*tags, *source.words.tags, *template.tags(draft.codes, places)}),
        "task_pattern": task,
        "source_run_id": source.record.run["id"],
        "source_step_range": [step.node_id for step in steps],
        "dag_template": template.dag_template(source.record, steps, provenance["left_out"]),
        "agent_sequence": [step.agent for step in steps],
        "artifacts": artifact_rows(steps, draft.codes, draft.parameters, schemas, assets),
    }


def _note(
    db: Database, writer: Writer, skill: SkillRecord, run_id: str, chosen: list[StepCode], started: float
) -> None:
    from cmbagent_nb.skills.events import note

    note(
        db,
        writer,
        run_id,
        "complete",
        inputs={"action": "extract", "steps": [step.node_id for step in chosen]},
        outputs={"skill_id": skill.id, "name": skill.name, "version": skill.version, "status": skill.status},
        node_id=chosen[-1].node_id,
        started_at=started,
    )
