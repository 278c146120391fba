"""Finding the slow part of a cell: its statements are timed one by one, and the cell is divided around what takes long.

A cell is divided between statements at its top only, so that the parts, run one after the other in one
kernel, do just what the cell did. Parts of a step share names, which steps do not: the notebook says so.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: The part of the cell's time, and the seconds, from which a statement is slow.
_SHARE, _LEAST_S = 0.2, 0.15


def statements(code: str) -> list[str]:
    """Return a cell's code in pieces of one statement each, with the comments before it; together they are the code.

    >>> statements("# a\\nx = 1; y = 2\\n\\nz = [\\n  3]\\n")
    ['# a\\nx = 1; y = 2\\n', '\\nz = [\\n  3]\\n']
    """
    lines = code.splitlines(keepends=True)
    ends: list[int] = []
    for statement in ast.parse(code).body:
        end = statement.end_lineno or statement.lineno
        if not ends or end > ends[-1]:
            first = min([statement.lineno, *(item.lineno for item in getattr(statement, "decorator_list", ()))])
            if ends and first <= ends[-1]:
                ends[-1] = end  # begins on the line where the last one ended
            else:
                ends.append(end)
    if not ends:
        return [code]
    ends[-1] = len(lines)
    return ["".join(lines[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def apart(notebook: NotebookNode, cell_id: str, pieces: list[str]) -> NotebookNode:
    """Return a copy of a notebook with one cell divided into pieces; the first keeps the cell's id and tags."""
    made = copy.deepcopy(notebook)
    place = next(number for number, cell in enumerate(made.cells) if cell.get("id") == cell_id)
    whole = made.cells[place]
    about = whole.metadata.get("cmbagent_nb", {})
    parts = []
    for number, piece in enumerate(pieces):
        part = copy.deepcopy(whole)
        part.source = piece.strip("\n")
        if number:
            part["id"] = f"{cell_id[:55]}-part{number + 1}"
            part.metadata["tags"] = ["part"]
            part.metadata["cmbagent_nb"] = {**about, "fresh_kernel": False}
        parts.append(part)
    made.cells[place : place + 1] = parts
    own = made.metadata.get("cmbagent_nb", {})
    for step in own.get("steps", []):
        if step.get("node_id") == about.get("node_id") and len(pieces) > 1:
            # without this mark the cells of a step count as ones that share names
            step["original_code_hash"] = step.pop("code_hash", step.get("original_code_hash"))
    return made


def slow_pieces(seconds: list[float], kinds: list[bool]) -> list[tuple[int, int]]:
    """Return the runs of pieces that are slow, as (first, after the last); definitions are never slow.

    >>> slow_pieces([0.0, 2.0, 1.5, 0.01], [False, False, False, False])
    [(1, 3)]
    """
    whole = sum(seconds)
    slow = [
        value >= max(_LEAST_S, _SHARE * whole) and not defines for value, defines in zip(seconds, kinds, strict=True)
    ]
    runs: list[tuple[int, int]] = []
    for number, is_slow in enumerate(slow):
        if is_slow and runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        elif is_slow:
            runs.append((number, number + 1))
    return runs


def defines(piece: str) -> bool:
    """Tell whether a piece only defines or imports."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return all(isinstance(item, kinds) for item in ast.parse(piece).body)


def grouped(pieces: list[str], runs: list[tuple[int, int]]) -> tuple[list[str], list[int]]:
    """Join pieces into as few as keep the slow runs for themselves; returns them, and which of them are slow."""
    groups: list[str] = []
    slow: list[int] = []
    at = 0
    for first, after in runs:
        if first > at:
            groups.append("".join(pieces[at:first]))
        slow.append(len(groups))
        groups.append("".join(pieces[first:after]))
        at = after
    if at < len(pieces):
        groups.append("".join(pieces[at:]))
    return groups, slow


def part_ids(cell_id: str, count: int) -> list[Any]:
    """Return the ids that :func:`apart` gives."""
    return [cell_id, *(f"{cell_id[:55]}-part{number + 1}" for number in range(1, count))]
