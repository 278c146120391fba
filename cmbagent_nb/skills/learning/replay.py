"""Runs past executions of a skill again, with versions of it, in folders of their own."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.learning import reuse

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.model import Parameter
    from cmbagent_nb.skills.running.engine import Executed, OnProgress


@dataclass(frozen=True)
class Replayed:
    """An execution that was run again; ``reused`` where its results came from an equal one before it."""

    folder: Path
    executed: Executed
    reused: bool


class Replays:
    """Runs notebooks with past values; everything is removed by :meth:`close`."""

    def __init__(self, skill: SkillRecord, on_progress: OnProgress | None = None, total: int = 1) -> None:
        self.skill, self.on_progress, self.total, self.count = skill, on_progress, total, 0
        making = skill.home / "skills" / ".making"
        making.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="replay-", dir=making))

    def close(self) -> None:
        """Remove what the runs left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def given(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the values that were given; a variable that became a file is where its execution has it."""
        inputs = {item.name: item.default for item in self.skill.parameters if item.kind == "input"}
        return {
            name: str(Path(row["work_dir"] or "") / value) if value != inputs.get(name, value) else value
            for name, value in (row["parameters"] or {}).items()
        }

    def values(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return all values of an execution, those of its defaults too."""
        given = self.given(row)
        return {item.name: given.get(item.name, item.default) for item in self.skill.parameters}

    def usable(self, rows: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the executions whose inputs are still there, with their values."""
        inputs = {item.name: item.default for item in self.skill.parameters if item.kind == "input"}
        found = [(row, self.values(row)) for row in rows]
        return [
            (row, values)
            for row, values in found
            if all(values[name] == default or Path(values[name]).is_file() for name, default in inputs.items())
        ]

    def run(
        self,
        notebook: NotebookNode,
        values: dict[str, Any],
        label: str,
        *,
        parameters: list[Parameter] | None = None,
        assets: Path | None = None,
        store: Path | None = None,
    ) -> Replayed:
        """Run a notebook; with ``store`` an equal run that it holds is reused."""
        from cmbagent_nb.settings import load_settings
        from cmbagent_nb.skills.running.engine import execute
        from cmbagent_nb.skills.verifying.verify import fill

        folder = self.folder / f"run-{self.count}"
        self.count += 1
        if self.on_progress is not None:
            self.on_progress(self.count - 1, max(self.total, self.count), label)
        fill(folder, assets or self.skill.assets)
        own = self.skill.parameters if parameters is None else parameters
        for item in own:
            if item.kind == "output":
                (folder / str(values.get(item.name, item.default))).parent.mkdir(parents=True, exist_ok=True)
        settings = load_settings(self.skill.home)

        def compute() -> Executed:
            return execute(
                copy.deepcopy(notebook),
                folder,
                parameters=values,
                timeout_s=settings.step_timeout or None,
                memory_mb=settings.step_memory_mb,
            )

        if store is None:
            return Replayed(folder, compute(), False)
        executed, source = reuse.execute(self.skill, notebook, values, folder, compute, parameters=own, store=store)
        return Replayed(folder, executed, bool(source))


def differences(outputs: Iterable[str], old: Path, new: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the outputs that differ between two folders, and how each compares."""
    from cmbagent_nb.skills.verifying.compare import compare

    folders = (str(old), str(new))
    found = [(name, compare(name, old / name, new / name, folders)) for name in outputs]
    return {name: item.detail for name, item in found if not item.equal}, [item.as_dict() for _, item in found]
