"""Arranges a notebook's files as a skill's: what it needs as assets, what it makes as outputs, paths as parameters.

The skill's folder stands for the folder that holds all that the notebook uses: its own, or one above it. In the latter
case a cell before all others goes down to where the notebook was, so that ``../data`` means what it meant.
"""

from __future__ import annotations

import ast
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.declared import set_default
from cmbagent_nb.skills.extracting.observed import FirstRun
from cmbagent_nb.skills.extracting.surroundings import Surroundings, copy_file
from cmbagent_nb.skills.model import Parameter

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: A file that is larger is not brought along.
LARGEST = 256 * 2**20
PLACE, DERIVED = "place", "derived"


@dataclass
class Layout:
    """Places of files in the skill's folder."""

    #: The notebook's own folder in it; empty where that is the skill's folder.
    here: str
    #: Path in the skill's folder → the file.
    assets: dict[str, Path]
    outputs: dict[str, Path]
    #: Folders that were there, and that the code writes to.
    folders: list[str] = field(default_factory=list)
    #: Outputs that an earlier run had left, and on which this one depended.
    updated: list[str] = field(default_factory=list)


def arrange(first: FirstRun) -> Layout:
    """Return where the files of a first run are to be in the skill's folder."""
    around = first.surroundings
    used = [*first.needed, *first.written]
    root = (
        posixpath.commonpath([around.here or ".", *(posixpath.dirname(path) or "." for path in used)])
        if used
        else around.here
    )
    # commonpath of "." and "a" is "": one of them is the top itself
    root = "" if root == "." or not around.here else root

    def inner(path: str) -> str:
        return posixpath.relpath(path, root or ".")

    here = "" if around.here == root else inner(around.here)
    folders = {posixpath.dirname(inner(path)) for path in first.written if posixpath.dirname(path) in first.folders}
    return Layout(
        here,
        {inner(path): around.top / path for path in sorted(first.needed)},
        {inner(path): around.top / path for path in sorted(first.written)},
        sorted(folders - {"", "."}),
        sorted(inner(path) for path in first.updated),
    )


def bring(layout: Layout, assets: Path) -> None:
    """Copy what the skill needs into its folder of assets.

    Raises
    ------
    SkillError
        A file is too large.
    """
    for path, source in layout.assets.items():
        if source.stat().st_size > LARGEST:
            raise SkillError(
                f"{path} is too large to be brought along ({source.stat().st_size / 2**20:.0f} MB)",
                "Make its absolute path a parameter.",
                path=path,
            )
        copy_file(source, assets / path)


def brought(named: Iterable[str | Path], beside: Path, around: Surroundings) -> set[str]:
    """Copy files and folders that a user names into the copy of the notebook's folder; return their paths in it.

    Raises
    ------
    SkillError
        There is no such file.
    """
    found: set[str] = set()
    for item in named:
        place = Path(item).expanduser()
        if not place.is_absolute():
            place = next((path for path in (Path.cwd() / place, beside / place) if path.exists()), place)
        if not place.exists():
            raise SkillError(f"there is no file {item} to bring along", "Check the path.", path=str(item))
        place = Path(os.path.abspath(place))  # noqa: PTH100
        inside = around.path_of_original(place)
        target = around.top / inside if inside is not None else around.folder / place.name
        for source in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
            if around.is_left_out(source) and not around.is_left_out(place):
                continue
            copied = target if place.is_file() else target / source.relative_to(place)
            copy_file(source, copied)
            found.add(copied.relative_to(around.top).as_posix())
    return found


def in_copy(around: Surroundings, text: str) -> str:
    """Return where a relative path leads from the copy of the notebook's folder."""
    return os.path.abspath(around.folder.resolve() / text)  # noqa: PTH100


def absolute(text: str, beside: Path) -> Path | None:
    """Return where a text leads that is no path below the notebook's folder: absolute, ``~``, ``$VAR`` or ``..``."""
    expanded = os.path.expandvars(text)
    if expanded.startswith("~"):
        expanded = os.path.expanduser(expanded)  # noqa: PTH111 (a user who is not known is left as written)
    if "\0" in expanded or len(expanded) > 1000 or "\n" in expanded:
        return None
    if not expanded.startswith(("/", "..")):
        return None
    return Path(os.path.abspath(beside / expanded))  # noqa: PTH100


# -- parameters that name files ------------------------------------------------------------------


def kinds(parameters: list[Parameter], layout: Layout) -> dict[str, tuple[str, str]]:
    """Return the parameters that name a file that is read or made: name → kind, path in the skill's folder."""
    found = {}
    names = {PurePosixPath(path).name: path for path in layout.outputs}
    for item in parameters:
        text = item.default
        if not isinstance(text, str) or not text or (item.form and item.form != "path"):
            continue
        path = posixpath.normpath(posixpath.join(layout.here, text))
        for candidate in dict.fromkeys((path, posixpath.normpath(text))):
            if candidate in layout.assets:
                found[item.name] = ("input", candidate)
            elif candidate in layout.outputs:
                found[item.name] = ("output", candidate)
            if item.name in found:
                break
        else:
            if text in names and not layout.here:
                found[item.name] = ("output", text)
    return found


def place_parameters(notebook: NotebookNode, parameters: list[Parameter], layout: Layout) -> list[Parameter]:
    """Let the parameters that name files name them from the skill's folder; return them with their kinds."""
    where = kinds(parameters, layout)
    joined: list[str] = []
    placed = []
    for item in parameters:
        if item.name not in where:
            placed.append(item)
            continue
        kind, path = where[item.name]
        default = item.default
        # A path that was joined before, in an earlier version, is one of the skill's folder already.
        if layout.here and posixpath.normpath(item.default) != path:
            default = path
            set_value(notebook, item.name, path)
            joined.append(item.name)
        help_ = f"file to read instead of {default}" if kind == "input" else f"name of the file {default}"
        placed.append(replace(item, kind=kind, default=default, help=item.help or help_))  # type: ignore[arg-type]
    if joined:
        up = posixpath.relpath(".", layout.here)
        lines = [f"{name} = os.path.join({up!r}, {name})  # from the skill's folder" for name in joined]
        add_derived(notebook, "\n".join(["import os", "", *lines]))
    return placed


def add_derived(notebook: NotebookNode, source: str) -> None:
    """Put code into the cell that comes after the parameters, before what is there."""
    existing = tagged(notebook, DERIVED)
    if existing is not None:
        existing.source = f"{source}\n{existing.source}"
        return
    place = notebook.cells.index(tagged(notebook, "parameters")) + 1
    notebook.cells.insert(place, _code_cell(source, _free_id(notebook, DERIVED), DERIVED))


def add_place(notebook: NotebookNode, layout: Layout) -> None:
    """Add the cell that makes the skill's folder what the notebook's surroundings were, where that is needed."""
    folders = sorted({*layout.folders, *([layout.here] if layout.here else [])})
    if not folders and not layout.assets:
        return
    lines = ["import os"]
    if layout.assets:
        lines += [
            "import shutil",
            "",
            'if os.path.isdir("assets") and os.path.isfile("skill.ipynb"):  # opened in the skill\'s own folder',
            '    shutil.copytree("assets", ".", dirs_exist_ok=True)',
        ]
    if folders:
        lines += ["", f"for folder in {folders!r}:", "    os.makedirs(folder, exist_ok=True)"]
    if layout.here:
        lines += [f"os.chdir({layout.here!r})  # where the notebook was"]
    cell = _code_cell("\n".join(lines), _free_id(notebook, PLACE), "setup", PLACE)
    cell.metadata["cmbagent_nb"] = {"here": layout.here, "folders": layout.folders}
    notebook.cells.insert(0, cell)


def take_place(notebook: NotebookNode) -> tuple[str, list[str]]:
    """Remove the cell that an earlier version began with; return the folders that it went to and made."""
    cell = tagged(notebook, PLACE)
    if cell is None:
        return "", []
    notebook.cells.remove(cell)
    said = cell.metadata.get("cmbagent_nb", {})
    here, folders = said.get("here", ""), said.get("folders", [])
    within = [item for item in [here, *folders] if isinstance(item, str) and not _leads_out(item)]
    return (here if here in within else ""), [item for item in within if item and item != here]


def _leads_out(path: str) -> bool:
    return path.startswith(("/", "~")) or ".." in PurePosixPath(path).parts


def parameter_cells(notebook: NotebookNode) -> list[Any]:
    """Return the cells that set parameters: that of the names of outputs, if there is one, and that of the others."""
    return [cell for tag in ("outputs", "parameters") if (cell := tagged(notebook, tag)) is not None]


def set_value(notebook: NotebookNode, name: str, value: object) -> None:
    """Give a parameter another value in the cell that sets it."""
    for cell in parameter_cells(notebook):
        cell.source = set_default(cell.source, name, value)


def tagged(notebook: NotebookNode, tag: str) -> Any:
    """Return the first code cell with a tag, or None."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return next((cell for cell in cells if tag in cell.metadata.get("tags", [])), None)


def _code_cell(source: str, id_: str, *tags: str) -> Any:
    import nbformat

    new_code_cell: Any = nbformat.v4.new_code_cell
    return new_code_cell(source, id=id_, metadata={"tags": list(tags)})


def _free_id(notebook: NotebookNode, wanted: str) -> str:
    used = {cell.get("id") for cell in notebook.cells}
    return next(name for name in (wanted, *(f"{wanted}-{number}" for number in range(2, 10_000))) if name not in used)


def texts_of(notebook: NotebookNode, codes: Iterable[str], beside: Path) -> list[Path]:
    """Return the places elsewhere that code names: nothing may change them while a skill is made of it."""
    found = set()
    for code in [*codes, *(cell.source for cell in parameter_cells(notebook))]:
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError):
            continue
        texts = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= {place for text in texts if len(text) > 1 and (place := absolute(text, beside)) is not None}
    return sorted(found)
