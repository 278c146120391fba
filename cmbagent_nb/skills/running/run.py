"""Running a skill: values checked first, then the notebook in a kernel of its own, then what it made.

| invariant | how |
|---|---|
| wrong use starts nothing | :mod:`cmbagent_nb.skills.running.check` has looked at everything before a folder is made |
| an execution harms no other | each has a new folder ``<home>/skills/<name>/runs/<execution>`` |
| every execution is in the record | its row is inserted before the kernel starts and closed whatever happens |
| finished steps are not run again | :mod:`.finished_steps` notes each step that was a script of a run |
| what is unusual is told | :mod:`cmbagent_nb.skills.running.deviation` compares it with what has been seen |
| no model is called | there is none here |
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.ids import new_id
from cmbagent_nb.settings import load_settings
from cmbagent_nb.skills import rows
from cmbagent_nb.skills.conditions import check_conditions, check_values
from cmbagent_nb.skills.library import NOTEBOOK, SkillRecord
from cmbagent_nb.skills.running import deviation, seen
from cmbagent_nb.skills.running.check import check_parameters, find_parameter, own_files
from cmbagent_nb.skills.running.engine import Executed, OnProgress, execute
from cmbagent_nb.skills.running.execution import SkillExecution
from cmbagent_nb.skills.running.finished_steps import FinishedSteps, listing
from cmbagent_nb.skills.running.ledger import Belongs, Ended, Ledger, numbers_in
from cmbagent_nb.skills.sharing.trust import require_trust
from cmbagent_nb.skills.source_hash import check_notebook
from cmbagent_nb.skills.verifying.verify import fill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

#: Set by a front end: given a skill's name, it shows a progress bar and returns what moves it.
progress_display: Callable[[str], OnProgress] | None = None


def run_skill(
    skill: SkillRecord,
    given: Mapping[str, Any],
    *,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    run_id: str | None = None,
    session_id: str | None = None,
    mode: str = "direct",
    sweep_id: str | None = None,
    execution_id: str | None = None,
) -> SkillExecution:
    """Run a skill and return what it came to; see :meth:`Skill.execute`."""
    require_trust(skill)
    execution_id = execution_id or new_id()
    text, values, notes = check_start(skill, given)
    timeout_s = _limit(skill, timeout_s)
    folder = skill.home / "skills" / skill.name / "runs" / execution_id
    try:
        fill(folder, skill.assets)
        values = {name: place_file(skill, name, value, folder) for name, value in values.items()}
    except (OSError, TypeError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SkillError(
            f"the folder for running skill {skill.name} cannot be made ({error})",
            "Check the disk's space and permissions.",
            path=str(folder),
        ) from error
    steps = FinishedSteps.begin(folder)
    rows.interrupt_executions(skill.db, skill.writer)
    belongs = Belongs(run_id, session_id, mode, sweep_id)
    ledger = Ledger(skill, execution_id, folder, values, belongs, timeout_s=timeout_s, notes=notes)
    ledger.open()
    return _execute(skill, ledger, steps, text, notes, on_progress, timeout_s, stop, anew=True)


def resume_execution(
    skill: SkillRecord,
    execution_id: str,
    given: Mapping[str, Any] | None = None,
    *,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
) -> SkillExecution:
    """Resume an execution after its last finished step, or from its beginning; see :meth:`Skill.resume`."""
    from cmbagent_nb.store.lookup import parsed

    require_trust(skill)
    if given:
        raise SkillError(
            "an execution that is gone on with keeps its parameters",
            f"Begin a new one for other values: %cmbagent skill run {skill.name}.",
        )
    skill.writer.barrier().result()
    rows.interrupt_executions(skill.db, skill.writer)
    found = skill.db.rows(
        "SELECT * FROM skill_executions WHERE id = :id AND skill_id = :skill", id=execution_id, skill=skill.id
    )
    if not found:
        raise SkillError(
            f"there is no execution {execution_id!r} of skill {skill.name} v{skill.version}",
            "Take the id from the execution that was interrupted, and the version of the skill that it ran.",
            execution_id=execution_id,
        )
    row = parsed(found[0])
    folder = Path(row["work_dir"] or "")
    if row["run_id"] is not None:
        raise SkillError("this execution is part of a run", "Go on with the run: run.resume().", run_id=row["run_id"])
    if not folder.is_dir():
        raise SkillError(f"the folder {folder} of the execution is not there", "Run the skill again.", path=str(folder))
    text, notes = check_notebook(skill), check_conditions(skill)
    timeout_s = _limit(skill, timeout_s)
    belongs = Belongs(None, row["session_id"], row["mode"] or "direct", row["sweep_id"])
    values = dict(row["parameters"] or {})
    ledger = Ledger(skill, execution_id, folder, values, belongs, timeout_s=timeout_s, notes=notes)
    ledger.reopen(row)
    return _execute(skill, ledger, FinishedSteps.read(folder), text, notes, on_progress, timeout_s, stop)


def check_start(skill: SkillRecord, given: Mapping[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """Check all that can be checked before a start; returns the notebook, the values and notes."""
    require_trust(skill)
    text = check_notebook(skill)
    values = check_parameters(skill, dict(given))
    check_values(skill, values)
    return text, values, [*check_conditions(skill), *own_files(skill, values), *seen.unusual(skill, values)]


def _limit(skill: SkillRecord, timeout_s: float | None) -> float | None:
    if timeout_s is not None:
        return timeout_s
    return load_settings(skill.home).step_timeout or None


def _execute(
    skill: SkillRecord,
    ledger: Ledger,
    steps: FinishedSteps,
    text: str,
    notes: list[str],
    on_progress: OnProgress | None,
    timeout_s: float | None,
    stop: threading.Event | None,
    *,
    anew: bool = False,
) -> SkillExecution:
    from cmbagent_nb.skills.learning import reuse
    from cmbagent_nb.skills.notebook import read_notebook

    if on_progress is None and progress_display is not None:
        on_progress = progress_display(skill.name)
    folder, values = ledger.folder, ledger.values
    notebook = read_notebook(text)

    def compute() -> Executed:
        return execute(
            notebook,
            folder,
            parameters=values,
            save_to=folder / NOTEBOOK,
            timeout_s=timeout_s,
            on_progress=on_progress,
            stop=stop,
            steps=steps,
            memory_mb=load_settings(skill.home).step_memory_mb,
        )

    try:
        if anew and skill.meta.get("reuse"):
            executed, source = reuse.execute(skill, notebook, values, folder, compute)
            if source:
                notes.append(f"Equal values and files: the results are those of the execution in {source}.")
                ledger.meta |= {"reused_from": source, "notes": notes}
        else:
            executed = compute()
    except BaseException as error:
        ledger.close(Ended("cancelled" if isinstance(error, KeyboardInterrupt) else "failed", error=str(error)))
        raise
    if ledger.resumed:
        many = f"{steps.kept} finished step{'s' if steps.kept != 1 else ''}"
        notes = [*notes, f"It resumed after {many}." if steps.kept else "It started again from its first cell."]
    outputs = steps.made(listing(folder))
    found = numbers_in(folder, outputs)
    metrics = {name: number for name, (_, number) in found.items()}
    failed = failed_step(executed.notebook)
    happened = deviation.Happened(executed.status, executed.error, values, outputs, metrics, folder, failed)
    deviations = deviation.find(skill, happened)
    ended = Ended(
        executed.status,
        steps.seconds_before + executed.duration_s,
        executed.error,
        outputs,
        metrics,
        cells={**steps.seconds, **executed.cells},
        deviations=[item.as_dict() for item in deviations],
    )
    ledger.close(ended)
    if executed.status == "completed":
        steps.remove()
        if not deviations:
            seen.observe(skill, values, found, folder)
    else:
        steps.stopped(ended.duration_s)
    return SkillExecution(
        id=ledger.id,
        skill=skill.name,
        version=skill.version,
        status=executed.status,
        work_dir=folder,
        parameters=values,
        outputs=outputs,
        metrics=metrics,
        duration_s=round(ended.duration_s, 3),
        error=executed.error,
        deviations=ended.deviations,
        notes=notes,
    )


def failed_step(notebook: NotebookNode) -> str:
    """Return the step whose cell failed; empty where none did."""
    for cell in notebook.cells:
        if cell.metadata.get("papermill", {}).get("exception"):
            return str(cell.metadata.get("cmbagent_nb", {}).get("node_id") or cell.get("id", ""))
    return ""


def place_file(skill: SkillRecord, name: str, value: Any, folder: Path) -> Any:
    """Put a variable given for an input file into the folder, and make room for the outputs."""
    parameter = find_parameter(skill, name)
    if parameter.kind == "output":
        (folder / value).parent.mkdir(parents=True, exist_ok=True)
    if parameter.kind != "input" or isinstance(value, str):
        return value
    from cmbagent_nb.skills.schema import store

    target = f"input/{name}{PurePosixPath(parameter.default).suffix}"
    store(value, folder / target)
    # a default that is a bare name is joined to a folder by the code; an absolute path stands by itself
    return target if "/" in parameter.default else str(folder / target)
