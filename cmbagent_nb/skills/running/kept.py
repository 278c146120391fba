"""Runs inside a skill's kernel: keeps the names that can be kept as plain files, and loads them again.

The text of this module is sent to the kernel (:func:`cmbagent_nb.skills.running.names.kernel_call`), so that it imports
nothing but the standard library before it knows what a value is. Nothing is pickled; a value that does not come back
equal is not kept.
"""

from __future__ import annotations

import json
import pathlib
import sys
import types
from typing import Any

#: Bytes that one name, and all of them, may take.
LARGEST, MOST = 64 * 2**20, 192 * 2**20
_OWN = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})
_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def save(scope: dict[str, Any], folder: str) -> None:
    """Keep what can be kept of a kernel's names in a folder."""
    place = pathlib.Path(folder)
    shared = _shared(scope)
    kept: dict[str, dict[str, Any]] = {}
    spent = 0
    for number, name in enumerate(sorted(scope)):
        value = scope[name]
        if name.startswith("_") or name in _OWN:
            continue
        try:
            item = {"kind": "lost"} if name in shared else _save(value, place / f"v{number}")
        except Exception:  # whatever a strange object does when it is looked at: it is not kept
            item = {"kind": "lost"}
        files = list(place.glob(f"v{number}.*"))
        size = sum(path.stat().st_size for path in files)
        spent += size
        if size > LARGEST or spent > MOST:
            item = {"kind": "lost"}
        kept[name] = item
    state = {"names": kept, "figures": _figures(), "random": _random()}
    temporary = place / "names.json.part"
    temporary.write_text(json.dumps(state), encoding="utf-8")
    temporary.replace(place / "names.json")


def load(scope: dict[str, Any], folder: str) -> None:
    """Put what was kept back into a kernel's names."""
    place = pathlib.Path(folder)
    state = json.loads((place / "names.json").read_text(encoding="utf-8"))
    for name, item in state["names"].items():
        if item["kind"] not in ("lost", "code", "module"):
            scope[name] = _load(item, place)
    python, numpy_state = state["random"]["python"], state["random"]["numpy"]
    if python is not None:
        import random

        random.setstate((python[0], tuple(python[1]), python[2]))
    if numpy_state is not None:
        import numpy as np

        np.random.set_state((numpy_state[0], np.array(numpy_state[1], dtype=np.uint32), *numpy_state[2:]))


def _save(value: Any, place: pathlib.Path) -> dict[str, Any]:
    if isinstance(value, types.ModuleType):
        return {"kind": "module", "pyplot": value.__name__ == "matplotlib.pyplot"}
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        own = getattr(value, "__module__", "") == "__main__"
        # a function of a module comes with its import; one of the notebook with its definition
        return {"kind": "code", "own": own}
    if _is_plain(value, 0):
        text = json.dumps(_plain(value))
        place.with_suffix(".json").write_text(text, encoding="utf-8")
        return {"kind": "plain", "file": f"{place.name}.json"}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if type(value) is numpy.ndarray and not value.dtype.hasobject:
            numpy.save(place.with_suffix(".npy"), value, allow_pickle=False)
            return {"kind": "array", "file": f"{place.name}.npy"}
        if isinstance(value, numpy.generic) and not value.dtype.hasobject:
            numpy.save(place.with_suffix(".npy"), numpy.asarray(value), allow_pickle=False)
            return {"kind": "scalar", "file": f"{place.name}.npy"}
        if type(value) is numpy.random.Generator and type(value.bit_generator).__name__ in _GENERATORS:
            state = json.loads(json.dumps(value.bit_generator.state, default=lambda item: item.tolist()))
            return {"kind": "generator", "name": type(value.bit_generator).__name__, "state": state}
    pandas = sys.modules.get("pandas")
    if pandas is not None and type(value) in (pandas.DataFrame, pandas.Series):
        return _save_frame(value, place, pandas)
    return {"kind": "lost"}


def _save_frame(value: Any, place: pathlib.Path, pandas: Any) -> dict[str, Any]:
    series = type(value) is pandas.Series
    frame = value.to_frame("value") if series else value
    path = place.with_suffix(".parquet")
    frame.to_parquet(path)
    item: dict[str, Any] = {"kind": "series" if series else "frame", "file": path.name}
    if series:
        if not (value.name is None or isinstance(value.name, str)):
            return {"kind": "lost"}
        item["name"] = value.name
    again = _load(item, place.parent)
    if series:
        pandas.testing.assert_series_equal(again, value, check_exact=True, check_freq=False)
    else:
        pandas.testing.assert_frame_equal(again, value, check_exact=True, check_freq=False)
    return item


def _load(item: dict[str, Any], place: pathlib.Path) -> Any:
    kind = item["kind"]
    if kind == "plain":
        return _unplain(json.loads((place / item["file"]).read_text(encoding="utf-8")))
    if kind in ("array", "scalar"):
        import numpy as np

        array = np.load(place / item["file"], allow_pickle=False)
        return array if kind == "array" else array[()]
    if kind == "generator":
        import numpy as np

        state = item["state"]
        if isinstance(state.get("state"), dict):
            state = {
                **state,
                "state": {
                    key: np.array(value, dtype=np.uint32 if item["name"] == "MT19937" else np.uint64)
                    if isinstance(value, list)
                    else value
                    for key, value in state["state"].items()
                },
            }
        if isinstance(state.get("buffer"), list):
            state = {**state, "buffer": np.array(state["buffer"], dtype=np.uint64)}
        generator = np.random.Generator(getattr(np.random, item["name"])())
        generator.bit_generator.state = state
        return generator
    import pandas as pd

    frame = pd.read_parquet(place / item["file"])
    return frame if kind == "frame" else frame["value"].rename(item["name"])


def _is_plain(value: Any, depth: int) -> bool:
    if value is None or type(value) in (bool, int, float, str, complex, bytes) or isinstance(value, pathlib.PurePath):
        return True
    if depth > 50:
        return False
    if type(value) in (list, tuple, set, frozenset):
        return all(_is_plain(item, depth + 1) for item in value)
    if type(value) is dict:
        return all(_is_plain(key, depth + 1) and _is_plain(item, depth + 1) for key, item in value.items())
    return False


def _plain(value: Any) -> Any:
    """Write a plain value such that JSON gives back just this: what JSON does not know is tagged."""
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return {"i": str(value)}
    if type(value) is float:
        return {"f": value.hex() if value == value else "nan"}  # noqa: PLR0124 # not a number is unlike itself
    if type(value) is complex:
        return {"c": [value.real.hex(), value.imag.hex()]}
    if type(value) is bytes:
        return {"b": value.hex()}
    if isinstance(value, pathlib.PurePath):
        return {"p": [type(value).__name__.startswith("Pure"), str(value)]}
    if type(value) is dict:
        return {"d": [[_plain(key), _plain(item)] for key, item in value.items()]}
    tags: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z"}
    tag = tags[type(value)]
    return {tag: [_plain(item) for item in value]}


def _unplain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((tag, inner),) = value.items()
    if tag == "p":
        return (pathlib.PurePath if inner[0] else pathlib.Path)(inner[1])
    if tag == "d":
        return {_unplain(key): _unplain(item) for key, item in inner}
    if tag == "c":
        return complex(float.fromhex(inner[0]), float.fromhex(inner[1]))
    simple: dict[str, Any] = {"i": int, "f": float.fromhex, "b": bytes.fromhex}
    if tag in simple:
        return simple[tag](inner)
    holders: dict[str, Any] = {"l": list, "t": tuple, "s": set, "z": frozenset}
    return holders[tag](_unplain(item) for item in inner)


def _shared(scope: dict[str, Any]) -> set[str]:
    """Return the names that share something that can change: two names for one list would become two lists."""
    owners: dict[int, set[str]] = {}

    def look(value: Any, name: str, depth: int) -> None:
        if depth > 50 or type(value) in (bool, int, float, str, bytes, complex, type(None)):
            return
        if type(value) in (list, set, dict):
            if name in owners.setdefault(id(value), set()):
                owners[id(value)].add("")  # twice within one name
            owners[id(value)].add(name)
        if type(value) in (list, tuple, set, frozenset):
            for item in value:
                look(item, name, depth + 1)
        elif type(value) is dict:
            for item in value.values():
                look(item, name, depth + 1)
        else:
            root: Any = value
            while type(base := getattr(root, "base", None)) is type(root):
                root = base
            if type(value).__module__.partition(".")[0] in ("numpy", "pandas") and not isinstance(value, type):
                owners.setdefault(id(root), set()).add(name)

    for name, value in scope.items():
        if not name.startswith("_") and name not in _OWN and not isinstance(value, (types.ModuleType, type)):
            look(value, name, 0)
    return {name for names in owners.values() if len(names) > 1 for name in names}


def _figures() -> bool:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return bool(pyplot is not None and pyplot.get_fignums())


def _random() -> dict[str, Any]:
    """The states of the two random generators that belong to everybody."""
    python = numpy_state = None
    if "random" in sys.modules:
        state = sys.modules["random"].getstate()
        python = [state[0], list(state[1]), state[2]]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state()
        numpy_state = [name, keys.tolist(), *rest]
    return {"python": python, "numpy": numpy_state}
