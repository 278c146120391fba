"""From a skill's notebook to the scripts of a run: one for each step, with the parameters filled in.

A step of a run was a script of its own, and becomes one again: its parameters, the imports that it uses, its code. A
notebook whose cells share names (one that somebody wrote, say) becomes a single script, in the order of its cells.

| in a cell | in a script |
|---|---|
| parameters | assignments at the top, of those that the code uses |
| ``(await main())``, which was ``asyncio.run(main())`` | ``asyncio.run(main())`` again |
| a magic, ``get_ipython()``, ``display`` | IPython's own translation, with an IPython shell in the process |
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import libcst as cst

from cmbagent_nb.skills.composing.parts import in_one_script, is_composed
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.notebook import FOLDERS, NO_STEPS
from cmbagent_nb.skills.running.finished_steps import steps_of_a_run

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: Cells that are none of the steps'; derived values are computed in the same script.
_OTHERS = NO_STEPS - {"derived"}
WHOLE = "notebook"


@dataclass(frozen=True)
class StepScript:
    """The script of one step of the skill; ``whole`` for a notebook that is one script."""

    node_id: str
    code: str


def cells_of(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Return the step's id and the source of each cell that does something, in order."""
    return [
        (str(cell.metadata.get("cmbagent_nb", {}).get("node_id") or cell.get("id", "")), cell.source)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip() and not _OTHERS & set(cell.metadata.get("tags", []))
    ]


def are_apart(notebook: NotebookNode) -> bool:
    """Tell whether every cell that does something was a script of its own."""
    apart = steps_of_a_run(notebook)
    cells = [
        cell.get("id", "")
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip() and not _OTHERS & set(cell.metadata.get("tags", []))
    ]
    return bool(cells) and apart.issuperset(cells) and not is_composed(notebook)


def scripts(notebook: NotebookNode, parameters: list[Parameter], values: Mapping[str, Any]) -> list[StepScript]:
    """Return the scripts of a notebook's steps with values for its parameters, defaults where none is given."""
    if are_apart(notebook):
        imports = _tagged(notebook, "imports")
        return [
            StepScript(node_id, _script(imports, parameters, values, source)) for node_id, source in cells_of(notebook)
        ]
    given = [item for item in parameters if item.name in values]
    if is_composed(notebook):
        first, code = in_one_script(notebook)
        lines = [
            *first,
            _tagged(notebook, "outputs"),
            _tagged(notebook, "parameters"),
            assignments(given, values),
            *code,
        ]
        return [StepScript(WHOLE, _plain("\n\n".join(line for line in lines if line.strip())))]
    lines = [_tagged(notebook, "outputs"), _tagged(notebook, "parameters"), assignments(given, values)]
    lines.append(_tagged(notebook, "imports"))
    lines += [_tagged(notebook, "setup"), *(source for _, source in cells_of(notebook))]
    return [StepScript(WHOLE, _plain("\n\n".join(line for line in lines if line.strip())))]


def _tagged(notebook: NotebookNode, tag: str) -> str:
    return "\n".join(cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", []))


def _script(imports: str, parameters: list[Parameter], values: Mapping[str, Any], source: str) -> str:
    used = {node.id for node in ast.walk(_parse(source)) if isinstance(node, ast.Name)}
    own = [item for item in parameters if item.name in used]
    future, lines = [], []
    for statement in ast.parse(imports).body:
        text = ast.unparse(statement)
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            future.append(text)
        elif _is_used(statement, used):
            lines.append(text)
    parts = ["\n".join(future), "\n".join(lines), assignments(own, values), _folders(own, values), source]
    return _plain("\n\n".join(part for part in parts if part.strip()))


def _parse(source: str) -> ast.Module:
    """Read a cell's code, which may await at its top level."""
    tree: ast.Module = compile(source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return tree


def _is_used(statement: ast.stmt, used: set[str]) -> bool:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return any((item.asname or item.name).partition(".")[0] in used for item in statement.names)
    # matplotlib.use("Agg") stands between the imports
    return any(isinstance(node, ast.Name) and node.id in used for node in ast.walk(statement))


def _folders(parameters: list[Parameter], values: Mapping[str, Any]) -> str:
    """Return code that makes the folders of outputs with other names; those of the defaults are there."""
    outputs = [str(values[item.name]) for item in parameters if item.kind == "output" and item.name in values]
    places = {PurePosixPath(name).parent.as_posix() for name in outputs} - {".", *FOLDERS}
    return (
        "\n".join(["import os", "", *(f"os.makedirs({place!r}, exist_ok=True)" for place in sorted(places))])
        if (places)
        else ""
    )


def assignments(parameters: list[Parameter], values: Mapping[str, Any]) -> str:
    """Return lines that give parameters their values.

    >>> assignments([Parameter("lmax", "int", 2508, help="highest multipole")], {"lmax": 1500})
    'lmax = 1500  # highest multipole'
    """
    lines = []
    for item in parameters:
        help_ = " ".join(item.help.split())
        value = literal(values.get(item.name, item.default))
        lines.append(f"{item.name} = {value}" + (f"  # {help_}" if help_ else ""))
    return "\n".join(lines)


def literal(value: Any) -> str:
    """Return a value as code.

    >>> literal([1, float("inf")])
    "[1, float('inf')]"
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"
    return repr(value)


def _plain(code: str) -> str:
    """Return a notebook's code as a plain script's."""
    if any(line.lstrip().startswith(("%", "!")) for line in code.splitlines()) or "get_ipython" in code:
        from IPython.core.inputtransformer2 import TransformerManager

        shell = "from IPython.core.interactiveshell import InteractiveShell\n\nget_ipython = InteractiveShell.instance"
        manager: Any = TransformerManager  # IPython's own have no types
        code = f"{shell}\nget_ipython()\n\n{manager().transform_cell(code)}"
    if re.search(r"\bdisplay\(", code):
        code = f"from IPython.display import display\n\n{code}"
    if re.search(r"\bawait\b", code):
        changed = cst.parse_module(code).visit(_Runner())
        if changed.code != code:
            code = f"import asyncio\n\n{changed.code}"
    return code.strip("\n") + "\n"


class _Runner(cst.CSTTransformer):
    """``await x`` at the top of a notebook's cell becomes ``asyncio.run(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.depth += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        self.depth -= 1
        return updated_node

    def leave_Await(self, original_node: cst.Await, updated_node: cst.Await) -> cst.BaseExpression:
        if self.depth:
            return updated_node
        run = cst.Attribute(cst.Name("asyncio"), cst.Name("run"))
        return cst.Call(run, [cst.Arg(updated_node.expression)])
