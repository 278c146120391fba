"""Runs ``python SCRIPT`` as its child and writes how that ended: ``python -I -S supervisor.py SCRIPT FOLDER RECORD``.

| invariant | how |
|---|---|
| the script runs as a person would run it | in an interpreter of its own, with nothing of ours in its stack |
| no process of the script escapes | orphans become children of this process (Linux), whatever session they have |
| ``exit.json`` says how it ended | written last of all, when what the script started is gone, and renamed into place |
| the process that waits for this one sees the script's end | it ends in the same way: the exit status, or the signal |

The process that started this one need not be alive any more: everything is in the record folder, which lies beside the
attempt's folder so that no name in there can be taken by ours. This file is run by its path and uses the standard
library only.
"""

# Importing pathlib, json and subprocess would cost several times what this file may take.
# ruff: noqa: PTH100, PTH105, PTH108, PTH110, PTH118, PTH120, PTH123, PTH208
from __future__ import annotations

import errno
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
HOOK_FOLDER = os.path.join(HERE, "hook")
HOOK_VARIABLE = "CMBAGENT_HOOK"
EXIT_FILE = "exit.json"
ERROR_FILE = "error.json"
READS_FILE = "reads"

#: How often the end is written again on a full disk when nobody else does, and the seconds between.
TRIES = 240
TRY_AGAIN = 0.5

#: Seconds that processes which the script left may take to end by themselves, and to be gone after they were killed.
GRACE = 0.2
PATIENCE = 5.0
LOOK = 0.01

#: Signals by which a system that shuts down, or a person, ends processes: the script has not come to an end of its own.
OUTSIDE = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM), getattr(signal, "SIGHUP", 1))


def run(script: str, folder: str, record: str, start: Callable[[], int] | None = None) -> None:
    """Run ``script`` in the current folder; end as it ends.

    ``start`` starts it in another way and returns its pid; the folder's files are not listed then.
    """
    parent = os.getppid()
    started = time.time()
    adopts = _adopt_orphans()
    try:
        code = _wait(start()) if start else _run(script, {**os.environ, **_hooked(script, folder, record)})
    except OSError as error:
        _write_error(record, {"type": "OSError", "message": f"the interpreter cannot be started ({error})"})
        code = 126
    if adopts:
        _end_others()
    if not (code < 0 and -code in OUTSIDE and os.getppid() != parent):
        _Ending("" if start else folder, record, parent).write(code, started)
    _leave(code)


def _hooked(script: str, folder: str, record: str) -> dict[str, str]:
    """Return the variables that make the interpreter load the hook, which removes them again."""
    before = os.environ.get("PYTHONPATH", "")
    path = HOOK_FOLDER + (os.pathsep + before if before else "")
    return {"PYTHONPATH": path, HOOK_VARIABLE: "\n".join((record, folder, script))}


def _adopt_orphans() -> bool:
    """Become the parent of descendants whose own parent ends, where the system can."""
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)  # PR_SET_CHILD_SUBREAPER
    except (ImportError, OSError, AttributeError):
        return False


def _run(script: str, environment: dict[str, str]) -> int:
    command = [sys.executable, script]
    if not hasattr(os, "posix_spawn"):
        import subprocess

        return subprocess.call(command, env=environment)
    ignored = [signal.SIGPIPE, *([signal.SIGXFSZ] if hasattr(signal, "SIGXFSZ") else [])]  # by every Python
    return _wait(os.posix_spawn(sys.executable, command, environment, setsigdef=ignored))


def _wait(pid: int) -> int:
    while True:
        done, status = os.wait()
        if done == pid:
            return os.waitstatus_to_exitcode(status)


def _end_others() -> None:
    """Wait a moment for what the script left to end by itself, as the helpers of multiprocessing do; then kill it."""
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        try:
            done, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if done:
            continue
        if time.monotonic() - begun > GRACE:
            for pid in _children():
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    continue
        time.sleep(LOOK)


def _children() -> list[int]:
    mine, found = str(os.getpid()), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    if file.read().rpartition(")")[2].split()[1] == mine:
                        found.append(int(name))
            except (OSError, IndexError):
                continue
    return found


class _Ending:
    """Writes ``exit.json``."""

    def __init__(self, folder: str, record: str, parent: int) -> None:
        self.folder, self.record, self.parent = folder, record, parent

    def write(self, code: int, started: float) -> None:
        import json

        ended = time.time()
        about = {
            "v": 1,
            "status": "completed" if code == 0 else "failed",
            "exit_code": code,
            "error": read_error(self.record) if code else None,
            "started_at": started,
            "ended_at": ended,
            "pid": os.getpid(),
            "reads": self._reads(),
            "files": _manifest(self.folder) if self.folder else [],
        }
        text = json.dumps(about)
        for _ in range(TRIES):
            try:
                self._replace(text)
                return
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
            if os.getppid() == self.parent:
                return  # it lives, and writes this itself when there is space again
            time.sleep(TRY_AGAIN)

    def _replace(self, text: str) -> None:
        temporary = os.path.join(self.record, f".{EXIT_FILE}.{os.getpid()}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, os.path.join(self.record, EXIT_FILE))
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise

    def _reads(self) -> list[str]:
        try:
            with open(os.path.join(self.record, READS_FILE), "rb") as file:
                return [os.fsdecode(name) for name in file.read().split(b"\0")[:-1]]
        except OSError:
            return []


def read_error(record: str) -> Any:
    """Return the exception that was noted in the script's interpreter, or None."""
    import json

    try:
        with open(os.path.join(record, ERROR_FILE), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _write_error(record: str, about: dict[str, Any]) -> None:
    import json

    with open(os.path.join(record, ERROR_FILE), "w", encoding="utf-8") as file:
        json.dump({"line": None, "file": None, **about}, file)


def _manifest(folder: str) -> list[dict[str, Any]]:
    """List the folder's files with size and hash, by the same code as the one who started us uses."""
    import importlib.util

    place = os.path.join(os.path.dirname(HERE), "capture", "file_scan.py")
    spec = importlib.util.spec_from_file_location("_cmbagent_manifest", place)
    if spec is None or spec.loader is None:
        return []
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return [
        {"path": entry.path, "size": entry.size, "mtime_ns": entry.mtime_ns, "sha256": entry.sha256}
        for entry in module.scan(folder).values()
    ]


def _leave(code: int) -> None:
    """End by the same signal or with the same exit status as the script."""
    if code < 0:
        try:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the script's own is enough
            if -code != signal.SIGKILL:
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        except (ImportError, OSError, ValueError):
            os._exit(128 - code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _script, _folder, _record = (os.path.abspath(path) for path in sys.argv[1:4])
    run(_script, _folder, _record)
