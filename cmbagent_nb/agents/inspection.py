"""Looking into a data file: what a person would want to know before writing code that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmbagent_nb.agents.tabular import Form, decode, form_of, is_table

#: Rows that are shown, and rows on which types and ranges stand.
HEAD = 5
ROWS = 100_000
#: The largest JSON file that is read whole, and the depth to which it is told.
LARGEST_JSON = 16 * 2**20
#: The largest part of a file of parts (Parquet, npz) that is read.
LARGEST_PART = 128 * 2**20
DEPTH = 4
COLUMNS = 60


def inspect_file(path: Path, name: str = "") -> str:
    """Describe a data file; a file that cannot be read is described as that."""
    name = name or path.name
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in (".gz", ".bz2", ".xz") else "".join(suffixes[-1:])
    readers: dict[str, Callable[[Path], str]] = {
        ".csv": _delimited,
        ".tsv": _delimited,
        ".txt": _table_or_text,
        ".dat": _table_or_text,
        ".parquet": _parquet,
        ".npy": _array,
        ".npz": _arrays,
        ".json": _json,
    }
    size = path.stat().st_size
    try:
        text = readers.get(kind, _text)(path)
    except Exception as error:  # a reader of another library: whatever it raises is the answer
        text = f"It cannot be read as {kind or 'text'}: {type(error).__name__}: {str(error)[:300]}"
    return f"{name}: {size:,} bytes\n{text}"


def _delimited(path: Path) -> str:
    form = form_of(path)
    return _text(path) if form is None else _table(path, form)


def _table_or_text(path: Path) -> str:
    form = form_of(path)
    return _table(path, form) if form is not None and is_table(form) else _text(path)


def _table(path: Path, form: Form) -> str:
    frame = form.read(ROWS + 1)
    count = len(form.text.splitlines()) - (form.named and form.names is None)
    lines = [f"comment: {line[:200]}" for line in form.comments[:8]]
    rows = None if form.whole or len(frame) > ROWS else f"at least {len(frame):,}"
    doubts = list(form.doubts)
    if len(frame) < min(count, ROWS):
        doubts.append(f"{count - len(frame)} lines do not fit and are left out here")
    lines.append(_frame(frame, form.told(), rows))
    if not form.whole:
        lines.append("only the beginning of the file was read")
    if doubts:
        lines += ["NOT SURE how to read it: " + "; ".join(doubts), "its lines begin:"]
        lines += [line[:200] for line in form.text.split("\n", HEAD)[:HEAD]]
    return "\n".join(lines)


def _parquet(path: Path) -> str:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    rows = file.metadata.num_rows
    if rows and file.metadata.row_group(0).total_byte_size > LARGEST_PART:
        fields = [f"- {field.name}: {field.type}" for field in list(file.schema_arrow)[:COLUMNS]]
        size = f"table, {rows:,} rows × {len(file.schema_arrow)} columns, Parquet"
        return "\n".join([size, *fields, "Its parts are too large to look into here; read a few columns of it."])
    batch = next(file.iter_batches(batch_size=ROWS), None)
    frame = (batch if batch is not None else file.schema_arrow.empty_table()).to_pandas()
    return _frame(frame, "Parquet", f"{rows:,}")


def _frame(frame: Any, note: str, rows: str | None = None) -> str:
    import pandas as pd

    partial = rows is None and len(frame) > ROWS
    count = f"more than {ROWS:,}" if partial else rows or f"{len(frame):,}"
    lines = [f"table, {count} rows × {len(frame.columns)} columns, {note}"]
    for column in list(frame.columns)[:COLUMNS]:
        values = frame[column]
        missing = int(values.isna().sum())
        text = f"- {column}: {values.dtype}"
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and len(values) > missing:
            text += f", {values.min():.6g} to {values.max():.6g}"
        elif len(values) > missing:
            some = values.dropna().astype(str).drop_duplicates().head(4).tolist()
            text += f", such as {', '.join(item[:40] for item in some)}"
        lines.append(text + (f", {missing} missing" if missing else ""))
    if len(frame.columns) > COLUMNS:
        lines.append(f"- … and {len(frame.columns) - COLUMNS} more columns")
    attributes = {key: value for key, value in frame.attrs.items() if isinstance(value, str | int | float | dict)}
    if attributes:
        lines.append(f"attributes: {str(attributes)[:1000]}")
    shown = frame.iloc[:HEAD, :12]
    lines += ["first rows:", shown.to_string(index=not isinstance(frame.index, pd.RangeIndex), max_colwidth=40)]
    return "\n".join(lines)


def _array(path: Path) -> str:
    import numpy as np

    return _one_array(np.load(path, mmap_mode="r", allow_pickle=False))


def _arrays(path: Path) -> str:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        sizes = {item.filename.removesuffix(".npy"): item.file_size for item in archive.zip.infolist()}
        return "\n".join(
            f"- {name}: {_one_array(archive[name])}"
            if sizes.get(name, 0) <= LARGEST_PART
            else f"- {name}: {sizes[name]:,} bytes, too large to look into here"
            for name in archive.files[:COLUMNS]
        )


def _one_array(array: Any) -> str:
    import numpy as np

    text = f"array of {array.dtype}, shape {array.shape}"
    # In the order in which it lies in the file: any other would copy the whole.
    part = np.asarray(array.ravel(order="K")[:ROWS]) if array.flags.forc else np.asarray(array.flat[:ROWS])
    if part.size and np.issubdtype(part.dtype, np.number):
        if np.iscomplexobj(part):
            part = np.abs(part)
        finite = part[np.isfinite(part)]
        if finite.size:
            text += f", {finite.min():.6g} to {finite.max():.6g}"
        if finite.size < part.size:
            text += f", {part.size - finite.size} not finite"
    beginning = f" in the first {ROWS:,}" if array.size > ROWS else ""
    return f"{text}{beginning}, first values {np.array2string(part[:8], precision=6, threshold=8)}"


def _json(path: Path) -> str:
    text, _, whole = decode(path, LARGEST_JSON)
    if not whole:
        return _text(path)
    try:
        value = json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        return f"JSON that is nested too deeply to be told\n{_text(path)}"
    return "\n".join(_outline(value, 0))


def _outline(value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(value, dict):
        if depth >= DEPTH:
            return [f"{indent}object with {len(value)} keys"]
        lines = []
        for key, item in list(value.items())[:40]:
            inner = _outline(item, depth + 1)
            lines += [f"{indent}{key}: {inner[0].strip()}"] if len(inner) == 1 else [f"{indent}{key}:", *inner]
        return [*lines, *([f"{indent}… and {len(value) - 40} more keys"] if len(value) > 40 else [])] or [
            f"{indent}{{}}"
        ]
    if isinstance(value, list):
        if all(isinstance(item, int | float | str | bool | type(None)) for item in value[:100]):
            return [f"{indent}list of {len(value)}: {json.dumps(value[:6])[:200]}"]
        first = _outline(value[0], depth + 1) if value and depth < DEPTH else []
        return [f"{indent}list of {len(value)}, the first:", *first]
    return [f"{indent}{json.dumps(value)[:200]}"]


def _text(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4000)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        lines = start.decode("utf-16", errors="replace").splitlines()
    elif b"\0" in start:
        return f"binary, begins with {start[:24].hex(' ')}"
    else:
        lines = start.decode("utf-8", errors="replace").removeprefix("\ufeff").splitlines()
    return "\n".join(["text, begins:", *(line[:300] for line in lines[:30])])
