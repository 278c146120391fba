"""Gates: a run waits, somebody decides, and the run goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cmbagent_nb.errors import GateError, UsageError
from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

HELLO = code("print('hello')", "hello.py")
BROKEN = code("{}['a']", "broken.py")


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    handler = Team(plan=plan({"title": "Greet"}), review=APPROVED, steps={"Greet": HELLO})
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        handler.server = server  # type: ignore[attr-defined]
        yield handler


def until(run: Run, ready: object, timeout: float = 30.0) -> None:
    """Wait for a condition of a run, looking again after each of its changes."""
    changed = threading.Event()
    stop = run.subscribe(changed.set)
    try:
        while not ready():  # type: ignore[operator]
            changed.clear()
            if not ready():  # type: ignore[operator]
                assert changed.wait(timeout), f"nothing happened for {timeout} s: {run!r}"
    finally:
        stop()


def until_gate(run: Run) -> dict[str, object]:
    until(run, lambda: run.approvals() or run.finished)
    assert run.approvals(), f"{run!r} ended: {run.error}"
    return run.approvals()[0]


def test_the_plan_is_shown_and_approved(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    gate = until_gate(run)
    until(run, lambda: run.status == "waiting_approval")
    assert gate["context"]["plan"]["steps"][0]["title"] == "Greet"  # type: ignore[index]
    assert [option["id"] for option in gate["context"]["options"]] == ["approved", "modified", "rejected"]  # type: ignore[index]
    run.approve()
    assert run.wait(30).status == "completed"
    decision = run.gates().iloc[0]
    assert (decision.resolution, decision.resolved_by) == ("approved", "you")
    assert dict(zip(run.nodes().node_id, run.nodes().status, strict=True))["plan_approval"] == "completed"


def test_a_comment_goes_back_to_the_planner(workspace: Workspace, team: Team) -> None:
    team.answers["plan"] = [plan({"title": "Greet"}), plan({"title": "Greet"}, {"title": "Wave"})]
    team.steps["Wave"] = code("print('wave')", "wave.py")
    run = workspace.planning_and_control("Greet.", approve="plan")
    first = until_gate(run)
    with pytest.raises(GateError, match="needs a comment"):
        run.approve(resolution="modified")
    run.approve(resolution="modified", feedback="Please wave, too.")
    until(run, lambda: any(gate["id"] != first["id"] for gate in run.approvals()))
    asked = team.server.requests[-1].json["messages"][-1]["content"]  # type: ignore[attr-defined]
    assert "Please wave, too." in str(asked)
    assert len(run.approvals()[0]["context"]["plan"]["steps"]) == 2
    run.approve()
    assert run.wait(30).status == "completed"
    assert run.steps().title.tolist() == ["Greet", "Wave"]


def test_a_rejected_plan_ends_the_run(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    until_gate(run)
    run.reject()
    assert run.wait(30).status == "cancelled"
    assert run.error == "The plan was rejected."
    assert len(run.steps()) == 0


def test_only_the_first_answer_counts(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    gate = until_gate(run)
    run.approve(str(gate["id"]), "approved")
    with suppress(GateError):  # the gate may be closed by now
        run.approve(str(gate["id"]), "rejected")
    assert run.wait(30).status == "completed"
    with pytest.raises(GateError):
        run.approve(str(gate["id"]))


def test_another_process_answers(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    until_gate(run)
    script = (
        "import sys; from cmbagent_nb.workspace import Workspace\n"
        "Workspace(sys.argv[1]).run(sys.argv[2]).approve(by='the other process')"
    )
    subprocess.run([sys.executable, "-c", script, str(workspace.home), run.id], check=True, timeout=60)
    assert run.wait(30).status == "completed"
    assert run.gates().resolved_by.tolist() == ["the other process"]


def test_a_step_that_failed_is_retried_with_the_comment(workspace: Workspace, team: Team) -> None:
    def mended(request: dict[str, object]) -> object:
        assert "Say hello." in str(request["messages"])
        return HELLO

    team.steps["Greet"] = [BROKEN, BROKEN, mended]
    run = workspace.planning_and_control("Greet.", approve="error", max_attempts=2)
    gate = until_gate(run)
    assert "failed twice" in gate["context"]["title"]  # type: ignore[index]
    assert "KeyError" in gate["context"]["body"]  # type: ignore[index]
    run.approve(resolution="retry", feedback="Say hello.")
    assert run.wait(30).status == "completed"
    assert run.steps().attempts.tolist() == [3]


@pytest.mark.parametrize(
    ("answer", "status", "step"), [("skip", "completed", "skipped"), ("abort", "failed", "failed")]
)
def test_a_step_that_failed_is_skipped_or_ends_the_run(
    workspace: Workspace, team: Team, answer: str, status: str, step: str
) -> None:
    team.steps["Greet"] = BROKEN
    run = workspace.planning_and_control("Greet.", approve="error", max_attempts=1)
    until_gate(run)
    run.approve(resolution=answer)
    assert run.wait(30).status == status
    assert run.steps().status.tolist() == [step]


def test_gates_before_and_after_a_step_and_before_its_code(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="before_step,tool,after_step")
    kinds = []
    while not run.finished:
        until(run, lambda: run.approvals() or run.finished)
        for gate in run.approvals():
            kinds.append(gate["approval_type"])
            run.approve(gate["id"])
            until(run, lambda gate=gate: gate["id"] not in [g["id"] for g in run.approvals()])  # type: ignore[misc]
    assert run.status == "completed", run.error
    assert kinds == ["step_approval", "tool_call", "step_approval"]


@pytest.mark.parametrize(("policy", "status"), [("approve", "completed"), ("reject", "cancelled")])
def test_gates_are_answered_by_the_environment(
    workspace: Workspace, team: Team, monkeypatch: pytest.MonkeyPatch, policy: str, status: str
) -> None:
    monkeypatch.setenv("CMBAGENT_GATES", policy)
    run = workspace.planning_and_control("Greet.", approve="plan").wait(30)
    assert run.status == status
    assert run.gates().resolved_by.tolist() == [f"CMBAGENT_GATES={policy}"]


def test_a_run_with_a_step_that_moves_is_not_waiting(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two parallel steps waits at a gate while the other is being thought about."""
    go = threading.Event()

    def slow(request: dict[str, object]) -> object:
        assert go.wait(30)
        return HELLO

    two = plan({"title": "Quick"}, {"title": "Slow"})
    handler = Team(plan=two, review=APPROVED, steps={"Quick": BROKEN, "Slow": slow})
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Greet.", model="openai:m", approve="error", max_attempts=1)
        until_gate(run)
        assert run.status == "executing"
        go.set()
        until(run, lambda: run.status == "waiting_approval")
        run.approve(resolution="skip")
        assert run.wait(30).status == "completed"


def test_gates_that_do_not_exist_are_refused(workspace: Workspace, team: Team) -> None:
    with pytest.raises(UsageError, match="no gate called 'planets'"):
        workspace.one_shot("Greet.", approve="planets")
    run = workspace.one_shot("Greet.")
    with pytest.raises(GateError, match="no open gate"):
        run.approve()
    run.wait(30)


def test_a_playbook_says_that_it_cannot_react(workspace: Workspace) -> None:
    from cmbagent_nb.llm.playbook import Playbook

    book = Playbook.load("planck-desi")
    run = workspace.planning_and_control(book.task, model="playbook:planck-desi", approve="plan")
    first = until_gate(run)
    run.approve(resolution="modified", feedback="Use another colour.")
    until(run, lambda: any(gate["id"] != first["id"] for gate in run.approvals()))
    assert "cannot react to comments" in run.approvals()[0]["context"]["body"]
    run.reject()
    assert run.wait(30).status == "cancelled"
