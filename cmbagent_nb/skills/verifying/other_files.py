"""Changed copies of input files: what is put in a file's place to see whether its content has an effect.

A copy keeps its form: columns, types, the layout of a text. Nothing here is random.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Files larger than this are not changed: reading them would take longer than what is to be tried.
LARGEST = 64 * 2**20
_TEXTS = frozenset(
    {".csv", ".tsv", ".txt", ".dat", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".xml", ".ecsv", ".md", ".log"}
)
_PICTURES = frozenset({".png", ".bmp", ".tif", ".tiff"})


def changed_copies(path: Path) -> list[Callable[[Path], bool]]:
    """Return ways to write a changed copy of a file; each says whether it could. None for a kind that is not known."""
    suffix = path.suffix.lower()
    if path.stat().st_size > LARGEST:
        return []
    if suffix in _TEXTS:
        ways = [_numbers_of_text, _fewer_lines, _letters_of_text]
    elif suffix in {".parquet", ".feather"}:
        ways = [_numbers_of_table, _fewer_rows, _turned_columns]
    elif suffix in {".npy", ".npz"}:
        ways = [_arrays]
    elif suffix in _PICTURES:
        ways = [_picture]
    else:
        return []
    return [_bound(way, path) for way in ways]


def _bound(way: Callable[[Path, Path], bool], path: Path) -> Callable[[Path], bool]:
    return lambda target: way(path, target)


def _write(target: Path, text: str, old: str) -> bool:
    target.write_text(text, encoding="utf-8", errors="surrogateescape")
    return text != old


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _numbers_of_text(path: Path, target: Path) -> bool:
    """Make every number with a fraction a tenth larger, at the same place and with the same digits after the point."""
    text = _text(path)
    pattern = r"(?<![\w.:/-])-?\d+\.\d+(?:[eE][-+]?\d+)?(?![\w.:/])"

    def larger(found: re.Match[str]) -> str:
        number = found.group()
        digits = len(number.partition(".")[2])
        return f"{float(number) * 1.1:.6e}" if "e" in number.lower() else f"{float(number) * 1.1:.{digits}f}"

    changed = re.sub(pattern, larger, text)
    if changed == text:  # whole numbers only: one more, but for those that count lines or years from a fixed place
        changed = re.sub(r"(?<![\w.:/-])\d+(?![\w.:/-])", lambda found: str(int(found.group()) + 1), text)
    return _write(target, changed, text)


def _fewer_lines(path: Path, target: Path) -> bool:
    """Leave the last quarter of the lines out."""
    text = _text(path)
    lines = text.splitlines(keepends=True)
    if len(lines) < 6 or path.suffix.lower() in {".json", ".xml", ".yaml", ".yml"}:
        return False
    return _write(target, "".join(lines[: len(lines) - len(lines) // 4]), text)


def _letters_of_text(path: Path, target: Path) -> bool:
    """Put another word in the place of the commonest in the second half, so that a header stays."""
    text = _text(path)
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    words = re.findall(r"[A-Za-z]{3,}", tail)
    if not words or path.suffix.lower() in {".xml"}:
        return False
    commonest = max(sorted(set(words)), key=words.count)
    return _write(target, head + re.sub(rf"\b{commonest}\b", f"{commonest}s", tail), text)


def _table(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_feather(path)


def _store(frame: Any, target: Path) -> bool:
    getattr(frame, "to_parquet" if target.suffix.lower() == ".parquet" else "to_feather")(target)
    return True


def _numbers_of_table(path: Path, target: Path) -> bool:
    frame = _table(path)
    floats = [name for name in frame.columns if getattr(frame[name].dtype, "kind", "") == "f"]
    whole = [name for name in frame.columns if getattr(frame[name].dtype, "kind", "") in "iu"]
    for name in floats:
        frame[name] = (frame[name] * 1.1).astype(frame[name].dtype)
    for name in [] if floats else whole:
        frame[name] = frame[name] + 1
    return bool(floats or whole) and _store(frame, target)


def _fewer_rows(path: Path, target: Path) -> bool:
    frame = _table(path)
    return len(frame) >= 4 and _store(frame.iloc[: len(frame) - len(frame) // 4], target)


def _turned_columns(path: Path, target: Path) -> bool:
    """Move the values of each column of texts one row on."""
    frame = _table(path)
    others = [name for name in frame.columns if getattr(frame[name].dtype, "kind", "O") not in "fiu"]
    for name in others:
        values = frame[name].tolist()
        frame[name] = values[1:] + values[:1]
    return bool(others) and _store(frame, target)


def _arrays(path: Path, target: Path) -> bool:
    import numpy as np

    if path.suffix.lower() == ".npy":
        changed = _array(np.load(path, allow_pickle=False))
        if changed is None:
            return False
        np.save(target, changed, allow_pickle=False)
        return True
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: (arrays[name], _array(arrays[name])) for name in arrays.files}
    if all(changed is None for _, changed in found.values()):
        return False
    np.savez(target, **{name: old if changed is None else changed for name, (old, changed) in found.items()})
    return True


def _array(values: Any) -> Any:
    if values.dtype.names:
        changed = values.copy()
        numbers = [name for name in values.dtype.names if values[name].dtype.kind in "fiu"]
        for name in numbers:
            changed[name] = _array(values[name])
        return changed if numbers else None
    if values.dtype.kind in "fc":
        # more at one end than at the other: a mean that is taken off, or a norm, hides a common factor
        weights = 1.1 + 0.1 * (values * 0 + 1).cumsum().reshape(values.shape).real / max(values.size, 1)
        return (values * weights).astype(values.dtype)
    if values.dtype.kind in "iu":
        return values + 1
    return ~values if values.dtype.kind == "b" else None


def _picture(path: Path, target: Path) -> bool:
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        ImageOps.invert(picture.convert("RGB")).save(target)
    return True


def moved(path: Path, target: Path) -> None:
    """Move a file, for a kind whose content cannot be changed: that it is read from its new place shows as much."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
