"""Measures commands that read, as whole processes, beside a Python that does nothing: JSON on stdout.

Run it as ``python -m tests.benchmarks.commands``; the figures are minima of 7, in seconds and as ratios to ``pass``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cmbagent_nb.workspace import Workspace
from tests.stored import Record

TRIES = 7
COMMANDS = ("runs", "status", "events --json", "approvals")


def measure() -> dict[str, dict[str, float]]:
    """Return seconds, seconds beyond ``pass`` and the ratio to it, for each command."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        record = Record(workspace._core.writer, status="completed")
        workspace._core.writer.update("workflow_runs", record.run, {"work_dir": str(Path(folder) / "runs" / "planck")})
        record.event("info")
        record.settle()
        workspace.close()
        environment = {**os.environ, "CMBAGENT_HOME": folder}
        programs = {"pass": ["-c", "pass"]}
        programs |= {line: ["-m", "cmbagent_nb.cli", *line.split()] for line in COMMANDS}
        best = dict.fromkeys(programs, float("inf"))
        for _ in range(TRIES):  # in turn: a machine that is busy for a while disturbs all of them
            for name, words in programs.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
                best[name] = min(best[name], time.perf_counter() - start)
    floor = best["pass"]
    return {
        name: {"seconds": round(took, 3), "beyond": round(took - floor, 3), "ratio": round(took / floor, 1)}
        for name, took in best.items()
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
