"""What the prompt waits for: whole processes with and without, in turns; the least of several on a busy machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Figure, folder, rounds, seconds

ROOT = Path(__file__).resolve().parents[2]
SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
STARTS = {
    "import": ("pass", "import cmbagent_nb", 0.150),
    "load_ext": (SHELL, f"{SHELL}; shell.run_line_magic('load_ext', 'cmbagent_nb')", 0.300),
}


def start() -> Iterator[Figure]:
    """``import cmbagent_nb`` beyond Python, ``%load_ext cmbagent_nb`` beyond IPython."""
    with folder() as home:
        for name, (without, within, bar) in STARTS.items():
            _process(within, home)  # the first one makes the workspace and compiles
            found = rounds(lambda: _process(without, home), lambda: _process(within, home), repeats=9)  # noqa: B023
            least = [min(turn[which] for turn in found) for which in (0, 1)]
            more = {"with_ms": least[1] * 1e3, "without_ms": least[0] * 1e3}
            yield Figure(f"start.{name}", (least[1] - least[0]) * 1e3, "ms", bar * 1e3, more=more)


def _process(code: str, home: Path) -> float:
    # os._exit: what loads in the background is not what the prompt waits for.
    command = [sys.executable, "-c", f"{code}; import os; os._exit(0)"]
    places = {"PATH": "", "HOME": str(home), "IPYTHONDIR": str(home), "CMBAGENT_HOME": str(home / "home")}
    return seconds(lambda: subprocess.run(command, check=True, timeout=60, cwd=ROOT, env=places, capture_output=True))
