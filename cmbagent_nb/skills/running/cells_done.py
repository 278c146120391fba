"""Checkpoints by cell: what a finished cell left, so that a killed execution goes on after it.

A checkpoint is a line in ``.cells/done.json`` of the execution's folder, written when a cell has finished, and whole
or not there. What it holds, and how it is put back:

| what a cell leaves | kept | put back |
|---|---|---|
| files | a copy of each that is new or changed, up to :data:`LARGEST` | what the interrupted cell did is undone |
| its output in the notebook | the executed notebook, saved after every cell | copied into the notebook that goes on |
| names of steps of a run | nothing: each was a script of its own; they share only files | the imports are run |
| names of other notebooks | plain values, arrays, frames, random generators: JSON, npy, parquet | they are loaded |

Imports, definitions and settings of the finished cells are said again.

Nothing is pickled. Where a later cell needs something that cannot be kept (a model object, a figure, an open file, two
names for one list), the execution goes on from the newest checkpoint from which it can; at worst from the beginning.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.running.names import Names, share_names
from cmbagent_nb.tool_files import is_tool_file

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = ".cells"
_STATE = "done.json"
_FORMAT = 1
#: Files larger than this are not copied: if the next cell changed one, the cell that made it is run again.
LARGEST = 256 * 2**20

#: A file as it is in a folder: its size and the time of its last change.
State = tuple[int, int]


def listing(folder: Path, *, hidden: bool = False) -> dict[str, State]:
    """Return the files below a folder as they are now; caches are passed over, and hidden ones unless asked for."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if FOLDER in inside.parts or is_tool_file(inside) or (not hidden and inside.name.startswith(".")):
            continue
        try:
            if not path.is_file():
                continue
            state = path.stat()
        except OSError:
            continue  # it went while we looked
        found[inside.as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


@dataclass
class _Cell:
    """A finished cell: what was in the folder when it had ended, and how each file can be had again."""

    id: str
    source: str
    seconds: float
    #: Path → (size, time of change, name of the copy or "" where there is none).
    files: dict[str, tuple[int, int, str]]
    #: The folder of the kernel's names, for a notebook whose cells share them.
    names: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "source": self.source, "seconds": self.seconds, "files": self.files, "names": self.names}


@dataclass
class CellsDone:
    """The checkpoints of one execution."""

    folder: Path
    #: The files that were there before the first cell.
    before: dict[str, State]
    done: list[_Cell] = field(default_factory=list)
    #: Seconds that earlier attempts at this execution took.
    seconds_before: float = 0.0
    _copies: int = 0

    @classmethod
    def begin(cls, folder: Path) -> CellsDone:
        """Begin the checkpoints of a new execution; the folder holds its inputs already."""
        made = cls(folder, listing(folder))
        made._copy_inputs()
        return made

    @classmethod
    def read(cls, folder: Path) -> CellsDone:
        """Read the checkpoints that an execution left; without any it begins anew, in the folder as it is."""
        try:
            kept = json.loads((folder / FOLDER / _STATE).read_text(encoding="utf-8"))
            if kept["format"] != _FORMAT:
                raise ValueError(kept["format"])
            cells = [
                _Cell(
                    item["id"],
                    item["source"],
                    item["seconds"],
                    {path: (size, at, copy) for path, (size, at, copy) in item["files"].items()},
                    item["names"],
                )
                for item in kept["cells"]
            ]
            before = {path: (size, at) for path, (size, at) in kept["before"].items()}
            return cls(folder, before, cells, kept["seconds"], kept["copies"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls.begin(folder)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each finished cell took, by cell id."""
        return {cell.id: cell.seconds for cell in self.done if cell.id != _START}

    def made(self, now: dict[str, State]) -> list[str]:
        """Return the files that are new or changed since the execution began, but for the notebook itself."""
        from cmbagent_nb.skills.library import NOTEBOOK

        return [name for name, state in now.items() if self.before.get(name) != state and name != NOTEBOOK]

    # ---- while it runs

    def finished(self, cell_id: str, source: str, seconds: float, *, last: bool, names: str = "") -> None:
        """Note that a cell has finished; after the last one no copies are needed."""
        known = self.done[-1].files if self.done else {}
        files = {}
        for path, (size, at) in listing(self.folder, hidden=True).items():
            if self._own(path):
                continue
            same = known.get(path)
            kept = same[2] if same is not None and same[:2] == (size, at) else "" if last else self._copy(path, size)
            files[path] = (size, at, kept)
        self.done.append(_Cell(cell_id, source, round(seconds, 3), files, names))
        self._write()

    def names_folder(self) -> Path:
        """Return a new folder for the kernel's names after the cell that has just ended."""
        place = self.folder / FOLDER / f"names_{len(self.done)}_{time.time_ns()}"
        place.mkdir(parents=True)
        return place

    def stopped(self, seconds: float) -> None:
        """Note how long the execution took so far: it did not come to its end."""
        self.seconds_before = seconds
        self._write()

    def remove(self) -> None:
        """Remove the checkpoints: the execution is complete."""
        shutil.rmtree(self.folder / FOLDER, ignore_errors=True)

    def _copy_inputs(self) -> None:
        files = {
            path: (size, at, self._copy(path, size))
            for path, (size, at) in listing(self.folder, hidden=True).items()
            if not self._own(path)
        }
        self.done = [_Cell(_START, "", 0.0, files)]
        self._write()

    def _own(self, path: str) -> bool:
        from cmbagent_nb.skills.library import NOTEBOOK

        return path in (NOTEBOOK, f".{NOTEBOOK}.part")

    def _copy(self, path: str, size: int) -> str:
        from cmbagent_nb.execution.attempt import place

        if size > LARGEST:
            return ""
        self._copies += 1
        name = f"{self._copies}"
        target = self.folder / FOLDER / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self.folder / path
        if size > _LINKED_ABOVE:
            shutil.copy2(source, target)  # a link would change with the file
        else:
            place(source, target)
        return name

    def _write(self) -> None:
        state = self.folder / FOLDER / _STATE
        state.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            "format": _FORMAT,
            "before": self.before,
            "seconds": self.seconds_before,
            "copies": self._copies,
            "cells": [cell.as_dict() for cell in self.done],
        }
        temporary = state.with_name(f"{_STATE}.part")
        temporary.write_text(json.dumps(kept), encoding="utf-8")
        temporary.replace(state)

    # ---- when it goes on

    def go_on(self, notebook: NotebookNode, preamble: frozenset[str]) -> Going:
        """Choose the newest checkpoint from which the notebook can go on, and put its files back."""
        cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        cells = [cell for cell in cells if not preamble & set(cell.metadata.get("tags", []))]
        finished = [item for item in self.done if item.id != _START]
        # only an unbroken row of the same cells counts
        same = 0
        while same < min(len(cells), len(finished)) and (cells[same].get("id", ""), cells[same].source) == (
            finished[same].id,
            finished[same].source,
        ):
            same += 1
        apart = steps_of_a_run(notebook)
        for count in range(same, -1, -1):
            point = next((item for item in self.done if item.id == _START), None) if count == 0 else finished[count - 1]
            if point is None or not self._has_files(point):
                continue
            names = None
            if count and not all(cell.get("id") in apart for cell in cells):
                names = Names.read(self.folder / FOLDER / point.names) if point.names else None
                sources = [cell.source for cell in cells]
                if names is None or not names.suffice(sources[:count], sources[count:]):
                    continue
            self._put_back(point)
            self.done = [*(item for item in self.done if item.id == _START), *finished[:count]]
            self._write()
            return Going({cell["id"] for cell in cells[:count]}, names, [cell.source for cell in cells[:count]])
        self.done = [item for item in self.done if item.id == _START]
        return Going(set(), None, [])

    def _has_files(self, point: _Cell) -> bool:
        """Tell whether every file of a checkpoint is unchanged in its place, or kept as a copy."""
        now = listing(self.folder, hidden=True)
        return all(
            now.get(path) == (size, at) or (copy and (self.folder / FOLDER / "files" / copy).is_file())
            for path, (size, at, copy) in point.files.items()
        )

    def _put_back(self, point: _Cell) -> None:
        now = listing(self.folder, hidden=True)
        for path in now:
            if path not in point.files and not self._own(path):
                (self.folder / path).unlink(missing_ok=True)
        for path, (size, at, copy) in point.files.items():
            if now.get(path) != (size, at):
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copy2(self.folder / FOLDER / "files" / copy, target)


@dataclass(frozen=True)
class Going:
    """From where an execution goes on: the cells that are not run, and the names that they left."""

    skipped: set[str]
    names: Names | None
    sources: list[str]


#: The checkpoint before the first cell.
_START = ""
#: What :func:`cmbagent_nb.execution.attempt.place` may link instead of copying.
_LINKED_ABOVE = 64 * 2**20


def steps_of_a_run(notebook: NotebookNode) -> frozenset[str]:
    """Return the cells that were scripts of their own in a run: they share files and no names.

    What the extraction wrote about each step says so: the code that it ran, by its hash. A notebook that a person has
    edited since may have other cells, or cells that use each other's names.
    """
    about = notebook.metadata.get("cmbagent_nb", {})
    steps = {step.get("node_id") for step in about.get("steps", []) if isinstance(step, dict) and step.get("code_hash")}
    cells = {
        cell.get("id", ""): cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.metadata.get("cmbagent_nb", {}).get("node_id") in steps
    }
    if about.get("edited_from") and share_names(list(cells.values())):
        return frozenset()
    return frozenset(cells)
