"""Tracks the process group of an attempt: its members and memory, and kills it.

A child gets a session of its own, so that the session's id names its descendants, even those whose parent is gone. It
is a supervisor (:mod:`cmbagent_nb.execution.supervisor`), which on Linux becomes the parent of all descendants that
lose theirs: as long as it lives, none can leave. Where it has died, or elsewhere, a descendant that opened another
session is remembered from when it was seen below the child, and found by the mark in its environment
(:mod:`cmbagent_nb.execution.marks`) or as an orphan that works in the attempt's folder.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

from cmbagent_nb.execution.marks import Mark, of_attempt

#: How far apart two readings of a process's start time may be; the same pid is not given out again so soon.
START_TOLERANCE = 1.5
#: How long to see to it that a killed group is gone.
KILL_PATIENCE = 0.9

Seen = dict[int, float]


class Group:
    """The processes below a child that was started in a session of its own."""

    def __init__(self, pid: int, started_at: float, folder: Path | None = None, mark: Mark | None = None) -> None:
        self.pid = pid
        self.started_at = started_at
        self.folder = folder
        self.mark = mark
        self._seen: Seen = {}

    def look(self) -> None:
        """Remember the descendants of now, so that one that leaves the session is still known."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    self._seen[process.pid] = process.create_time()

    def _strays(self) -> None:
        """Remember those that have the attempt's mark, and orphans that work in its folder."""
        if self.mark is not None:
            for process in of_attempt(self.mark):
                with contextlib.suppress(psutil.Error):
                    self._seen[process.pid] = process.create_time()
        if self.folder is None or sys.platform != "linux":
            return
        inside = str(self.folder.resolve())
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                cwd = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")  # noqa: PTH115
                if cwd != inside and not cwd.startswith(inside + os.sep):
                    continue
                process = psutil.Process(pid)
                parent = process.parent()
                if parent is None or parent.pid == 1 or parent.name() == "systemd":
                    self._seen[pid] = process.create_time()

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the group."""
        pids = set(_session(self.pid)) | {self.pid}
        found = []
        for pid in pids | set(self._seen):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                known = self._seen.get(pid) if pid not in pids else None
                if known is not None and abs(process.create_time() - known) > START_TOLERANCE:
                    continue
                if process.create_time() < self.started_at - START_TOLERANCE:
                    continue
                if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                    found.append(process)
        return found

    def memory_mb(self) -> float:
        """Return the resident memory of all its processes, in megabytes."""
        total = 0
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / 2**20

    def stop(self) -> None:
        """Hold the supervisor still: it adopts orphans all the same, and does not act on the end of the script."""
        if sys.platform != "win32":
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.pid)
                if abs(process.create_time() - self.started_at) <= START_TOLERANCE:
                    process.suspend()

    def kill(self) -> bool:
        """Kill the group and wait until it is gone; tell whether it is.

        The supervisor is killed last: until then no process can leave it.
        """
        deadline = time.monotonic() + KILL_PATIENCE
        self.stop()
        while True:
            self.look()
            if not self._others():
                self._strays()
            others = self._others()
            if not others and not self.members():
                return True
            if time.monotonic() > deadline:
                others = []
            for process in others or self.members():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if time.monotonic() > deadline + KILL_PATIENCE:
                return False
            time.sleep(0.01)

    def _others(self) -> list[psutil.Process]:
        return [process for process in self.members() if process.pid != self.pid]


def _session(pid: int) -> list[int]:
    if sys.platform == "win32":
        return []
    found = []
    for other in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(other) == pid:
                found.append(other)
    return found


def start_time(pid: int) -> float:
    """Return when a process started, as seconds since the epoch, or now if it is gone already."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return time.time()


def kill_folder(folder: Path) -> bool:
    """Kill whatever works in an attempt's folder; tell whether nothing is left.

    This finds the child of a starter that died before it could say whom it had started.
    """
    inside = str(folder.resolve())
    deadline = time.monotonic() + KILL_PATIENCE
    while True:
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                cwd = process.cwd().removesuffix(" (deleted)")
                if (cwd == inside or cwd.startswith(inside + os.sep)) and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
        if not left or time.monotonic() > deadline:
            return not left
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def kill_group(pid: int, process_started_at: float, mark: Mark | None = None) -> bool:
    """Kill what is left of an attempt whose starter died; tell whether there was something to kill.

    A process that got the same pid later is another one and is left alone.
    """
    try:
        if abs(psutil.Process(pid).create_time() - process_started_at) > START_TOLERANCE:
            return False
    except psutil.NoSuchProcess:
        pass  # the child is gone; what it started may not be
    group = Group(pid, process_started_at, mark=mark)
    group.look()
    group._strays()
    if not group.members():
        return False
    group.kill()
    return True
