"""Verification: a notebook is run with its defaults in a fresh kernel and folder, and what it makes is compared.

A skill is verified when it made every file that the run's steps made, and each is equal in the
sense of :mod:`cmbagent_nb.skills.verifying.compare`. Steps that made no file are compared by what they printed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.running.engine import OnProgress, execute
from cmbagent_nb.skills.verifying.compare import Comparison, compare

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True)
class Original:
    """A file of the run that the skill must make again."""

    path: str
    place: Path


@dataclass
class Report:
    """What was compared, how, and what came of it."""

    verified: bool
    reason: str
    files: list[Comparison] = field(default_factory=list)
    printed: str = ""
    duration_s: float = 0.0
    cells: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: Which parameters have an effect (:mod:`cmbagent_nb.skills.verifying.liveness`), once that was tried.
    liveness: dict[str, Any] = field(default_factory=dict)
    #: What the cells printed; it is not kept.
    stdout: str = ""

    @property
    def summary(self) -> str:
        """Return the outcome in a line: ``3 of 3 files reproduced``."""
        if not self.files:
            return self.printed or self.reason
        equal = sum(item.equal for item in self.files)
        return f"{equal} of {len(self.files)} file{'s' if len(self.files) != 1 else ''} reproduced"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is kept beside the notebook."""
        return {
            "verified": self.verified,
            "summary": self.summary,
            "reason": self.reason,
            "files": [item.as_dict() for item in self.files],
            "duration_s": round(self.duration_s, 3),
            "cells": self.cells,
            "notes": self.notes,
            "liveness": self.liveness,
        }


def verify(
    notebook: NotebookNode,
    assets: Path,
    folder: Path,
    originals: list[Original],
    *,
    printed: str | None = None,
    folders: Iterable[str] = (),
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Run a notebook with its defaults and compare what it makes with the run's own files.

    Parameters
    ----------
    assets
        The skill's inputs, which are copied into ``folder`` first.
    folder
        A new folder to run in; it is left for the caller to remove.
    originals
        The files of the run.
    printed
        What the steps printed, compared where they made no file.
    folders
        Where the run's steps worked: their paths may stand in texts.
    """
    fill(folder, assets)
    executed = execute(notebook, folder, timeout_s=timeout_s, on_progress=on_progress)
    report = Report(False, "", duration_s=executed.duration_s, cells=executed.cells)
    report.stdout = output(executed.notebook)
    if executed.status != "completed":
        report.reason = f"it does not run with its defaults: {executed.error}"
        return report
    places = (*folders, str(folder))
    report.files = [compare(item.path, item.place, folder / item.path, places) for item in originals]
    for item in report.files:
        report.notes += [f"{item.path}: {name} is a time and was not compared" for name in item.skipped]
    different = [item for item in report.files if not item.equal]
    if different:
        report.reason = "; ".join(f"{item.path}: {item.detail}" for item in different[:3])
    elif report.files:
        report.verified = True
    else:
        _by_output(report, printed)
    return report


def _by_output(report: Report, printed: str | None) -> None:
    """Compare what was printed, for steps that made no file."""
    if not printed or not printed.strip():
        report.reason = "the steps made no file and printed nothing, so there is nothing to compare"
        return
    if report.stdout.split() == printed.split():
        report.verified, report.printed = True, "what it prints is reproduced"
    else:
        report.reason = "it made no file, and what it prints differs from what the run printed"


def output(notebook: NotebookNode) -> str:
    """Return what the cells printed."""
    return "".join(
        item.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for item in cell.outputs
        if item.output_type == "stream" and item.name == "stdout"
    )


def fill(folder: Path, assets: Path) -> None:
    """Make a folder to run in: the folders that code relies on, and the skill's inputs."""
    from cmbagent_nb.skills.notebook import FOLDERS

    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if assets.is_dir():
        shutil.copytree(assets, folder, dirs_exist_ok=True)
