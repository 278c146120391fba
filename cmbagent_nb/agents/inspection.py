"""Looking into a data file: what a person would want to know before writing code that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Rows that are shown, and rows on which types and ranges stand.
HEAD = 5
ROWS = 100_000
#: The largest JSON file that is read whole, and the depth to which it is told.
LARGEST_JSON = 50 * 2**20
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
    import pandas as pd

    frame = pd.read_csv(path, sep=None, engine="python", nrows=1000, comment="#", skipinitialspace=True)
    separator = "\t" if ".tsv" in path.suffixes else None
    if separator is None and len(frame.columns) > 1:
        with _opened(path) as file:
            line = next((line for line in file if not line.startswith("#")), "")
        separator = max(",;\t| ", key=line.count)
    frame = pd.read_csv(path, sep=separator or ",", nrows=ROWS + 1, comment="#", skipinitialspace=True)
    return _frame(frame, f"separated by {separator!r}" if separator not in (None, ",") else "separated by commas")


def _table_or_text(path: Path) -> str:
    import pandas as pd

    with _opened(path) as file:
        lines = [line for _, line in zip(range(200), file, strict=False)]
    header = [line.strip() for line in lines if line.startswith("#")]
    rows = [line.replace(",", " ").split() for line in lines if line.strip() and not line.startswith("#")]
    widths = {len(row) for row in rows[1:]}
    numbers = sum(_is_number(item) for item in rows[-1]) if rows else 0
    if len(widths) > 1 or not numbers or (2 * numbers <= len(rows[-1]) and len(rows) < 4):
        return _text(path)
    named = not any(_is_number(item) for item in rows[0])
    with _opened(path) as file:
        frame = pd.read_csv(
            file, sep=r"[\s,]+", engine="python", comment="#", header=0 if named else None, nrows=ROWS + 1,
            skipinitialspace=True,
        )  # fmt: skip
    note = "columns separated by white space" + ("" if named else ", without a line of names")
    return "\n".join([*(f"comment: {line[:200]}" for line in header[:8]), _frame(frame, note)])


def _parquet(path: Path) -> str:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    rows = file.metadata.num_rows
    batch = next(file.iter_batches(batch_size=ROWS), None)
    frame = (batch if batch is not None else file.schema_arrow.empty_table()).to_pandas()
    return _frame(frame, "Parquet", rows)


def _frame(frame: Any, note: str, rows: int | None = None) -> str:
    import pandas as pd

    partial = rows is None and len(frame) > ROWS
    count = f"more than {ROWS:,}" if partial else f"{rows if rows is not None else len(frame):,}"
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
        return "\n".join(f"- {name}: {_one_array(archive[name])}" for name in archive.files[:COLUMNS])


def _one_array(array: Any) -> str:
    import numpy as np

    text = f"array of {array.dtype}, shape {array.shape}"
    part = np.asarray(array.reshape(-1)[:ROWS])
    if part.size and np.issubdtype(part.dtype, np.number):
        if np.iscomplexobj(part):
            part = np.abs(part)
        finite = part[np.isfinite(part)]
        if finite.size:
            text += f", {finite.min():.6g} to {finite.max():.6g}"
        if finite.size < part.size:
            text += f", {part.size - finite.size} not finite"
    return f"{text}, first values {np.array2string(part[:8], precision=6, threshold=8)}"


def _json(path: Path) -> str:
    if path.stat().st_size > LARGEST_JSON:
        return _text(path)
    with _opened(path) as file:
        return "\n".join(_outline(json.load(file), 0))


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
    if b"\0" in start:
        return f"binary, begins with {start[:24].hex(' ')}"
    lines = start.decode("utf-8", errors="replace").splitlines()
    return "\n".join(["text, begins:", *(line[:300] for line in lines[:30])])


def _opened(path: Path) -> Any:
    import bz2
    import gzip
    import lzma

    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers.get(path.suffix.lower(), open)(path, mode="rt", encoding="utf-8", errors="replace")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
