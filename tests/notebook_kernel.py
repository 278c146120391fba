"""A real kernel without a page, for tests of the notebook front end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop


@dataclass
class Outcome:
    """What a cell put out."""

    text: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    reply: dict[str, Any] = field(default_factory=dict)

    def updated(self) -> dict[str, Any]:
        """The last state of the output that was displayed last."""
        return self.data[-1]


class Kernel:
    """A kernel and its client."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, *, timeout: float = 60.0, interrupt_after: float | None = None) -> Outcome:
        """Run a cell as a notebook would, and collect what belongs to it."""
        outcome = Outcome()
        places: dict[str, int] = {}

        def hook(message: dict[str, Any]) -> None:
            content, kind = message["content"], message["header"]["msg_type"]
            if kind == "stream":
                outcome.text += content["text"]
            elif kind in {"display_data", "execute_result"}:
                places[content.get("transient", {}).get("display_id", "")] = len(outcome.data)
                outcome.data.append(content["data"])
            elif kind == "update_display_data":
                place = places.get(content["transient"]["display_id"])
                if place is not None:
                    outcome.data[place] = content["data"]
            elif kind == "error":
                outcome.error = content

        timer = threading.Timer(interrupt_after, self.interrupt) if interrupt_after else None
        if timer:
            timer.start()
        try:
            outcome.reply = self.client.execute_interactive(code, timeout=timeout, output_hook=hook, allow_stdin=False)[
                "content"
            ]
        finally:
            if timer:
                timer.cancel()
        return outcome

    def interrupt(self) -> None:
        """Do what the stop button does."""
        os.kill(self.manager.provisioner.pid, signal.SIGINT)

    def value(self, expression: str) -> Any:
        """The value of an expression whose repr Python can read."""
        import ast

        outcome = self.run(f"print(repr(({expression})))")
        assert outcome.error is None, outcome.error
        return ast.literal_eval(outcome.text.strip().splitlines()[-1])

    def until(self, expression: str, timeout: float = 30.0) -> None:
        """Wait until an expression is true."""
        limit = time.monotonic() + timeout
        while not self.value(f"bool({expression})"):
            assert time.monotonic() < limit, f"{expression} did not become true"
            time.sleep(0.05)


@contextmanager
def kernel(home: Path, environ: Mapping[str, str]) -> Iterator[Kernel]:
    """Start a kernel whose workspace is in ``home``."""
    environment = {
        **os.environ,
        "CMBAGENT_HOME": str(home),
        "IPYTHONDIR": str(home.parent / "ipython"),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
        ),
        **environ,
    }
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=environment, cwd=str(home.parent))
    started = None
    try:
        started = Kernel(manager)
        yield started
    finally:
        if started is not None:
            started.client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
        ensure_event_loop().close()  # the one that jupyter_client made for itself
