"""A kernel that runs, or goes on with, one run, and may die on the way. Started by test_resume."""

from __future__ import annotations

import os
import signal
import sys
import threading

from cmbagent_nb.workspace import Workspace


def main(home: str, mode: str, moment: str = "") -> None:
    """Run (``start``) or go on (``resume``); die at the n-th event of the stream, or after so many seconds."""
    if moment.startswith("t"):
        threading.Timer(float(moment[1:]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    workspace = Workspace(home)
    if mode == "start":
        run = workspace.planning_and_control(
            "Add two numbers.",
            model="openai:test-model",
            approve=os.environ.get("CMBAGENT_APPROVE", "plan"),
            name="crash",
        )
    else:
        run = workspace.run("crash")
        if run.status != "completed":  # it may have died after the end
            run = workspace.resume("crash")
    if moment.startswith("n") and not run.finished:
        count = 0

        def die(event: object) -> None:
            nonlocal count
            count += 1
            if count == int(moment[1:]):
                os.kill(os.getpid(), signal.SIGKILL)

        live = workspace._core.host.live.get(run.id)
        if live is not None:
            live.stream.tap(die)  # at the very moment: a callback would hear of it a little later
    if moment == "gate":
        opened = threading.Event()
        run.on("approval_requested", lambda event: opened.set())
        while not any(gate["approval_type"] == "error_recovery" for gate in run.approvals()):
            opened.wait(0.1)
        workspace._core.writer.barrier().result()
        os.kill(os.getpid(), signal.SIGKILL)
    run.wait(60)
    print(run.status, flush=True)
    workspace.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
