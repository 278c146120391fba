"""Kernel variables as files: what a user passes with ``--in`` is stored where the agents' code finds it.

Either all inputs are stored or none is: they are written beside the folder and moved into it at the end.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import InputError
from cmbagent_nb.ids import new_id

_COLUMNS = 40
_SHOWN = 1000


def store_inputs(inputs: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Store variables in ``folder``, which is the run's ``input``, and describe each for the agents.

    A DataFrame or a Series becomes Parquet, a numpy array ``.npy``, a path to a file a copy of the
    file, and what JSON can hold becomes JSON.

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
        doubles = {item["path"] for item in stored if sum(other["path"] == item["path"] for other in stored) > 1}
        if doubles:
            raise InputError(f"two inputs have the same file name {min(doubles)!r}", "Rename one of them.")
        folder.mkdir(parents=True, exist_ok=True)
        for item in stored:
            (staging / item["path"]).replace(folder / item["path"])
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
            "description": item["description"].replace("FILE", f"{folder.name}/{item['path']}"),
            "size_bytes": (folder / item["path"]).stat().st_size,
        }
        for item in stored
    ]


def _store(name: str, value: Any, folder: Path) -> dict[str, Any]:
    if not name.isidentifier():
        raise InputError(f"{name!r} is not the name of a variable", "Use letters, digits and '_'.", name=name)
    try:
        path, kind, description = _write(name, value, folder)
    except InputError:
        raise
    except Exception as error:  # whatever a library raises, the user learns which variable it was
        raise _refused(name, value, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return {"name": name, "path": path, "kind": kind, "description": description}


def _write(name: str, value: Any, folder: Path) -> tuple[str, str, str]:
    module = type(value).__module__.partition(".")[0]
    if module == "pandas":
        return _write_frame(name, value, folder)
    if module == "numpy" and hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0:
        return _write_array(name, value, folder)
    if isinstance(value, Path):
        if not value.is_file():
            raise InputError(f"the input {name!r} is {value}, which is no file", "Give the path of a file.", name=name)
        file = f"{name}{''.join(value.suffixes)}"
        shutil.copyfile(value, folder / file)
        return file, "file", f"a copy of {value.name}, in FILE"
    text = json.dumps(_plain(name, value, value, 0), ensure_ascii=False, indent=1)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    kind = type(value).__name__
    return f"{name}.json", kind, f"{kind}{_size(value)}: json.load(open('FILE'))"


def _write_frame(name: str, value: Any, folder: Path) -> tuple[str, str, str]:
    import pandas as pd

    if isinstance(value, pd.Series):
        value = value.to_frame(value.name if value.name is not None else name)
    if not isinstance(value, pd.DataFrame):
        raise _refused(name, value, "of pandas, only DataFrame and Series can be stored")
    frame = value if all(isinstance(column, str) for column in value.columns) else value.rename(columns=str)
    frame.to_parquet(folder / f"{name}.parquet")
    columns = ", ".join(f"{column} ({frame[column].dtype})" for column in list(frame.columns)[:_COLUMNS])
    more = f" and {len(frame.columns) - _COLUMNS} more" if len(frame.columns) > _COLUMNS else ""
    notes = "".join(f"; {key}: {text}" for key, text in frame.attrs.items() if isinstance(text, str | dict))
    description = (
        f"DataFrame of {len(frame)} rows and {len(frame.columns)} columns: {columns}{more}; "
        f"pandas.read_parquet('FILE'){notes[:_SHOWN]}"
    )
    return f"{name}.parquet", "DataFrame", description


def _write_array(name: str, value: Any, folder: Path) -> tuple[str, str, str]:
    import numpy as np

    if value.dtype.hasobject:
        raise _refused(name, value, "arrays of objects cannot be stored safely")
    np.save(folder / f"{name}.npy", np.asarray(value), allow_pickle=False)
    return f"{name}.npy", "ndarray", f"array of {value.dtype}, shape {value.shape}; numpy.load('FILE')"


def _plain(name: str, value: Any, part: Any, depth: int) -> Any:
    """Return what JSON can hold, or refuse: nothing is turned into a text that it was not."""
    if depth > 50:
        raise _refused(name, value, "it is nested too deeply")
    if part is None or isinstance(part, bool | int | str):
        return part
    if isinstance(part, float):
        return float(part) if math.isfinite(part) else part
    if isinstance(part, Mapping):
        if not all(isinstance(key, str) for key in part):
            raise _refused(name, value, "its keys are not all texts")
        return {key: _plain(name, value, item, depth + 1) for key, item in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(name, value, item, depth + 1) for item in part]
    if hasattr(part, "dtype") and hasattr(part, "item") and getattr(part, "ndim", 1) == 0:
        return _plain(name, value, part.item(), depth + 1)
    if type(part).__module__.partition(".")[0] == "numpy" and hasattr(part, "tolist"):
        return _plain(name, value, part.tolist(), depth + 1)
    what = "it is" if part is value else "it holds"
    raise _refused(name, value, f"{what} a {type(part).__name__}")


def _size(value: Any) -> str:
    if isinstance(value, dict):
        return f" with the keys {', '.join(map(str, list(value)[:12]))}" if value else " without keys"
    if isinstance(value, list | tuple):
        return f" of {len(value)} items"
    return f" {str(value)[:80]!r}" if isinstance(value, str) else f" {value}"


def _refused(name: str, value: Any, why: str) -> InputError:
    return InputError(
        f"the input {name!r} ({type(value).__name__}) cannot be stored: {why}",
        "Give a DataFrame, an array, a path to a file, or what JSON can hold.",
        name=name,
    )
