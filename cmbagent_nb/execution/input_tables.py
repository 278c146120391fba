"""Stores astropy tables as Parquet: masked values as missing, units and metadata as attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmbagent_nb.execution.input_arrays import Written, refused
from cmbagent_nb.execution.input_frames import store_frame


def write_table(name: str, value: Any, folder: Path) -> Written:
    """Write a Table, a QTable or a TimeSeries without coordinates."""
    import pandas as pd

    notes: list[str] = []
    units: dict[str, str] = {}
    columns: dict[str, Any] = {}
    for column in value.colnames:
        columns[column], unit = _column(name, value, column, value[column], notes)
        if unit:
            units[column] = unit
    frame = pd.DataFrame(columns)
    frame.attrs.update({**({"units": units} if units else {}), **dict(value.meta)})
    made = store_frame(name, value, frame, folder, notes)
    said = ", ".join(f"{column} in {unit}" for column, unit in units.items())
    about = f"{type(value).__name__} of astropy as {made.description}" + (f"; units: {said}" if said else "")
    return Written(made.path, type(value).__name__, about)


def _column(name: str, value: Any, column: str, data: Any, notes: list[str]) -> tuple[Any, str]:
    """Return a column as an array of pandas, and its unit."""
    import numpy as np
    import pandas as pd

    kind = type(data).__name__
    if kind == "Time":
        notes.append(f"the times {column!r} are texts, on the scale {data.scale}")
        return pd.array([str(item) for item in data.isot], dtype=object), ""
    if not hasattr(data, "dtype") or not hasattr(data, "shape") or getattr(data, "ndim", 0) != 1:
        what = f"has the shape {data.shape}" if getattr(data, "ndim", 1) != 1 else f"is a {kind}"
        raise refused(
            name, value, f"its column {column!r} {what}", "Give the column by itself, or its parts as columns."
        )
    unit = getattr(data, "unit", None)
    mask = np.asarray(getattr(data, "mask", False))
    plain = getattr(data, "unmasked", data)
    plain = np.ma.getdata(plain.value if hasattr(plain, "value") and kind != "MaskedColumn" else plain)
    plain = np.asarray(plain)
    if not plain.dtype.isnative:
        notes.append(f"the byte order of the column {column!r} was changed")
        plain = plain.astype(plain.dtype.newbyteorder("="))
    if plain.dtype.kind == "S":
        plain = np.char.decode(plain, "utf-8")
    if mask.any():
        notes.append(f"{int(mask.sum())} masked values of the column {column!r} are missing")
        return _masked(plain, mask), str(unit or "")
    return (pd.array(list(plain), dtype=object) if plain.dtype.kind == "U" else plain), str(unit or "")


def _masked(data: Any, mask: Any) -> Any:
    """Return an array of pandas in which what is masked is missing."""
    import numpy as np
    import pandas as pd

    if data.dtype.kind in "fc":
        data = data.copy()
        data[mask] = np.nan
        return data
    if data.dtype.kind in "iu":
        return pd.arrays.IntegerArray(data.copy(), mask.copy())
    if data.dtype.kind == "b":
        return pd.arrays.BooleanArray(data.copy(), mask.copy())
    return pd.array([None if gap else item for item, gap in zip(data.tolist(), mask, strict=True)], dtype=object)
