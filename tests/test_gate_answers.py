"""An answer at a gate: it holds for what was shown, one of several counts, and each caller is told which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import GateAlreadyAnswered, GateChanged, GateError, PlanTooLong, RunFailed
from cmbagent_nb.notebook.gates import GateCard
from cmbagent_nb.run import Run
from cmbagent_nb.workflow.gates import fingerprint
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.rest_server import TOKEN, Server
from tests.team import APPROVED, Team, code, plan

ROOT = Path(__file__).resolve().parents[1]
FAILS = code("raise ValueError('not this way')", "fails.py")
HELLO = code("print('hello')", "hello.py")
BYE = code("print('good-bye')", "bye.py")


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    handler = Team(plan=plan({"title": "Greet"}), review=APPROVED, code=HELLO, steps={"Greet": HELLO})
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        handler.server = server  # type: ignore[attr-defined]
        yield handler


def next_gate(run: Run, after: str = "", timeout: float = 60.0) -> dict[str, Any]:
    """Wait for a gate of a run other than the one before."""
    changed = threading.Event()
    stop = run.subscribe(changed.set)
    try:
        while True:
            changed.clear()
            found = [gate for gate in run.approvals() if gate["id"] != after]
            if found:
                return found[0]
            assert not run.finished, f"{run!r} ended: {run.error}"
            assert changed.wait(timeout), f"no gate within {timeout} s: {run!r}"
    finally:
        stop()


# ---- whose decision holds


class Racer:
    """A process that answers through a door of its own."""

    def __init__(self, door: str, url: str) -> None:
        words = [sys.executable, "-m", "tests.gate_racer", door, url]
        self.door = door
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._line() == "ready"

    def start(self, gate: dict[str, Any], wanted: str, comment: str) -> None:
        assert self.process.stdin is not None
        asked = {"id": gate["id"], "run_id": gate["run_id"], "hash": gate["context"]["hash"]}
        self.process.stdin.write(json.dumps([asked, wanted, comment]) + "\n")
        self.process.stdin.flush()

    def outcome(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


class CardRacer:
    """The card of a gate in the process that owns the run."""

    door = "card"

    def __init__(self, run: Run) -> None:
        self.run = run

    def start(self, gate: dict[str, Any], wanted: str, comment: str) -> None:
        self.told: dict[str, Any] = {}
        self.done = threading.Event()

        def answer(id: str, resolution: str, comment: str, hash: str) -> None:
            try:
                decision = self.run.approve(id, resolution, comment, "card", hash)
                self.told = {"yours": True, "holds": decision.resolution}
            except GateAlreadyAnswered as error:
                self.told = {"yours": False, "holds": error.resolution, "said": str(error)}
                raise
            finally:
                self.done.set()

        card = GateCard(gate, answer)
        field, *buttons = card.interactive
        field.value = comment
        buttons[{"approved": 0, "rejected": 1}[wanted]].click()

    def outcome(self) -> dict[str, Any]:
        assert self.done.wait(60)
        return self.told

    def close(self) -> None:
        """Nothing: it is no process."""


def race(workspace: Workspace, team: Team, folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    team.answers["code"] = FAILS
    team.steps.clear()
    run = workspace.one_shot("Greet.", approve="tool", max_attempts=times)
    next_gate(run)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with ExitStack() as stack:
        (folder / "server").mkdir()
        server = Server(folder / "server", [workspace.home])
        stack.callback(server.stop)
        url = f"http://127.0.0.1:{server.port}/cmbagent/api/#{TOKEN}"
        racers = [*(Racer(door, url) for door in ("python", "cli", "magic", "rest")), CardRacer(run)]
        for racer in racers:
            stack.callback(racer.close)
        before = ""
        won: dict[str, int] = {}
        for number in range(times):
            gate = next_gate(run, before)
            before = gate["id"]
            wanted = ["approved" if (number + place) % 3 else "rejected" for place in range(5)]
            for place, racer in enumerate(racers):
                racer.start(gate, wanted[place], f"comment of {racer.door}")
            outcomes = [racer.outcome() for racer in racers]
            (row,) = workspace._core.db.rows(
                "SELECT resolution, user_feedback FROM approval_requests WHERE id = :id", id=gate["id"]
            )
            winners = [place for place, outcome in enumerate(outcomes) if outcome["yours"]]
            assert len(winners) == 1, (number, outcomes)
            assert {outcome["holds"] for outcome in outcomes} == {row["resolution"]}, (number, outcomes)
            assert wanted[winners[0]] == row["resolution"]
            assert row["user_feedback"] == f"comment of {racers[winners[0]].door}"
            for racer, outcome in zip(racers, outcomes, strict=True):
                if not outcome["yours"]:
                    assert outcome.get("status", 1) == (409 if racer.door == "rest" else 1), outcome
            won[racers[winners[0]].door] = won.get(racers[winners[0]].door, 0) + 1
        print(f"{times} of {times} races right; won by {won}")
    assert run.wait(60).status == "failed"


def test_five_racers_are_told_the_truth(
    workspace: Workspace, team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    race(workspace, team, tmp_path, monkeypatch, 8)


@pytest.mark.full
def test_fifty_races(workspace: Workspace, team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    race(workspace, team, tmp_path, monkeypatch, 50)


def test_a_late_answer_is_told_which_holds(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    gate = next_gate(run)
    answer = run.approve(gate["id"], "approved", "fine", by="Ann", hash=gate["context"]["hash"])
    assert (answer.resolution, answer.feedback, answer.by) == ("approved", "fine", "Ann")
    for late in (lambda: run.approve(gate["id"]), lambda: run.reject(gate["id"][-8:]), lambda: run.approve()):
        with pytest.raises(GateAlreadyAnswered, match="already answered by Ann: approved") as told:
            late()
        assert (told.value.resolution, told.value.by, told.value.feedback) == ("approved", "Ann", "fine")
        assert told.value.id == gate["id"] and told.value.at > 0
    run.wait(60)


def test_an_answer_for_something_else_is_refused(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    gate = next_gate(run)
    with pytest.raises(GateChanged) as refused:
        run.approve(gate["id"], hash="0" * 64)
    assert refused.value.hash == gate["context"]["hash"]
    assert run.approvals()[0]["id"] == gate["id"]
    run.approve(gate["id"], hash=gate["context"]["hash"])
    assert run.wait(60).status == "completed"


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.text())), min_size=1), st.text())
def test_the_hash_is_of_what_is_shown(shown: dict[str, Any], more: str) -> None:
    context = {f"x{name}": value for name, value in shown.items()}
    same = dict(reversed(list(context.items())))
    assert fingerprint(context) == fingerprint({**same, "moment": more, "options": [more], "note": more})
    name = next(iter(context))
    assert fingerprint(context) != fingerprint({**context, name: [context[name], more]})


# ---- what an approval is of

INTERRUPTED = """
import os, sys, threading
from cmbagent_nb.workflow.gates import Gates
from cmbagent_nb.workspace import Workspace

resolve = Gates._resolve

async def die(*args):
    answer = await resolve(*args)  # stored; whoever waits at the gate has not heard of it
    os.write(1, answer.hash.encode())
    os._exit(9)

Gates._resolve = die
run = Workspace().planning_and_control("Greet.", approve=sys.argv[1], name="killed")
changed = threading.Event()
run.subscribe(changed.set)
while not run.approvals():
    changed.wait(1)
    changed.clear()
run.approve(run.approvals()[0]["id"])
"""


def killed_after_approving(team: Team, kind: str) -> str:
    """Run until the first gate is approved; the process dies there. Returns the hash that was approved."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, kind], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 9, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("kind", ["tool", "plan"])
def test_a_changed_thing_asks_again_after_a_kill(workspace: Workspace, team: Team, kind: str) -> None:
    approved = killed_after_approving(team, kind)
    # Other instructions, so that the recorded reply does not count: another agent definition, as a user would edit it.
    team.steps["Greet"] = BYE
    team.steps["Leave"] = BYE
    team.answers["plan"] = plan({"title": "Greet" if kind == "tool" else "Leave"})
    edit_agent(workspace, {"tool": "engineer", "plan": "planner"}[kind])
    run = workspace.resume("killed")
    gate = next_gate(run)
    assert gate["context"]["hash"] != approved
    assert "changed since it was decided" in gate["context"]["note"]
    if kind == "tool":
        assert "good-bye" in gate["context"]["code"]
        assert not [path for path in run.work_dir.rglob("stdout.txt") if "good-bye" in path.read_text()]
    run.approve(gate["id"])
    assert run.wait(60).status == "completed", run.error


@pytest.mark.parametrize("kind", ["tool", "plan"])
def test_the_same_thing_does_not_ask_again_after_a_kill(workspace: Workspace, team: Team, kind: str) -> None:
    killed_after_approving(team, kind)
    run = workspace.resume("killed").wait(60)
    assert run.status == "completed", run.error
    assert len(run.gates()) == 1


def edit_agent(workspace: Workspace, name: str) -> None:
    """Change the definition of an agent, as a user does: its recorded replies do not count any more."""
    roster = ROOT / "cmbagent_nb" / "agents" / "roster" / f"{name}.yaml"
    folder = workspace.home / "agents"
    folder.mkdir(exist_ok=True)
    definition = yaml.safe_load(roster.read_text(encoding="utf-8"))
    definition["instructions"] += "\nBe kind."
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")


def test_code_changed_while_it_was_shown_is_not_run(workspace: Workspace, team: Team) -> None:
    run = workspace.one_shot("Greet.", approve="tool")
    gate = next_gate(run)
    (script,) = run.work_dir.glob("steps/step_1/attempt_1/codebase/*.py")
    script.write_text("print('something else')")
    run.approve(gate["id"])
    assert run.wait(60).status == "completed", run.error
    assert "hello" in run.result.text and "something else" not in run.result.text


# ---- a refusal is not an end


def test_refused_code_goes_back_to_the_engineer(workspace: Workspace, team: Team) -> None:
    team.steps["Greet"] = [FAILS, HELLO]
    run = workspace.one_shot("Greet.", approve="tool")
    gate = next_gate(run)
    assert gate["context"]["title"] == "Run this code? (fails.py, step 1)"
    assert [option["label"] for option in gate["context"]["options"]] == [
        "Run it",
        "No, tell the engineer why",
        "Stop the run",
    ]
    run.reject(gate["id"], "Never raise:\nprint instead.")
    second = next_gate(run, gate["id"])
    asked = str(team.server.requests[-1].json["messages"][-1]["content"])  # type: ignore[attr-defined]
    assert "did not allow this code to run" in asked and "print instead." in asked and "raise ValueError" in asked
    assert not list(run.work_dir.rglob("attempt_1/**/stdout.txt"))
    run.approve(second["id"])
    assert run.wait(60).status == "completed", run.error
    assert run.steps().attempts.tolist() == [2]


def test_refusals_have_a_limit(workspace: Workspace, team: Team) -> None:
    run = workspace.one_shot("Greet.", approve="tool", max_attempts=2)
    gate = next_gate(run)
    run.reject(gate["id"], "no")
    run.reject(next_gate(run, gate["id"])["id"])
    assert run.wait(60).status == "failed"
    assert "You did not allow this code to run" in str(run.error)
    assert not list(run.work_dir.rglob("stdout.txt"))


def test_stopping_the_run_is_a_choice_and_resume_asks_again(workspace: Workspace, team: Team) -> None:
    run = workspace.one_shot("Greet.", approve="tool")
    gate = next_gate(run)
    run.approve(gate["id"], "abort")
    assert run.wait(60).status == "failed"
    assert run.error is not None and "You stopped the run at step 1" in run.error
    calls = team.server.count  # type: ignore[attr-defined]
    again = workspace.resume(run.id)
    second = next_gate(again)
    assert second["context"]["hash"] == gate["context"]["hash"]
    assert team.server.count == calls  # type: ignore[attr-defined]
    again.approve(second["id"])
    assert again.wait(60).status == "completed", again.error


# ---- a plan that is longer than the limit


def long_plan(steps: int) -> dict[str, Any]:
    return plan(*({"title": f"Greet {number}"} for number in range(1, steps + 1)))


def test_a_long_plan_names_the_setting(workspace: Workspace, team: Team) -> None:
    team.answers["plan"] = long_plan(12)
    run = workspace.planning_and_control("Greet.", max_plan_steps=10).wait(60)
    assert run.status == "failed"
    said = "The plan has 12 steps; the limit is 10. Allow more with CMBAGENT_MAX_PLAN_STEPS=12, or ask for fewer steps."
    assert run.error == said
    with pytest.raises(RunFailed):
        _ = run.result
    with pytest.raises(PlanTooLong) as refused:
        workspace.planning_and_control("Greet.", plan=long_plan(11), max_plan_steps=10)
    assert (refused.value.steps, refused.value.limit) == (11, 10)


def test_a_long_plan_is_shown_at_its_gate(workspace: Workspace, team: Team) -> None:
    team.answers["plan"] = [long_plan(4), long_plan(2)]
    team.steps.update({f"Greet {number}": HELLO for number in range(1, 5)})
    run = workspace.planning_and_control("Greet.", approve="plan", max_plan_steps=3)
    gate = next_gate(run)
    assert gate["context"]["title"] == "The plan has 4 steps; the limit is 3. Approve it?"
    assert [option["id"] for option in gate["context"]["options"]] == ["approved", "fewer", "modified", "rejected"]
    assert team.asked["plan"] == 1
    run.approve(gate["id"], "fewer")
    second = next_gate(run, gate["id"])
    assert "Use at most 3 steps." in str(team.server.requests[-1].json)  # type: ignore[attr-defined]
    assert len(second["context"]["plan"]["steps"]) == 2
    run.reject(second["id"])
    assert run.wait(60).status == "cancelled"

    team.answers["plan"] = long_plan(4)
    other = workspace.planning_and_control("Greet.", approve="plan", max_plan_steps=3)
    other.approve(next_gate(other)["id"])
    assert other.wait(120).status == "completed", other.error
    assert len(other.steps()) == 4


def test_a_policy_allows_no_plan_that_is_too_long(workspace: Workspace, team: Team) -> None:
    team.answers["plan"] = long_plan(4)
    run = workspace.planning_and_control("Greet.", approve="plan", gates="approve", max_plan_steps=3).wait(60)
    assert run.status == "failed" and "the limit is 3" in str(run.error)


def test_an_unknown_gate_is_said(workspace: Workspace, team: Team) -> None:
    run = workspace.planning_and_control("Greet.", approve="plan")
    next_gate(run)
    for wrong in ("no such gate", "%", "_", "ffffffff"):
        with pytest.raises(GateError, match="no open gate"):
            run.approve(wrong)
    run.cancel()
    run.wait(60)
