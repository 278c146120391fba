"""Pausing: nothing begins, what runs comes to its end or is stopped, and afterwards the run goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from cmbagent_nb.errors import StateError
from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan
from tests.test_ends import gone, server, start_sleeper  # noqa: F401
from tests.test_gates import until, until_gate

HELLO = code("print('hello')", "hello.py")


def test_a_pause_holds_before_the_next_call(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    thinking, think = threading.Event(), threading.Event()

    def slow(request: object) -> object:
        thinking.set()
        assert think.wait(30)
        return HELLO

    two = plan({"title": "One"}, {"title": "Two", "depends_on": [1]})
    with OpenAIServer(Team(plan=two, review=APPROVED, steps={"One": slow, "Two": HELLO})) as model:
        monkeypatch.setenv("CMBAGENT_BASE_URL", model.url)
        run = workspace.planning_and_control("Greet twice.", model="openai:m")
        assert thinking.wait(30)
        run.pause()
        assert run.status == "paused"
        with pytest.raises(StateError):
            run.pause()
        think.set()
        # The reply is taken, and its code is not started.
        until(run, lambda: "paused" in set(run.steps().status))
        assert model.count == 3
        assert len(run.events().query("event_type == 'code_exec'")) <= 1
        assert run.resume() is run
        assert run.wait(30).status == "completed", run.error
        assert model.count == 4
    history = run.history().query("entity_type == 'workflow_run'").to_state.tolist()
    assert history == ["planning", "executing", "paused", "executing", "completed"]
    with pytest.raises(StateError):
        run.resume()


def test_a_pause_now_stops_the_code_and_starts_it_again(
    workspace: Workspace,
    server: OpenAIServer,  # noqa: F811
) -> None:
    run, pid, child = start_sleeper(workspace)
    asleep = threading.Event()
    run.on("step_progress", lambda event: asleep.set())
    run.pause(now=True)
    until(run, lambda: run.steps().status.tolist() == ["paused"])
    assert gone(pid)
    assert gone(child)
    run.resume()
    until(run, lambda: asleep.is_set() or asleep.wait(0.05) or run.finished)
    assert not run.finished, run.error
    assert server.count == 1
    run.cancel()
    assert run.wait(10).status == "cancelled"


def test_a_paused_run_can_be_cancelled(workspace: Workspace, server: OpenAIServer) -> None:  # noqa: F811
    run, pid, _ = start_sleeper(workspace)
    run.pause(now=True)
    run.cancel()
    assert run.wait(10).status == "cancelled"
    assert gone(pid)


def test_another_process_pauses_and_resumes(workspace: Workspace, server: OpenAIServer) -> None:  # noqa: F811
    run, _, _ = start_sleeper(workspace)
    for action, status in (("pause", "paused"), ("resume", "executing")):
        script = (
            "import sys; from cmbagent_nb.workspace import Workspace\n"
            f"Workspace(sys.argv[1]).run(sys.argv[2]).{action}(by='another')"
        )
        subprocess.run([sys.executable, "-c", script, str(workspace.home), run.id], check=True, timeout=60)
        until(run, lambda status=status: run.status == status)  # type: ignore[misc]
    run.cancel()
    run.wait(10)


def test_a_gate_that_is_answered_during_a_pause_counts_afterwards(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team(plan=plan({"title": "Greet"}), review=APPROVED, steps={"Greet": HELLO})
    with OpenAIServer(team) as model:
        monkeypatch.setenv("CMBAGENT_BASE_URL", model.url)
        run = workspace.planning_and_control("Greet.", model="openai:m", approve="plan")
        until_gate(run)
        until(run, lambda: run.status == "waiting_approval")
        run.pause()
        run.approve()
        until(run, lambda: not run.approvals())
        assert run.status == "paused"
        run.resume()
        assert run.wait(30).status == "completed", run.error


@pytest.mark.parametrize(
    ("decide", "status", "gate"),
    [
        (lambda run: run.approve(), "completed", "resolved"),
        (lambda run: run.reject(), "cancelled", "resolved"),
        (lambda run: run.resume(), "completed", "cancelled"),
        (lambda run: run.cancel(), "cancelled", "cancelled"),
    ],
    ids=["approved", "rejected", "resumed", "cancelled"],
)
def test_a_pause_by_hand_is_a_gate_where_that_is_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, decide: Callable[[Run], object], status: str, gate: str
) -> None:
    """With ``--approve manual`` a pause asks whether to go on; whatever ends the pause closes its gate."""
    thinking, think = threading.Event(), threading.Event()

    def slow(request: object) -> object:
        thinking.set()
        assert think.wait(30)
        return HELLO

    with OpenAIServer(slow) as model:
        monkeypatch.setenv("CMBAGENT_BASE_URL", model.url)
        run = workspace.one_shot("Greet.", model="openai:m", approve="manual")
        assert thinking.wait(30)
        assert run.approvals() == []
        run.pause(by="ada")
        until_gate(run)
        (opened,) = run.approvals()
        assert opened["approval_type"] == "manual_pause"
        assert opened["context"]["body"] == "Paused by ada."
        assert run.status == "paused"
        think.set()
        decide(run)
        assert run.wait(30).status == status, run.error
    assert run.approvals() == []
    assert run.gates().status.tolist() == [gate]


def test_a_pause_during_the_last_code_of_a_run_leaves_it_ended(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = code(
        "import pathlib, time\nprint('on', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    )
    with OpenAIServer(lambda request: waits) as model:
        monkeypatch.setenv("CMBAGENT_BASE_URL", model.url)
        run = workspace.one_shot("Wait.", model="openai:m")
        on = threading.Event()
        run.on("step_progress", lambda event: on.set())
        assert on.wait(30)
        run.pause()
        (run.work_dir / "steps/step_1/attempt_1/go").touch()
        assert run.wait(30).status == "completed", run.error


def test_a_run_stopped_at_a_gate_while_another_step_is_held_has_failed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinking, think = threading.Event(), threading.Event()

    def slow(request: object) -> object:
        thinking.set()
        assert think.wait(30)
        return HELLO

    steps = {"One": code("{}['a']"), "Two": slow}
    team = Team(plan=plan({"title": "One"}, {"title": "Two"}), review=APPROVED, steps=steps)
    with OpenAIServer(team) as model:
        monkeypatch.setenv("CMBAGENT_BASE_URL", model.url)
        run = workspace.planning_and_control("Both.", model="openai:m", approve="error", max_attempts=1)
        until_gate(run)
        assert thinking.wait(30)
        run.pause()
        think.set()
        until(run, lambda: "paused" in set(run.steps().status))
        run.approve(resolution="abort")
        assert run.wait(30).status == "failed"
        assert set(run.steps().status) == {"failed"}


def test_a_pause_now_that_is_over_at_once_cancels_nothing(
    workspace: Workspace,
    server: OpenAIServer,  # noqa: F811
) -> None:
    run, pid, _ = start_sleeper(workspace)
    asleep = threading.Event()
    run.on("step_progress", lambda event: asleep.set())
    run.pause(now=True)
    run.resume()
    until(run, lambda: asleep.is_set() or asleep.wait(0.05) or run.finished)
    assert not run.finished, run.status
    assert gone(pid)
    run.cancel()
    assert run.wait(10).status == "cancelled"
