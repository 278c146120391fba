"""Extraction: from the record of a run to a verified skill in the library. No model is asked.

A notebook is tried with all parameters and one kernel first. If verification shows other results,
it is tried with a fresh kernel for each step, as the run had it (libraries keep things in memory),
then without parameters: a skill with fewer of them that is right is better than one with more that
is not. One that cannot be verified at all is kept as a draft with the reason.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills import library
from cmbagent_nb.skills.assets import Needs, copy_assets, find_needs
from cmbagent_nb.skills.model import Parameter, StepCode
from cmbagent_nb.skills.record import RunRecord, choose, read_record
from cmbagent_nb.skills.verify import Original, Report, verify

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.engine import OnProgress
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

_ALL = ("value", "input", "output")
#: What is tried, first to last: which kinds of parameters, and whether each step has a fresh kernel.
_TRIES: tuple[tuple[tuple[str, ...], bool], ...] = ((_ALL, False), (_ALL, True), ((), True))
#: Seconds of verification after which nothing more is tried.
_PATIENCE_S = 300.0


@dataclass
class _Draft:
    notebook: NotebookNode
    parameters: list[Parameter]
    codes: list[str]


def extract(
    db: Database,
    writer: Writer,
    home: Path,
    run_id: str,
    *,
    name: str,
    steps: str | int | Iterable[int | str] | None = None,
    tags: Iterable[str] = (),
    description: str = "",
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
) -> Skill:
    """Make a skill of a run's finished steps, verify it, and put it into the library.

    Parameters
    ----------
    steps
        ``"1"``, ``"1-2"``, ``"1,3"`` or a list; all steps with code by default.
    on_progress
        Called as ``on_progress(done, total, label)`` in this thread.
    timeout_s
        Seconds that the verification may take; the setting ``step_timeout`` for each step by default.

    Raises
    ------
    SkillError
        The run has no such step, or no code that succeeded; the name cannot be used.
    """
    started = time.time()
    library.check_name(name)
    if on_progress is not None:
        on_progress(0, 1, "reading the record")
    writer.barrier().result()
    record = read_record(db, run_id)
    chosen, without = choose(record, steps)
    needs = find_needs(record, chosen)
    if timeout_s is None:
        from cmbagent_nb.settings import load_settings

        timeout_s = load_settings(home).step_timeout * len(chosen) or None
    making = Path(home) / "skills" / ".making"
    making.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=making))
    try:
        assets = folder / library.ASSETS
        assets.mkdir()
        copy_assets(needs.assets, assets)
        draft, report = _make(name, description, record, chosen, without, needs, folder, on_progress, timeout_s)
        row = _finish(folder, name, description, tags, record, chosen, draft, report)
        skill = library.add(db, writer, Path(home), folder, row)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _note(db, writer, skill, run_id, chosen, started)
    return skill


def _make(
    name: str,
    description: str,
    record: RunRecord,
    chosen: list[StepCode],
    without: dict[str, str],
    needs: Needs,
    folder: Path,
    on_progress: OnProgress | None,
    timeout_s: float | None,
) -> tuple[_Draft, Report]:
    """Build and verify the notebook, with fewer parameters where they do harm."""
    first: tuple[_Draft, Report] | None = None
    spent = 0.0
    for kinds, fresh in _TRIES:
        draft = _draft(name, description, record, chosen, without, needs, kinds, fresh and len(chosen) > 1)
        if first is not None and (spent > _PATIENCE_S or draft.notebook.cells == first[0].notebook.cells):
            continue
        report = _verify(draft, record, chosen, folder, on_progress, timeout_s)
        spent += report.duration_s
        if report.verified:
            if first is not None:
                how = "parameters" if not kinds else "one kernel for all steps"
                report.notes.append(f"with {how} it was not reproduced: {first[1].reason}")
            return draft, report
        first = first or (draft, report)
    assert first is not None
    return first


def _draft(
    name: str,
    description: str,
    record: RunRecord,
    chosen: list[StepCode],
    without: dict[str, str],
    needs: Needs,
    kinds: tuple[str, ...],
    fresh: bool,
) -> _Draft:
    from cmbagent_nb.skills.cells import Script, make_cells
    from cmbagent_nb.skills.notebook import Content, build
    from cmbagent_nb.skills.parameters import StepSource, find_parameters

    sources = [StepSource(step.node_id, step.code, needs.inputs[step.node_id], frozenset(step.made)) for step in chosen]
    task = record.run["task_description"] or ""
    found = find_parameters(sources, task, kinds=kinds)
    scripts = [
        Script(step.node_id, step.script, code, needs.modules[step.node_id])
        for step, code in zip(chosen, found.codes, strict=True)
    ]
    cells = make_cells(scripts)
    modules = sorted({module for names in needs.modules.values() for module in names})
    content = Content(
        name=name,
        task=task,
        description=description,
        parameters=found.parameters,
        imports=cells.imports,
        steps=list(zip(chosen, cells.steps, strict=True)),
        assets=sorted(needs.assets),
        modules=modules,
        fresh_kernels=fresh,
        provenance=_provenance(record, chosen, without, needs),
    )
    return _Draft(build(content), found.parameters, found.codes)


def _provenance(record: RunRecord, chosen: list[StepCode], without: dict[str, str], needs: Needs) -> dict[str, Any]:
    """Return where the notebook comes from, for its metadata."""
    from cmbagent_nb import __version__
    from cmbagent_nb.skills.notebook import notebook_hash, package_versions

    run = record.run
    return {
        "format": 1,
        "made_by": f"cmbagent_nb {__version__}",
        "run": {key: run.get(key) for key in ("id", "name", "mode", "model", "model_source")},
        "task": run["task_description"] or "",
        "steps": [
            {
                "node_id": step.node_id,
                "title": step.title,
                "agent": step.agent,
                "attempt": step.attempt,
                "depends_on": list(step.depends_on),
                "code_exec_event": step.event_id,
                "code_hash": notebook_hash(step.code),
                "made": sorted(step.made),
                "duration_s": step.duration_s,
            }
            for step in chosen
        ],
        "left_out": without,
        "agents": sorted({step.agent for step in chosen if step.agent}),
        "models": record.models,
        "cost_usd": record.cost_usd,
        "assets": sorted(needs.assets),
        "reads_outside": needs.outside,
        "versions": package_versions([step.code for step in chosen]),
    }


def _verify(
    draft: _Draft,
    record: RunRecord,
    chosen: list[StepCode],
    folder: Path,
    on_progress: OnProgress | None,
    timeout_s: float | None,
) -> Report:
    originals: dict[str, Path] = {}
    for step in chosen:
        for path in step.made:
            own = Path(step.folder) / path
            originals[path] = own if own.is_file() else record.work_dir / path
    work = Path(tempfile.mkdtemp(prefix="verify-", dir=folder.parent))
    label = "verifying: "

    def report(done: int, total: int, what: str) -> None:
        if on_progress is not None:
            on_progress(done + 1, total + 1, label + what)

    try:
        return verify(
            draft.notebook,
            folder / library.ASSETS,
            work,
            [Original(path, place) for path, place in sorted(originals.items())],
            printed="".join(step.printed for step in chosen),
            folders=[str(record.work_dir), *(step.folder for step in chosen)],
            timeout_s=timeout_s,
            on_progress=report,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _finish(
    folder: Path,
    name: str,
    description: str,
    tags: Iterable[str],
    record: RunRecord,
    chosen: list[StepCode],
    draft: _Draft,
    report: Report,
) -> dict[str, Any]:
    """Write the folder's files and return the skill's row."""
    from cmbagent_nb.skills.notebook import notebook_hash, notebook_text
    from cmbagent_nb.skills.schema import describe

    text = notebook_text(draft.notebook)
    (folder / library.NOTEBOOK).write_text(text, encoding="utf-8")
    library.write_verification(folder, report.as_dict())
    assets = folder / library.ASSETS
    provenance = draft.notebook.metadata["cmbagent_nb"]
    edges = [[before, step.node_id] for step in chosen for before in step.depends_on]
    return {
        "name": name,
        "session_id": record.run["session_id"],
        "description": description or record.run["task_description"] or "",
        "tags": sorted(set(tags)),
        "task_pattern": record.run["task_description"] or "",
        "input_schema": {
            path.relative_to(assets).as_posix(): describe(path) for path in sorted(assets.rglob("*")) if path.is_file()
        },
        "output_schema": {path: describe(Path(step.folder) / path) for step in chosen for path in sorted(step.made)},
        "preconditions": {"packages": dict(provenance["versions"]), "files": provenance["reads_outside"]},
        "postconditions": {"files": sorted({path for step in chosen for path in step.made})},
        "source_run_id": record.run["id"],
        "source_step_range": [step.node_id for step in chosen],
        "dag_template": {"nodes": [{"id": step.node_id, "title": step.title} for step in chosen], "edges": edges},
        "agent_sequence": [step.agent for step in chosen],
        "notebook_hash": notebook_hash(text),
        "parameters": [item.as_dict() for item in draft.parameters],
        "status": "active" if report.verified else "draft",
        "trusted": True,
        "visibility": "private",
        "verification": report.as_dict(),
    }


def _note(db: Database, writer: Writer, skill: Skill, run_id: str, chosen: list[StepCode], started: float) -> None:
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
