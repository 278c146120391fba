"""Kernels that can be killed: processes of their own that start in a few milliseconds.

One process imports what a run needs, and is forked for each kernel: what is killed is a real process with its own
threads, loop, database connection and children, and no test waits seconds for imports.

>>> with Kernels() as kernels:                                       # doctest: +SKIP
...     kernels.run("tests.rich_run", home, "start", "t1.5")
Ended(code=-9, output='', seconds=1.53)
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a kernel ended: its exit status, negative for a signal, and what it printed."""

    code: int
    output: str
    seconds: float


class Kernels:
    """Starts kernels, one after the other; each calls ``main(*arguments)`` of a module."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kernels"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=dict(os.environ),
        )

    def __enter__(self) -> Kernels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def run(self, module: str, *arguments: object, timeout: float = 120.0) -> Ended:
        """Run a kernel to its end, with this process's environment; fails the test when it takes too long."""
        answer = self._ask(module, arguments, timeout=timeout)
        assert not answer["late"], f"the kernel did not end within {timeout} s:\n{answer['output']}"
        return Ended(answer["code"], answer["output"].strip(), answer["seconds"])

    def start(self, module: str, *arguments: object) -> int:
        """Start a kernel and leave it to itself; returns its process id. What it prints goes nowhere."""
        return int(self._ask(module, arguments)["pid"])

    def _ask(self, module: str, arguments: tuple[object, ...], timeout: float = 0.0) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {
            "module": module,
            "arguments": [str(item) for item in arguments],
            "env": dict(os.environ),
            "timeout": timeout,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _import() -> None:
    """Load what a run needs, without starting anything: a fork has to be of a process with one thread."""
    from cmbagent_nb.llm.gateway import warm
    from cmbagent_nb.workflow.launch import import_heavy

    import_heavy()
    warm("openai")
    for name in (
        "store.database",
        "store.writer",
        "store.frames",
        "workflow.process_state",
        "workflow.resume",
        "agents.build",
    ):
        importlib.import_module(f"cmbagent_nb.{name}")
    assert threading.active_count() == 1, threading.enumerate()


def _kernel(request: dict[str, Any], output: int) -> None:
    """Be a kernel: this process is the fork."""
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(request["env"])
        importlib.import_module(request["module"]).main(*request["arguments"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Fork a kernel for each line that comes in, and answer with how it ended."""
    _import()
    left = 0
    for line in sys.stdin:
        while left and os.waitpid(-1, os.WNOHANG)[0]:
            left -= 1
        request = json.loads(line)
        output = os.memfd_create("output") if hasattr(os, "memfd_create") else os.open("/dev/null", os.O_RDWR)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _kernel(request, output)
        if not request["timeout"]:
            left += 1
            os.close(output)
            print(json.dumps({"pid": pid}), flush=True)
            continue
        late = threading.Timer(request["timeout"], os.kill, (pid, 9))
        late.start()
        _, status = os.waitpid(pid, 0)
        seconds = time.monotonic() - began
        late.cancel()
        late.join()
        os.lseek(output, 0, os.SEEK_SET)
        text = os.read(output, 1 << 20).decode(errors="replace")
        os.close(output)
        code = os.waitstatus_to_exitcode(status)
        answer = {
            "code": code,
            "output": text,
            "seconds": round(seconds, 3),
            "late": seconds >= request["timeout"],
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
