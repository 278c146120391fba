"""Writes and checks the conditions of a skill: what must hold before it runs, and what held after its first run.

| condition | is |
|---|---|
| ``packages``, ``files`` | the versions that it was made with (or a range), the files outside the skill that it reads |
| ``columns`` | the columns of its inputs that its code names |
| ``parameters`` | learned from failures: ``{"parameter": "n", "op": ">=", "value": 1, "reason": "…"}`` |
| ``files`` and ``ranges`` after it | the files that it makes, and the least and largest of the numbers in them |

A condition with an operator that is not known is passed over, since a newer version may know more.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.schema import LARGEST, read_table

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord

#: Numbers of one file that are kept.
_MOST = 200
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "!=": operator.ne, "==": operator.eq,
    "not in": lambda value, among: value not in among,
}  # fmt: skip


def preconditions(
    versions: dict[str, str], outside: list[str], input_schema: dict[str, Any], codes: list[str]
) -> dict[str, Any]:
    """Return the packages with their versions, the files, and the columns that the code names."""
    code = "\n".join(codes)
    columns = {
        path: [name for name in schema["columns"] if f'"{name}"' in code or f"'{name}'" in code or f".{name}" in code]
        for path, schema in input_schema.items()
        if schema.get("kind") == "table"
    }
    return {
        "packages": dict(versions),
        "files": list(outside),
        "inputs": sorted(input_schema),
        "columns": {path: names for path, names in columns.items() if names},
    }


def postconditions(places: dict[str, Path]) -> dict[str, Any]:
    """Return the files that are made, and the ranges of the numbers seen in them."""
    ranges = {path: seen for path, place in sorted(places.items()) if (seen := value_ranges(place))}
    return {"files": sorted(places), "ranges": ranges}


def value_ranges(path: Path) -> dict[str, list[float]]:
    """Return the least and the largest of each column, array or entry of a file that are numbers."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return {}
        suffix = path.suffix.lower()
        if suffix == ".json":
            found: dict[str, list[float]] = {}
            _entries("", json.loads(path.read_text(encoding="utf-8")), found)
            return dict(list(found.items())[:_MOST])
        if suffix in {".npy", ".npz"}:
            return _arrays(path)
        frame = read_table(path)
    except Exception:  # whatever a reader says about a damaged file: nothing was seen in it
        return {}
    if frame is None:
        return {}
    kinds = {name: getattr(frame[name].dtype, "kind", "O") for name in frame.columns[:_MOST]}
    columns = {str(name): _range(frame[name]) for name, kind in kinds.items() if kind in "fiu"}
    return {name: seen for name, seen in columns.items() if seen}


def _entries(where: str, value: Any, found: dict[str, list[float]]) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        if math.isfinite(value):
            low, high = found.get(where, [value, value])
            found[where or "value"] = [min(low, value), max(high, value)]
    elif isinstance(value, dict):
        for key, inner in value.items():
            _entries(f"{where}.{key}" if where else str(key), inner, found)
    elif isinstance(value, list):
        for inner in value:
            _entries(where, inner, found)


def _arrays(path: Path) -> dict[str, list[float]]:
    import numpy as np

    if path.suffix.lower() == ".npy":
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        found = {"array": _range(values) if values.dtype.kind in "fiu" else []}
    else:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: _range(arrays[name]) for name in arrays.files if arrays[name].dtype.kind in "fiu"}
    return {name: seen for name, seen in found.items() if seen}


def _range(values: Any) -> list[float]:
    import numpy as np

    numbers = np.asarray(values)
    finite = numbers[np.isfinite(numbers)]
    return [finite.min().item(), finite.max().item()] if finite.size else []


def check_conditions(skill: SkillRecord) -> list[str]:
    """Refuse a skill whose preconditions do not hold here; returns notes on what is not as it was.

    Preconditions are ``packages`` (name → the version that the skill was made with, or a range such as ``>=2,<4``)
    and ``files`` (paths outside the skill that its code reads).
    """
    notes: list[str] = []
    packages: dict[str, Any] = skill.preconditions.get("packages") or {}
    missing = []
    for name, wanted in packages.items():
        found = _version(name)
        if found is None:
            missing.append(f"{name} {wanted}".strip())
        elif problem := _differs(str(wanted), found):
            if problem == "refused":
                raise SkillError(
                    f"skill {skill.name} needs {name} {wanted}, and {found} is installed",
                    f"Install it with: pip install '{name}{wanted}'.",
                    package=name,
                    version=found,
                )
            notes.append(f"It was made with {name} {wanted}; {found} is installed.")
    if missing:
        raise SkillError(
            f"skill {skill.name} needs packages that are not installed: {', '.join(missing)}",
            f"Install them with: pip install {' '.join(item.split()[0] for item in missing)}.",
            packages=[item.split()[0] for item in missing],
        )
    files = [str(path) for path in skill.preconditions.get("files") or ()]
    gone = [path for path in files if not os.path.exists(path)]  # noqa: PTH110 (a name that is too long is not there)
    if gone:
        raise SkillError(
            f"skill {skill.name} reads {', '.join(gone)}, which is not there",
            "Put it back: the skill reads it from this place.",
            files=gone,
        )
    return notes


def _version(name: str) -> str | None:
    import platform

    return platform.python_version() if name.casefold() == "python" else _installed(name, _stamp())


def _stamp() -> tuple[int, ...]:
    """Return what changes when a package is installed or removed: when each folder of packages last changed."""
    stamp = []
    for path in sys.path:
        try:
            stamp.append(Path(path or ".").stat().st_mtime_ns)
        except OSError:
            continue
    return tuple(stamp)


@lru_cache(maxsize=4096)
def _installed(name: str, stamp: tuple[int, ...]) -> str | None:
    """Return the version of a package, None when it is not there; reading it takes milliseconds, so it is kept."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _differs(wanted: str, found: str) -> str:
    """Tell how an installed version differs: ``refused`` by a range, ``noted`` when another major one, or not.

    >>> _differs("2.3.0", "3.1.1"), _differs(">=2,<3", "3.1.1"), _differs("2.3.0", "2.4.6")
    ('noted', 'refused', '')
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        installed = Version(found)
        if re.match(r"\s*[<>=!~]", wanted):
            return "" if SpecifierSet(wanted).contains(installed, prereleases=True) else "refused"
        return "" if not wanted or Version(wanted).major == installed.major else "noted"
    except (InvalidSpecifier, InvalidVersion):
        return ""  # a version that does not follow the rules says nothing


def check_values(skill: SkillRecord, values: dict[str, Any]) -> None:
    """Refuse values with which this skill is known to fail.

    Raises
    ------
    SkillError
        A condition does not hold; it says which, and how often the skill failed so.
    """
    failed = unmet(skill.preconditions.get("parameters"), skill.parameters, values)
    if failed:
        first = failed[0]
        raise SkillError(
            f"skill {skill.name} v{skill.version} fails unless {text(first)} ({first.get('reason', 'learned')})",
            f"Give another value for {first['parameter']}, or run an older version of {skill.name}.",
            parameter=first["parameter"],
            conditions=failed,
        )


def unmet(conditions: Any, parameters: list[Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions that do not hold for values, defaults where none is given."""
    defaults = {item.name: item.default for item in parameters}
    return [
        condition
        for condition in conditions or []
        if condition.get("parameter") in defaults
        and not holds(condition, values.get(condition["parameter"], defaults[condition["parameter"]]))
    ]


def holds(condition: dict[str, Any], value: Any) -> bool:
    """Tell whether a condition holds for a value; one that cannot be compared is not judged.

    >>> holds({"parameter": "n", "op": ">=", "value": 1}, 0), holds({"parameter": "n", "op": "!=", "value": "a"}, "b")
    (False, True)
    """
    test = OPERATORS.get(condition.get("op", ""))
    try:
        return test is None or bool(test(value, condition["value"]))
    except (TypeError, KeyError):
        return True


def text(condition: dict[str, Any]) -> str:
    """Return a condition as one reads it."""
    return f"{condition['parameter']} {condition['op']} {condition['value']!r}"
