"""Verification: a notebook is run with its defaults in a fresh kernel and folder, and what it makes is compared.

A skill is verified when every result is there again and equal: the files that were made
(:mod:`~cmbagent_nb.skills.verifying.compare`), the figures, tables and values that its cells show, and the numbers that
they print (:mod:`~cmbagent_nb.skills.verifying.shown`). Without one result that was compared nothing is verified.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.running.engine import OnProgress, execute
from cmbagent_nb.skills.running.finished_steps import listing
from cmbagent_nb.skills.verifying import shown as results
from cmbagent_nb.skills.verifying import unseeded
from cmbagent_nb.skills.verifying.compare import Comparison, compare
from cmbagent_nb.skills.verifying.computed import complaint, words_said
from cmbagent_nb.skills.verifying.look import Look
from cmbagent_nb.skills.verifying.pairing import pair
from cmbagent_nb.skills.verifying.shown import PRINTED, Shown

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTHING = (
    "it has no result that can be compared: it makes no file, figure or table, and prints no number that it computed"
)
#: How many calls a reason names.
_MOST_CALLS = 3


@dataclass(frozen=True)
class Original:
    """A file of the run that the skill must make again."""

    path: str
    place: Path


@dataclass
class Report:
    """Comparisons that were made, and their outcome."""

    verified: bool
    reason: str
    files: list[Comparison] = field(default_factory=list)
    #: The figures, tables, values and printed texts that were compared.
    shown: list[Comparison] = field(default_factory=list)
    duration_s: float = 0.0
    cells: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    #: Which parameters have an effect (:mod:`cmbagent_nb.skills.verifying.liveness`), once that was tried.
    liveness: dict[str, Any] = field(default_factory=dict)
    #: What the cells showed and printed, and the names that files had, this time; they are not kept.
    now: list[Shown] = field(default_factory=list)
    stdout: str = ""
    names: dict[str, str] = field(default_factory=dict)
    calls: list[unseeded.Finding] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """Return the outcome in a line: ``3 of 3 files reproduced``."""
        if not self.files and not self.shown:
            return self.reason
        said = []
        displayed = [item for item in self.shown if item.counts and not item.path.endswith("printed text")]
        for items, what in ((self.files, "file"), (displayed, "displayed result")):
            if items:
                equal = sum(item.equal for item in items)
                said.append(f"{equal} of {len(items)} {what}{'s' if len(items) != 1 else ''}")
        if not said:
            return "what it prints is reproduced" if self.verified else self.reason
        undecided = [item.path for item in self.files if item.undecided]
        more = f"; {', '.join(undecided)} could not be compared" if undecided else ""
        return f"{' and '.join(said)} reproduced{more}"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is kept beside the notebook."""
        return {
            "verified": self.verified,
            "summary": self.summary,
            "reason": self.reason,
            "files": [item.as_dict() for item in self.files],
            "shown": [item.as_dict() for item in self.shown],
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
    shown: Iterable[Shown] = (),
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
    shown
        What the cells showed, or what the steps printed, which is compared where they made no file.
    folders
        Where the run's steps worked: their paths may stand in texts.
    """
    fill(folder, assets)
    before = listing(folder)
    executed = execute(notebook, folder, timeout_s=timeout_s, on_progress=on_progress, fresh=True)
    report = Report(False, "", duration_s=executed.duration_s, cells=executed.cells)
    report.stdout = output(executed.notebook)
    report.calls = unseeded.find((label, cell.source) for label, cell in results.code_cells(notebook))
    if executed.status != "completed":
        report.reason = f"it does not run with its defaults: {executed.error}"
        return report
    report.now = results.collect(executed.notebook)
    asks_clock = any(item.kind == "clock" for item in report.calls)
    made = [path for path, state in listing(folder).items() if before.get(path) != state]
    report.names = pair([item.path for item in originals], made, varies=bool(report.calls))
    places, said = (*folders, str(folder)), words_said(cell.source for _, cell in results.code_cells(notebook))
    for item in originals:
        name = report.names.get(item.path, item.path)
        found = compare(item.path, item.place, folder / name, places, asks_clock=asks_clock, said=said)
        if name != item.path:
            report.notes.append(f"{item.path}: its name differs each time; it was compared with {name}")
            found = replace(found, now=name)
        report.files.append(found)
    expected = [item for item in shown if not (originals and item.cell == results.ALL)]
    if expected or not originals:
        own = [item for item in report.now if expected or item.mime == PRINTED] if expected else []
        report.shown = results.compare_all(expected, own, Look.at(places, asks_clock=asks_clock))
    for compared in [*report.files, *report.shown]:
        report.notes += [
            f"{compared.path}: {name} differs each time (a time, a duration, a made-up name) and was not compared"
            for name in compared.skipped
        ]
    judge(report, complaint(report.stdout) or complaint(errors(executed.notebook)))
    return report


def judge(report: Report, said: str = "") -> None:
    """Decide from the comparisons whether a skill is verified, and say why not.

    Parameters
    ----------
    said
        A line that was printed and says that something failed.
    """
    random = [item for item in report.calls if item.kind == "random"]
    wrong = [item for item in report.files if not item.equal and not (item.undecided and not random)]
    wrong += [item for item in report.shown if not item.equal and item.counts]
    right = [item for item in [*report.files, *report.shown] if item.equal and item.counts]
    if said and not [item for item in right if not item.path.endswith(": printed text")]:
        report.reason = f"it made no result, and what it prints says that something failed: {said}"
    elif wrong:
        report.reason = "; ".join(f"{item.path}: {item.detail}" for item in wrong[:3])
    elif not right:
        unknown = [f"{item.path}: {item.detail}" for item in report.files if item.undecided]
        bare = [item.path for item in report.files if item.equal]
        if bare and not unknown:
            verb = "holds" if len(bare) == 1 else "hold"
            unknown = [f"{', '.join(bare[:3])} {verb} no computed result: empty, or words that stand in the code"]
        report.reason = "; ".join(unknown) or NOTHING
    else:
        report.verified = True
    if wrong and report.calls:
        calls = (random or report.calls)[:_MOST_CALLS]
        report.reason += f" (two runs differ by {'; '.join(map(str, calls))})"
    if report.verified and said:
        report.notes.append(f"it prints: {said}")
    report.notes += [f"{item.path}: {item.detail}" for item in report.files if item.undecided]


def output(notebook: NotebookNode) -> str:
    """Return what the cells printed."""
    return _streams(notebook, "stdout")


def errors(notebook: NotebookNode) -> str:
    """Return the tracebacks that the cells printed beside their output."""
    text = _streams(notebook, "stderr")
    return text[text.index("Traceback (most recent") :] if "Traceback (most recent" in text else ""


def _streams(notebook: NotebookNode, name: str) -> str:
    return "".join(
        item.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for item in cell.outputs
        if item.output_type == "stream" and item.name == name
    )


def fill(folder: Path, assets: Path) -> None:
    """Make a folder to run in: the folders that code relies on, and the skill's inputs."""
    from cmbagent_nb.skills.notebook import FOLDERS

    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if assets.is_dir():
        shutil.copytree(assets, folder, dirs_exist_ok=True)
