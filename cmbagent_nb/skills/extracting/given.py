"""A notebook that a user gives: what can be read from it, and what has to come with it.

| refused before anything runs | |
|---|---|
| no notebook, a newer form, another language | :func:`read` |
| no cell tagged ``parameters`` | :func:`read` |
| a file outside of its folder that is no parameter | :func:`bring` |
"""

from __future__ import annotations

import ast
import copy
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.model import Parameter, type_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import Skill

#: A notebook or an input that is larger is refused.
_LARGEST = 256 * 2**20
#: Files beside a notebook that it makes itself, or that are none of its inputs.
_NOT_INPUTS = frozenset({".ipynb", ".pyc", ".lock"})
_TYPES = ("int", "float", "str", "bool", "list")


def read(place: Path) -> NotebookNode:
    """Read a notebook that a skill can be made of.

    Raises
    ------
    SkillError
        It is not there, no notebook, too large, not Python, or has no cell of parameters.
    """
    from cmbagent_nb.skills.notebook import read_notebook

    if not place.is_file():
        raise SkillError(f"there is no notebook {place}", "Check the path.", path=str(place))
    if place.stat().st_size > _LARGEST:
        raise SkillError(f"{place.name} is larger than a notebook may be", "Clear its outputs.", path=str(place))
    try:
        notebook = read_notebook(place.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise SkillError(
            f"{place.name} is not a notebook", "Give one that Jupyter has saved.", path=str(place)
        ) from None
    language = notebook.metadata.get("kernelspec", {}).get("language") or "python"
    if language.casefold() != "python":
        raise SkillError(f"{place.name} is written in {language}", "A skill is a notebook in Python.", path=str(place))
    if parameters_cell(notebook) is None:
        raise SkillError(
            f"{place.name} has no cell of parameters",
            "Tag the cell that sets them with `parameters` (View → Cell toolbar → Tags, or the property inspector).",
            path=str(place),
        )
    return notebook


def parameters_cell(notebook: NotebookNode) -> Any:
    """Return the cell tagged ``parameters``, or None."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return next((cell for cell in cells if "parameters" in cell.metadata.get("tags", [])), None)


def read_parameters(source: str, known: Iterable[Parameter] = ()) -> list[Parameter]:
    """Return the parameters that a cell sets: its assignments of plain values, with what their comments say.

    >>> [found] = read_parameters("lmax: int = 2508  # highest multipole\\npath = compute()")
    >>> found.name, found.type, found.default, found.help
    ('lmax', 'int', 2508, 'highest multipole')
    """
    from cmbagent_nb.skills.extracting.wording import unit_in

    before = {item.name: item for item in known}
    lines, found = source.splitlines(), []
    for statement in _parsed(source).body:
        name, node, annotation = _assigned(statement)
        if name is None or node is None or name.startswith("_"):
            continue
        value = _literal(node)
        if value is None:
            continue
        kind = annotation if annotation in _TYPES else type_of(value)
        value = float(value) if kind == "float" and isinstance(value, int) and not isinstance(value, bool) else value
        end = statement.end_col_offset or 0
        beside = lines[(statement.end_lineno or statement.lineno) - 1].encode()[end:].decode().strip()
        help_ = beside.lstrip("#").strip() if beside.startswith("#") else ""
        old = before.get(name)
        if old is not None and type_of(old.default) == type_of(value):
            found.append(replace(old, default=value, type=kind, help=help_ or old.help))
        else:
            found.append(Parameter(name, kind, value, help_, unit=unit_in(help_), source="parameters cell"))
    return found


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise SkillError(
            f"the cell of parameters cannot be read as Python ({error.msg})", "Put plain assignments into it."
        ) from None


def _assigned(statement: ast.stmt) -> tuple[str | None, ast.expr | None, str]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value, ""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.value, ast.unparse(statement.annotation)
    return None, None, ""


def _literal(node: ast.expr) -> Any:
    """Return a plain value, or None for anything else."""
    try:
        value = ast.literal_eval(node)
        value = list(value) if isinstance(value, tuple) else value
        type_of(value)
    except (ValueError, TypeError, SyntaxError):
        return None
    return value


def split_lines(source: str, names: Iterable[str]) -> tuple[str, str]:
    """Return the statements of a cell that assign some names, and the rest of it.

    >>> split_lines("a = 1  # one\\nb = 2\\n", {"a"})
    ('a = 1  # one', 'b = 2')
    """
    wanted = set(names)
    lines = source.splitlines()
    taken: set[int] = set()
    for statement in _parsed(source).body:
        if _assigned(statement)[0] in wanted:
            taken |= set(range(statement.lineno - 1, statement.end_lineno or statement.lineno))
    moved = [line for number, line in enumerate(lines) if number in taken]
    return "\n".join(moved), "\n".join(line for number, line in enumerate(lines) if number not in taken).strip("\n")


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without outputs, with an id for each cell.

    What papermill had injected for one execution is left out: it would stand against every other value.
    """
    import nbformat

    clean = copy.deepcopy(notebook)
    clean.cells = [cell for cell in clean.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(clean.cells):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if not cell.get("id"):
            cell["id"] = f"cell-{number + 1}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    clean.metadata.pop("widgets", None)
    clean.metadata.pop("papermill", None)
    clean.nbformat, clean.nbformat_minor = 4, 5
    clean.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3", "language": "python"})
    nbformat.validate(clean)
    return clean


def codes(notebook: NotebookNode) -> list[str]:
    """Return the code of the cells that are plain Python, but for the parameters."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or "parameters" in cell.metadata.get("tags", []):
            continue
        try:
            ast.parse(cell.source)
        except SyntaxError:
            continue  # a magic: it is run, and nothing is read from it
        found.append(cell.source)
    return found


def bring(notebook: NotebookNode, beside: Path, assets: Path, parent: Skill | None) -> NotebookNode:
    """Copy the files that the notebook names, and let its parameters name the copies where those lay elsewhere."""
    if parent is not None and parent.assets.is_dir():
        shutil.copytree(parent.assets, assets, dirs_exist_ok=True)
    cell = parameters_cell(notebook)
    for item in read_parameters(cell.source):
        if isinstance(item.default, str) and _is_elsewhere(item.default):
            source = (beside / Path(item.default).expanduser()).resolve()
            if source.is_file():
                target = f"input/{source.name}"
                _copy(source, assets / target)
                cell.source = cell.source.replace(repr(item.default), repr(target))
                cell.source = cell.source.replace(f'"{item.default}"', repr(target))
    texts = {item.default for item in read_parameters(cell.source) if isinstance(item.default, str)}
    for code in codes(notebook):
        tree = ast.parse(code)
        texts |= {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        texts |= {f"{name}.py" for name in _imported(tree)}
    for text in sorted(texts):
        if not 0 < len(text) < 1000 or "\n" in text or "\0" in text:
            continue
        if _is_elsewhere(text):
            if text.startswith("..") and (beside / text).is_file():
                raise SkillError(
                    f"the notebook reads {text}, which does not lie in its folder",
                    "Make the path a parameter, or put the file beside the notebook.",
                    path=text,
                )
            continue
        source = beside / text
        if source.is_file() and source.suffix not in _NOT_INPUTS:
            _copy(source, assets / PurePosixPath(text))
    return notebook


def _is_elsewhere(text: str) -> bool:
    return text.startswith(("/", "~", "..")) or Path(text).is_absolute()


def _copy(source: Path, target: Path) -> None:
    if source.stat().st_size > _LARGEST:
        raise SkillError(
            f"{source.name} is too large to be brought along", "Make its absolute path a parameter.", path=str(source)
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def about(notebook: NotebookNode) -> str:
    """Return what a notebook says of itself: the first text under its title, else its title."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
            texts = [line for line in lines if not line.startswith(("#", ">", "<"))]
            return str((texts or [line.lstrip("# ") for line in lines] or [""])[0][:500])
    return ""
