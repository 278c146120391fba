"""How alike codes are: by their statements, with names and values taken out, and texts, prints and imports left out.

>>> a, b = fingerprint("x = load('a.csv')\\nprint(x)"), fingerprint("data = load('b.csv')")
>>> similarity(a, b)
1.0
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Sequence

Fingerprint = frozenset[str]
#: Codes with fewer statements than this are too short to tell anything by.
LEAST = 3


def fingerprint(code: str) -> Fingerprint:
    """Return the statements of a code without its names and values; each occurrence counts."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return frozenset()
    counts: Counter[str] = Counter()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and (text := _statement(node)):
            counts[text] += 1
            found.append(f"{text}#{counts[text]}")
    return frozenset(found)


def similarity(first: Fingerprint, second: Fingerprint) -> float:
    """Return the part of the statements that two codes share, from 0 to 1."""
    whole = len(first | second)
    return len(first & second) / whole if whole else 0.0


def groups(prints: Sequence[Fingerprint], least: float) -> list[int]:
    """Return a number for each code, the same for codes that are alike, also by way of others.

    Only codes that share a rare statement are compared: two with a similarity of ``least`` or more must share
    one among the rarest ``(1 - least) * n + 1`` of each.
    """
    common = Counter(item for each in prints for item in each)
    number = list(range(len(prints)))

    def root(place: int) -> int:
        while number[place] != place:
            number[place] = number[number[place]]
            place = number[place]
        return place

    seen: dict[str, list[int]] = {}
    for place, each in enumerate(prints):
        if len(each) < LEAST:
            continue
        rare = sorted(each, key=lambda item: (common[item], item))[: int((1 - least) * len(each)) + 1]
        candidates = {other for item in rare for other in seen.get(item, ())}
        for other in candidates:
            if root(other) != root(place) and similarity(each, prints[other]) >= least:
                number[root(place)] = root(other)
        for item in rare:
            seen.setdefault(item, []).append(place)
    return [root(place) for place in range(len(prints))]


def _statement(node: ast.stmt) -> str:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass)):
        return ""
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return ""
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Name) and called.id == "print":
            return ""
    names: dict[str, str] = {}
    text = _dump(node, names, top=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _dump(node: ast.AST, names: dict[str, str], *, top: bool = False) -> str:
    if isinstance(node, ast.Name):
        return names.setdefault(node.id, f"n{len(names)}")
    if isinstance(node, ast.Constant):
        return type(node.value).__name__
    if isinstance(node, ast.JoinedStr):
        return "str"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        # what is called is what the statement does: a function keeps its name
        inner = [_dump(item, names) for item in (*node.args, *node.keywords)]
        return f"call {node.func.id}({','.join(inner)})"
    parts = [type(node).__name__]
    for field, value in ast.iter_fields(node):
        if field in ("ctx", "type_comment", "lineno", "annotation", "returns", "decorator_list"):
            continue
        if top and field in ("body", "orelse", "finalbody", "handlers"):
            continue  # statements within are statements of their own
        if isinstance(value, ast.AST):
            parts.append(_dump(value, names))
        elif isinstance(value, list):
            parts += [_dump(item, names) if isinstance(item, ast.AST) else str(item) for item in value]
        elif field in ("attr", "arg", "module") and value is not None:
            parts.append(str(value))
    return f"({' '.join(parts)})"
