"""Marks the processes of an attempt, so that detached ones are found as well.

A mark is a variable of the environment, which descendants inherit: a process that has left its session and its folder,
and whose parents are gone, still has it. It names the run, the attempt and the folder: a process of another run, or of
a copy of this one in another place, is never taken for one of these.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from cmbagent_nb.ids import new_id

VARIABLE = "CMBAGENT_ATTEMPT"

#: Seconds in which processes that are killed should be gone, and between two looks.
PATIENCE = 2.0
LOOK = 0.01


@dataclass(frozen=True)
class Mark:
    """To whom a process belongs."""

    run_id: str
    attempt_id: str
    folder: str  #: the attempt's, without links
    launch: str = ""  #: which start of the attempt's code: one that is gone on with has several; empty for any

    @classmethod
    def of(cls, run_id: str, attempt_id: str, folder: Path) -> Mark:
        """Return the mark of an attempt in ``folder``."""
        return cls(run_id, attempt_id, os.path.realpath(folder))

    def __str__(self) -> str:
        return f"{self.run_id}:{self.attempt_id}:{self.launch}:{self.folder}"

    def started(self) -> Mark:
        """Return the mark of a start of the code: who ends one start must not end the next."""
        return replace(self, launch=new_id())

    def covers(self, other: Mark) -> bool:
        """Tell whether a process with the other mark is meant by this one."""
        same = (self.run_id, self.attempt_id, self.folder) == (other.run_id, other.attempt_id, other.folder)
        return same and self.launch in ("", other.launch)

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """Return the mark that a variable's value holds, or None.

        >>> Mark.read("r:a:l:/runs/x/steps/step_1/attempt_1").attempt_id, Mark.read("nothing")
        ('a', None)
        """
        parts = text.split(":", 3)
        if len(parts) < 4 or not (parts[0] and parts[1] and parts[3]):
            return None
        return cls(parts[0], parts[1], parts[3], parts[2])


def marked() -> list[tuple[psutil.Process, Mark]]:
    """Return the living processes of this user that have a mark, each with it; never this one or those above it."""
    found = []
    above = _above()
    for pid in psutil.pids():
        if pid in above:
            continue
        with contextlib.suppress(OSError, psutil.Error):
            mark = Mark.read(_value(pid))
            if mark is None:
                continue
            process = psutil.Process(pid)
            if _lives(process):
                found.append((process, mark))
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


def of_attempt(mark: Mark) -> list[psutil.Process]:
    """Return the living processes of an attempt, of one start of it if the mark names one."""
    return [process for process, other in marked() if mark.covers(other)]


def of_run(run_id: str, work_dir: Path) -> list[psutil.Process]:
    """Return the living processes of a run's attempts in a work dir."""
    inside = Path(os.path.realpath(work_dir))
    return [process for process, mark in marked() if mark.run_id == run_id and Path(mark.folder).is_relative_to(inside)]


def end_run(run_id: str, work_dir: Path) -> int:
    """Kill what still runs of a run's attempts; return how many processes were killed."""
    return _end(lambda: of_run(run_id, work_dir))


def end_attempt(mark: Mark) -> int:
    """Kill what still runs under a mark; return how many processes were killed."""
    return _end(lambda: of_attempt(mark))


def _end(find: Callable[[], list[psutil.Process]]) -> int:
    killed: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while (left := find()) and time.monotonic() < deadline:
        killed.update(kill(left))
    return len(killed)


def kill(processes: Sequence[psutil.Process]) -> set[int]:
    """Kill processes, supervisors only when no others are left: until then, orphans become theirs and are found."""
    supervisors = [process for process in processes if _is_supervisor(process)]
    others = [process for process in processes if process not in supervisors]
    killed = set()
    for supervisor in supervisors:
        with contextlib.suppress(psutil.Error):
            supervisor.suspend()
            others += [process for process in supervisor.children(recursive=True) if _lives(process)]
    for process in others or supervisors:
        with contextlib.suppress(psutil.Error):
            process.kill()
            killed.add(process.pid)
    time.sleep(LOOK)  # not waited for: a child of this process is somebody else's here to ask for its end
    return killed


def _is_supervisor(process: psutil.Process) -> bool:
    from cmbagent_nb.execution import supervisor

    try:
        return supervisor.__file__ in process.cmdline()
    except psutil.Error:
        return False


def _value(pid: int) -> str:
    if sys.platform == "linux":  # a third of the time that psutil takes
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            for item in file.read().split(b"\0"):
                if item.startswith(VARIABLE.encode() + b"="):
                    return os.fsdecode(item.partition(b"=")[2])
        return ""
    return psutil.Process(pid).environ().get(VARIABLE, "")


def _above() -> set[int]:
    pids = {os.getpid()}
    with contextlib.suppress(psutil.Error):
        pids.update(process.pid for process in psutil.Process().parents())
    return pids
