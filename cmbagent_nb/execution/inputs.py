"""Stores kernel variables passed with ``--in`` as files for the agents' code.

Either all inputs are stored or none is: they are written beside the folder and moved into it at the end.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import InputError
from cmbagent_nb.execution.input_arrays import (
    Written,
    refused,
    unit_of,
    write_array,
    write_quantity,
    write_sparse,
    write_xarray,
)
from cmbagent_nb.execution.input_frames import write_frame
from cmbagent_nb.execution.input_tables import write_table
from cmbagent_nb.ids import new_id

#: What to do about a value that JSON has no form for, by the name of its type.
_INSTEAD = {
    "set": "Give sorted(x), a list.",
    "frozenset": "Give sorted(x), a list.",
    "bytes": "Write it to a file and give the file's path.",
    "bytearray": "Write it to a file and give the file's path.",
    "complex": "Give an array, or its real and its imaginary part.",
    "Decimal": "Give float(x) or str(x), whichever is meant.",
    "Fraction": "Give float(x) or str(x), whichever is meant.",
    "date": "Give x.isoformat().",
    "datetime": "Give x.isoformat().",
    "Timestamp": "Give x.isoformat().",
    "datetime64": "Give str(x).",
    "timedelta": "Give x.total_seconds().",
    "timedelta64": "Give its number, and say the unit in the task.",
    "MaskedConstant": "Give None or float('nan') for what is masked.",
    "longdouble": "Give float(x) if that is exact enough.",
}


def store_inputs(inputs: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Store variables in ``folder``, which is the run's ``input``, and describe each for the agents.

    A DataFrame, a Series or a Table of astropy becomes Parquet, a numpy array ``.npy``, a path to a file a copy of the
    file, and what JSON can hold becomes JSON. Masks, units and the like are kept, or the variable is refused.

    Returns
    -------
    list of dict
        For each ``name``, ``path`` (in the work dir), ``kind``, ``description``, ``size_bytes``.

    Raises
    ------
    InputError
        One cannot be stored; the error names it, and nothing was stored.
    """
    if not inputs:
        return []
    staging = folder.parent / f".input-{new_id()}"
    try:
        staging.mkdir(parents=True)
        stored = [_store(name, value, staging) for name, value in inputs.items()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(staging.iterdir()):
            path.replace(folder / path.name)
    except OSError as error:
        raise InputError(
            f"the inputs cannot be written to {folder} ({error})", "Check the disk's space and permissions."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [
        {
            **item,
            "path": f"{folder.name}/{item['path']}",
            "description": item["description"]
            .replace("FILE", f"{folder.name}/{item['path']}")
            .replace("FOLDER", folder.name),
            "size_bytes": (folder / item["path"]).stat().st_size,
        }
        for item in stored
    ]


def _store(name: str, value: Any, folder: Path) -> dict[str, Any]:
    if not name.isidentifier():
        raise InputError(f"{name!r} is not the name of a variable", "Use letters, digits and '_'.", name=name)
    own = folder / f".{name}"
    own.mkdir()
    try:
        made = _write(name, value, own)
    except InputError:
        raise
    except Exception as error:  # whatever a library raises, the user learns which variable it was
        why = type(error).__name__
        with contextlib.suppress(Exception):
            why = next(iter(str(error).split("\n"))).strip() or why
        raise refused(name, value, why) from error
    for path in own.iterdir():
        if (folder / path.name).exists():
            raise InputError(f"two inputs have the same file name {path.name!r}", "Rename one of them.", name=name)
        path.replace(folder / path.name)
    own.rmdir()
    return {"name": name, "path": made.path, "kind": made.kind, "description": made.description}


def _write(name: str, value: Any, folder: Path) -> Written:
    module = type(value).__module__.partition(".")[0]
    if module == "pandas" and hasattr(value, "iloc"):
        return write_frame(name, value, folder)
    if module == "astropy" and hasattr(value, "colnames"):
        return write_table(name, value, folder)
    if module == "astropy" and type(value).__name__ == "FITS_rec":
        table = importlib.import_module("astropy.table").Table(value)  # it is there: the value is of it
        for column, unit in zip(table.colnames, value.columns.units, strict=True):
            table[column].unit = table[column].unit or unit or None
        return write_table(name, table, folder)
    unit = unit_of(value)
    if unit is not None:
        return write_quantity(name, value, unit, folder)
    if module == "xarray" and hasattr(value, "to_netcdf"):
        return write_xarray(name, value, folder)
    if module == "scipy" and hasattr(value, "nnz") and hasattr(value, "tocsr"):
        return write_sparse(name, value, folder)
    if _is_array(value) and value.ndim > 0:
        return write_array(name, value, folder)
    if isinstance(value, Path):
        if not value.is_file():
            raise InputError(f"the input {name!r} is {value}, not a file", "Give the path of a file.", name=name)
        file = f"{name}{''.join(value.suffixes)}"
        shutil.copyfile(value, folder / file)
        return Written(file, "file", f"a copy of {value.name}, in FILE")
    notes: set[str] = set()
    text = json.dumps(_plain(name, value, value, 0, notes), ensure_ascii=False, indent=1)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    kind = type(value).__name__
    changed = f"; {', '.join(sorted(notes))}" if notes else ""
    return Written(f"{name}.json", kind, f"{kind}{_size(value)}: json.load(open('FILE')){changed}")


def _is_array(value: Any) -> bool:
    """Tell whether a value is an array of numpy, of a class of numpy's or of another."""
    import sys

    np = sys.modules.get("numpy")
    return np is not None and isinstance(value, np.ndarray)


def _plain(name: str, value: Any, part: Any, depth: int, notes: set[str]) -> Any:
    """Return what JSON can hold, or refuse: nothing is turned into what it was not."""
    if depth > 50:
        raise refused(name, value, "it is nested too deeply")
    if part is None or type(part) in (bool, int, str, float):
        return part
    if isinstance(part, Mapping):
        if not all(isinstance(key, str) for key in part):
            raise refused(
                name, value, "its keys are not all texts", "Give {str(key): item for key, item in x.items()}."
            )
        return {str(key): _plain(name, value, item, depth + 1, notes) for key, item in part.items()}
    if isinstance(part, list | tuple) and not hasattr(part, "_fields"):
        if isinstance(part, tuple):
            notes.add("tuples are lists there")
        return [_plain(name, value, item, depth + 1, notes) for item in part]
    if type(part).__module__ == "numpy" and hasattr(part, "dtype"):
        exact = part.dtype.kind in "biuU" or (part.dtype.kind == "f" and part.dtype.itemsize <= 8)
        if exact and type(part).__name__ not in ("MaskedConstant", "MaskedArray"):
            if part.ndim:
                notes.add("arrays are lists there")
            return part.tolist()
    what = "it is" if part is value else "it holds"
    kind = type(part).__name__
    hint = "Give x._asdict()." if hasattr(part, "_fields") else _INSTEAD.get(kind, "")
    raise refused(name, value, f"{what} a {kind}", hint)


def _size(value: Any) -> str:
    if isinstance(value, dict):
        return (
            f" with the keys {', '.join(' '.join(key.split())[:40] for key in list(value)[:12])}"
            if value
            else " without keys"
        )
    if isinstance(value, list | tuple):
        return f" of {len(value)} items"
    return f" {str(value)[:80]!r}" if isinstance(value, str) else f" {value}"
