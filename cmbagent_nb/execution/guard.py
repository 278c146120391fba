"""Enforces the limits of code in a small process of its own, also when the starter has been killed.

| invariant | how |
|---|---|
| one a kernel | started with the first code that runs; it ends with its kernel when no code is left |
| it hears of the kernel's death at once | the end of a pipe that no other process holds is the kernel's end |
| limits hold as before | time, memory and output are looked at as the launcher does, and the whole group is killed |
| the end is believed | ``exit.json`` is written while the code stands still, before it is killed |
| a run that is taken over meanwhile is left alone | code that another process has ended is not touched |

Run by its path (``python guard.py``) it imports nothing of the package until the kernel is dead.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cmbagent_nb.execution.exits import Limits
    from cmbagent_nb.execution.marks import Mark

#: Seconds between two looks at code whose starter is dead.
EVERY = 0.5


class Guard:
    """The kernel's side: tells the guard which code runs, within which limits; use :meth:`get`."""

    _instance: Guard | None = None
    _making = threading.Lock()

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._watched: dict[int, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @classmethod
    def get(cls) -> Guard:
        """Return the guard of this process, made on first use (and again after a fork)."""
        with cls._making:
            if cls._instance is None or cls._instance.pid != os.getpid():
                cls._instance = cls()
            return cls._instance

    def watch(self, pid: int, started_at: float, folder: Path, limits: Limits, mark: Mark) -> None:
        """Let the guard know of code that runs."""
        about = [pid, started_at, str(folder), str(mark), limits.timeout_s, limits.memory_mb, limits.output_mb]
        line = json.dumps(about).encode() + b"\n"
        with self._lock:
            self._watched[pid] = line
            self._tell(line)

    def done(self, pid: int) -> None:
        """Let the guard know that code has ended."""
        with self._lock:
            if self._watched.pop(pid, None) is not None:
                self._tell(json.dumps([pid]).encode() + b"\n")

    def close(self) -> None:
        """End the guard, unless code runs on."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and self.pid == os.getpid():
            assert process.stdin is not None
            try:
                process.stdin.close()
                if not self._watched:
                    process.wait(2)
            except (OSError, subprocess.TimeoutExpired):
                return  # it ends by itself

    def _tell(self, line: bytes) -> None:
        """Send a line; a guard that is gone is started again and receives everything that runs."""
        for _ in range(2):
            if self._process is None:
                self._process = _start()
                line = b"".join(self._watched.values())
            assert self._process is not None
            pipe = self._process.stdin
            assert pipe is not None
            try:
                pipe.write(line)
                pipe.flush()
            except OSError:
                with contextlib.suppress(OSError):  # of what could not be sent
                    pipe.close()
                self._process.wait()
                self._process = None
            else:
                return


def _forget() -> None:
    """Forget the parent's guard in a process that was forked."""
    Guard._making = threading.Lock()
    Guard._instance = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start() -> subprocess.Popen[bytes]:
    from cmbagent_nb.execution.environment import child_environment

    null = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__)],  # noqa: PTH100 - pathlib would cost it a third of its start
        cwd=os.path.abspath(os.sep),  # noqa: PTH100
        env=child_environment({}),
        stdin=subprocess.PIPE,
        stdout=null,
        stderr=null,
        start_new_session=True,
    )


# ---- the guard's side


def main() -> None:
    """Hear what runs until the kernel is dead, then see to it."""
    left = hear(sys.stdin.buffer)
    if left:
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
        enforce(left)


def hear(lines: IO[bytes]) -> list[list[Any]]:
    """Read messages until the pipe is closed; return what runs then.

    >>> import io
    >>> hear(io.BytesIO(b'[7, 1.5, "/a", 60, 0, 0]\\n[8, 2.5, "/b", 0, 0, 0]\\n[7]\\n[9, 3'))
    [[8, 2.5, '/b', 0, 0, 0]]
    """
    running: dict[int, list[Any]] = {}
    for line in lines:
        if not line.endswith(b"\n"):
            break  # the kernel died while it wrote
        about = json.loads(line)
        if len(about) == 1:
            running.pop(about[0], None)
        else:
            running[about[0]] = about
    return list(running.values())


def enforce(running: list[list[Any]]) -> None:
    """Watch code whose kernel is dead until all of it has ended."""
    from pathlib import Path

    from cmbagent_nb.execution.exits import Limits

    watched = [_Orphan(about[0], about[1], Path(about[2]), about[3], Limits(*about[4:])) for about in running]
    while watched:
        watched = [orphan for orphan in watched if orphan.goes_on()]
        time.sleep(EVERY)


class _Orphan:
    """Code whose kernel is dead."""

    def __init__(self, pid: int, started_at: float, folder: Path, mark: str, limits: Limits) -> None:
        from cmbagent_nb.execution.group import Group
        from cmbagent_nb.execution.marks import Mark

        self.pid, self.started_at, self.folder, self.limits = pid, started_at, folder, limits
        self._group = Group(pid, started_at, mark=Mark.read(mark))
        self._memory = 0.0

    def goes_on(self) -> bool:
        """Look at it, and end it if it is over a limit; tell whether it goes on."""
        if not self._is_alive():
            self._group.kill()  # what it left behind
            return False
        self._group.look()
        reason = self._exceeded()
        if not reason:
            return True
        self._end(reason)
        return False

    def _is_alive(self) -> bool:
        import psutil

        from cmbagent_nb.execution.group import START_TOLERANCE

        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) <= START_TOLERANCE
            return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.Error:
            return False

    def _exceeded(self) -> str:
        limits = self.limits
        if limits.timeout_s and time.time() - self.started_at > limits.timeout_s:
            return "timeout"
        self._memory = self._group.memory_mb()
        if limits.memory_mb and self._memory > limits.memory_mb:
            return "memory"
        written = sum(path.stat().st_size for path in self._outputs() if path.exists())
        return "output" if limits.output_mb and written > limits.output_mb * 2**20 else ""

    def _outputs(self) -> tuple[Path, Path]:
        from cmbagent_nb.execution.records import STDERR, STDOUT, record_folder

        return record_folder(self.folder) / STDOUT, record_folder(self.folder) / STDERR

    def _end(self, reason: str) -> None:
        """Stop the code where it is, write how it ended, and kill it."""
        import psutil

        from cmbagent_nb.execution.exits import LIMIT_STATUS, limit_error
        from cmbagent_nb.execution.records import noted_reads, write_exit

        self._group.stop()
        for process in self._group.members():
            with contextlib.suppress(psutil.Error):
                process.suspend()
        error_output = self._outputs()[1]
        told = error_output.read_bytes()[-20_000:].decode("utf-8", "replace") if error_output.exists() else ""
        record = {
            "v": 1,
            "status": LIMIT_STATUS[reason],
            "exit_code": -9,
            "error": limit_error(reason, self.limits, self._memory, told, self.folder),
            "started_at": self.started_at,
            "ended_at": time.time(),
            "pid": self.pid,
            "reads": noted_reads(self.folder),
        }
        if self._is_alive():  # nobody else has ended it meanwhile, to begin anew in its folder
            write_exit(self.folder, record, self._is_alive)
        self._group.kill()


if __name__ == "__main__":
    main()
