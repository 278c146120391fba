"""A literal that may become a parameter, and what the finders of such literals share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import libcst as cst

from cmbagent_nb.skills.extracting.source import Source, is_number
from cmbagent_nb.skills.extracting.wording import Task, unit_in
from cmbagent_nb.skills.model import Kind

#: ``assign``: a statement; ``value``: an expression; ``default``: a call that gets the keyword ``default``.
How = Literal["assign", "value", "default"]


@dataclass
class Candidate:
    """A literal that may become a parameter, and how the code is to be changed for it."""

    name: str
    value: Any
    node: cst.CSTNode
    how: How
    kind: Kind = "value"
    help: str = ""
    unit: str = ""
    source: str = ""
    line: int = 0
    #: Names that mean something else where the literal stands, so that the parameter needs another name.
    taken: frozenset[str] = frozenset()
    #: The variable that is assigned, for ``assign``.
    target: str = ""
    #: How the code takes the parameter: tuples are lists in a notebook's parameters.
    wrap: str = "{}"
    #: The values that the code takes, where it says so.
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Files:
    """Files of a step: those that are inputs of the skill, and those made by it."""

    #: Path as the code writes it → path in the skill's folder of inputs.
    inputs: dict[str, str]
    outputs: frozenset[str]
    #: Names of the inputs' columns: a text that is one picks a column.
    columns: frozenset[str] = frozenset()

    def input_for(self, text: str) -> str | None:
        return self.inputs.get(clean_path(text))

    def kind_of(self, value: Any) -> Kind:
        """Return what a literal is: a file that is read, one that is written, or a value."""
        if isinstance(value, str):
            if self.input_for(value) is not None:
                return "input"
            if clean_path(value) in self.outputs:
                return "output"
        return "value"


def clean_path(text: str) -> str:
    """Return a path as the record writes it.

    >>> clean_path("./data//x.csv"), clean_path("/abs/x.csv")
    ('data/x.csv', '/abs/x.csv')
    """
    return str(PurePosixPath(text)) if text else ""


def as_value(literal: Any) -> Any:
    """Return a literal as a parameter holds it: tuples are lists.

    >>> as_value(((1, 2), (3, 4)))
    [[1, 2], [3, 4]]
    """
    return [as_value(item) for item in literal] if isinstance(literal, (list, tuple)) else literal


def is_numbers(value: Any, *, most: int = 20) -> bool:
    """Tell whether a value is a list of numbers, or of such lists.

    >>> is_numbers([1, 2.5]), is_numbers([[1, 2], [3, 4]]), is_numbers([]), is_numbers(["a"])
    (True, True, False, False)
    """
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= most:
        return False
    return all(is_number(item) for item in value) or all(is_numbers(item, most=most) for item in value)


def is_texts(value: Any, *, most: int = 20) -> bool:
    """Tell whether a value is a list of texts."""
    return isinstance(value, (list, tuple)) and 0 < len(value) <= most and all(isinstance(item, str) for item in value)


def _wrap(literal: Any) -> str:
    """Return how a list is made into what the code had.

    >>> _wrap((1, 2)), _wrap([1, 2]), _wrap(((1, 2), (3, 4)))
    ('tuple({})', '{}', 'tuple(map(tuple, {}))')
    """
    if not isinstance(literal, (list, tuple)):
        return "{}"
    kind = "tuple" if isinstance(literal, tuple) else "list"
    if literal and all(isinstance(item, tuple) for item in literal):
        return f"{kind}(map(tuple, {{}}))"
    return "{}" if kind == "list" else "tuple({})"


class Finder(cst.CSTVisitor):
    """Visits a step's code and collects candidates; no literal is taken twice."""

    def __init__(self, source: Source, task: Task, files: Files, found: list[Candidate], taken_nodes: set[int]) -> None:
        super().__init__()
        self.source, self.task, self.files = source, task, files
        self.found, self.taken_nodes = found, taken_nodes

    def add(
        self,
        name: str,
        value: Any,
        node: cst.CSTNode,
        how: How,
        *,
        kind: Kind = "value",
        help: str = "",
        unit: str = "",
        source: str = "",
        target: str = "",
        literal_node: cst.CSTNode | None = None,
        choices: Iterable[Any] = (),
    ) -> None:
        """Note a candidate, unless its literal is one already."""
        key = literal_node if literal_node is not None else node
        if id(key) in self.taken_nodes:
            return
        self.taken_nodes.update([id(key)] if how == "default" else [id(item) for item in _within(key)])
        wrap = _wrap(value)
        local = self.source.shadowed(node) - ({target} if target and wrap == "{}" else set())
        line = self.source.line(node)
        self.found.append(
            Candidate(
                name, as_value(value), node, how, kind, help, unit, source, line, local, target, wrap, tuple(choices)
            )
        )

    def comment(self, line: cst.SimpleStatementLine) -> tuple[str, str]:
        """Return help and unit from the comment beside or above a line."""
        beside = line.trailing_whitespace.comment
        text = beside.value.lstrip("# ").strip() if beside else ""
        if not text and line.leading_lines and line.leading_lines[-1].comment is not None:
            above = line.leading_lines[-1].comment.value.lstrip("#").strip(" -=")
            heading = line.leading_lines[-1].comment.value.rstrip().endswith(("--", "==", "##"))
            text = "" if heading or self._heads_a_group(line) else above
        if len(text) > 160 or re.match(r"(noqa|type:|pylint|fmt:|nosec)", text):
            text = ""
        return text, unit_in(text)

    def _heads_a_group(self, line: cst.SimpleStatementLine) -> bool:
        """Tell whether the comment above a line is the heading of several lines."""
        parent = self.source.parents.get(line)
        body = list(getattr(parent, "body", ()))
        position = next((number for number, item in enumerate(body) if item is line), len(body))
        after = body[position + 1] if position + 1 < len(body) else None
        return (
            isinstance(after, cst.SimpleStatementLine)
            and not after.leading_lines
            and isinstance(after.body[0], (cst.Assign, cst.AnnAssign))
        )


def _within(node: cst.CSTNode) -> list[cst.CSTNode]:
    found = [node]
    for child in node.children:
        found += _within(child)
    return found
