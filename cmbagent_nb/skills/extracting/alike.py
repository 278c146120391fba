"""Finds files that another value of a parameter would read: their names differ from one that was read in that value.

A first run reads ``data/planck.csv`` where ``survey = "planck"``; ``data/act.csv`` beside it is read with
``survey="act"``. A file whose name the code itself has is read whatever the parameters are, and stands for no others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from cmbagent_nb.skills.model import Parameter

_NUMBER = r"\d+(?:\.\d+)?"


def alike(path: str, parameters: Iterable[Parameter], codes: Collection[str], there: Iterable[str]) -> set[str]:
    """Return the files among ``there`` that may be read instead of one, with other values of the parameters.

    >>> survey = Parameter("survey", "str", "planck")
    >>> sorted(alike("data/planck.csv", [survey], ["read(f'data/{survey}.csv')"], ["data/act.csv", "data/act.txt"]))
    ['data/act.csv']
    """
    values = [value for item in parameters for value in _values(item.default)]
    texts = sorted({value for value in values if isinstance(value, str)}, key=len, reverse=True)
    numbers = {float(value) for value in values if not isinstance(value, str)}
    parts, found = [], False
    for part in path.split("/"):
        pattern = "" if any(part in code for code in codes) else _pattern(part, texts, numbers)
        found |= bool(pattern)
        parts.append(pattern or re.escape(part))
    whole = re.compile("/".join(parts))
    return {other for other in there if other != path and whole.fullmatch(other)} if found else set()


def _values(default: Any) -> Iterator[Any]:
    """Yield the texts and numbers of a parameter's default that may stand in a name."""
    if isinstance(default, (list, tuple)):
        for item in default:
            yield from _values(item)
    elif isinstance(default, str):
        if re.search(r"\w", default) and "/" not in default:
            yield default
    elif isinstance(default, (int, float)) and not isinstance(default, bool):
        yield default


def _pattern(part: str, texts: list[str], numbers: set[float]) -> str:
    """Return a pattern for a part of a path with other values in it; nothing where it has none."""
    made, begin = "", 0
    for match in re.finditer("|".join([*map(re.escape, texts), _NUMBER]), part):
        text = match.group()
        if text in texts:
            other = "[^/]+"
        elif re.fullmatch(_NUMBER, text) and float(text) in numbers:
            other = _NUMBER
        else:
            continue
        made += re.escape(part[begin : match.start()]) + other
        begin = match.end()
    return made + re.escape(part[begin:]) if made else ""
