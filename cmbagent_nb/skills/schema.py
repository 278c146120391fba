"""Describes data files: columns, types, shapes; so that a file that does not fit is reported before a run, not after.

Nothing here decides whether a result is right; it only says what there is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Files larger than this are not looked into.
LARGEST = 512 * 2**20
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".feather"})


def describe(path: Path) -> dict[str, Any]:
    """Return the kind of a file and what is in it; a file that cannot be read is ``other``."""
    try:
        if path.stat().st_size > LARGEST:
            return {"kind": "other"}
        return _describe(path)
    except Exception as error:  # whatever a reader says about a damaged file: it is no table to us
        return {"kind": "other", "note": f"{type(error).__name__}: {error}"[:200]}


def _describe(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        frame = _read(path, suffix)
        columns = {str(name): str(kind) for name, kind in frame.dtypes.items()}
        return {"kind": "table", "columns": columns, "rows": len(frame)}
    if suffix in {".npy", ".npz"}:
        import numpy as np

        if suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return {"kind": "array", "dtype": str(array.dtype), "shape": list(array.shape)}
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
            shapes = {name: list(array.shape) for name, array in found.items()}
            return {"kind": "arrays", "arrays": shapes, "dtypes": {name: str(found[name].dtype) for name in found}}
    if suffix == ".json":
        value = json.loads(path.read_text(encoding="utf-8"))
        keys = list(value)[:100] if isinstance(value, dict) else []
        return {"kind": "json", "type": type(value).__name__, "keys": keys}
    if suffix in {".png", ".jpg", ".jpeg", ".gif", ".webp"}:
        from PIL import Image

        with Image.open(path) as picture:
            return {"kind": "picture", "size": list(picture.size)}
    return {"kind": "other"}


def _read(path: Path, suffix: str) -> Any:
    import pandas as pd

    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix == ".feather":
        return pd.read_feather(path)
    return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",", low_memory=False)


def read_table(path: Path) -> Any:
    """Return a table as a DataFrame; None for what is none, is too large or cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in _TABLES or path.stat().st_size > LARGEST:
        return None
    try:
        return _read(path, suffix)
    except Exception:  # whatever a reader says about a damaged file: it is no table to us
        return None


def missing_columns(expected: dict[str, Any], found: dict[str, Any], code: str) -> list[str]:
    """Return the columns that the code names and that a table given in another's place does not have.

    >>> old = {"kind": "table", "columns": {"ell": "int64", "note": "str"}}
    >>> missing_columns(old, {"kind": "table", "columns": {"l": "int64"}}, 'df["ell"]')
    ['ell']
    """
    if expected.get("kind") != "table" or found.get("kind") != "table":
        return []
    absent = [name for name in expected["columns"] if name not in found["columns"]]
    return [name for name in absent if f'"{name}"' in code or f"'{name}'" in code or f".{name}" in code]


def store(value: Any, path: Path) -> None:
    """Write a variable as a file of the kind that a path's suffix names.

    Raises
    ------
    TypeError
        The value cannot be stored as such a file.
    """
    suffix = path.suffix.lower()
    writers = {
        ".parquet": "to_parquet",
        ".feather": "to_feather",
    }
    if hasattr(value, "to_parquet") and hasattr(value, "columns"):
        if suffix in writers:
            getattr(value, writers[suffix])(path)
            return
        if suffix in {".csv", ".tsv"}:
            value.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
            return
    elif suffix == ".npy" and hasattr(value, "dtype"):
        import numpy as np

        np.save(path, value, allow_pickle=False)
        return
    elif suffix == ".json" and isinstance(value, (dict, list)):
        path.write_text(json.dumps(value), encoding="utf-8")
        return
    raise TypeError(f"{type(value).__name__} cannot be written as {suffix or 'a file without suffix'}")
