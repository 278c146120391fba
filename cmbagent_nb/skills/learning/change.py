"""Applies recommendations to a notebook: new defaults, parameters, conditions, and reuse of equal executions."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.model import Parameter, type_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.learning.recommend import Recommendation
    from cmbagent_nb.skills.library import SkillRecord


@dataclass
class Changed:
    """A notebook with the changes that could be made."""

    notebook: NotebookNode
    parameters: list[Parameter]
    preconditions: dict[str, Any]
    applied: list[Recommendation] = field(default_factory=list)
    #: What was a constant before it became a parameter.
    constants: dict[str, Any] = field(default_factory=dict)
    #: Whether an equal earlier execution is reused.
    reuse: bool = False

    @property
    def names(self) -> set[str]:
        """The names of its parameters."""
        return {item.name for item in self.parameters}


def make(skill: SkillRecord, notebook: NotebookNode, changes: list[Recommendation]) -> Changed:
    """Return a copy of the notebook with the changes; one that cannot be made is left out."""
    made = Changed(copy.deepcopy(notebook), list(skill.parameters), copy.deepcopy(skill.preconditions))
    made.reuse = bool(skill.meta.get("reuse"))
    for item in changes:
        change = item.change or {}
        done = False
        if "default" in change:
            done = _set_defaults(made, change["default"])
        elif "parameter" in change:
            done = _add_parameter(made, change["parameter"])
        elif "condition" in change:
            made.preconditions.setdefault("parameters", []).append(change["condition"])
            done = True
        elif "reuse" in change:
            done = made.reuse = True
        if done:
            made.applied.append(item)
    _write_parameters(made)
    return made


def _set_defaults(made: Changed, values: dict[str, Any]) -> bool:
    changed = False
    for place, parameter in enumerate(made.parameters):
        if parameter.name in values:
            value = parameter.check(values[parameter.name])
            made.parameters[place] = replace(parameter, default=value)
            changed = changed or value != parameter.default
    return changed


def _write_parameters(made: Changed) -> None:
    from cmbagent_nb.skills.notebook import parameters_source

    apart = any("outputs" in cell.metadata.get("tags", []) for cell in made.notebook.cells)
    for cell in made.notebook.cells:
        for tag, outputs in (("outputs", True), ("parameters", False)):
            if tag in cell.metadata.get("tags", []):
                own = [item for item in made.parameters if not apart or (item.kind == "output") is outputs]
                cell.source = parameters_source(own)


def _add_parameter(made: Changed, change: dict[str, Any]) -> bool:
    """Let a constant of the code come from a new parameter: the one that stands for the changed name, and only it."""
    cells = [
        cell
        for cell in made.notebook.cells
        if cell.cell_type == "code" and cell.metadata.get("cmbagent_nb", {}).get("node_id") == change["node_id"]
    ]
    for cell in cells:
        found = list(_constants(ast.parse(cell.source), change["name"], change["before"]))
        if len(found) != 1:
            continue
        name = _free_name(made, change["name"])
        node = found[0]
        lines = cell.source.splitlines(keepends=True)
        if node.end_lineno != node.lineno or node.end_col_offset is None:
            continue
        row = lines[node.lineno - 1].encode()
        lines[node.lineno - 1] = (row[: node.col_offset] + name.encode() + row[node.end_col_offset :]).decode()
        cell.source = "".join(lines)
        kind = type_of(change["default"])
        help_ = "a constant that had to be changed again and again"
        parameter = Parameter(
            name, kind, change["default"], help=help_, steps=(change["node_id"],), source="adaptation"
        )
        made.parameters.append(parameter)
        made.constants[name] = change["before"]
        return True
    return False


def _constants(tree: ast.AST, name: str, value: Any) -> list[ast.Constant]:
    """Return the constants of this value that are given by this name: assigned to it, or an argument of it."""
    found = []
    for node in ast.walk(tree):
        own: list[tuple[str, ast.AST]] = []
        if isinstance(node, ast.keyword) and node.arg:
            own.append((node.arg, node.value))
        elif isinstance(node, ast.Assign):
            own += [(item.id, node.value) for item in node.targets if isinstance(item, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            own.append((node.target.id, node.value))
        for own_name, held in own:
            same = isinstance(held, ast.Constant) and held.value == value and type(held.value) is type(value)
            if own_name == name and same:
                found.append(held)
    if not found and name == "value":
        found = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value == value and type(node.value) is type(value)
        ]
    return [item for item in found if isinstance(item, ast.Constant)]


def _free_name(made: Changed, name: str) -> str:
    used = {node.id for cell in made.notebook.cells if cell.cell_type == "code" for node in _names(cell.source)}
    candidates = [name, f"{name}_value", *(f"{name}_{number}" for number in range(2, 100))]
    return next(item for item in candidates if item not in used | made.names and item.isidentifier())


def _names(code: str) -> list[ast.Name]:
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
