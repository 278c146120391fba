"""Stores tables as Parquet without losing the meaning of their columns, and reports what had to change.

A frame is read back after it was written: a column that differs is reported, or the frame is refused by the
column's name.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.execution.input_arrays import Written, refused

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = 40
_SHOWN = 1000
#: Kinds of values whose text says all that they are: a column of several of these can be stored as text.
_TELLING = frozenset(
    {
        "str", "int", "float", "bool", "Decimal", "Fraction", "date", "datetime", "time", "timedelta", "Timestamp",
        "Timedelta", "Period", "Interval", "UUID", "PosixPath", "WindowsPath", "PurePosixPath", "complex", "int64",
        "float64", "int32", "float32", "bool_", "str_",
    }
)  # fmt: skip


def write_frame(name: str, value: Any, folder: Path) -> Written:
    """Write a DataFrame or a Series of pandas."""
    import pandas as pd

    if isinstance(value, pd.Series):
        notes: list[str] = []
        column = name if value.name is None else value.name
        frame = value.to_frame(column)
        frame.attrs.update(value.attrs)
        frame = _fit(name, value, frame, notes)
        _to_parquet(name, value, frame, folder, notes)
        called = f" named {value.name!r}" if value.name is not None else " without a name"
        about = f"Series{called} of {len(value)} values ({value.dtype})"
        load = f"pandas.read_parquet('FILE')[{frame.columns[0]!r}]"
        return Written(f"{name}.parquet", "Series", _told(f"{about}; {load}", frame, notes))
    if not isinstance(value, pd.DataFrame):
        raise refused(
            name, value, "of pandas, only DataFrame and Series can be stored", "Give x.to_series() or a frame."
        )
    return store_frame(name, value, value, folder, [])


def store_frame(name: str, value: Any, frame: pd.DataFrame, folder: Path, notes: list[str]) -> Written:
    """Write the frame that holds ``value``, and describe it with ``notes`` about what was changed."""
    frame = _fit(name, value, frame, notes)
    _to_parquet(name, value, frame, folder, notes)
    columns = ", ".join(f"{_short(column)} ({dtype})" for column, dtype in list(frame.dtypes.items())[:_COLUMNS])
    more = f" and {len(frame.columns) - _COLUMNS} more" if len(frame.columns) > _COLUMNS else ""
    about = (
        f"DataFrame of {len(frame)} rows and {len(frame.columns)} columns: {columns}{more}; pandas.read_parquet('FILE')"
    )
    return Written(f"{name}.parquet", "DataFrame", _told(about, frame, notes))


def _told(about: str, frame: pd.DataFrame, notes: list[str]) -> str:
    index = [str(item) for item in frame.index.names if item is not None]
    rows = f"; index: {', '.join(index)}" if index else ""
    attrs = "".join(f"; {key}: {text}" for key, text in frame.attrs.items() if isinstance(text, str | dict))
    changed = f"; changed to store it: {'; '.join(notes)}" if notes else ""
    return f"{about}{rows}{changed}{attrs[:_SHOWN]}"


def _short(column: Any) -> str:
    text = " ".join(str(column).split())
    return text if len(text) <= 60 else f"{text[:60]}…"


def _fit(name: str, value: Any, frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return a frame that Parquet can hold; ``notes`` say what is different."""
    import pandas as pd

    attrs = _attrs(frame.attrs, notes)
    columns = _names(list(frame.columns), notes)
    parts: list[tuple[str, Any]] = []
    for place, column in enumerate(columns):
        parts += _column(name, value, column, frame.iloc[:, place], notes)
    index = _index(name, value, frame.index, {column for column, _ in parts}, notes)
    made = pd.DataFrame({place: series.array for place, (_, series) in enumerate(parts)}, index=index)
    made.columns = pd.Index([column for column, _ in parts], name=_text(frame.columns.name), dtype=object)
    made.attrs.update(attrs)
    return made


def _text(name: Hashable) -> str | None:
    return None if name is None else str(name)


def _attrs(attrs: Mapping[Any, Any], notes: list[str]) -> dict[str, Any]:
    """Return what JSON can hold of a frame's attributes; the rest as text."""
    kept: dict[str, Any] = {}
    changed, left = [], []
    for key, item in attrs.items():
        try:
            if not isinstance(key, str):
                raise TypeError(key)
            if json.loads(json.dumps(item, allow_nan=False)) != item:
                raise TypeError(item)
            kept[key] = item
        except Exception:  # whatever the attribute's own code raises
            try:
                kept[str(key)] = _attribute(item)
                changed.append(str(key))
            except Exception:
                left.append(type(key).__name__ if not isinstance(key, str) else key)
    if changed:
        notes.append(f"the attributes {', '.join(changed)} are stored as text")
    if left:
        notes.append(f"the attributes {', '.join(left)} have no text and are left out")
    return kept


def _attribute(item: Any) -> Any:
    if isinstance(item, dict):
        return {str(key): _attribute(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return [_attribute(part) for part in item]
    return item if isinstance(item, bool | int | str | type(None)) else str(item)


def _names(columns: list[Any], notes: list[str]) -> list[str]:
    """Return names of columns that are texts and differ from each other."""
    texts = [" / ".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in columns]
    if any(not isinstance(item, str) for item in columns):
        what = "of several levels" if any(isinstance(item, tuple) for item in columns) else "no texts"
        notes.append(f"column names that were {what} are texts now")
    found: list[str] = []
    taken = set(texts)
    used: set[str] = set()
    for text in texts:
        new, number = text, 1
        while new in used or (new != text and new in taken):
            new, number = f"{text}.{number}", number + 1
        if new != text:
            notes.append(f"a second column {text!r} is {new!r} now")
        used.add(new)
        found.append(new)
    return found


def _column(name: str, value: Any, column: str, series: Any, notes: list[str]) -> list[tuple[str, Any]]:
    """Return a column as Parquet can hold it: as one, or a complex one as two."""
    import numpy as np
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        notes.append(f"the column {column!r} was sparse")
        return _column(name, value, column, series.sparse.to_dense(), notes)
    if isinstance(dtype, pd.CategoricalDtype):
        return [(column, _category(name, value, column, series, notes))]
    if isinstance(dtype, np.dtype):
        if dtype.kind == "c":
            notes.append(f"the complex column {column!r} is in two, {column}.real and {column}.imag")
            data = series.to_numpy()
            return [(f"{column}.real", pd.Series(data.real)), (f"{column}.imag", pd.Series(data.imag))]
        if dtype.kind == "f" and dtype.itemsize > 8:
            raise refused(name, value, f"its column {column!r} is {dtype}, which Parquet does not know", _AS_FLOAT)
        if not dtype.isnative:
            notes.append(f"the byte order of the column {column!r} was changed")
            return [(column, pd.Series(series.to_numpy().astype(dtype.newbyteorder("="))))]
        if dtype.kind == "O":
            return [(column, _objects(name, value, column, series, notes))]
    elif type(dtype).__module__.partition(".")[0] != "pandas":
        raise refused(
            name, value, f"its column {column!r} is of the type {dtype}", "Give its numbers: x.astype(float)."
        )
    return [(column, series)]


_AS_FLOAT = "Convert it: x.astype('float64')."


def _category(name: str, value: Any, column: str, series: Any, notes: list[str]) -> Any:
    """Return a categorical column, its categories as they can be stored."""
    import pandas as pd

    categories = series.cat.categories
    if all(type(item) is str for item in categories):
        return series
    kind = "ordered" if series.cat.ordered else "unordered"
    listed = ", ".join(str(item) for item in categories[:_COLUMNS])
    notes.append(f"the column {column!r} was categorical ({kind}) with the categories {listed}")
    plain = pd.Series(series.to_numpy(), dtype=categories.dtype if not series.isna().any() else None)
    (pair,) = _column(name, value, column, plain, notes)
    return pair[1]


def _objects(name: str, value: Any, column: str, series: Any, notes: list[str]) -> Any:
    """Return a column of objects: of one kind as it is, of several kinds that a text can tell as texts."""
    import pandas as pd

    missing = series.map(_is_missing)
    kinds = {type(item).__name__ for item in series[~missing]}
    if len(kinds) <= 1 and not kinds - {"str", "bytes", "bool", "Decimal", "date", "time"}:
        return series
    if kinds <= {"bool", "bool_"}:
        return pd.Series(series.array, dtype="boolean")
    if kinds <= {"int", "int64", "int32"} and not missing.any():
        try:
            return series.astype("int64")
        except OverflowError:
            pass
    elif kinds <= {"int", "int64", "int32"}:
        notes.append(f"the column {column!r} of objects is Int64")
        return pd.Series([pd.NA if gap else item for item, gap in zip(series, missing, strict=True)], dtype="Int64")
    elif kinds <= {"float", "float64", "float32"}:
        return series.astype("float64")
    if kinds <= _TELLING:
        notes.append(f"the column {column!r} held {', '.join(sorted(kinds))} and is text")
        return pd.Series([None if gap else str(item) for item, gap in zip(series, missing, strict=True)], dtype=object)
    raise refused(
        name,
        value,
        f"its column {column!r} holds {', '.join(sorted(kinds - _TELLING))}",
        "Convert the column to numbers or texts, or leave it out.",
    )


def _is_missing(item: Any) -> bool:
    import math

    import pandas as pd

    return item is None or item is pd.NA or item is pd.NaT or (type(item) is float and math.isnan(item))


def _index(name: str, value: Any, index: Any, columns: set[str], notes: list[str]) -> Any:
    """Return the index as Parquet can hold it."""
    import pandas as pd

    names = [None if item is None else str(item) for item in index.names]
    if any(item is not None and not isinstance(item, str) for item in index.names):
        notes.append("names of the index that were no texts are texts now")
    for place, item in enumerate(names):
        if item is not None and (item in columns or item in names[:place]):
            names[place] = next(f"{item}.{n}" for n in range(1, 10_000) if f"{item}.{n}" not in {*columns, *names})
            notes.append(f"the index {item!r} is {names[place]!r} now: there is a column of this name")
    if isinstance(index, pd.RangeIndex):
        return index.rename(names[0])
    levels = []
    for place in range(index.nlevels):
        level = index.get_level_values(place)
        label = names[place] or f"index level {place}" if index.nlevels > 1 else names[0] or "index"
        pairs = _column(name, value, label, pd.Series(level.array), notes)
        if len(pairs) > 1:
            raise refused(name, value, f"its index {label!r} is complex", "Use x.reset_index().")
        levels.append(pd.Index(pairs[0][1].array))
    if index.nlevels == 1:
        return levels[0].rename(names[0])
    return pd.MultiIndex.from_arrays(levels, names=names)


def _to_parquet(name: str, value: Any, frame: pd.DataFrame, folder: Path, notes: list[str]) -> None:
    """Write a frame, and compare what is read back with it."""
    import pandas as pd

    path = folder / f"{name}.parquet"
    frame.to_parquet(path)
    back = pd.read_parquet(path)
    if list(back.columns) != list(frame.columns) or len(back) != len(frame):
        raise refused(name, value, "read back from Parquet it has other columns", "Simplify its columns or its index.")
    for column in frame.columns:
        before, after = frame[column], back[column]
        if str(before.dtype) == str(after.dtype) and before.dtype != object:
            continue
        if not _same(before, after):
            raise refused(
                name,
                value,
                f"its column {column!r} ({before.dtype}) does not read back the same from Parquet",
                _CONVERT,
            )
        if _family(before) != _family(after):
            notes.append(f"the column {column!r} was {before.dtype} and is {after.dtype}")
    if not _same(frame.index.to_frame(index=False), back.index.to_frame(index=False)):
        raise refused(name, value, "its index does not read back the same from Parquet", "Use x.reset_index().")


_CONVERT = "Convert the column to numbers or texts, or leave it out."


def _family(series: Any) -> str:
    text = str(series.dtype)
    return "text" if text in ("object", "str", "string") else text.partition("[")[0]


def _same(before: Any, after: Any) -> bool:
    """Tell whether two columns or frames hold the same values."""
    try:
        if hasattr(before, "columns"):
            return all(
                _same(before.iloc[:, place], after.iloc[:, place]) for place in range(len(before.columns))
            ) and len(before.columns) == len(after.columns)
        gaps, others = before.isna().to_numpy(), after.isna().to_numpy()
        if not bool((gaps == others).all()):
            return False
        return all(one == other for one, other in zip(before[~gaps], after[~gaps], strict=True))
    except Exception:  # whatever objects raise that are compared: then they are not the same
        return False
