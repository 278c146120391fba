"""Running a skill: values checked first, then the notebook in a kernel of its own, then what it made.

| invariant | how |
|---|---|
| wrong use starts nothing | names, types, files and columns are checked before a folder is made |
| an execution harms no other | each has a new folder ``<home>/skills/<name>/runs/<execution>`` |
| every execution is in the record | its row is inserted before the kernel starts and closed whatever happens |
| no model is called | there is none here |
"""

from __future__ import annotations

import difflib
import html
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills import rows
from cmbagent_nb.skills.engine import Executed, OnProgress, execute
from cmbagent_nb.skills.learning import preconditions, trials
from cmbagent_nb.skills.library import NOTEBOOK, Skill, check_notebook
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.verify import fill

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Set by a front end: given a skill's name, it shows a progress bar and returns what moves it.
progress_display: Callable[[str], OnProgress] | None = None

_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
_LARGEST_PICTURE = 2 * 2**20
_MOST_METRICS = 200
_IGNORED = frozenset({"__pycache__", ".ipynb_checkpoints"})


@dataclass(frozen=True)
class SkillExecution:
    """What an execution of a skill came to: its status, files, numbers and executed notebook."""

    id: str
    skill: str
    version: int
    status: str
    work_dir: Path
    parameters: dict[str, Any]
    outputs: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    error: str = ""
    adapted: bool = False

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.work_dir / NOTEBOOK

    @property
    def success(self) -> bool:
        """Whether all cells ran."""
        return self.status == "completed"

    def path(self, output: str) -> Path:
        """Return the place of one of :attr:`outputs`."""
        return self.work_dir / output

    def as_dict(self) -> dict[str, Any]:
        """Return the execution as JSON shows it."""
        return {
            "execution_id": self.id,
            "skill": self.skill,
            "version": self.version,
            "status": self.status,
            "parameters": self.parameters,
            "work_dir": str(self.work_dir),
            "notebook": str(self.notebook),
            "outputs": self.outputs,
            "metrics": self.metrics,
            "duration_s": self.duration_s,
            "adapted": self.adapted,
            "error": self.error or None,
        }

    def __str__(self) -> str:
        made = f"{len(self.outputs)} file{'s' if len(self.outputs) != 1 else ''}"
        said = f"{self.status} in {self.duration_s:.1f} s, {made}, no model call"
        return f"{self.skill} v{self.version}: {said}" + (f"; {self.error}" if self.error else "")

    def _repr_html_(self) -> str:
        colour = "var(--jp-success-color1, #2e7d32)" if self.success else "var(--jp-error-color1, #b3261e)"
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        parts = [
            f'<div class="cmbagent-skill-run"><b>{html.escape(self.skill)}</b> v{self.version} '
            f'<span style="color:{colour}">{"✔" if self.success else "✘"} {html.escape(self.status)}</span> '
            f"in {self.duration_s:.1f} s, no model call" + (f" · {html.escape(given)}" if given else "")
        ]
        if self.error:
            parts.append(f'<pre style="color:{colour};white-space:pre-wrap">{html.escape(self.error)}</pre>')
        if self.metrics:
            lines = "".join(
                f"<tr><td>{html.escape(name)}</td><td>{value:.6g}</td></tr>"
                for name, value in list(self.metrics.items())[:30]
            )
            parts.append(f"<table><tbody>{lines}</tbody></table>")
        for name in self.outputs:
            parts.append(self._picture(name))
        files = ", ".join(f"<code>{html.escape(name)}</code>" for name in self.outputs)
        parts.append(f"<div>{files or 'no files'} in <code>{html.escape(str(self.work_dir))}</code></div></div>")
        return "".join(parts)

    def _picture(self, name: str) -> str:
        kind = _PICTURES.get(PurePosixPath(name).suffix.lower())
        place = self.path(name)
        if kind is None or not place.is_file() or place.stat().st_size > _LARGEST_PICTURE:
            return ""
        from cmbagent_nb.render.pictures import data_uri

        source = data_uri(place.read_bytes(), f"image/{kind}")
        return f'<img alt="{html.escape(name, quote=True)}" style="max-width:100%" src="{source}">'


def check_parameters(skill: Skill, given: dict[str, Any]) -> dict[str, Any]:
    """Return the values by the parameters' own names, converted; refuse what does not fit.

    A name may be written in any case, and an input file's without its ``_file``.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        parameter = _parameter(skill, name)
        if parameter.name in values:
            raise SkillError(f"parameter {parameter.name} is given twice", "Give it once.", parameter=parameter.name)
        if parameter.kind == "input":
            values[parameter.name] = _check_input(skill, parameter, value)
        elif parameter.kind == "output":
            values[parameter.name] = _check_output(skill, parameter, value)
        else:
            values[parameter.name] = parameter.check(value, skill.name)
    return values


def _parameter(skill: Skill, name: str) -> Parameter:
    lower = name.casefold()
    tests: list[Callable[[str], bool]] = [
        lambda known: known == name,
        lambda known: known.casefold() == lower,
        lambda known: known.casefold() == f"{lower}_file",
    ]
    for test in tests:
        found = [item for item in skill.parameters if test(item.name)]
        if len(found) == 1:
            return found[0]
    names = [item.name for item in skill.parameters]
    folded = {item.casefold(): item for item in names}
    close = difflib.get_close_matches(lower, folded, n=1)
    hint = f"Did you mean {folded[close[0]]}? " if close else ""
    known = f"It has: {', '.join(item.text() for item in skill.parameters)}." if names else "It has none."
    raise SkillError(f"skill {skill.name} has no parameter {name!r}", hint + known, parameter=name)


def _check_input(skill: Skill, parameter: Parameter, value: Any) -> Any:
    """Return a path to a file that is there, or a variable that can be stored as one."""
    if not isinstance(value, (str, os.PathLike)):
        suffix = PurePosixPath(parameter.default).suffix.lower()
        fits = {
            ".parquet": "columns", ".feather": "columns", ".csv": "columns", ".tsv": "columns", ".npy": "dtype",
        }.get(suffix)  # fmt: skip
        if not (fits and hasattr(value, fits)) and not (suffix == ".json" and isinstance(value, (dict, list))):
            raise SkillError(
                f"parameter {parameter.name} of skill {skill.name} is a {suffix or 'plain'} file, "
                f"which a {type(value).__name__} cannot be written as",
                "Give the path of a file.",
                parameter=parameter.name,
            )
        found = {"kind": "table", "columns": {str(name): "" for name in value.columns}} if fits == "columns" else {}
        _check_columns(skill, parameter, found, "the variable")
        return value
    text = os.fspath(value)
    if text == parameter.default:
        return text
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise SkillError(
            f"the file {text} for parameter {parameter.name} is not there",
            "Check the path; it is taken from the current folder.",
            parameter=parameter.name,
            path=text,
        )
    from cmbagent_nb.skills.schema import describe

    _check_columns(skill, parameter, describe(path), f"the file {text}")
    return str(path)


def _check_columns(skill: Skill, parameter: Parameter, found: dict[str, Any], what: str) -> None:
    from cmbagent_nb.skills.schema import missing_columns

    expected: dict[str, Any] = skill.input_schema.get(parameter.default) or next(
        (item for path, item in skill.input_schema.items() if PurePosixPath(path).name == parameter.default), {}
    )
    missing = missing_columns(expected, found, _code(skill)) if expected else []
    if missing:
        raise SkillError(
            f"{what} for parameter {parameter.name} has no column {', '.join(missing)}",
            f"Skill {skill.name} was made with the columns {', '.join(expected['columns'])}.",
            parameter=parameter.name,
            columns=missing,
        )


def _code(skill: Skill) -> str:
    cells = json.loads(check_notebook(skill))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _check_output(skill: Skill, parameter: Parameter, value: Any) -> str:
    text = str(parameter.check(os.fspath(value) if isinstance(value, os.PathLike) else value, skill.name))
    pure = PurePosixPath(text)
    if not text.strip() or pure.is_absolute() or ".." in pure.parts or text == NOTEBOOK:
        raise SkillError(
            f"{text!r} for parameter {parameter.name} is not a file name within the execution's folder",
            f"Give one such as {parameter.default}.",
            parameter=parameter.name,
        )
    return text


def run_skill(
    skill: Skill,
    given: dict[str, Any],
    *,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    run_id: str | None = None,
) -> SkillExecution:
    """Run a skill and return what it came to; see :meth:`Skill.execute`."""
    from cmbagent_nb.skills.notebook import read_notebook

    if not skill.trusted:
        raise SkillError(
            f"skill {skill.name} v{skill.version} came from elsewhere and is not trusted",
            f"Read its notebook ({skill.notebook}), then trust it with %cmbagent skill trust {skill.name}.",
            skill=skill.name,
        )
    execution_id = new_id()
    skill = trials.choose(skill, execution_id, given)
    text = check_notebook(skill)
    values = check_parameters(skill, given)
    preconditions.check(skill, values)
    if timeout_s is None:
        from cmbagent_nb.settings import load_settings

        timeout_s = load_settings(skill.home).step_timeout or None
    if on_progress is None and progress_display is not None:
        on_progress = progress_display(skill.name)
    folder = skill.home / "skills" / skill.name / "runs" / execution_id
    try:
        fill(folder, skill.assets)
        values = {name: _as_file(skill, name, value, folder) for name, value in values.items()}
    except (OSError, TypeError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SkillError(
            f"the folder for running skill {skill.name} cannot be made ({error})",
            "Check the disk's space and permissions.",
            path=str(folder),
        ) from error
    before = _listing(folder)
    rows.interrupt_executions(skill.db, skill.writer)
    ledger = _Ledger(skill, execution_id, folder, values, run_id, timeout_s)
    ledger.open()
    try:
        executed = execute(
            read_notebook(text),
            folder,
            parameters=values,
            save_to=folder / NOTEBOOK,
            timeout_s=timeout_s,
            on_progress=on_progress,
            stop=stop,
        )
    except BaseException as error:
        ledger.close("cancelled" if isinstance(error, KeyboardInterrupt) else "failed", 0.0, str(error), [], {})
        raise
    outputs = [name for name, state in _listing(folder).items() if before.get(name) != state and name != NOTEBOOK]
    metrics = find_metrics(folder, outputs)
    ledger.close(executed.status, executed.duration_s, executed.error, outputs, metrics, executed)
    return SkillExecution(
        id=execution_id,
        skill=skill.name,
        version=skill.version,
        status=executed.status,
        work_dir=folder,
        parameters=values,
        outputs=outputs,
        metrics=metrics,
        duration_s=round(executed.duration_s, 3),
        error=executed.error,
    )


def _as_file(skill: Skill, name: str, value: Any, folder: Path) -> Any:
    """Put a variable given for an input file into the folder, and make room for the outputs."""
    parameter = _parameter(skill, name)
    if parameter.kind == "output":
        (folder / value).parent.mkdir(parents=True, exist_ok=True)
    if parameter.kind != "input" or isinstance(value, str):
        return value
    from cmbagent_nb.skills.schema import store

    target = f"input/{name}{PurePosixPath(parameter.default).suffix}"
    store(value, folder / target)
    # a default that is a bare name is joined to a folder by the code; an absolute path stands by itself
    return target if "/" in parameter.default else str(folder / target)


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or _IGNORED & set(inside.parts) or inside.name.startswith("."):
            continue
        state = path.stat()
        found[inside.as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def find_metrics(folder: Path, outputs: list[str]) -> dict[str, float]:
    """Return the single numbers in the JSON files that were made, by name; by file and name where two share one."""
    found: list[tuple[str, str, float]] = []
    for name in outputs:
        path = folder / name
        if path.suffix.lower() != ".json" or path.stat().st_size > 2**20:
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            continue  # a file of the user's that is not JSON in spite of its name
        found += [(PurePosixPath(name).stem, key, number) for key, number in _numbers(value, "", 0)]
    keys = [key for _, key, _ in found]
    named = {(key if keys.count(key) == 1 else f"{stem}.{key}"): number for stem, key, number in found}
    return dict(list(named.items())[:_MOST_METRICS])


def _numbers(value: Any, prefix: str, depth: int) -> list[tuple[str, float]]:
    if isinstance(value, bool) or depth > 4:
        return []
    if isinstance(value, (int, float)):
        return [(prefix or "value", value)] if math.isfinite(value) else []
    if isinstance(value, dict):
        return [
            item
            for key, inner in value.items()
            for item in _numbers(inner, f"{prefix}.{key}" if prefix else str(key), depth + 1)
        ]
    return []


class _Ledger:
    """Writes an execution into the record, and the skill's counters with it."""

    def __init__(
        self,
        skill: Skill,
        execution_id: str,
        folder: Path,
        values: dict[str, Any],
        run_id: str | None,
        timeout_s: float | None,
    ) -> None:
        self.skill, self.id, self.folder, self.values, self.run_id = skill, execution_id, folder, values, run_id
        self.meta = rows.belongs(timeout_s) | ({"trial": skill.trial} if skill.trial else {})
        self.started_at = time.time()

    def open(self) -> None:
        """Insert the row: the execution is running."""
        self.skill.writer.insert(
            "skill_executions",
            {
                "id": self.id,
                "skill_id": self.skill.id,
                "run_id": self.run_id,
                "status": "running",
                "started_at": self.started_at,
                "parameters": self.values,
                "adapted": False,
                "task_description": self.skill.task,
                "work_dir": str(self.folder),
                "notebook": str(self.folder / NOTEBOOK),
                "cost_usd": 0.0,
                "trial_id": self.skill.trial.get("trial_id"),
                "meta": self.meta,
            },
        )

    def close(
        self,
        status: str,
        duration_s: float,
        error: str,
        outputs: list[str],
        metrics: dict[str, float],
        executed: Executed | None = None,
    ) -> None:
        """Write the end, and wait until it is stored."""
        now, success = time.time(), status == "completed"
        writer, skill = self.skill.writer, self.skill
        writer.update(
            "skill_executions",
            self.id,
            {
                "status": status,
                "ended_at": now,
                "duration_s": round(duration_s, 3),
                "success": success,
                "error": error or None,
                "outputs": outputs,
                "metrics": metrics,
                "meta": {**self.meta, "cells": executed.cells if executed else {}, "model_calls": 0},
            },
        )
        mark = rows.mark(skill.db)

        def count(connection: Connection) -> None:
            if success:
                average = f"(COALESCE(avg_execution_time_s, 0) * success_count + {mark}) / (success_count + 1)"
                connection.exec_driver_sql(
                    f"UPDATE skills SET avg_execution_time_s = {average}, avg_cost_usd = 0 WHERE id = {mark}",
                    (duration_s, skill.id),
                )
            column = "success_count" if success else "failure_count"
            connection.exec_driver_sql(
                f"UPDATE skills SET usage_count = usage_count + 1, {column} = {column} + 1,"
                f" last_used_at = {mark} WHERE id = {mark}",
                (now, skill.id),
            )

        writer.call(count).result()
        if self.run_id is not None:
            from cmbagent_nb.skills.events import note

            note(
                skill.db,
                writer,
                self.run_id,
                "complete",
                inputs={"skill_id": skill.id, "name": skill.name, "version": skill.version, "parameters": self.values},
                outputs={"execution_id": self.id, "status": status, "outputs": outputs},
                error=error,
                started_at=self.started_at,
            )
