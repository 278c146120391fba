"""What runs inside a skill's kernel for results that are kept: digests of names, writing and reading them.

The kernel loads this file by its path, so it imports nothing of this package, and nothing heavy that
the skill has not imported. Values become JSON, npy and parquet files; nothing is pickled. What would
not come back exactly as it was (a function, an open file, two names for one list) is refused.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

_PLAIN = (bool, int, float, str, type(None))


class Refused(Exception):
    """A value that cannot be kept; the text says why."""


class _Box:
    """Takes values apart into JSON, with arrays and tables as files beside it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.digest = hashlib.sha256()
        self.files = 0
        self.seen: dict[int, Any] = {}

    def pack(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        if type(value) is tuple:
            return {"tuple": [self.pack(item) for item in value]}
        if type(value) is complex:
            return {"complex": [value.real, value.imag]}
        if type(value) is bytes and len(value) < 2**20:
            return {"bytes": value.hex()}
        if isinstance(value, Path):
            return {"path": str(value)}
        numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
        if numpy is not None and isinstance(value, numpy.generic):
            return {"scalar": self._array(numpy, numpy.asarray(value))}
        if id(value) in self.seen:
            raise Refused("two names share one object")
        self.seen[id(value)] = value
        if type(value) is list:
            return {"list": [self.pack(item) for item in value]}
        if type(value) in (set, frozenset):
            return {type(value).__name__: [self.pack(item) for item in sorted(value, key=repr)]}
        if type(value) is dict:
            return {"dict": [[self.pack(key), self.pack(item)] for key, item in value.items()]}
        if numpy is not None and type(value) is numpy.ndarray:
            if value.base is not None:
                if id(value.base) in self.seen:
                    raise Refused("two arrays share their memory")
                self.seen[id(value.base)] = value.base
            return {"array": self._array(numpy, value)}
        if pandas is not None and type(value) in (pandas.DataFrame, pandas.Series):
            return self._table(pandas, value)
        raise Refused(f"a {type(value).__name__} cannot be kept")

    def _array(self, numpy: Any, value: Any) -> str:
        if value.dtype.hasobject:
            raise Refused("an array of objects cannot be kept")
        self.digest.update(f"{value.dtype.descr}{value.shape}".encode())
        self.digest.update(numpy.ascontiguousarray(value).tobytes())
        name = f"{self.files}.npy"
        self.files += 1
        if self.folder is not None:
            numpy.save(self.folder / name, value, allow_pickle=False)
        return name

    def _table(self, pandas: Any, value: Any) -> Any:
        series = isinstance(value, pandas.Series)
        frame = value.to_frame("0") if series else value
        if frame.attrs or not all(isinstance(name, str) for name in frame.columns):
            raise Refused("a table whose columns are not texts cannot be kept")
        for kind in frame.dtypes:
            if str(kind) == "object":
                raise Refused("a table with a column of objects cannot be kept")
        self.digest.update(repr([(name, str(kind)) for name, kind in frame.dtypes.items()]).encode())
        self.digest.update(repr((frame.index.names, str(frame.index.dtype), len(frame))).encode())
        self.digest.update(pandas.util.hash_pandas_object(frame, index=True).to_numpy().tobytes())
        name = f"{self.files}.parquet"
        self.files += 1
        if self.folder is not None:
            frame.to_parquet(self.folder / name)
            back = pandas.read_parquet(self.folder / name)
            pandas.testing.assert_frame_equal(frame, back, check_exact=True, check_freq=True)
        return {"series": [name, self.pack(value.name)]} if series else {"frame": name}


def digests(namespace: dict[str, Any], names: list[str]) -> dict[str, list[str] | None]:
    """Return two digests of each name's value, or None: of the value, and of the file that it is the path of, too."""
    found: dict[str, list[str] | None] = {}
    for name in names:
        box = _Box(None)
        try:
            value = namespace[name]
            packed = json.dumps([type(value).__name__, box.pack(value)])
            box.digest.update(packed.encode("utf-8", "surrogatepass"))
            alone = box.digest.hexdigest()
            _add_file(box, value)
        except (Refused, KeyError, OSError, RuntimeError, TypeError, ValueError):
            found[name] = None
        else:
            found[name] = [alone, box.digest.hexdigest()]
    return found


def _add_file(box: _Box, value: Any) -> None:
    if not isinstance(value, (str, Path)) or not str(value) or len(str(value)) > 4096 or "\0" in str(value):
        return
    path = Path(value).expanduser()
    if path.is_dir() and path.is_absolute():
        raise Refused("a folder's content is not followed")
    if path.is_file():
        with path.open("rb") as file:
            box.digest.update(hashlib.file_digest(file, "sha256").digest())


def keep(namespace: dict[str, Any], names: list[str], folder: str) -> str:
    """Write the values of names into a folder; return why that cannot be done, or nothing."""
    place = Path(folder)
    box, packed = _Box(place), {}
    try:
        for name in names:
            if name in namespace:
                packed[name] = box.pack(namespace[name])
    except Exception as error:  # whatever a value's own type raises: it is not kept
        return f"{name}: {error}"
    (place / "names.json").write_text(json.dumps(packed), encoding="utf-8")
    return ""


def bring(namespace: dict[str, Any], folder: str) -> None:
    """Set the names that :func:`keep` wrote; all are read before the first is set."""
    place = Path(folder)
    packed = json.loads((place / "names.json").read_text(encoding="utf-8"))
    namespace.update({name: _unpack(value, place) for name, value in packed.items()})


def _unpack(value: Any, place: Path) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind in ("list", "tuple", "set", "frozenset"):
        items = [_unpack(item, place) for item in held]
        return items if kind == "list" else {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
    if kind == "dict":
        return {_unpack(key, place): _unpack(item, place) for key, item in held}
    if kind in ("array", "scalar"):
        import numpy

        array = numpy.load(place / held, allow_pickle=False)
        return array if kind == "array" else array[()]
    if kind in ("frame", "series"):
        import pandas

        frame = pandas.read_parquet(place / (held if kind == "frame" else held[0]))
        return frame if kind == "frame" else frame["0"].rename(_unpack(held[1], place))
    plain: dict[str, Any] = {
        "complex": lambda: complex(*held),
        "bytes": lambda: bytes.fromhex(held),
        "path": lambda: Path(held),
    }
    return plain[kind]()


def answer(path: str, value: Any) -> None:
    """Hand a result back."""
    Path(path).write_text(json.dumps(value), encoding="utf-8")
