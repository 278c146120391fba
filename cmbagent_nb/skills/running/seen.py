"""Computes the ranges of a skill's parameters and results from executions that succeeded.

| kept | where |
|---|---|
| a parameter's range | ``seen`` of the parameter: ``[min, max]``, or the texts |
| a result's range | ``meta["seen"]["metrics"]`` of the version: name → ``[min, max, how often]`` |
| results by parameters and inputs | ``meta["seen"]["points"]``, the newest :data:`POINTS` of them |

The first point is the run that the skill came from, or the files that came with it, where they are still there. Only
executions whose results were not unusual widen a range.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills import rows
from cmbagent_nb.store.json import from_json, to_json

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.store.connection import Connection

#: Numbers by name, with the file that each stands in.
Numbers = Mapping[str, tuple[str, float]]

#: Executions after which a range says something about the next one.
ENOUGH = 5
#: Points that are kept, and texts of a parameter.
POINTS, TEXTS = 40, 20
#: How far a result may be off where parameters and inputs are the same as before; by its size.
SAME = 1e-3
#: How far beyond the range seen a result may be where its parameters are in theirs: by the range, and by its size.
SPREAD, SIZE = 0.5, 0.05


def key_of(skill: SkillRecord, values: Mapping[str, Any], folder: Path | None = None) -> str:
    """Return what stands for an execution's parameters and inputs: equal keys must give equal results."""
    parts: dict[str, Any] = {}
    for parameter in skill.parameters:
        value = values.get(parameter.name, parameter.default)
        if parameter.kind == "output":
            continue
        if parameter.kind == "input" and value != parameter.default:
            value = content_of(value, folder)
        parts[parameter.name] = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return hashlib.sha256(to_json(dict(sorted(parts.items()))).encode()).hexdigest()[:24]


def content_of(value: Any, folder: Path | None) -> str:
    """Return the hash of the file that a value names; the value itself where there is none."""
    path = Path(str(value))
    path = path if path.is_absolute() or folder is None else folder / path
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(value)


def ranges(skill: SkillRecord) -> dict[str, Any]:
    """Return what has been seen of a version: ``n``, ``metrics``, ``points``, ``parameters``; the stored state."""
    found = skill.db.rows("SELECT meta, parameters FROM skills WHERE id = :id", id=skill.id)
    return _read(found[0]["meta"], found[0]["parameters"]) if found else _read(None, None)


def _read(meta: Any, parameters: Any) -> dict[str, Any]:
    state = (from_json(meta) if meta else {}).get("seen") or {}
    return {
        "n": state.get("n", 0),
        "metrics": state.get("metrics", {}),
        "points": state.get("points", {}),
        "files": state.get("files", {}),
        "parameters": {
            item["name"]: item["seen"] for item in (from_json(parameters) if parameters else []) if item.get("seen")
        },
    }


def observe(skill: SkillRecord, values: Mapping[str, Any], found: Numbers, folder: Path) -> None:
    """Take in an execution that succeeded as usual; ``found`` is what :func:`.ledger.numbers_in` its files found."""
    key, first = key_of(skill, values, folder), baseline(skill)
    mark = rows.mark(skill.db)

    def store(connection: Connection) -> None:
        query = f"SELECT meta, parameters FROM skills WHERE id = {mark}"
        row = connection.exec_driver_sql(query, (skill.id,)).fetchall()[0]
        meta = from_json(row[0]) if row[0] else {}
        parameters = from_json(row[1]) if row[1] else []
        state = meta.get("seen") or {}
        if not state and first:
            state = _widened(state, key_of(skill, {}, folder), first)
        meta["seen"] = _widened(state, key, found)
        for item in parameters:
            if item.get("kind", "value") == "value":
                seen = _seen(item, values.get(item["name"], item.get("default")))
                if seen is not None:
                    item["seen"] = seen
        connection.exec_driver_sql(
            f"UPDATE skills SET meta = {mark}, parameters = {mark} WHERE id = {mark}",
            (skill.writer.scrub(to_json(meta)), skill.writer.scrub(to_json(parameters)), skill.id),
        )

    skill.writer.call(store).result()


def _widened(state: dict[str, Any], key: str, found: Numbers) -> dict[str, Any]:
    metrics = {name: number for name, (_, number) in found.items()}
    # the first name of a file is the skill's own: a parameter may name it otherwise later
    files = {**{name: path for name, (path, _) in found.items()}, **state.get("files", {})}
    known: dict[str, list[float]] = dict(state.get("metrics", {}))
    for name, value in metrics.items():
        low, high, times = known.get(name, [value, value, 0])
        known[name] = [min(low, value), max(high, value), times + 1]
    points: dict[str, dict[str, list[float]]] = dict(state.get("points", {}))
    point = dict(points.pop(key, {}))
    for name, value in metrics.items():
        low, high = point.get(name, [value, value])
        point[name] = [min(low, value), max(high, value)]
    points[key] = point
    newest = dict(list(points.items())[-POINTS:])
    return {"n": state.get("n", 0) + 1, "metrics": known, "points": newest, "files": files}


def _seen(item: Mapping[str, Any], value: Any) -> list[Any] | None:
    before = item.get("seen")
    default = item.get("default")
    if isinstance(value, bool) or isinstance(default, bool):
        return None
    if isinstance(value, (int, float)) and math.isfinite(value):
        known = [number for number in (before or [default]) if isinstance(number, (int, float))]
        return [min([*known, value]), max([*known, value])]
    if isinstance(value, str):
        texts = [str(text) for text in (before or ([default] if isinstance(default, str) else []))]
        return texts if value in texts or len(texts) >= TEXTS else [*texts, value]
    return None


def baseline(skill: SkillRecord) -> Numbers:
    """Return the numbers that the skill's run had made: its results with the defaults."""
    from cmbagent_nb.skills.running.ledger import numbers_in

    found = skill.db.rows("SELECT work_dir FROM workflow_runs WHERE id = :id", id=skill.source_run_id or "")
    folder = Path(found[0]["work_dir"] or "") if found else skill.folder / "expected"
    names = [name for name in skill.output_schema if PurePosixPath(name).suffix.lower() == ".json"]
    return numbers_in(folder, names) if all((folder / name).is_file() for name in names) else {}


def unusual(skill: SkillRecord, values: Mapping[str, Any]) -> list[str]:
    """Say which values are outside of what has been run so far: told before, and no reason not to run."""
    state = ranges(skill)
    if state["n"] < ENOUGH:
        return []
    notes = []
    for name, value in values.items():
        seen = state["parameters"].get(name)
        if seen is None or within(value, seen):
            continue
        known = ", ".join(map(repr, seen)) if isinstance(value, str) else f"{seen[0]:g} to {seen[1]:g}"
        notes.append(f"{name} = {value!r} is outside of what has been run so far ({known}).")
    return notes


def within(value: Any, seen: list[Any]) -> bool:
    """Tell whether a parameter's value is in the range seen."""
    if isinstance(value, bool) or not seen:
        return True
    if isinstance(value, (int, float)) and all(isinstance(item, (int, float)) for item in seen):
        return bool(seen[0] <= value <= seen[-1])
    return not isinstance(value, str) or value in seen


def judge(
    skill: SkillRecord, values: Mapping[str, Any], metrics: Mapping[str, float], folder: Path
) -> list[dict[str, Any]]:
    """Return the results that are outside of what has been seen, each with the range that was expected.

    Where parameters and inputs are the same as in an earlier execution, so must the results be. Else a range is held
    against a result only if there were :data:`ENOUGH` executions, every parameter is in its own range, and the inputs
    are the skill's own: other values are expected to give other results. A number that was always there and is missing,
    or is no number any more, is always told.
    """
    from cmbagent_nb.skills.verifying.look import is_volatile

    state = ranges(skill)
    if not state["n"] and (first := baseline(skill)):
        state |= _widened({}, key_of(skill, {}, folder), first)
    expected: dict[str, tuple[float, float]] = {}
    point = state["points"].get(key_of(skill, values, folder))
    if point is not None:
        expected = {name: _around(low, high, 1.0, SAME) for name, (low, high) in point.items()}
    elif state["n"] >= ENOUGH and _as_before(skill, values, state["parameters"]):
        expected = {
            name: _around(low, high, SPREAD, SIZE) for name, (low, high, times) in state["metrics"].items()
            if times >= ENOUGH
        }  # fmt: skip
    files = state.get("files", {})
    found = []
    for name, (low, high, times) in state["metrics"].items():
        if is_volatile(name.rpartition(".")[2]):
            continue
        if name not in metrics:
            if times == state["n"]:
                found.append({"metric": name, "value": None, "expected": [low, high], "file": files.get(name)})
        elif name in expected and not expected[name][0] <= metrics[name] <= expected[name][1]:
            limits = list(expected[name])
            found.append({"metric": name, "value": metrics[name], "expected": limits, "file": files.get(name)})
    return found


def _around(low: float, high: float, spread: float, size: float) -> tuple[float, float]:
    margin = spread * (high - low) + size * max(abs(low), abs(high))
    return low - margin, high + margin


def _as_before(skill: SkillRecord, values: Mapping[str, Any], seen: Mapping[str, list[Any]]) -> bool:
    for parameter in skill.parameters:
        value = values.get(parameter.name, parameter.default)
        if parameter.kind == "input" and value != parameter.default:
            return False
        if parameter.kind == "value" and value != parameter.default:
            if parameter.name not in seen or isinstance(value, (bool, list)):
                return False
            if not within(value, seen[parameter.name]):
                return False
    return True
