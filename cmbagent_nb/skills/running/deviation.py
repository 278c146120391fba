"""Finds deviations of an execution of a skill from its earlier executions.

| kind | when |
|---|---|
| ``error`` | a cell fails, the kernel dies, time runs out; ``new`` tells whether it ever failed so before |
| ``output`` | a file that the run made is missing, is empty, cannot be read as what it was, lacks columns or rows |
| ``result`` | a number is outside of what :mod:`.seen` expects for these parameters, or is none any more |

An execution that was cancelled does not deviate: somebody wanted its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.running import seen
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord

#: Statuses that somebody wanted.
_WANTED = frozenset({"cancelled", "interrupted"})


@dataclass(frozen=True)
class Happened:
    """Outcome of an execution, or of one of its steps."""

    status: str
    error: str
    values: Mapping[str, Any]
    outputs: list[str]
    metrics: Mapping[str, float]
    folder: Path
    #: The step that this is about; all of the skill's where it is empty.
    node_id: str = ""


@dataclass(frozen=True)
class Deviation:
    """One thing that is not as it has been seen."""

    kind: str
    reason: str
    node_id: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is kept with the execution."""
        return asdict(self)


def find(skill: SkillRecord, happened: Happened, *, expected: list[str] | None = None) -> list[Deviation]:
    """Return what deviates; the first is the one to act on.

    Parameters
    ----------
    expected
        The files that should have been made, by their default names; all of the skill's when not given.
    """
    if happened.status in _WANTED:
        return []
    if happened.status != "completed":
        return [_error(skill, happened)]
    wanted = expected if expected is not None else list(skill.postconditions.get("files") or skill.output_schema)
    found = outputs(skill, happened, wanted)
    gone = {item.details.get("path") for item in found}
    for item in seen.judge(skill, happened.values, happened.metrics, happened.folder):
        if expected is not None and item["file"] not in expected:
            continue  # another step's number: a step is judged by what it makes
        if item["value"] is None and item["file"] in gone:
            continue  # the file with the number is not there: that is told already
        low, high = item["expected"]
        said = f"between {low:.6g} and {high:.6g}"
        reason = (
            f"{item['metric']} is missing or no finite number; it was {said}"
            if item["value"] is None
            else f"{item['metric']} is {item['value']:.6g}, and was expected {said}"
        )
        found.append(Deviation("result", reason, happened.node_id, item))
    return found


def _error(skill: SkillRecord, happened: Happened) -> Deviation:
    from cmbagent_nb.workflow.retries import category

    kind, _, message = happened.error.partition(":")
    named = kind.isidentifier()
    details = {
        "error": happened.error,
        "category": category(kind if named else "", message.strip() or happened.error, happened.status),
        "new": not _known(skill, happened.error),
    }
    return Deviation("error", happened.error or happened.status, happened.node_id, details)


def _known(skill: SkillRecord, error: str) -> bool:
    """Tell whether an execution of this skill's name failed like this before: with the same kind of error."""
    kind = error.partition(":")[0]
    rows = skill.db.rows(
        "SELECT e.error AS error FROM skill_executions e JOIN skills s ON s.id = e.skill_id"
        " WHERE s.name = :name AND e.status = 'failed' AND e.error IS NOT NULL",
        name=skill.name,
    )
    return any(str(row["error"]).partition(":")[0] == kind for row in rows)


def outputs(skill: SkillRecord, happened: Happened, wanted: list[str]) -> list[Deviation]:
    """Return the files that are missing, or are not what they were."""
    from cmbagent_nb.skills.schema import describe

    names = {path: renamed(skill, path, happened.values) for path in wanted}
    made = set(happened.outputs)
    missing = [path for path, name in names.items() if name not in made and not (happened.folder / name).is_file()]
    others = made - set(names.values())
    found = []
    for path in missing:
        name = PurePosixPath(names[path])
        alike = (name.parent, _suffix(str(name)))
        like = sorted(item for item in others if (PurePosixPath(item).parent, _suffix(item)) == alike)
        if like:
            others.discard(like[0])  # its name depends on a parameter
            continue
        found.append(Deviation("output", f"{name} was not made", happened.node_id, {"path": path, "what": "missing"}))
    for path, now in names.items():
        place = happened.folder / now
        before = skill.output_schema.get(path) or {}
        if not place.is_file():
            continue
        what = _unlike(before, describe(place) if before.get("kind") not in (None, "other") else {}, place)
        if what:
            found.append(Deviation("output", f"{now} {what}", happened.node_id, {"path": path, "what": what}))
    return found


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _unlike(before: Mapping[str, Any], now: Mapping[str, Any], place: Path) -> str:
    """Say how a file is not what it was; empty where it is."""
    if not place.stat().st_size:
        return "is empty"
    if not now:
        return ""
    if now.get("kind") != before.get("kind"):
        return f"cannot be read as {before['kind']}" + (f" ({now['note']})" if now.get("note") else "")
    if before["kind"] == "table":
        # a column whose name is a number is a value of some grid, which a parameter may change
        gone = [name for name in before["columns"] if name not in now["columns"] and not _is_number(name)]
        if gone and len(now["columns"]) < len(before["columns"]):
            return f"has no column {', '.join(gone)}"
        if before.get("rows") and not now.get("rows"):
            return "has no rows"
    if before["kind"] == "array" and 0 in now["shape"] and 0 not in before["shape"]:
        return "holds nothing"
    if before["kind"] == "json" and (now["type"] != before["type"] or (before["keys"] and not now["keys"])):
        return f"holds no {before['type']} with keys any more"
    return ""


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def renamed(skill: SkillRecord, path: str, values: Mapping[str, Any]) -> str:
    """Return the name that a file has with these values: the skill's parameters may name it.

    A name without a folder stands for the same place as the default's.
    """
    for parameter in skill.parameters:
        value = values.get(parameter.name, parameter.default)
        if parameter.kind != "output" or value == parameter.default:
            continue
        default = str(parameter.default).removeprefix("./")
        if path == default:
            return str(value).removeprefix("./")
        if "/" not in default and PurePosixPath(path).name == default:
            return (PurePosixPath(path).parent / str(value)).as_posix()
    return path


def of_row(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the deviations that are kept with an execution's row."""
    meta = from_json(row["meta"]) if isinstance(row.get("meta"), str) else row.get("meta") or {}
    return list(meta.get("deviations", []))
