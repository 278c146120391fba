"""A step's code as a tree: its literals, names, scopes and parents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import libcst as cst
from libcst.metadata import (
    GlobalScope,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    Scope,
    ScopeProvider,
)

from cmbagent_nb.skills.extracting import vocabulary as words


class Unliteral(ValueError):
    """A node that is not a literal a parameter can hold."""


def literal(node: cst.CSTNode) -> Any:
    """Return the value of a literal: a number, a text, a truth value, a list or tuple of them or of such lists."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, (cst.Minus, cst.Plus)):
        value = literal(node.expression)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.operator, cst.Minus) else value
    elif isinstance(node, (cst.Integer, cst.Float)):
        return node.evaluated_value
    elif isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        value = node.evaluated_value
        if isinstance(value, str):
            return value
    elif isinstance(node, cst.Name) and node.value in {"True", "False"}:
        return node.value == "True"
    elif isinstance(node, (cst.List, cst.Tuple)):
        items = [literal(item.value) for item in node.elements if isinstance(item, cst.Element)]
        if len(items) == len(node.elements) and all(isinstance(item, (int, float, str, list, tuple)) for item in items):
            return items if isinstance(node, cst.List) else tuple(items)
    raise Unliteral


def try_literal(node: cst.CSTNode) -> Any:
    """Return the value of a literal, or None."""
    try:
        return literal(node)
    except (Unliteral, ValueError):
        return None


def is_number(value: Any) -> bool:
    """Tell a number from a truth value and everything else."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def trivial(value: Any) -> bool:
    """Tell whether a number is a 0 or 1 as they stand in any code."""
    return is_number(value) and value in (0, 1, -1)


class Source:
    """One step's code as a tree, with scopes and parents."""

    def __init__(self, code: str) -> None:
        self.wrapper = MetadataWrapper(cst.parse_module(code), unsafe_skip_copy=True)
        self.module = self.wrapper.module
        found = self.wrapper.resolve_many([ScopeProvider, ParentNodeProvider, PositionProvider])
        self.scopes: Any = found[ScopeProvider]
        self.parents: Any = found[ParentNodeProvider]
        self.positions: Any = found[PositionProvider]
        self.augmented: set[str] = set()
        self.globals_declared: set[str] = set()
        self.calls: list[cst.Call] = []
        self.decisions: list[cst.CSTNode] = []
        self.module.visit(_Collector(self))

    @property
    def global_scope(self) -> GlobalScope:
        for scope in set(self.scopes.values()):
            if isinstance(scope, GlobalScope):
                return scope
        raise Unliteral  # an empty module has no scope

    def bound(self) -> set[str]:
        """Return the names that the module binds."""
        try:
            return {item.name for item in self.global_scope.assignments}
        except Unliteral:
            return set()

    def line(self, node: cst.CSTNode) -> int:
        return int(self.positions[node].start.line)

    def ancestors(self, node: cst.CSTNode) -> Iterable[cst.CSTNode]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def enclosing(self, node: cst.CSTNode) -> list[cst.CSTNode]:
        """Return the functions and classes around a node, innermost first."""
        return [item for item in self.ancestors(node) if isinstance(item, (cst.FunctionDef, cst.ClassDef, cst.Lambda))]

    def assigned(self, name: cst.CSTNode) -> cst.BaseExpression | None:
        """Return what a module's statement assigns to a name, alone or in a tuple of names."""
        parent = self.parents.get(name)
        if isinstance(parent, cst.Element):
            row = self.parents.get(parent)
            target = self.parents.get(row) if row is not None else None
            statement = self.parents.get(target) if isinstance(target, cst.AssignTarget) else None
            if not isinstance(row, cst.Tuple) or not isinstance(statement, cst.Assign):
                return None
            values = statement.value
            if not isinstance(values, cst.Tuple) or len(values.elements) != len(row.elements):
                return None
            place = next(number for number, item in enumerate(row.elements) if item is parent)
            return values.elements[place].value
        statement = self.parents.get(parent) if isinstance(parent, cst.AssignTarget) else parent
        return statement.value if isinstance(statement, (cst.Assign, cst.AnnAssign)) else None

    def shadowed(self, node: cst.CSTNode) -> frozenset[str]:
        """Return the names that are local where a node stands."""
        names: set[str] = set()
        scope: Scope | None = self.scopes.get(node)
        while scope is not None and not isinstance(scope, GlobalScope):
            names.update(item.name for item in scope.assignments)
            scope = scope.parent
        return frozenset(names)


class _Collector(cst.CSTVisitor):
    def __init__(self, source: Source) -> None:
        self.source = source

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        if isinstance(node.target, cst.Name):
            self.source.augmented.add(node.target.value)

    def visit_Global(self, node: cst.Global) -> None:
        self.source.globals_declared.update(item.name.value for item in node.names)

    def visit_Call(self, node: cst.Call) -> None:
        self.source.calls.append(node)

    def visit_If(self, node: cst.If) -> None:
        self.source.decisions.append(node.test)

    def visit_IfExp(self, node: cst.IfExp) -> None:
        self.source.decisions.append(node.test)


def dotted(node: cst.CSTNode) -> list[str]:
    """Return the parts of a dotted name, outermost first; an unnamed base is ``""``."""
    if isinstance(node, cst.Name):
        return [node.value]
    if isinstance(node, cst.Attribute):
        return [*dotted(node.value), node.attr.value]
    return [""]


def draws(call: cst.Call) -> bool:
    """Tell whether a call only draws."""
    parts = dotted(call.func)
    base = call.func
    while isinstance(base, (cst.Attribute, cst.Call, cst.Subscript)):
        base = base.func if isinstance(base, cst.Call) else base.value
    owner = base.value if isinstance(base, cst.Name) else ""
    owns = words.DRAWING_OWNER.match(owner) is not None and (len(parts) > 1 or owner != parts[-1])
    return owns and parts[-1] not in words.DRAWING_EXCEPT


def is_main_guard(node: cst.If) -> bool:
    """Tell whether an ``if`` is ``if __name__ == "__main__":``."""
    test = node.test
    return (
        isinstance(test, cst.Comparison)
        and isinstance(test.left, cst.Name)
        and test.left.value == "__name__"
        and len(test.comparisons) == 1
        and try_literal(test.comparisons[0].comparator) == "__main__"
    )
