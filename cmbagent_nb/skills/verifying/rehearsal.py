"""Rehearsals: a notebook's cells run again and again with other values, each time in a fresh process and folder.

A kernel takes seconds to start and to load its libraries. Here they are loaded once, in a process with the kernel's
environment, that forks for each try. Where there is no ``fork``, or the cells are not plain Python, each try gets a
kernel of its own: slower, and the same otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from cmbagent_nb.execution.marks import Mark
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.notebook import PREAMBLE
from cmbagent_nb.skills.running.engine import backend_of, execute, kernel_environment
from cmbagent_nb.skills.verifying.shown import Shown, all_printed, collect

if TYPE_CHECKING:
    from nbformat import NotebookNode

_CHILD = Path(__file__).with_name("rehearsal_child.py")
#: Seconds that loading the libraries may take.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Tried:
    """End of a try, and the output of its cells."""

    status: str  #: completed, failed or timeout
    error: str
    shown: list[Shown]
    duration_s: float

    @property
    def printed(self) -> str:
        """Printed output of the cells."""
        return all_printed(self.shown)


class Stage(Protocol):
    """Place in which a notebook can be tried."""

    def run(self, parameters: dict[str, Any], folder: Path, timeout_s: float) -> Tried:
        """Run the notebook's cells in ``folder`` with other values for some parameters."""
        ...


class KernelStage:
    """Gives each try a kernel of its own."""

    def __init__(self, notebook: NotebookNode) -> None:
        self.notebook = notebook

    def run(self, parameters: dict[str, Any], folder: Path, timeout_s: float) -> Tried:
        """Run the notebook as a skill is run."""
        executed = execute(self.notebook, folder, parameters=parameters, timeout_s=max(1.0, timeout_s))
        return Tried(executed.status, executed.error, collect(executed.notebook), executed.duration_s)


class ForkStage:
    """Gives each try a fork of one process that has loaded the libraries."""

    def __init__(self, notebook: NotebookNode, scratch: Path) -> None:
        self.notebook, self.scratch, self._tries, self._buffer = notebook, scratch, 0, b""
        self._mark = Mark.of("skill", new_id(), scratch)
        self._errors: IO[bytes] = (scratch / "stderr.txt").open("wb")
        empty = scratch / "empty"
        empty.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],  # -P: our own modules must not stand in for the code's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=empty,
            env=kernel_environment(scratch, self._mark, backend_of(notebook)),
            start_new_session=True,
        )
        try:
            self._send({"cells": _cells(notebook)})
            self._receive(_PATIENCE_S)
        except BaseException:
            self.close()
            raise

    def run(self, parameters: dict[str, Any], folder: Path, timeout_s: float) -> Tried:
        """Run the cells in a fork."""
        self._tries += 1
        printed = self.scratch / f"printed-{self._tries}.txt"
        self._send({"parameters": parameters, "folder": str(folder), "printed": str(printed), "timeout_s": timeout_s})
        answer = self._receive(timeout_s + _PATIENCE_S)
        return Tried(answer["status"], answer["error"], self._shown(printed), answer["duration_s"])

    def _shown(self, printed: Path) -> list[Shown]:
        """Return what the cells of a try showed, as a kernel would have it."""
        import nbformat

        new_output: Any = nbformat.v4.new_output
        notebook = copy.deepcopy(self.notebook)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        for cell in cells:
            cell.outputs = []
        place = printed.with_name(f"{printed.name}.shown")
        for line in place.read_text(encoding="utf-8").splitlines() if place.is_file() else ():
            item = json.loads(line)
            # of a cell that was run again to set up a fresh process, the first run counts
            outputs = [new_output("stream", name="stdout", text=item["printed"])] if item["printed"] else []
            outputs += [new_output(found["type"], data=found["data"]) for found in item["displayed"]]
            cells[item["cell"]].outputs = cells[item["cell"]].outputs or outputs
        return collect(notebook)

    def close(self) -> None:
        """End the process with all that it started."""
        from cmbagent_nb.execution.group import Group, start_time

        started = start_time(self._process.pid)
        Group(self._process.pid, started, mark=self._mark).kill()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise NoStageError(self._said()) from error

    def _receive(self, patience_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        until, number = time.monotonic() + patience_s, self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([number], [], [], max(0.0, until - time.monotonic()))
            piece = os.read(number, 65536) if ready else b""
            if not piece:
                raise NoStageError(self._said())
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self) -> str:
        text = (self.scratch / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1] if text else "the process ended"


class NoStageError(Exception):
    """The cells cannot be tried in a fork: they are not plain Python, or the process ended."""


@contextlib.contextmanager
def fork_stage(notebook: NotebookNode) -> Iterator[ForkStage]:
    """Open a process that forks for each try.

    Raises
    ------
    NoStageError
        There is no ``fork`` here, or the cells are not plain Python.
    """
    if not hasattr(os, "fork"):
        raise NoStageError("there is no fork on this system")
    scratch = Path(tempfile.mkdtemp(prefix="cmbagent-rehearsal-"))
    stage = None
    try:
        stage = ForkStage(notebook, scratch)
        yield stage
    finally:
        if stage is not None:
            stage.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _cells(notebook: NotebookNode) -> list[dict[str, Any]]:
    cells = []
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and cell.source.strip():
            cells.append(
                {
                    "source": cell.source,
                    "parameters": "parameters" in tags,
                    "preamble": bool(PREAMBLE & tags),
                    "may_fail": "raises-exception" in tags,
                    "fresh": bool(cell.metadata.get("cmbagent_nb", {}).get("fresh_kernel")),
                }
            )
    return cells
