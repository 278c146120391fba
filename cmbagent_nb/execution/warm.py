"""Starts supervised processes as forks of one that has loaded the libraries: a start takes milliseconds, not seconds.

| invariant | how |
|---|---|
| code finds what it would in an interpreter of its own | only :data:`LIBRARIES` are loaded before |
| variables that code sets before an import take effect | nothing is loaded before code that sets some |
| what is verified does not rest on the fork | verification starts an interpreter of its own, with another hash seed |
| none outlives this process | the warm process ends what it started when the pipe to it is closed |
| a fork of this process does not share it | it starts a warm process of its own |
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from cmbagent_nb.errors import ExecutionFailed

_CHILD = Path(__file__).with_name("warm_child.py")
#: Libraries that take long to load and do not act when they are imported.
LIBRARIES = frozenset({"numpy", "scipy", "pandas", "matplotlib", "astropy", "pyarrow"})
#: Variables of one execution, which make no other warm process necessary.
OWN = ("IPYTHONDIR", "MPLBACKEND", "CMBAGENT_ATTEMPT")


def available() -> bool:
    """Tell whether this system can fork processes that have loaded libraries."""
    return sys.platform == "linux"


def libraries(sources: Iterable[str]) -> list[str]:
    """Return the modules to load before code runs; some of the names may be functions.

    >>> libraries(["import numpy as np, mine", "from scipy import stats"])
    ['numpy', 'scipy', 'scipy.stats']
    """
    found: list[str] = []
    for source in sources:
        if "environ" in source or "%env" in source or "putenv" in source:
            return []  # a variable that is set before the import would come too late
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if "parquet" in source:
            found.append("pyarrow.parquet")
        if "pyplot" in source:
            found.append("matplotlib.backends.backend_agg")
    return [name for name in dict.fromkeys(found) if name.partition(".")[0] in LIBRARIES]


class Forked:
    """A process that the warm one forked, with the part of ``subprocess.Popen`` that the launcher uses."""

    def __init__(self, warm: _Warm, pid: int) -> None:
        self.warm, self.pid = warm, pid
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Reap the process, which has ended or was killed, and return its exit code."""
        if self._code is None:
            try:
                self._code = int(self.warm.ask({"reap": self.pid})["code"])
            except ExecutionFailed:
                self._code = -9  # the warm process was killed, and this one with it
        return self._code


class _Warm:
    """A warm process and the pipes to it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """End the process, unless it is that of the parent of a fork."""
        atexit.unregister(self.close)
        if self.pid != os.getpid():
            return
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.wait()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer."""
        pipe_in, pipe_out = self.process.stdin, self.process.stdout
        assert pipe_in is not None and pipe_out is not None
        with self._lock:
            try:
                pipe_in.write(json.dumps(request).encode() + b"\n")
                pipe_in.flush()
                answer: dict[str, Any] = json.loads(pipe_out.readline())
            except (OSError, ValueError) as error:
                raise ExecutionFailed(
                    f"the process that starts notebooks has ended ({error})", "Check the memory of this machine."
                ) from error
        return answer


class _Known:
    """The warm processes of this process, by their environment."""

    lock = threading.Lock()
    processes: ClassVar[dict[tuple[tuple[str, str], ...], _Warm]] = {}


def _forget() -> None:
    """Forget the parent's warm processes in a process that was forked."""
    _Known.lock = threading.Lock()
    _Known.processes = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def start(environment: Mapping[str, str], request: Mapping[str, Any]) -> Forked:
    """Start a script as a fork of the warm process for this environment.

    Parameters
    ----------
    request
        ``script``, ``folder``, ``record``, ``stdout``, ``stderr`` and ``imports``, the modules to load before.
    """
    shared = {name: value for name, value in environment.items() if name not in OWN}
    key = tuple(sorted(shared.items()))
    for trial in range(2):
        with _Known.lock:
            if key not in _Known.processes:
                _Known.processes[key] = _Warm(shared)
            warm = _Known.processes[key]
        try:
            return Forked(warm, warm.ask({**request, "env": dict(environment)})["pid"])
        except ExecutionFailed:
            with _Known.lock:
                if _Known.processes.get(key) is warm:
                    del _Known.processes[key]
            warm.close()
            if trial:
                raise
    raise AssertionError
