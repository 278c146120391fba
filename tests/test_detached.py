"""Processes that detach themselves from the code that started them end with it, and no others do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cmbagent_nb.execution import marks
from cmbagent_nb.execution.attempt_folder import prepare
from cmbagent_nb.execution.launcher import Limits, Outcome, launch
from cmbagent_nb.execution.marks import VARIABLE, Mark
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code
from tests.test_gates import until

#: Ways to get away; each leaves a process that writes its id into the file and sleeps.
SLEEP = "import os, time; open({file!r}, 'a').write(str(os.getpid()) + '\\n'); time.sleep(600)"
DETACH = {
    "double fork": """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.chdir("/")
                exec(sleeper)
            os._exit(0)
        os.wait()
    """,
    "a session of its own": """
        subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True, cwd="/")
    """,
    "an empty environment": """
        if os.fork() == 0:
            os.setsid()
            subprocess.Popen([sys.executable, "-c", sleeper], env={}, start_new_session=True, cwd="/")
            os._exit(0)
        os.wait()
    """,
    "a shell in the background": """
        subprocess.run(["sh", "-c", 'cd /; setsid nohup "$0" -c "$1" >/dev/null 2>&1 &', sys.executable, sleeper])
    """,
    "a daemon of a daemon": """
        inner = (
            "import subprocess, sys;"
            "subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True, cwd='/')"
        )
        subprocess.run([sys.executable, "-c", inner, sleeper], start_new_session=True, cwd="/")
    """,
    "one that ignores signals": """
        deaf = "import signal\\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\\n" + sleeper
        subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, cwd="/")
    """,
}
HEAD = """
import os, subprocess, sys, time
sleeper = {sleeper!r}
"""


def script(file: Path, detach: str, then: str = "") -> str:
    head = HEAD.format(sleeper=SLEEP.format(file=str(file)))
    wait = f"while not os.path.exists({str(file)!r}): time.sleep(0.01)\n"
    return head + textwrap.dedent(detach) + wait + then


def run(folder: Path, text: str, **limits: float) -> Outcome:
    path = folder / "codebase" / "script.py"
    path.write_text(text)
    return asyncio.run(launch(path, folder, limits=Limits(**{"timeout_s": 60, **limits})))


def gone(file: Path, patience: float = 20) -> bool:
    """Wait until the process whose id is in a file is gone."""
    pid = int(file.read_text().split()[0])
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            psutil.wait_procs([process], timeout=0.1)
        except psutil.NoSuchProcess:
            return True
    psutil.Process(pid).kill()
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "work", "step_1", 1)


@pytest.mark.parametrize("how", DETACH.values(), ids=DETACH.keys())
def test_it_ends_with_the_code(folder: Path, tmp_path: Path, how: str) -> None:
    outcome = run(folder, script(tmp_path / "pid", how))
    assert outcome.status == "completed", outcome.stderr
    assert gone(tmp_path / "pid")


@pytest.mark.parametrize("how", ["double fork", "an empty environment"])
def test_it_ends_at_a_timeout(folder: Path, tmp_path: Path, how: str) -> None:
    outcome = run(folder, script(tmp_path / "pid", DETACH[how], "time.sleep(600)"), timeout_s=4)
    assert outcome.status == "timeout"
    assert gone(tmp_path / "pid")


@pytest.mark.parametrize("how", DETACH.values(), ids=DETACH.keys())
def test_it_ends_when_the_run_is_cancelled(folder: Path, tmp_path: Path, how: str) -> None:
    path = folder / "codebase" / "script.py"
    path.write_text(script(tmp_path / "pid", how, "print('up', flush=True); time.sleep(600)"))

    async def main() -> None:
        up = asyncio.Event()
        task = asyncio.ensure_future(launch(path, folder, on_output=lambda stream, text: up.set()))
        await asyncio.wait_for(up.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert gone(tmp_path / "pid")


def test_a_killed_supervisor_leaves_nobody_who_has_the_mark(folder: Path, tmp_path: Path) -> None:
    """When even the process that adopts orphans is killed, the mark finds them."""
    kill = "os.kill(os.getppid(), 9); time.sleep(600)"
    outcome = run(folder, script(tmp_path / "pid", DETACH["double fork"], kill))
    assert outcome.status == "killed"
    assert gone(tmp_path / "pid")


@pytest.fixture
def workspace_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    text = script(tmp_path / "pid", DETACH["double fork"], "print('up', flush=True); time.sleep(600)")
    with OpenAIServer(lambda request: code(text)) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        yield server


KERNEL = (
    "import sys, threading\nfrom cmbagent_nb.workspace import Workspace\n"
    "run = Workspace(sys.argv[1]).one_shot('Sleep.')\n"
    "run.on('step_progress', lambda event: print(run.id, flush=True))\n"
    "threading.Event().wait(600)\n"
)


def killed_kernel(workspace: Workspace) -> str:
    """Return the id of a run whose kernel was killed while its code went on."""
    with subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(workspace.home)], stdout=subprocess.PIPE, text=True
    ) as kernel:
        assert kernel.stdout is not None
        run_id = kernel.stdout.readline().strip()
        kernel.send_signal(signal.SIGKILL)
    return run_id


@pytest.mark.parametrize("way", ["cancel", "delete", "doctor", "resume"])
def test_code_of_a_killed_kernel_is_ended(
    workspace: Workspace, workspace_server: OpenAIServer, tmp_path: Path, way: str
) -> None:
    """The code and what it had detached end by a command, whoever gives it."""
    run_id = killed_kernel(workspace)
    assert workspace.runs().status.tolist() == ["interrupted"]
    (attempt,) = workspace._core.db.rows("SELECT pid FROM step_attempts WHERE run_id = :id", id=run_id)
    cli = [sys.executable, "-m", "cmbagent_nb.cli"]
    environment = {**os.environ, "CMBAGENT_HOME": str(workspace.home)}
    if way == "resume":
        run = workspace.resume(run_id)
        up = threading.Event()
        run.on("step_progress", lambda event: up.set())
        until(run, lambda: up.is_set() or up.wait(0.05) or run.finished)
        run.cancel()
        run.wait(30)
    else:
        asked = {"cancel": ["cancel", run_id], "delete": ["delete", run_id, "--yes"], "doctor": ["doctor", "--repair"]}
        if way == "doctor":
            looked = subprocess.run([*cli, "doctor"], capture_output=True, text=True, env=environment, check=False)
            assert "code of ended runs still runs" in looked.stdout, looked.stdout + looked.stderr
        done = subprocess.run([*cli, *asked[way]], capture_output=True, text=True, env=environment, check=False)
        assert "Traceback" not in done.stderr
        if way == "cancel":
            assert "still ran and were ended" in done.stdout, done.stdout + done.stderr
    assert gone(tmp_path / "pid")
    assert not psutil.pid_exists(attempt["pid"]) or psutil.Process(attempt["pid"]).status() == psutil.STATUS_ZOMBIE
    assert not marks.of_run(run_id, workspace.home)


def test_a_process_of_another_run_or_place_is_not_touched(tmp_path: Path) -> None:
    """The same run in a copied workspace, another run, no mark, half a mark: all of them live on."""
    command = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]
    mine = Mark.of("run", "attempt", tmp_path / "a" / "steps")
    values = {
        "copy": str(Mark.of("run", "attempt", tmp_path / "b" / "steps")),
        "other run": str(Mark.of("other", "attempt", tmp_path / "a" / "steps")),
        "neighbour": str(Mark.of("run", "attempt", tmp_path / "a2" / "steps")),
        "half": "run:attempt",
        "without a folder": "run:attempt:launch:",
        "none": "",
    }
    started = {}
    try:
        for name, value in {**values, "mine": str(mine)}.items():
            started[name] = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, VARIABLE: value})
            pipe = started[name].stdout
            assert pipe is not None
            pipe.readline()
        assert marks.end_run("run", tmp_path / "a") == 1
        assert started["mine"].wait(10) == -signal.SIGKILL
        assert {name: started[name].poll() for name in values} == dict.fromkeys(values)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_who_ends_one_start_of_code_does_not_end_the_next(folder: Path) -> None:
    """The guard of a kernel that was killed may look after a resumed run has started the same attempt again."""
    mark = Mark.of("run", "attempt", folder)
    first, second = mark.started(), mark.started()
    assert mark.covers(first) and mark.covers(second) and first.covers(first)
    assert not first.covers(second) and not second.covers(first)
    read = Mark.read(str(second))
    assert read == second


def test_helpers_of_multiprocessing_end_by_themselves(folder: Path) -> None:
    """What is left for an instant to clean up, as the tracker of shared memory, is not killed before it has."""
    outcome = run(
        folder,
        "from multiprocessing import shared_memory\n"
        "block = shared_memory.SharedMemory(create=True, size=10)\nprint(block.name)\n",
    )
    assert outcome.status == "completed"
    assert not Path("/dev/shm", outcome.stdout.strip().lstrip("/")).exists()
