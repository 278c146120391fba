"""Compares two versions of a skill: parameters, conditions, and the notebook cell by cell.

Cells are paired by nbdime where it is installed (the extra ``diff``), which follows cells that moved or were
divided by how alike they are; else by their ids, which extraction and optimization keep.
"""

from __future__ import annotations

import difflib
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.model import Parameter

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import SkillRecord


@dataclass(frozen=True)
class CellChange:
    """One cell that is new, gone or changed; ``about`` names changes beside its source."""

    kind: str  #: added, removed, changed
    cell: str
    before: str
    after: str
    about: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the change of the source as a unified diff, without its head."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), n=2, lineterm="")
        return list(lines)[2:]


@dataclass(frozen=True)
class NotebookDiff:
    """Differences from one version to another; prints as text, shows as HTML."""

    name: str
    old: int
    new: int
    cells: list[CellChange]
    parameters: list[str]
    conditions: list[str]
    by: str  #: what paired the cells: nbdime, or ids

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.cells or self.parameters or self.conditions)

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as JSON shows it."""
        return {
            "name": self.name,
            "old": self.old,
            "new": self.new,
            "parameters": self.parameters,
            "conditions": self.conditions,
            "cells": [
                {"kind": item.kind, "cell": item.cell, "about": list(item.about), "diff": item.lines()}
                for item in self.cells
            ],
            "by": self.by,
        }

    def __str__(self) -> str:
        lines = [f"--- {self.name} v{self.old}", f"+++ {self.name} v{self.new}"]
        lines += [*self.parameters, *self.conditions]
        for item in self.cells:
            said = f" ({', '.join(item.about)})" if item.about else ""
            lines += [f"## cell {item.cell} {item.kind}{said}", *item.lines()]
        return "\n".join(lines if not self.empty else [*lines, "no difference"])

    def _repr_html_(self) -> str:
        colours = {
            "+": "background:var(--jp-success-color3, #e3f3e4)",
            "-": "background:var(--jp-error-color3, #fbe3e1)",
            "@": "color:var(--jp-ui-font-color2, #666)",
            "#": "font-weight:bold",
        }
        lines = [
            f'<div style="{colours.get(line[:1], "")}">{html.escape(line) or "&nbsp;"}</div>'
            for line in str(self).splitlines()
        ]
        return f'<div class="cmbagent-diff" style="font-family:monospace;white-space:pre-wrap">{"".join(lines)}</div>'


def diff(old: SkillRecord, new: SkillRecord) -> NotebookDiff:
    """Return what changed from one version to another."""
    from cmbagent_nb.skills.conditions import text
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.source_hash import check_notebook

    first, second = (read_notebook(check_notebook(skill)) for skill in (old, new))
    pairs, by = _pairs(first, second)
    conditions = [
        [
            *(f"condition {text(item)}" for item in skill.preconditions.get("parameters") or []),
            *(["equal executions are reused"] if skill.meta.get("reuse") else []),
        ]
        for skill in (old, new)
    ]
    return NotebookDiff(
        name=new.name,
        old=old.version,
        new=new.version,
        cells=[change for pair in pairs if (change := _change(*pair)) is not None],
        parameters=_parameters(old.parameters, new.parameters),
        conditions=[f"- {item}" for item in conditions[0] if item not in conditions[1]]
        + [f"+ {item}" for item in conditions[1] if item not in conditions[0]],
        by=by,
    )


def _pairs(first: NotebookNode, second: NotebookNode) -> tuple[list[tuple[Any, Any]], str]:
    try:
        from nbdime import diff_notebooks
    except ImportError:  # the extra is not installed
        return _by_id(first.cells, second.cells), "ids"
    return _by_operations(first.cells, second.cells, diff_notebooks(first, second)), "nbdime"


def _by_operations(old: list[Any], new: list[Any], operations: list[Any]) -> list[tuple[Any, Any]]:
    """Pair the cells as nbdime's operations on the list of cells say."""
    changes: dict[int, list[Any]] = {}
    for operation in operations:
        if operation.key == "cells":
            for item in operation.diff:
                changes.setdefault(item.key, []).append(item)
    pairs: list[tuple[Any, Any]] = []
    at, skip = 0, 0
    for place in range(len(old) + 1):
        removed = False
        for item in changes.get(place, []):
            if item.op == "addrange":
                pairs += [(None, new[at + number]) for number in range(len(item.valuelist))]
                at += len(item.valuelist)
            elif item.op == "removerange":
                skip, removed = item.length, True
        if place == len(old):
            break
        if removed or skip:
            pairs.append((old[place], None))
            skip -= 1
        else:
            pairs.append((old[place], new[at]))
            at += 1
    return pairs


def _by_id(old: list[Any], new: list[Any]) -> list[tuple[Any, Any]]:
    """Pair the cells by their ids, in the order of the new notebook, with what is gone where it was."""
    matcher = difflib.SequenceMatcher(None, [cell.get("id") for cell in old], [cell.get("id") for cell in new], False)
    pairs: list[tuple[Any, Any]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            pairs += zip(old[a:b], new[c:d], strict=True)
        else:
            pairs += [(cell, None) for cell in old[a:b]]
            pairs += [(None, cell) for cell in new[c:d]]
    return pairs


def _change(old: Any, new: Any) -> CellChange | None:
    if old is None or new is None:
        cell = old if new is None else new
        kind = "removed" if new is None else "added"
        return CellChange(
            kind, cell.get("id", ""), old.source if old else "", new.source if new else "", _about({}, cell)
        )
    about = _about(old, new)
    if old.source == new.source and not about:
        return None
    return CellChange("changed", new.get("id", ""), old.source, new.source, about)


def _about(old: Any, new: Any) -> tuple[str, ...]:
    return ("other tags",) if old and old.metadata.get("tags", []) != new.metadata.get("tags", []) else ()


def _parameters(old: list[Parameter], new: list[Parameter]) -> list[str]:
    before, after = ({item.name: item for item in each} for each in (old, new))
    lines = [f"- parameter {item.text()}" for name, item in before.items() if name not in after]
    for name, item in after.items():
        if name not in before:
            lines.append(f"+ parameter {item.text()}")
        elif (before[name].type, before[name].default) != (item.type, item.default):
            lines += [f"- parameter {before[name].text()}", f"+ parameter {item.text()}"]
    return lines
