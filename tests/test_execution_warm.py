"""Kernels that are forked from a warm process: as if each had an interpreter of its own, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from cmbagent_nb.execution.warm import available, libraries
from cmbagent_nb.skills.running.engine import execute

pytestmark = pytest.mark.skipif(not available(), reason="kernels are forked on Linux")


def notebook(*sources: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def printed(tmp_path: Path, *sources: str) -> str:
    executed = execute(notebook(*sources), tmp_path)
    assert executed.status == "completed", executed.error
    return "".join(output.get("text", "") for output in executed.notebook.cells[-1].outputs)


def test_unseeded_draws_differ(tmp_path: Path) -> None:
    """All forks have the generators of one process: each is seeded anew."""
    source = (
        "import random\nimport numpy as np\nprint(np.random.rand(), random.random(), np.random.default_rng().random())"
    )
    first, second = printed(tmp_path, source).split(), printed(tmp_path, source).split()
    assert not set(first) & set(second)


def test_the_process_is_as_a_kernel_would_have_it(tmp_path: Path) -> None:
    """The path, the arguments and the main module hold nothing of ours; multiprocessing works."""
    source = (
        "import sys, os, __main__, multiprocessing as mp\n"
        "assert not any('cmbagent_nb/execution' in path or 'cmbagent-kernel' in path for path in sys.path), sys.path\n"
        "assert '' in sys.path and not hasattr(__main__, '_supervise') and __name__ == '__main__'\n"
        "with mp.get_context('fork').Pool(2) as pool:\n    print(pool.map(abs, [-1, -2]), os.getcwd())"
    )
    assert printed(tmp_path, source) == f"[1, 2] {tmp_path}\n"


def test_nothing_is_loaded_before_code_that_sets_variables() -> None:
    assert libraries(["import os\nos.environ['OMP_NUM_THREADS'] = '1'", "import numpy"]) == []
    assert libraries(["%env X=1\nimport numpy"]) == [] == libraries(["import torch, mine"])


def test_memory_is_limited(tmp_path: Path) -> None:
    """As that of a step: the kernel is killed, and the reason told."""
    source = "import time\nheld = bytearray(900 * 2**20)\ntime.sleep(60)"
    executed = execute(notebook(source), tmp_path, memory_mb=600)
    assert (executed.status, "more than the 600 MB allowed" in executed.error) == ("failed", True), executed.error


def test_a_killed_warm_process_is_started_anew(tmp_path: Path) -> None:
    assert printed(tmp_path, "print(1)") == "1\n"
    for child in psutil.Process().children():
        if "warm_child" in " ".join(child.cmdline()):
            child.kill()
    assert printed(tmp_path, "print(2)") == "2\n"


OWNER = """
import sys
from pathlib import Path
from tests.test_execution_warm import execute, notebook
execute(notebook("import os, subprocess, time\\nsubprocess.Popen(['sleep', '600'])\\n"
                 "open('pid', 'w').write(str(os.getpid()))\\ntime.sleep(600)"), Path(sys.argv[1]))
"""


def test_a_kernel_ends_with_its_owner(tmp_path: Path) -> None:
    """Killed without a word: nothing of the notebook runs on in its folder."""
    root = str(Path(__file__).resolve().parents[1])
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=root)
    until = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until and owner.poll() is None
        time.sleep(0.05)
    below = psutil.Process(owner.pid).children(recursive=True)
    assert int((tmp_path / "pid").read_text()) in {process.pid for process in below}
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
