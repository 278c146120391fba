"""What must hold before a skill runs, and what has been seen to hold after: packages, files, columns, value ranges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cmbagent_nb.skills.schema import LARGEST, read_table

#: Numbers of one file that are kept.
_MOST = 200


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
