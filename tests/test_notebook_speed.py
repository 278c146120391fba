"""What importing and loading cost, as differences of whole processes; the least of several, since machines are busy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
LOAD = f"{SHELL}; shell.run_line_magic('load_ext', 'cmbagent_nb')"
#: Loaded in the background or on first use, never on the way to the prompt.
HEAVY = (
    "ag2",
    "sqlmodel",
    "sqlalchemy",
    "alembic",
    "plotly",
    "ipywidgets",
    "pandas",
    "numpy",
    "matplotlib",
    "pydantic",
)


def seconds(code: str, folder: Path) -> float:
    # os._exit: what is loaded in the background is not what the prompt waits for
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", f"{code}; import os; os._exit(0)"],
        check=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": "", "HOME": str(folder), "IPYTHONDIR": str(folder), "CMBAGENT_HOME": str(folder / "home")},
        capture_output=True,  # ends with the pipes: waiting with a time limit alone looks only now and then
    )
    return time.perf_counter() - began


def cost(code: str, base: str, folder: Path, *, rounds: int = 6) -> float:
    """Seconds that ``code`` takes beyond ``base``."""
    seconds(code, folder)
    times = [(seconds(base, folder), seconds(code, folder)) for _ in range(rounds)]
    return min(one for _, one in times) - min(zero for zero, _ in times)


@pytest.mark.timing
def test_importing_is_cheap(tmp_path: Path) -> None:
    taken = cost("import cmbagent_nb", "pass", tmp_path)
    print(f"import cmbagent_nb: {taken * 1000:.0f} ms")
    assert taken < 0.15


@pytest.mark.timing
def test_loading_is_cheap(tmp_path: Path) -> None:
    taken = cost(LOAD, SHELL, tmp_path)
    print(f"%load_ext cmbagent_nb: {taken * 1000:.0f} ms beyond IPython")
    assert taken < 0.3


def test_nothing_heavy_stands_before_the_prompt() -> None:
    """Loading itself, without what it starts in the background, imports nothing heavy."""
    code = (
        f"import sys, threading; threading.Thread.start = lambda self: None\n{LOAD}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
