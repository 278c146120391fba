"""Whole runs through the engine, and what other processes do to them: watch, answer, cancel, take over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.conformance.backend import Backend
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

WRITES = code(
    "import json\njson.dump({'n': 1}, open('data/first.json', 'w'))\nprint('NUL', chr(0), 'caf\\u00e9')\n", "first.py"
)
READS = code(
    "import json\nn = json.load(open('data/first.json'))['n']\nopen('data/second.txt', 'w').write(str(n))\nprint(n)\n",
    "second.py",
)
SLEEPS = code(
    "import os, time\nopen('data/pid.txt', 'w').write(str(os.getpid()))\n"
    "print('asleep', flush=True)\ntime.sleep(600)\n",
    "sleep.py",
)
TWO_STEPS = plan(
    {"title": "First", "expected_outputs": ["data/first.json"]},
    {"title": "Second", "depends_on": [1], "expected_outputs": ["data/second.txt"]},
)

#: What another process does with a run of this workspace.
ELSEWHERE = """
import sys
from cmbagent_nb.workspace import Workspace
workspace = Workspace(sys.argv[1])
run = workspace.run(sys.argv[3])
print(run.status, flush=True)
{act}
workspace.close()
"""


@contextmanager
def _team(backend: Backend, **steps: Any) -> Iterator[tuple[Workspace, OpenAIServer]]:
    """A workspace whose models are a scripted team behind a real server."""
    team = Team(plan=TWO_STEPS, review=APPROVED, steps={"First": WRITES, "Second": READS, **steps})
    with OpenAIServer(team) as server:
        yield backend.workspace(base_url=server.url, model="openai:test-model"), server


def _until(run: Run, ready: Any, seconds: float = 30.0) -> None:
    changed = threading.Event()
    stop = run.subscribe(changed.set)
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, f"nothing happened: {run!r}"
            changed.wait(1.0)
            changed.clear()
    finally:
        stop()


def a_gate_is_answered_by_another_process(backend: Backend) -> None:
    """A run of two steps: it waits at its plan, is approved from elsewhere, and leaves a whole record."""
    with _team(backend) as (workspace, server):
        run = workspace.planning_and_control("Count.", approve="plan")
        _until(run, lambda: run.status == "waiting_approval" or run.finished)
        answers = backend.process(ELSEWHERE.format(act="run.approve(by='the panel')\nrun.wait(60)"), run.id)
        out, _ = answers.communicate(timeout=60)
        assert (answers.returncode, out.split()) == (0, ["waiting_approval"])
        assert run.wait(60).status == "completed", run.error
        assert server.count == 4
    assert run.result.text == "1"
    assert run.gates().resolved_by.tolist() == ["the panel"]
    assert run.gates().resolution.tolist() == ["approved"]
    assert set(run.steps().status) == {"completed"}
    assert sorted(run.files().query("is_final_output").file_path) == ["data/first.json", "data/second.txt"]
    kinds = [link["kind"] for link in run.lineage("data/second.txt")]
    assert (kinds[0], kinds[-1], "model_call" in kinds) == ("file", "task", True)
    events = run.events()
    assert events.execution_order.tolist() == [*range(1, len(events) + 1)]
    assert set(events.status) == {"completed"}
    assert len(run.costs()) == 4
    snapshot = run.snapshot()
    assert (snapshot.finished, snapshot.gates, snapshot.run["calls"]) == (True, [], 4)
    commands = workspace._core.db.rows("SELECT command, outcome FROM commands WHERE handled_at IS NOT NULL")
    assert commands == [{"command": "answer_gate", "outcome": "approved"}]


def a_run_is_watched_and_cancelled_by_another_process(backend: Backend) -> None:
    """The other process hears of its changes while it goes on, and its cancel ends code."""
    with _team(backend, First=SLEEPS) as (workspace, _):
        run = workspace.planning_and_control("Count.")
        asleep = threading.Event()
        run.on("step_progress", lambda event: asleep.set())
        watches = backend.process(ELSEWHERE.format(act="run.wait(60)\nprint(run.status, flush=True)"), run.id)
        assert asleep.wait(30)
        pid = int((run.work_dir / "steps/step_1/attempt_1/data/pid.txt").read_text())
        cancels = backend.process(ELSEWHERE.format(act="sys.stdin.readline()\nrun.cancel()"), run.id)
        assert cancels.stdout is not None
        assert cancels.stdin is not None
        assert cancels.stdout.readline().strip() == "executing"
        cancels.stdin.write("\n")
        cancels.stdin.flush()
        assert run.wait(30).status == "cancelled"
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        out, _ = watches.communicate(timeout=30)
        assert out.split()[-1] == "cancelled"
        cancels.communicate(timeout=30)
    assert set(run.nodes().status) <= {"completed", "cancelled"}
    assert "running" not in set(run.events().status)


def an_interrupted_run_is_gone_on_with(backend: Backend) -> None:
    """A kernel dies within a step: another goes on, and what was paid for is not asked again."""
    with _team(backend, Second=SLEEPS) as (workspace, server):
        script = """
import sys, time
from cmbagent_nb.workspace import Workspace
run = Workspace(sys.argv[1]).planning_and_control("Count.", name="count")
def progress(event):
    if (run.work_dir / "steps/step_2/attempt_1/data/pid.txt").exists():
        print(run.id, flush=True)
run.on("step_progress", progress)
time.sleep(600)
"""
        kernel = backend.process(script)
        assert kernel.stdout is not None
        run_id = kernel.stdout.readline().strip()
        assert server.count == 4
        kernel.kill()
        kernel.communicate()
        assert workspace.runs().status.tolist() == ["interrupted"]
        run = workspace.resume("count")
        assert run.id == run_id
        asleep = threading.Event()
        run.on("step_progress", lambda event: asleep.set())
        assert asleep.wait(30), run.error
        assert server.count == 4  # the step's reply came from the tape
        run.cancel()
        assert run.wait(30).status == "cancelled"
    steps = dict(zip(run.steps().node_id, run.steps().status, strict=True))
    assert steps == {"step_1": "completed", "step_2": "cancelled"}
    assert "replayed" in set(run.events().query("event_type == 'model_call'").event_subtype)
    assert {"interrupted", "executing"} <= set(run.history().query("entity_type == 'workflow_run'").to_state)


def a_run_outlives_its_store_for_a_while(backend: Backend) -> None:
    """The database goes away in mid-run and comes back: the run ends as if nothing had been."""
    waits = code("import time\ntime.sleep(1.0)\n" + WRITES["python_code"], "first.py")
    with _team(backend, First=waits) as (workspace, server):
        run = workspace.planning_and_control("Count.")
        server.wait_for(3)
        with backend.gone():
            time.sleep(1.5)
        assert run.wait(60).status == "completed", run.error
        assert server.count == 4
    assert run.result.text == "1"
    events = run.events()
    assert events.execution_order.tolist() == [*range(1, len(events) + 1)]
    assert set(events.status) == {"completed"}


SPECS = (
    a_gate_is_answered_by_another_process,
    a_run_is_watched_and_cancelled_by_another_process,
    an_interrupted_run_is_gone_on_with,
    a_run_outlives_its_store_for_a_while,
)
