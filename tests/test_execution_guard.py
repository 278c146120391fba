"""Code whose kernel is killed goes on within its limits, and no longer."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from cmbagent_nb.execution.attempt_folder import prepare
from cmbagent_nb.execution.guard import Guard
from cmbagent_nb.execution.launcher import Limits, launch
from cmbagent_nb.execution.records import record_folder
from cmbagent_nb.execution.recovery import load_trusted_exit

KERNEL = """
    import asyncio, sys
    from pathlib import Path
    from cmbagent_nb.execution.guard import Guard
    from cmbagent_nb.execution.launcher import Limits, launch

    def told(pid, started):
        print(pid, Guard.get()._process.pid, flush=True)

    folder = Path(sys.argv[1])
    limits = Limits(timeout_s=float(sys.argv[2]), memory_mb=float(sys.argv[3]))
    asyncio.run(launch(folder / "codebase" / "script.py", folder, limits=limits, on_start=told))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "work", "step_1", 1)


def killed_kernel(folder: Path, code: str, *, timeout_s: float = 60, memory_mb: float = 0) -> list[psutil.Process]:
    """Start code in a kernel of its own and kill that; return the processes of the code and of the guard."""
    (folder / "codebase" / "script.py").write_text(textwrap.dedent(code))
    command = [sys.executable, "-c", textwrap.dedent(KERNEL), str(folder), str(timeout_s), str(memory_mb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout is not None
        started = [psutil.Process(int(pid)) for pid in kernel.stdout.readline().split()]
        kernel.send_signal(signal.SIGKILL)
    return started


def gone(processes: list[psutil.Process]) -> bool:
    """Wait until all are gone: those of a dead kernel are nobody's children, and may stay as zombies in a container."""
    for _ in range(300):
        left = [process for process in processes if _lives(process)]
        if not left:
            return True
        psutil.wait_procs(left, timeout=0.1)
    return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_is_stopped_when_its_time_is_over(folder: Path) -> None:
    """Its end is written as the launcher would have, so that a resumed run believes it and does not begin anew."""
    started = killed_kernel(
        folder,
        """
        import subprocess, sys, time
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open("data/worker.txt", "w").write(str(worker.pid))
        time.sleep(60)
        """,
        timeout_s=2,
    )
    assert gone(started)
    worker = int((folder / "data/worker.txt").read_text())
    assert not psutil.pid_exists(worker) or gone([psutil.Process(worker)])
    record = load_trusted_exit(folder)
    assert record is not None
    assert record["status"] == "timeout" and record["error"]["type"] == "TimeoutError"
    assert record["pid"] == started[0].pid
    assert "data/worker.txt" in [entry["path"] for entry in record["files"]]


def test_it_is_stopped_when_it_takes_too_much_memory(folder: Path) -> None:
    started = killed_kernel(folder, "held = b'x' * 400_000_000\nimport time\ntime.sleep(60)", memory_mb=200)
    assert gone(started)
    record = load_trusted_exit(folder)
    assert record is not None and record["status"] == "memory"


def test_it_ends_by_itself_within_its_limits_and_leaves_nothing(folder: Path) -> None:
    started = killed_kernel(
        folder,
        """
        import subprocess, sys, time
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(worker.pid, flush=True)
        time.sleep(1)
        """,
    )
    assert gone(started)
    record = load_trusted_exit(folder)
    assert record is not None and record["status"] == "completed"
    worker = int((record_folder(folder) / "stdout.txt").read_text())
    assert not psutil.pid_exists(worker) or not _lives(psutil.Process(worker))


def test_a_guard_that_is_gone_is_started_anew(folder: Path) -> None:
    """One guard for all code of a kernel; where somebody kills it, another one takes its place."""
    script = folder / "codebase" / "script.py"
    script.write_text("print(1)")
    limits = Limits(timeout_s=30)
    asyncio.run(launch(script, folder, limits=limits))
    first = Guard.get()._process
    asyncio.run(launch(script, folder, limits=limits))
    assert first is not None and Guard.get()._process is first
    first.kill()
    first.wait()
    outcome = asyncio.run(launch(script, folder, limits=limits))
    second = Guard.get()._process
    assert outcome.status == "completed"
    assert second is not None and second is not first and second.poll() is None
    Guard.get().close()
    assert second.poll() == 0
