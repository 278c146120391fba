"""How runs end before their time: cancelled, interrupted, out of budget, out of time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Reply
from tests.team import code
from tests.test_gates import until

SLEEPER = code(
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open('data/pids.txt', 'w').write(str(child.pid))\n"
    "print('asleep', flush=True)\n"
    "time.sleep(600)\n",
    "sleeper.py",
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(lambda request: SLEEPER) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        yield server


def start_sleeper(workspace: Workspace, **options: object) -> tuple[object, int, int]:
    """Start a run and wait until its code has started a child of its own; returns run, pid and child's pid."""
    run = workspace.one_shot("Sleep.", **options)
    asleep = threading.Event()
    run.on("step_progress", lambda event: asleep.set())
    until(run, lambda: asleep.is_set() or asleep.wait(0.05) or run.finished)
    assert not run.finished, run.error
    child = int((run.work_dir / "steps/step_1/attempt_1/data/pids.txt").read_text())
    pid = workspace._core.db.rows("SELECT pid FROM step_attempts WHERE run_id = :id", id=run.id)[0]["pid"]
    return run, pid, child


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_cancel_kills_the_whole_group_within_a_second(workspace: Workspace, server: OpenAIServer) -> None:
    run, pid, child = start_sleeper(workspace)
    run.cancel()
    run.wait(60)
    assert run.status == "cancelled"
    assert gone(pid)
    assert gone(child)
    assert set(run.nodes().status) == {"cancelled"}
    assert set(run.steps().status) == {"cancelled"}
    assert "running" not in set(run.events().status)
    assert run.events().query("event_type == 'code_exec'").status.tolist() == ["cancelled"]
    assert workspace._core.db.rows("SELECT status FROM step_attempts")[0]["status"] == "cancelled"


def test_cancel_comes_from_another_process(workspace: Workspace, server: OpenAIServer) -> None:
    run, pid, child = start_sleeper(workspace)
    script = "import sys; from cmbagent_nb.workspace import Workspace; Workspace(sys.argv[1]).run(sys.argv[2]).cancel()"
    subprocess.run([sys.executable, "-c", script, str(workspace.home), run.id], check=True, timeout=60)
    assert run.wait(10).status == "cancelled"
    assert gone(pid)
    assert gone(child)


def test_cancel_while_the_model_thinks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def handler(request: object) -> object:
        answer.wait(30)
        return SLEEPER

    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Sleep.", model="openai:m")
        server.wait_for(1)
        run.cancel()
        assert run.wait(10).status == "cancelled"
        answer.set()
    assert run.events().query("event_type == 'model_call'").status.tolist() == ["cancelled"]


def test_cancel_twice_and_after_the_end_harms_nothing(workspace: Workspace, server: OpenAIServer) -> None:
    run, _, _ = start_sleeper(workspace)
    run.cancel()
    run.cancel()
    assert run.wait(10).status == "cancelled"
    run.cancel()
    assert run.status == "cancelled"


def test_code_that_takes_too_long_is_stopped(workspace: Workspace, server: OpenAIServer) -> None:
    run = workspace.one_shot("Sleep.", step_timeout=1.0, max_attempts=1).wait(60)
    assert run.status == "failed"
    assert "longer than 1 s" in str(run.error)
    assert run.events().query("event_type == 'code_exec'").event_subtype.tolist() == ["timeout"]


def test_a_killed_process_leaves_an_interrupted_run_with_all_its_events(
    workspace: Workspace, server: OpenAIServer, tmp_path: Path
) -> None:
    """The kernel dies in mid-run: the next session shows the run as interrupted, with what had happened."""
    script = tmp_path / "kernel.py"
    script.write_text(
        "import sys, time\nfrom cmbagent_nb.workspace import Workspace\n"
        "run = Workspace(sys.argv[1]).one_shot('Sleep.')\n"
        "run.on('step_progress', lambda event: print(run.id, flush=True))\n"
        "time.sleep(600)\n"
    )
    kernel = subprocess.Popen(
        [sys.executable, str(script), str(workspace.home)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert kernel.stdout is not None
    run_id = kernel.stdout.readline().strip()
    folder = workspace.home / "runs/sleep"
    child = int((folder / "steps/step_1/attempt_1/data/pids.txt").read_text())
    kernel.send_signal(signal.SIGKILL)
    kernel.wait(10)
    kernel.stdout.close()
    try:
        assert workspace.runs().status.tolist() == ["interrupted"]
        run = workspace.run(run_id)
        assert run.finished
        events = run.events()
        assert {"agent_call", "model_call", "code_exec"} <= set(events.event_type)
        assert events.query("event_type == 'model_call'").status.tolist() == ["completed"]
        assert events.query("event_type == 'code_exec'").status.tolist() == ["interrupted"]
        assert run.nodes().query("node_id == 'step_1'").status.tolist() == ["interrupted"]
        assert run.history().query("to_state == 'interrupted'").transitioned_by.tolist() == ["lease"] * 2
        journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        assert journal[0]["kind"] == "run"
    finally:
        for process in [child, *(a["pid"] for a in workspace._core.db.rows("SELECT pid FROM step_attempts"))]:
            if psutil.pid_exists(process):
                psutil.Process(process).kill()


def test_a_process_that_ends_stops_its_runs_as_interrupted(
    workspace: Workspace, server: OpenAIServer, tmp_path: Path
) -> None:
    """A kernel that is shut down in good order leaves nothing running, and its run can be gone on with."""
    script = tmp_path / "kernel.py"
    script.write_text(
        "import sys, threading\nfrom cmbagent_nb.workspace import Workspace\n"
        "run = Workspace(sys.argv[1]).one_shot('Sleep.')\nasleep = threading.Event()\n"
        "run.on('step_progress', lambda event: asleep.set())\nasleep.wait(60)\n"
    )
    subprocess.run([sys.executable, str(script), str(workspace.home)], check=True, timeout=60, env=dict(os.environ))
    run = workspace.run("sleep")
    child = int((run.work_dir / "steps/step_1/attempt_1/data/pids.txt").read_text())
    assert gone(child)
    assert run.status == "interrupted"
    assert run.history().query("to_state == 'interrupted'").transitioned_by.tolist() == ["engine"] * 2
    assert "emergency" in set(run.checkpoints().checkpoint_type)
    assert "running" not in set(run.events().status)


def test_sigterm_interrupts_the_run_of_a_command(workspace: Workspace, server: OpenAIServer) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "cmbagent_nb.cli", "run", "Sleep.", "--name", "sleep"],
        env={**os.environ, "CMBAGENT_HOME": str(workspace.home)},
        stderr=subprocess.DEVNULL,
    )
    pids = workspace.home / "runs/sleep/steps/step_1/attempt_1/data/pids.txt"
    watched = time.monotonic() + 60
    while not (pids.exists() and pids.read_text()) and time.monotonic() < watched:
        threading.Event().wait(0.05)
    child = int(pids.read_text())
    command.terminate()
    assert command.wait(20) == 143
    assert gone(child)
    assert workspace.run("sleep").status == "interrupted"


def test_a_run_of_a_living_process_is_not_interrupted(workspace: Workspace, server: OpenAIServer) -> None:
    run, _, _ = start_sleeper(workspace)
    script = "import sys; from cmbagent_nb.workspace import Workspace; print(Workspace(sys.argv[1]).runs().status[0])"
    seen = subprocess.run(
        [sys.executable, "-c", script, str(workspace.home)], check=True, capture_output=True, text=True, timeout=60
    )
    assert seen.stdout.strip() == "executing"
    run.cancel()
    assert run.wait(10).status == "cancelled"


def test_a_budget_stops_the_run_before_the_call(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = Reply(code("{}['a']"), prompt_tokens=100_000, completion_tokens=100_000, model="gpt-4o")
    with OpenAIServer(lambda request: reply) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Spend.", model="openai:gpt-4o", max_cost_usd=1.0).wait(60)
        assert server.count == 1
    assert run.status == "failed"
    assert "over the limit of $1" in str(run.error)
    assert run.cost_usd > 1.0


def test_interrupting_the_wait_does_not_stop_the_run(workspace: Workspace, server: OpenAIServer) -> None:
    run, _, _ = start_sleeper(workspace)
    with pytest.raises(TimeoutError):
        run.wait(0.05)
    assert run.status == "executing"
    run.cancel()
    run.wait(10)


def test_an_interrupted_run_is_gone_on_with(workspace: Workspace, server: OpenAIServer, tmp_path: Path) -> None:
    """Nothing that was paid for is asked again, and the code begins anew once its old group is dead."""
    script = tmp_path / "kernel.py"
    script.write_text(
        "import sys, time\nfrom cmbagent_nb.workspace import Workspace\n"
        "run = Workspace(sys.argv[1]).one_shot('Sleep.')\n"
        "run.on('step_progress', lambda event: print(run.id, flush=True))\n"
        "time.sleep(600)\n"
    )
    kernel = subprocess.Popen(
        [sys.executable, str(script), str(workspace.home)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert kernel.stdout is not None
    run_id = kernel.stdout.readline().strip()
    child = int((workspace.home / "runs/sleep/steps/step_1/attempt_1/data/pids.txt").read_text())
    kernel.kill()
    kernel.wait(10)
    kernel.stdout.close()
    run = workspace.resume(run_id)
    asleep = threading.Event()
    run.on("step_progress", lambda event: asleep.set())
    until(run, lambda: asleep.is_set() or asleep.wait(0.05) or run.finished)
    assert not run.finished, run.error
    assert gone(child)
    assert server.count == 1
    assert run.events().query("event_type == 'model_call'").event_subtype.tolist() == ["complete", "replayed"]
    run.cancel()
    run.wait(10)


@pytest.mark.parametrize("to_itself", ["os.remove(__file__)", "os.remove(__file__); os.symlink('/dev/zero', __file__)"])
def test_code_that_takes_itself_away_is_kept_as_it_ran(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, to_itself: str
) -> None:
    text = f"import os\n{to_itself}\nprint('gone')\n"
    with OpenAIServer(lambda request: code(text, "gone.py")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Go.", model="openai:m").wait(30)
    assert run.status == "completed", run.error
    assert (run.work_dir / "codebase/gone.py").read_text() == text


def test_a_process_that_has_ended_unasked_for_is_dead() -> None:
    from cmbagent_nb.store.json import to_json
    from cmbagent_nb.workflow.ownership import is_alive

    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lease = {"host": socket.gethostname(), "pid": ended.pid, "started": psutil.Process(ended.pid).create_time()}
        assert is_alive(to_json(lease), None)
        ended.kill()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(to_json(lease), None)
    finally:
        ended.communicate()


def test_a_listener_that_fails_keeps_no_command_from_its_run(workspace: Workspace, server: OpenAIServer) -> None:
    run, _, _ = start_sleeper(workspace)
    failed, heard = threading.Event(), threading.Event()

    def fail() -> None:
        failed.set()
        raise ValueError("this listener is broken")

    run.subscribe(fail)
    run.subscribe(heard.set)
    script = "import sys; from cmbagent_nb.workspace import Workspace; Workspace(sys.argv[1]).run(sys.argv[2]).{}()"
    for action in ("pause", "cancel"):
        command = [sys.executable, "-c", script.format(action), str(workspace.home), run.id]
        subprocess.run(command, check=True, timeout=60)
        until(run, lambda: run.status in ("paused", "cancelled"))
    assert run.wait(10).status == "cancelled"
    assert failed.is_set()
    assert heard.is_set()
