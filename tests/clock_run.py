"""A kernel whose clock is set back by an hour while its run goes on."""

from __future__ import annotations

import time

from cmbagent_nb.workspace import Workspace

BACK = 3600.0
NAME = "clock"


def main(home: str) -> None:
    real, offset = time.time, [0.0]
    time.time = lambda: real() + offset[0]  # type: ignore[assignment]
    workspace = Workspace(home)
    run = workspace.planning_and_control("Greet twice.", model="openai:m", approve="error", max_attempts=2, name=NAME)

    def jump(event: object) -> None:
        offset[0] = -BACK

    run.on("code_generated", jump)
    run.wait(60)
    print(run.status, flush=True)
    workspace.close()
