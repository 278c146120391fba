"""Finds files that another value of a parameter would read: by their names, which a first run cannot tell.

A first run reads ``data/planck.csv`` where ``survey = "planck"``; ``data/act.csv`` beside it is read with
``survey="act"``. A file whose name the code itself has stands for no others; one that is there may be read on a
condition (``"high.txt" if high else "low.txt"``).
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from cmbagent_nb.skills.magics import parsed
from cmbagent_nb.skills.model import Parameter

_NUMBER = r"\d+(?:\.\d+)?"


def alike(
    path: str, parameters: Iterable[Parameter], codes: Collection[str], there: Iterable[str], here: str = ""
) -> set[str]:
    """Return the files among ``there`` that may be read instead of one, with other values of the parameters.

    A parameter that is the file's own path, as it is seen from the folder ``here``, is given another path: it stands
    for no others.

    >>> survey = Parameter("survey", "str", "planck")
    >>> sorted(alike("data/planck.csv", [survey], ["read(f'data/{survey}.csv')"], ["data/act.csv", "data/act.txt"]))
    ['data/act.csv']
    """
    values = [value for item in parameters for value in _values(item.default)]
    own = posixpath.relpath(path, here or ".")
    texts = sorted({value for value in values if isinstance(value, str) and value != own}, key=len, reverse=True)
    numbers = {float(value) for value in values if not isinstance(value, str)}
    parts, found = [], False
    for part in path.split("/"):
        pattern = "" if any(part in code for code in codes) else _pattern(part, texts, numbers)
        found |= bool(pattern)
        parts.append(pattern or re.escape(part))
    whole = re.compile("/".join(parts))
    return {other for other in there if other != path and whole.fullmatch(other)} if found else set()


def named(codes: Iterable[str], here: str, there: Collection[str]) -> set[str]:
    """Return the files among ``there`` whose paths stand in some code, as they are seen from the folder ``here``.

    >>> sorted(named(["F = {'a': 'act.txt', 'p': '../p.txt'}"], "book", ["book/act.txt", "p.txt", "book/x.txt"]))
    ['book/act.txt', 'p.txt']
    """
    trees = [tree for code in codes if (tree := parsed(code)) is not None]
    nodes = (node for tree in trees for node in ast.walk(tree))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {posixpath.normpath(posixpath.join(here, text)) for text in texts if text} & set(there)


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
            other = "[^/]+" + re.escape(posixpath.splitext(text)[1])
        elif re.fullmatch(_NUMBER, text) and float(text) in numbers:
            other = _NUMBER
        else:
            continue
        made += re.escape(part[begin : match.start()]) + other
        begin = match.end()
    return made + re.escape(part[begin:]) if made else ""
