"""Verifying a composition: run twice, and held against its components, each run alone on the same inputs."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.composing.composed import build
from cmbagent_nb.skills.running.engine import Executed, OnProgress, execute
from cmbagent_nb.skills.verifying.compare import compare

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.composing.compose import Component, Composition


def verify_composition(
    planned: Composition,
    notebook: NotebookNode,
    assets: Path,
    work: Path,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Run a composition twice and compare; compare it with its components, each run alone on the same inputs.

    Raises
    ------
    SkillError
        The condition names what the first component does not make.
    """
    checked = _Checked(planned, assets, work, on_progress, timeout_s)
    report: dict[str, Any] = {"verified": False, "reason": "", "files": [], "notes": [], "cells": {}, "duration_s": 0.0}
    try:
        alone = {part.folder: checked.alone(part) for part in planned.components}
        taken = checked.taken(alone)
        first = checked.whole(notebook, "first")
        report |= {"cells": first.cells, "duration_s": round(first.duration_s, 3)}
        checked.whole(notebook, "second")
        for part in planned.components:
            if not taken.get(part.folder, True):
                report["notes"].append(f"with its defaults, {part.folder} is left out")
                continue
            report["files"] += checked.compare(part, alone[part.folder], "first")
            report["files"] += checked.compare(part, alone[part.folder], "second", against="first")
        others = [part for part in planned.components if not taken.get(part.folder, True)]
        if others:
            checked.whole(build(planned, flipped=True), "flipped")
            for part in others:
                report["files"] += checked.compare(part, alone[part.folder], "flipped")
            report["notes"].append("the other way of the condition was run, too")
    except _Failed as failure:
        report["reason"] = str(failure)
    different = [item for item in report["files"] if not item["equal"]]
    if different:
        report["reason"] = "; ".join(f"{item['path']}: {item['detail']}" for item in different[:3])
    elif report["files"] and not report["reason"]:
        report["verified"] = True
    elif not report["reason"]:
        report["reason"] = "the components make no file, so there is nothing to compare"
    equal = len(report["files"]) - len(different)
    report["summary"] = (
        f"{equal} of {len(report['files'])} comparisons equal: with the components alone, and run twice"
        if report["files"] and not (report["reason"] and not different)
        else report["reason"]
    )
    return report


class _Failed(Exception):
    """A part of the verification that does not run; the text says which and why."""


class _Checked:
    """Runs a composition and its components, each in a folder of its own."""

    def __init__(
        self, planned: Composition, assets: Path, work: Path, on_progress: OnProgress | None, timeout_s: float | None
    ) -> None:
        self.planned, self.assets, self.work = planned, assets, work
        self.on_progress, self.timeout_s = on_progress, timeout_s
        self.made: dict[str, list[str]] = {}

    def alone(self, part: Component) -> Path:
        """Run a component by itself, with what earlier ones made as its inputs; returns its folder."""
        from cmbagent_nb.skills.library import NOTEBOOK
        from cmbagent_nb.skills.notebook import read_notebook
        from cmbagent_nb.skills.running.finished_steps import listing
        from cmbagent_nb.skills.source_hash import check_notebook
        from cmbagent_nb.skills.verifying.verify import fill

        folder = self.work / f"alone-{part.folder}"
        fill(folder, part.skill.assets)
        # a parameter that is shared has one default, which may not be the component's own
        values: dict[str, Any] = {
            own.name: part.parameters[own.name].default
            for own in part.skill.parameters
            if own.kind == "value" and own.name in part.parameters
        }
        for link in part.links:
            source = self.work / f"alone-{link.source}" / link.path
            if not source.is_file():
                raise _Failed(f"{link.source} did not make {link.path}, which {part.folder} reads")
            if link.parameter:
                values[link.parameter] = str(source)
            else:
                (folder / link.input).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / link.input)
        before = listing(folder)
        executed = execute(
            read_notebook(check_notebook(part.skill)),
            folder,
            parameters=values,
            timeout_s=self.timeout_s,
            on_progress=self._told(f"{part.folder} alone"),
        )
        if executed.status != "completed":
            raise _Failed(f"{part.folder} does not run on these inputs: {executed.error}")
        now = listing(folder)
        self.made[part.folder] = [name for name, state in now.items() if before.get(name) != state and name != NOTEBOOK]
        return folder

    def taken(self, alone: dict[str, Path]) -> dict[str, bool]:
        """Return which components the condition takes, with the defaults."""
        if self.planned.condition is None:
            return {}
        from cmbagent_nb.skills.running.ledger import find_metrics

        first = self.planned.components[0].folder
        made = self.made[first]
        metrics = dict(find_metrics(alone[first], made))
        for name in list(made):  # a number may also be named with its file
            if name.endswith(".json"):
                metrics |= {
                    f"{Path(name).stem}.{key}": value for key, value in find_metrics(alone[first], [name]).items()
                }
        holds = self.planned.condition.holds(metrics, made)
        kinds = {part.folder: self.planned.taken(part) for part in self.planned.components}
        return {folder: holds == (kind == "then") for folder, kind in kinds.items() if kind}

    def whole(self, notebook: NotebookNode, label: str) -> Executed:
        """Run the composition."""
        from cmbagent_nb.skills.verifying.verify import fill

        folder = self.work / label
        fill(folder, self.assets)
        told = self._told(f"{self.planned.name}, {label} time" if label != "flipped" else "the other way")
        executed = execute(copy.deepcopy(notebook), folder, timeout_s=self.timeout_s, on_progress=told, fresh=True)
        if executed.status != "completed":
            raise _Failed(f"it does not run: {executed.error}")
        return executed

    def compare(self, part: Component, alone: Path, label: str, against: str = "") -> list[dict[str, Any]]:
        """Compare a component's files in a run of the composition with another run, or with the component alone."""
        new = self.work / label / part.folder
        old = self.work / against / part.folder if against else alone
        folders = tuple(str(path) for path in self._places([old, new, alone]))
        found = []
        for name in self.made[part.folder]:
            item = compare(name, old / name, new / name, folders).as_dict()
            found.append({**item, "path": f"{part.folder}/{name}", "against": against or f"{part.folder} alone"})
        return found

    def _places(self, paths: Iterable[Path]) -> list[Path]:
        found = {*paths, *(self.work / f"alone-{part.folder}" for part in self.planned.components)}
        for label in ("first", "second", "flipped"):
            found |= {self.work / label / part.folder for part in self.planned.components}
        return sorted(found)

    def _told(self, label: str) -> OnProgress | None:
        tell = self.on_progress
        return None if tell is None else lambda done, total, what: tell(done, total, f"{label}: {what}")
