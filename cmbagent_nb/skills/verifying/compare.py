"""Compares a file that a skill made with the run's own.

| kind | equal when |
|---|---|
| JSON | the same structure, texts and whole numbers; other numbers within ``RTOL`` |
| tables (CSV, TSV, parquet, feather) | the same columns and rows; numbers within ``RTOL`` |
| arrays (npy, npz) | the same shape and kind; numbers within ``RTOL`` |
| pictures | the same size and decoded pixels |
| SVG, PDF | the same but for dates and made-up ids |
| archives (zip, xlsx), gzip | the same members |
| text, code | exactly, but for the folder that they were made in |
| anything else | byte by byte |

Values whose name says that they are times of day or durations measured are not compared, and the report says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

RTOL = 1e-6
#: Differences this small against the largest number of an array are rounding.
ATOL_OF_LARGEST = 1e-12

_VOLATILE = re.compile(
    r"^(time_?stamp|date_?time|created(_at|_on)?|generated(_at|_on)?|(started|ended|finished|run)_at|run_?date|elapsed(_\w+)?|"
    r"duration(_s|_seconds|_sec|_ms)?|(run|wall|cpu|compute|execution|processing)_?time(_s|_seconds|_sec|_ms)?|runtime(_s|_seconds|_sec|_ms)?|"
    r"(hostname|host|pid|platform|cwd|work_?dir))$",
    re.IGNORECASE,
)
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
_TEXTS = frozenset(
    {".txt", ".md", ".rst", ".tex", ".html", ".htm", ".py", ".yaml", ".yml", ".toml", ".xml", ".dat", ".log", ".ecsv"}
)


@dataclass(frozen=True)
class Comparison:
    """How one file compares: equal or not, how it was compared, and what differs."""

    path: str
    equal: bool
    how: str
    detail: str = ""
    largest_difference: float | None = None
    skipped: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as it is kept in the report."""
        return {
            "path": self.path,
            "equal": self.equal,
            "how": self.how,
            "detail": self.detail,
            "largest_difference": self.largest_difference,
            "skipped": list(self.skipped),
        }


class Different(Exception):
    """Two files differ; the text says where."""


@dataclass
class _Look:
    """What is noted while two files are compared."""

    folders: tuple[str, ...]
    largest: float = 0.0
    skipped: list[str] = field(default_factory=list)

    def text(self, value: str) -> str:
        """Return a text with the folders that it was made in taken out."""
        for folder in self.folders:
            value = value.replace(folder, "…")
        return value

    def number(self, where: str, old: float, new: float, scale: float = 0.0) -> None:
        if old == new or (math.isnan(old) and math.isnan(new)):
            return
        size = max(abs(old), abs(new))
        off = abs(old - new)
        if math.isinf(size) or math.isnan(off) or off > RTOL * size + ATOL_OF_LARGEST * scale:
            raise Different(f"{where}: {old!r} became {new!r}")
        self.largest = max(self.largest, off / size if size else 0.0)


def compare(path: str, old: Path, new: Path, folders: tuple[str, ...] = ()) -> Comparison:
    """Compare the run's file ``old`` with the skill's ``new``.

    Parameters
    ----------
    folders
        Folders whose paths may stand in texts: where the run and the skill worked.
    """
    how, function = method(path)
    if not old.is_file():
        return Comparison(path, False, how, "the run's own file is not there any more")
    if not new.is_file():
        return Comparison(path, False, how, "the skill did not make it")
    if old.stat().st_size == new.stat().st_size and old.read_bytes() == new.read_bytes():
        return Comparison(path, True, how, "the same bytes", 0.0)
    look = _Look(tuple(sorted({*folders, *(str(Path(item).resolve()) for item in folders)}, key=len, reverse=True)))
    try:
        function(old, new, look)
    except Different as finding:
        return Comparison(path, False, how, str(finding), None, tuple(look.skipped))
    except Exception as error:  # a damaged file, or one that is not what its name says: bytes decide, and they differ
        return Comparison(path, False, how, f"it cannot be read as {how} ({type(error).__name__}: {error})")
    return Comparison(path, True, how, "", look.largest, tuple(look.skipped))


def method(path: str) -> tuple[str, Callable[[Path, Path, _Look], None]]:
    """Return by what, and how, files of this name are compared.

    >>> method("plots/tt.png")[0], method("data/fit.json")[0], method("data/x.csv")[0], method("x.pkl")[0]
    ('decoded pixels', 'numbers', 'numbers', 'bytes')
    """
    suffix = PurePosixPath(path).suffix.lower()
    return next((found for suffixes, found in _METHODS if suffix in suffixes), ("bytes", _bytes))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _values(where: str, old: Any, new: Any, look: _Look) -> None:
    place = where or "the whole"
    if isinstance(old, dict) and isinstance(new, dict):
        _mappings(where, old, new, look)
    elif isinstance(old, list) and isinstance(new, list):
        _lists(where, old, new, look)
    elif isinstance(old, float) and isinstance(new, (int, float)) and not isinstance(new, bool):
        look.number(place, old, float(new))
    elif isinstance(old, str) and isinstance(new, str):
        if look.text(old) != look.text(new):
            raise Different(f"{place}: {_short(old)} became {_short(new)}")
    elif type(old) is not type(new) or old != new:
        raise Different(f"{place}: {_short(old)} became {_short(new)}")


def _mappings(where: str, old: dict[str, Any], new: dict[str, Any], look: _Look) -> None:
    if old.keys() != new.keys():
        raise Different(f"{where or 'the whole'}: keys {_some(old.keys() ^ new.keys())} are in one only")
    for key, value in old.items():
        inner = f"{where}.{key}" if where else str(key)
        if not _VOLATILE.match(str(key)):
            _values(inner, value, new[key], look)
        elif value != new[key]:
            look.skipped.append(inner)


def _lists(where: str, old: list[Any], new: list[Any], look: _Look) -> None:
    if len(old) != len(new):
        raise Different(f"{where or 'the whole'}: {len(old)} entries became {len(new)}")
    numbers = [abs(item) for item in old if isinstance(item, float) and math.isfinite(item)]
    scale = max(numbers, default=0.0)
    for position, (first, second) in enumerate(zip(old, new, strict=True)):
        if isinstance(first, float) and isinstance(second, float):
            look.number(f"{where}[{position}]", first, second, scale)
        else:
            _values(f"{where}[{position}]", first, second, look)


def _tables(old: Path, new: Path, look: _Look) -> None:
    first, second = _table(old), _table(new)
    if list(first.columns) != list(second.columns):
        raise Different(f"columns {list(first.columns)} became {list(second.columns)}")
    if len(first) != len(second):
        raise Different(f"{len(first)} rows became {len(second)}")
    for name in first.columns:
        if _VOLATILE.match(str(name)) and not first[name].equals(second[name]):
            look.skipped.append(str(name))
            continue
        _column(str(name), first[name], second[name], look)
    if not first.index.equals(second.index):
        raise Different("the index differs")


def _table(path: Path) -> Any:
    import pandas as pd

    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix == ".feather":
        return pd.read_feather(path)
    return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",", low_memory=False)


def _column(name: str, old: Any, new: Any, look: _Look) -> None:
    kinds = old.dtype.kind + new.dtype.kind if hasattr(old.dtype, "kind") and hasattr(new.dtype, "kind") else "OO"
    if set(kinds) <= set("fciu") and "f" in kinds:
        _numbers(f"column {name}", old.to_numpy(dtype=float), new.to_numpy(dtype=float), look)
        return
    for position, (first, second) in enumerate(zip(old.tolist(), new.tolist(), strict=True)):
        if isinstance(first, float) and isinstance(second, float):
            look.number(f"column {name}, row {position}", first, second)
        elif isinstance(first, str) and isinstance(second, str):
            if look.text(first) != look.text(second):
                raise Different(f"column {name}, row {position}: {_short(first)} became {_short(second)}")
        elif str(first) != str(second):
            raise Different(f"column {name}, row {position}: {_short(first)} became {_short(second)}")


def _arrays(old: Path, new: Path, look: _Look) -> None:
    import numpy as np

    if old.suffix.lower() == ".npy":
        _array("the array", np.load(old, allow_pickle=False), np.load(new, allow_pickle=False), look)
        return
    with np.load(old, allow_pickle=False) as first, np.load(new, allow_pickle=False) as second:
        if sorted(first.files) != sorted(second.files):
            raise Different(f"arrays {_some(set(first.files) ^ set(second.files))} are in one only")
        for name in first.files:
            _array(f"array {name}", first[name], second[name], look)


def _array(where: str, old: Any, new: Any, look: _Look) -> None:
    import numpy as np

    if old.shape != new.shape or old.dtype != new.dtype:
        raise Different(f"{where}: {old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}")
    if old.dtype.names:
        for name in old.dtype.names:
            _array(f"{where}, field {name}", old[name], new[name], look)
    elif old.dtype.kind in "fc":
        if old.dtype.kind == "c":
            _numbers(where, old.real, new.real, look)
            _numbers(where, old.imag, new.imag, look)
        else:
            _numbers(where, old, new, look)
    elif not np.array_equal(old, new):
        raise Different(f"{where}: {int((old != new).sum())} of {old.size} values differ")


def _numbers(where: str, old: Any, new: Any, look: _Look) -> None:
    import numpy as np

    old, new = np.asarray(old, dtype=float), np.asarray(new, dtype=float)
    finite = np.isfinite(old)
    scale = float(np.abs(old[finite]).max()) if finite.any() else 0.0
    close = np.isclose(new, old, rtol=RTOL, atol=ATOL_OF_LARGEST * scale, equal_nan=True)
    if not close.all():
        position = int(np.argmax(~close.ravel()))
        first, second = old.ravel()[position], new.ravel()[position]
        raise Different(
            f"{where}: {int((~close).sum())} of {close.size} numbers differ, at {position} {first!r} became {second!r}"
        )
    both = finite & np.isfinite(new) & (old != 0)
    if both.any():
        look.largest = max(look.largest, float(np.abs((new[both] - old[both]) / old[both]).max()))


def _pixels(old: Path, new: Path, look: _Look) -> None:
    import numpy as np
    from PIL import Image

    with Image.open(old) as first, Image.open(new) as second:
        if first.size != second.size:
            raise Different(f"{first.size[0]} × {first.size[1]} pixels became {second.size[0]} × {second.size[1]}")
        frames = getattr(first, "n_frames", 1)
        if frames != getattr(second, "n_frames", 1):
            raise Different("the number of frames differs")
        for frame in range(frames):
            first.seek(frame)
            second.seek(frame)
            pixels, others = np.asarray(first.convert("RGBA")), np.asarray(second.convert("RGBA"))
            if not np.array_equal(pixels, others):
                off = int((pixels != others).any(axis=-1).sum())
                raise Different(f"{off} of {pixels.shape[0] * pixels.shape[1]} pixels differ")


def _texts(old: Path, new: Path, look: _Look) -> None:
    first = look.text(old.read_text(encoding="utf-8", errors="surrogateescape"))
    second = look.text(new.read_text(encoding="utf-8", errors="surrogateescape"))
    if first == second:
        return
    lines, others = first.splitlines(), second.splitlines()
    for number, (line, other) in enumerate(zip(lines, others, strict=False), start=1):
        if line != other:
            raise Different(f"line {number}: {_short(line)} became {_short(other)}")
    raise Different(f"{len(lines)} lines became {len(others)}")


def _drawings(old: Path, new: Path, look: _Look) -> None:
    if _drawing(old) != _drawing(new):
        raise Different("the drawing differs")


def _drawing(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix.lower() == ".pdf":
        return re.sub(rb"/(CreationDate|ModDate)\s*\([^)]*\)|/ID\s*\[[^\]]*\]|startxref\s+\d+", b"", content)
    text = re.sub(r"<dc:date>.*?</dc:date>", "", content.decode("utf-8", "replace"), flags=re.DOTALL)
    ids: dict[str, str] = {}
    for name in re.findall(r'\bid="([^"]+)"', text):
        ids.setdefault(name, f"id{len(ids)}")
    named = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{ids[found.group(1)]}"', text)
    return re.sub(
        r'(#)([^")\s]+)(?=["\)])', lambda found: found.group(1) + ids.get(found.group(2), found.group(2)), named
    ).encode()


def _archives(old: Path, new: Path, look: _Look) -> None:
    import zipfile

    with zipfile.ZipFile(old) as first, zipfile.ZipFile(new) as second:
        if sorted(first.namelist()) != sorted(second.namelist()):
            raise Different("the members differ")
        for name in first.namelist():
            if name != "docProps/core.xml" and first.read(name) != second.read(name):
                raise Different(f"the member {name} differs")


def _gzipped(old: Path, new: Path, look: _Look) -> None:
    import gzip

    if gzip.decompress(old.read_bytes()) != gzip.decompress(new.read_bytes()):
        raise Different("the content differs")


def _bytes(old: Path, new: Path, look: _Look) -> None:
    raise Different(f"{old.stat().st_size} bytes became {new.stat().st_size} others")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _some(names: Any) -> str:
    shown = sorted(map(str, names))[:5]
    return ", ".join(shown)


_METHODS: tuple[tuple[frozenset[str], tuple[str, Callable[[Path, Path, _Look], None]]], ...] = (
    (_PICTURES, ("decoded pixels", _pixels)),
    (frozenset({".json", ".geojson"}), ("numbers", lambda old, new, look: _values("", _json(old), _json(new), look))),
    (
        frozenset({".jsonl", ".ndjson"}),
        ("numbers", lambda old, new, look: _values("", _json_lines(old), _json_lines(new), look)),
    ),
    (frozenset({".csv", ".tsv", ".parquet", ".feather"}), ("numbers", _tables)),
    (frozenset({".npy", ".npz"}), ("numbers", _arrays)),
    (_TEXTS, ("text", _texts)),
    (frozenset({".svg", ".pdf"}), ("drawing", _drawings)),
    (frozenset({".zip", ".xlsx", ".docx", ".ods"}), ("members", _archives)),
    (frozenset({".gz"}), ("content", _gzipped)),
)


def is_volatile(name: str) -> bool:
    """Tell whether a name says that its value is a time of day or a duration measured, which differs each time.

    >>> is_volatile("elapsed_s"), is_volatile("chi2")
    (True, False)
    """
    return _VOLATILE.match(name) is not None
