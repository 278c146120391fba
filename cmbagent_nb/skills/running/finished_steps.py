"""Writes which steps of an execution have finished, so that it resumes after the last of them.

Steps of a run were scripts of their own: they share files and no names. After each of them ``.cells/done.json`` in the
execution's folder lists the folder's files, with a copy of each that is new or changed; what an interrupted step did is
undone from there. A notebook whose cells share names starts again, from its inputs as they were.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.skills.running.names import share_names
from cmbagent_nb.tool_files import is_tool_file

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = ".cells"
_STATE = "done.json"
#: Files larger than this are not copied: if a later step changed one, the step that made it runs again.
LARGEST = 256 * 2**20
#: :func:`cmbagent_nb.execution.attempt_folder.place` may link larger files; a link would change with the file.
_LINKED_ABOVE = 64 * 2**20

#: A file in a folder: its size and the time of its last change.
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
            continue  # removed meanwhile
        found[inside.as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


@dataclass
class _Step:
    """A finished step (the first one stands for the inputs) and the files that were there at its end."""

    id: str
    source: str
    seconds: float
    #: Path → (size, time of change, name of the copy or "" where there is none).
    files: dict[str, tuple[int, int, str]]


@dataclass
class FinishedSteps:
    """The finished steps of one execution."""

    folder: Path
    #: The files that were there before the first cell.
    before: dict[str, State]
    done: list[_Step] = field(default_factory=list)
    #: Seconds that earlier attempts at this execution took.
    seconds_before: float = 0.0
    _copies: int = 0
    #: How many steps the last :meth:`resume` kept.
    kept: int = 0

    @classmethod
    def begin(cls, folder: Path) -> FinishedSteps:
        """Begin a new execution; the folder holds its inputs already."""
        made = cls(folder, listing(folder))
        made.finished("", "", 0.0)
        return made

    @classmethod
    def read(cls, folder: Path) -> FinishedSteps:
        """Read what an execution left; without that it begins anew, in the folder as it is."""
        try:
            state = json.loads((folder / FOLDER / _STATE).read_text(encoding="utf-8"))
            steps = [
                _Step(**{key: item[key] for key in ("id", "source", "seconds", "files")}) for item in state["cells"]
            ]
            for step in steps:
                step.files = {path: (size, at, copy) for path, (size, at, copy) in step.files.items()}
            before = {path: (size, at) for path, (size, at) in state["before"].items()}
            return cls(folder, before, steps, state["seconds"], state["copies"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls.begin(folder)

    @property
    def seconds(self) -> dict[str, float]:
        """Return the seconds that each finished step took, by cell id."""
        return {step.id: step.seconds for step in self.done[1:]}

    def made(self, now: dict[str, State]) -> list[str]:
        """Return the files that are new or changed since the execution began, but for the notebook itself."""
        return [name for name, state in now.items() if self.before.get(name) != state and not _is_own(name)]

    def finished(self, cell_id: str, source: str, seconds: float) -> None:
        """Note that a step has finished."""
        known = self.done[-1].files if self.done else {}
        files = {}
        for path, (size, at) in self._listing().items():
            same = known.get(path)
            files[path] = (size, at, same[2] if same is not None and same[:2] == (size, at) else self._copy(path, size))
        self.done.append(_Step(cell_id, source, round(seconds, 3), files))
        self._write()

    def stopped(self, seconds: float) -> None:
        """Note how long the execution took so far: it did not come to its end."""
        self.seconds_before = seconds
        self._write()

    def remove(self) -> None:
        """Remove the copies: the execution is complete."""
        shutil.rmtree(self.folder / FOLDER, ignore_errors=True)

    def resume(self, steps: list[tuple[str, str]]) -> set[str]:
        """Put the files back that the last finished step left; return the ids of the steps that need not run.

        Parameters
        ----------
        steps
            The id and the source of each step, in order; none where cells share names.
        """
        same = 0
        while same < min(len(steps), len(self.done) - 1) and steps[same] == (
            self.done[same + 1].id,
            self.done[same + 1].source,
        ):
            same += 1
        while same and not self._can_restore(self.done[same]):
            same -= 1
        del self.done[same + 1 :]
        if self.done and self._can_restore(self.done[same]):
            self._restore(self.done[same])
        self._write()
        self.kept = same
        return {step_id for step_id, _ in steps[:same]}

    def _listing(self) -> dict[str, State]:
        return {path: state for path, state in listing(self.folder, hidden=True).items() if not _is_own(path)}

    def _can_restore(self, step: _Step) -> bool:
        now = self._listing()
        return all(
            now.get(path) == (size, at) or (copy and (self.folder / FOLDER / "files" / copy).is_file())
            for path, (size, at, copy) in step.files.items()
        )

    def _restore(self, step: _Step) -> None:
        now = self._listing()
        for path in now.keys() - step.files.keys():
            (self.folder / path).unlink(missing_ok=True)
        for path, (size, at, copy) in step.files.items():
            if now.get(path) != (size, at):
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copy2(self.folder / FOLDER / "files" / copy, target)

    def _copy(self, path: str, size: int) -> str:
        from cmbagent_nb.execution.attempt_folder import place

        if size > LARGEST:
            return ""
        self._copies += 1
        target = self.folder / FOLDER / "files" / str(self._copies)
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copy2 if size > _LINKED_ABOVE else place)(self.folder / path, target)
        return target.name

    def _write(self) -> None:
        state = self.folder / FOLDER / _STATE
        state.parent.mkdir(parents=True, exist_ok=True)
        cells = [asdict(step) for step in self.done]
        temporary = state.with_name(f"{_STATE}.part")
        temporary.write_text(
            json.dumps({"before": self.before, "seconds": self.seconds_before, "copies": self._copies, "cells": cells}),
            encoding="utf-8",
        )
        temporary.replace(state)


def _is_own(path: str) -> bool:
    from cmbagent_nb.skills.library import NOTEBOOK

    return path in (NOTEBOOK, f".{NOTEBOOK}.part")


def steps_of_a_run(notebook: NotebookNode) -> frozenset[str]:
    """Return the cells that were scripts of their own in a run: they share files and no names.

    The extraction wrote the hash of the code that each step ran. A notebook that a person has edited since may have
    other cells, or cells that use each other's names.
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
