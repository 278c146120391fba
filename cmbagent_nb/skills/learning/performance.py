"""Measures the versions of a skill: success, time, cost and adaptations, also by parameter and by cell.

| counted | |
|---|---|
| an execution | one that ended by itself: completed, failed or out of time; cancelled ones are counted apart |
| a success | it completed; one that agents had to adapt is a success that is counted as adapted, too |
| times | of successes, in seconds; the 90th percentile with linear interpolation |
| left out | executions that only verified a version |

Everything is computed from the rows of the executions, never from the counters in the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.store.database import Database

ENDED = ("completed", "failed", "timeout")
#: Distinct values of a number up to which each is shown for itself; beyond, quarters of the executions are.
_MOST_VALUES = 8
FIGURES = (
    "executions", "successes", "failures", "success_rate", "adapted", "adaptation_rate", "median_s", "p90_s",
    "mean_s", "cost_usd", "mean_cost_usd",
)  # fmt: skip


def quantile(values: Sequence[float], part: float) -> float | None:
    """Return a quantile with linear interpolation; None of nothing."""
    import numpy as np

    return float(np.quantile(values, part)) if len(values) else None


def performance(skill: SkillRecord, by: str = "version") -> pd.DataFrame:
    """Return the figures of a skill's versions, or of this version by parameter, by cell or by error.

    Parameters
    ----------
    by
        ``version`` (all versions of the name), ``parameters``, ``cells`` or ``errors`` (this version).
    """
    import pandas as pd

    skill.writer.caught_up()
    if by == "version":
        table, columns = by_version(skill.db, skill.name), ["version", "status", *FIGURES, "cancelled", "last_used_at"]
    elif by == "parameters":
        table, columns = by_parameter(skill, executions(skill.db, skill.id)), ["parameter", "value", "given", *FIGURES]
    elif by == "cells":
        table, columns = (
            by_cell(skill, executions(skill.db, skill.id)),
            ["cell", "label", "executions", "median_s", "share"],
        )
    elif by == "errors":
        table, columns = by_error(executions(skill.db, skill.id)), ["error", "executions", "example", "last_at"]
    else:
        raise UsageError(f"{by!r} is not what performance can be by", "Take version, parameters, cells or errors.")
    frame = pd.DataFrame(table, columns=columns)
    for name in ("last_used_at", "last_at"):
        if name in frame:
            frame[name] = pd.to_datetime(frame[name].astype(float), unit="s", utc=True)
    return frame


def executions(db: Database, skill_id: str) -> list[dict[str, Any]]:
    """Return a version's executions, the oldest first, JSON as values; those that only verified are left out."""
    from cmbagent_nb.store.lookup import parsed

    found = db.rows("SELECT * FROM skill_executions WHERE skill_id = :id ORDER BY started_at, id", id=skill_id)
    return [parsed(row) for row in found if row["mode"] != "verification"]


def ended(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the executions that ended by themselves."""
    return [row for row in rows if row["status"] in ENDED]


def figures(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return success, time, cost and adaptations of executions."""
    over = ended(rows)
    good = [row for row in over if row["status"] == "completed"]
    times = [row["duration_s"] for row in good if row["duration_s"] is not None]
    costs = [row["cost_usd"] for row in over if row["cost_usd"] is not None]
    adapted = sum(bool(row["adapted"]) for row in over)
    return {
        "executions": len(over),
        "successes": len(good),
        "failures": len(over) - len(good),
        "success_rate": len(good) / len(over) if over else None,
        "adapted": adapted,
        "adaptation_rate": adapted / len(over) if over else None,
        "median_s": quantile(times, 0.5),
        "p90_s": quantile(times, 0.9),
        "mean_s": sum(times) / len(times) if times else None,
        "cost_usd": sum(costs) if costs else (0.0 if over else None),
        "mean_cost_usd": sum(costs) / len(costs) if costs else None,
    }


def by_version(db: Database, name: str) -> list[dict[str, Any]]:
    """Return the figures of each version of a name, oldest first."""
    found = db.rows("SELECT id, version, status FROM skills WHERE name = :name ORDER BY version", name=name)
    rows = db.rows(
        "SELECT e.skill_id, e.status, e.adapted, e.duration_s, e.cost_usd, e.started_at, e.mode"
        " FROM skill_executions AS e JOIN skills AS s ON s.id = e.skill_id WHERE s.name = :name",
        name=name,
    )
    own: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in found}
    for row in rows:
        if row["mode"] != "verification":
            own[row["skill_id"]].append(row)
    return [
        {
            "version": row["version"],
            "status": row["status"],
            **figures(own[row["id"]]),
            "cancelled": sum(item["status"] in ("cancelled", "interrupted") for item in own[row["id"]]),
            "last_used_at": max((item["started_at"] for item in own[row["id"]]), default=None),
        }
        for row in found
    ]


def by_parameter(skill: SkillRecord, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of a version for each value, or quarter of the values, of each parameter."""
    over, table = ended(rows), []
    for parameter in skill.parameters:
        valued = [(effective(row, parameter), row) for row in over]
        for label, belongs in _groups([value for value, _ in valued]):
            own = [row for value, row in valued if belongs(value)]
            given = sum(parameter.name in (row["parameters"] or {}) for row in own)
            table.append({"parameter": parameter.name, "value": label, "given": given, **figures(own)})
    return table


def effective(row: dict[str, Any], parameter: Any) -> Any:
    """Return the value that a parameter had in an execution: the one given, else the default."""
    return (row["parameters"] or {}).get(parameter.name, parameter.default)


def _groups(values: list[Any]) -> list[tuple[Any, Callable[[Any], bool]]]:
    texts = {json.dumps(value, sort_keys=True, default=str): value for value in values}
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values) or len(texts) <= _MOST_VALUES:
        shown = sorted(texts.items(), key=lambda item: item[1] if len(numbers) == len(values) else item[0])
        return [(value, _equals(text)) for text, value in shown]
    edges = sorted({quantile(numbers, part) or 0.0 for part in (0.0, 0.25, 0.5, 0.75, 1.0)})
    return [
        (f"{low:g} … {high:g}", _between(low, high, first=place == 0))
        for place, (low, high) in enumerate(pairwise(edges))
    ]


def _equals(text: str) -> Callable[[Any], bool]:
    return lambda value: json.dumps(value, sort_keys=True, default=str) == text


def _between(low: float, high: float, *, first: bool) -> Callable[[Any], bool]:
    return lambda value: (low <= value if first else low < value) and value <= high


def by_cell(skill: SkillRecord, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each code cell's median time in successful executions, and its share of their sum, slowest first."""
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.running.engine import cell_label
    from cmbagent_nb.skills.source_hash import check_notebook

    times: dict[str, list[float]] = {}
    for row in ended(rows):
        if row["status"] == "completed":
            for cell, seconds in ((row["meta"] or {}).get("cells") or {}).items():
                times.setdefault(cell, []).append(float(seconds))
    cells = read_notebook(check_notebook(skill)).cells if times else []
    labels = {cell.get("id", ""): cell_label(cells, place) for place, cell in enumerate(cells)}
    whole = sum(quantile(own, 0.5) or 0.0 for own in times.values())
    table = [
        {
            "cell": cell,
            "label": labels.get(cell, cell),
            "executions": len(own),
            "median_s": quantile(own, 0.5),
            "share": (quantile(own, 0.5) or 0.0) / whole if whole else 0.0,
        }
        for cell, own in times.items()
    ]
    return sorted(table, key=lambda row: -(row["median_s"] or 0.0))


def by_error(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the failures by what was said, with places and numbers taken out; the commonest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in ended(rows):
        if row["status"] != "completed":
            found.setdefault(error_kind(row["error"] or row["status"]), []).append(row)
    table = [
        {
            "error": kind,
            "executions": len(own),
            "example": own[-1]["error"] or own[-1]["status"],
            "last_at": max(row["started_at"] for row in own),
        }
        for kind, own in found.items()
    ]
    return sorted(table, key=lambda row: (-row["executions"], row["error"]))


def error_kind(text: str) -> str:
    """Return an error's text without what changes from one time to the next.

    >>> error_kind("ValueError: n is -3, in /home/u/x.py")
    'ValueError: n is #, in …'
    """
    line = text.strip().splitlines()[0] if text.strip() else ""
    line = re.sub(r"(/[\w.+-]+){2,}/?", "…", line)
    return re.sub(r"-?\b\d+(\.\d+)?(e[+-]?\d+)?\b", "#", line)[:200]
