"""What an imported skill's columns must look like inside, so that whatever reads them later need not ask again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from cmbagent_nb.skills.sharing.package import refused

Fits = Callable[[Any], bool]


def check(about: dict[str, Any], where: str) -> None:
    """Refuse what the rest of the package could stumble over.

    Raises
    ------
    SkillRefused
        It names the entry that is not right.
    """
    for column, entries in _ENTRIES.items():
        held = about.get(column) or {}
        for entry, fits in entries.items():
            if held.get(entry) is not None and not fits(held[entry]):
                raise refused(f"its {where} has no proper {entry} among its {column}", path=where)
    for column, fits in _WHOLE.items():
        if about.get(column) is not None and not fits(about[column]):
            raise refused(f"its {where} has no proper {column}", path=where)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _inside(value: Any) -> bool:
    """Tell whether a path stays within the folder that it is taken from."""
    return _filled(value) and not PurePosixPath(value).is_absolute() and ".." not in PurePosixPath(value).parts


def _list(fits: Fits) -> Fits:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _dict(key: Fits, fits: Fits) -> Fits:
    return lambda value: isinstance(value, dict) and all(key(name) and fits(item) for name, item in value.items())


def _any_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _schema(value: Any) -> bool:
    return isinstance(value, dict) and (value.get("kind") != "table" or isinstance(value.get("columns"), dict))


def _condition(value: Any) -> bool:
    return isinstance(value, dict) and _text(value.get("parameter")) and _text(value.get("op")) and "value" in value


def _edge(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_text, value))


def _node(value: Any) -> bool:
    return isinstance(value, dict) and _filled(value.get("id"))


_ENTRIES: dict[str, dict[str, Fits]] = {
    "preconditions": {
        "packages": _dict(_filled, _text),
        "files": _list(_filled),
        "inputs": _list(_text),
        "columns": _dict(_text, _list(_text)),
        "parameters": _list(_condition),
    },
    "postconditions": {"files": _list(_inside), "ranges": _dict(_inside, _any_dict)},
    "dag_template": {
        "nodes": _list(_node),
        "edges": _list(_edge),
        "parallel": _list(_list(_text)),
        "gates": _list(_text),
        "retry": _any_dict,
    },
}
_WHOLE: dict[str, Fits] = {
    "input_schema": _dict(_inside, _schema),
    "output_schema": _dict(_inside, _schema),
    "agent_sequence": _list(_text),
}
