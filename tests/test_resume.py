"""A run that is killed at any instant goes on where it stood, pays for nothing twice, and ends the same."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.admin import repair_workspace
from cmbagent_nb.errors import StateError, StoreError, UsageError, WorkDirError
from cmbagent_nb.execution.group import kill_folder
from cmbagent_nb.workflow.commands import send
from cmbagent_nb.workflow.history import rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workspace import Workspace
from tests.kernels import Kernels
from tests.openai_server import OpenAIServer, Reply, tool_results
from tests.team import CHANGES, Team, code, plan
from tests.test_gates import until

#: Code that notices when it runs twice at once: the lock goes with the process.
LOCKED = """
import fcntl, json, time
lock = open({lock!r}, 'w')
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    open({lock!r} + '.twice', 'w').write('twice at once')
"""


def team(folder: Path) -> Team:
    """Two parallel steps, one of which fails first, a third that needs both, and a report."""

    def part(name: str, body: str) -> dict[str, Any]:
        return code(LOCKED.format(lock=str(folder / name)) + body, f"{name}.py")

    write = "time.sleep(0.15)\njson.dump({{'n': {n}}}, open('data/{name}.json', 'w'))\nprint('{name}')\n"
    add = (
        "n = [json.load(open(f'data/{name}.json'))['n'] for name in ('left', 'right')]\n"
        "time.sleep(0.1)\njson.dump({'sum': sum(n)}, open('data/sum.json', 'w'))\n"
    )
    return Team(
        plan=plan(
            {"title": "Left", "expected_outputs": ["data/left.json"]},
            {"title": "Right", "expected_outputs": ["data/right.json"]},
            {"title": "Sum", "depends_on": [1, 2]},
            {"title": "Report", "agent": "researcher", "depends_on": [3]},
        ),
        review=CHANGES,
        report={"title": "Sum", "markdown": "The sum is {{ data/sum.json#sum }}."},
        steps={
            "Left": _once_broken(part("left", "json.loads('{')\n"), part("left", write.format(n=1, name="left"))),
            "Right": part("right", write.format(n=2, name="right")),
            "Sum": part("sum", add),
        },
    )


def _once_broken(broken: Any, mended: Any) -> Any:
    """Answer by what the prompt says, not by how often it was asked: a call in flight may be made again."""

    def answer(request: dict[str, Any]) -> Any:
        return mended if "failed" in str(request["messages"][-1]["content"]) else broken

    return answer


def results(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("data", "codebase", "plots", "report.md")
        for path in sorted([folder / part, *(folder / part).rglob("*")])
        if path.is_file()
    }


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    monkeypatch.setenv("CMBAGENT_GATES", "approve")
    (tmp_path / "locks").mkdir()
    with OpenAIServer(team(tmp_path / "locks")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        yield server


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> Iterator[None]:
    with Kernels() as found:
        KERNELS.append(found)
        yield
        KERNELS.pop()


KERNELS: list[Kernels] = []


def kernel(home: Path, mode: str, moment: str = "") -> tuple[int, str]:
    """Run a kernel of its own; returns how it ended and what it printed last."""
    done = KERNELS[0].run("tests.crash_child", home, mode, moment)
    assert done.code in (0, -9), done.output
    return done.code, done.output


def undisturbed(home: Path, served: OpenAIServer) -> dict[str, str]:
    assert kernel(home, "start") == (0, "completed")
    return results(home / "runs/crash")


def test_two_that_go_on_at_once_do_not_both(tmp_path: Path, served: OpenAIServer) -> None:
    home = tmp_path / "home"
    assert kernel(home, "start", "n14")[0] == -9
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.crash_child", str(home), "resume", ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(2)
    ]
    ends = [child.communicate(timeout=120) for child in children]
    assert sorted(child.returncode for child in children) == [0, 1]
    assert [out.strip() for out, _ in ends if out.strip()] == ["completed"]
    assert any("cannot be resumed" in error for _, error in ends)


def test_a_failed_run_goes_on_with_new_attempts(workspace: Workspace, served: OpenAIServer, tmp_path: Path) -> None:
    handler = served.handler
    mended = handler.steps["Left"]  # type: ignore[attr-defined]
    handler.steps["Left"] = code("{}['a']", "left.py")  # type: ignore[attr-defined]
    run = workspace.planning_and_control("Add two numbers.", model="openai:m", max_attempts=2).wait(60)
    assert run.status == "failed"
    assert dict(zip(run.steps().node_id, run.steps().status, strict=True))["step_2"] == "completed"
    handler.steps["Left"] = mended  # type: ignore[attr-defined]
    calls = served.count
    run = run.resume()
    assert run.wait(60).status == "completed", run.error
    assert served.count - calls == 3  # one attempt at the step that failed, and the two steps after it
    assert run.steps().attempts.tolist() == [3, 1, 1, 1]
    with pytest.raises(StateError, match="completed and cannot be resumed"):
        workspace.resume(run.name)


def test_a_lost_database_is_made_anew_from_the_journals(tmp_path: Path, served: OpenAIServer) -> None:
    """Killed, and the database damaged on top: the journals alone are enough to go on and end the same."""
    expected = undisturbed(tmp_path / "undisturbed", served)
    home = tmp_path / "home"
    assert kernel(home, "start", "n20")[0] == -9
    before = served.count
    (home / "cmbagent.db").write_bytes(b"this is no database" * 100)
    (home / "cmbagent.db-wal").unlink(missing_ok=True)  # SQLite would mend the file with it
    with pytest.raises(StoreError, match=r"doctor --repair"):
        Workspace(home).runs()
    assert repair_workspace(home) == ["crash"]
    workspace = Workspace(home)
    try:
        assert workspace.run("crash").status == "interrupted"
        run = workspace.resume("crash").wait(60)
        assert run.status == "completed", run.error
        assert results(run.work_dir) == expected
        assert served.count - before <= 7 + 3
        assert (
            state_of(rows_of_journal(run.work_dir / "journal.jsonl")).differences(
                state_of(rows_of_database(workspace._core.db, run.id))
            )
            == []
        )
        assert workspace._core.writer.faults == 0
    finally:
        workspace.close()
    assert repair_workspace(home) == []


@pytest.mark.parametrize("lost", [False, True])
def test_killed_after_its_code_ended_an_engineer_that_used_tools_is_not_asked_again(
    tmp_path: Path, served: OpenAIServer, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The outputs are there by then, so that its tools would list more than they did; also without the database."""
    monkeypatch.setenv("CMBAGENT_CAPTURE", "0")
    handler = served.handler
    mended = handler.steps["Right"]  # type: ignore[attr-defined]

    def looked(request: dict[str, Any]) -> Any:
        return mended if tool_results(request) else Reply(tool_calls=[("search_files", {"pattern": "**/*"})])

    handler.steps["Right"] = looked  # type: ignore[attr-defined]
    script = (
        "import os, sys\n"
        "from cmbagent_nb.workflow import attempt\n"
        "from cmbagent_nb.workspace import Workspace\n"
        "judge = attempt.Attempt._judge\n"
        "async def die(self, outcome, code):\n"
        "    if self.step.node_id == 'step_2':\n"
        "        os._exit(9)\n"
        "    return await judge(self, outcome, code)\n"
        "attempt.Attempt._judge = die\n"
        "options = {'model': 'openai:test-model', 'name': 'crash'}\n"
        "Workspace(sys.argv[1]).planning_and_control('Add two numbers.', **options).wait(60)\n"
    )
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], timeout=120, cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == 9
    if lost:
        (home / "cmbagent.db").write_bytes(b"this is no database" * 100)
        (home / "cmbagent.db-wal").unlink(missing_ok=True)
        assert repair_workspace(home) == ["crash"]
    asked = [request for request in served.requests if "# Your step: Right" in str(request.json)]
    assert len(asked) == 2
    assert (home / "runs/crash/steps/step_2/attempt_1/data/right.json").exists()
    workspace = Workspace(home)
    try:
        run = workspace.resume("crash").wait(60)
        assert run.status == "completed", run.error
        asked = [request for request in served.requests if "# Your step: Right" in str(request.json)]
        assert len(asked) == 2
        assert not list((tmp_path / "locks").glob("*.twice"))
    finally:
        workspace.close()


@pytest.mark.parametrize(("gates", "end"), [("approve", "completed"), ("reject", "cancelled")])
def test_a_run_killed_between_the_decision_and_the_plan_goes_on(
    tmp_path: Path, served: OpenAIServer, gates: str, end: str
) -> None:
    script = (
        "import os, sys\n"
        "from cmbagent_nb.workflow import engine\n"
        "from cmbagent_nb.workspace import Workspace\n"
        "approve = engine._approve\n"
        "async def die(context, plan):\n"
        "    await approve(context, plan)\n"
        "    os._exit(9)\n"
        "engine._approve = die\n"
        "options = {'model': 'openai:test-model', 'approve': 'plan', 'gates': sys.argv[2], 'name': 'crash'}\n"
        "Workspace(sys.argv[1]).planning_and_control('Add two numbers.', **options).wait(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home"), gates],
        timeout=120,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 9
    workspace = Workspace(tmp_path / "home")
    try:
        assert workspace.resume("crash").wait(60).status == end
    finally:
        workspace.close()


def test_what_was_spent_before_counts_against_the_limit(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = Reply(code("{}['a']"), prompt_tokens=100_000, completion_tokens=10_000, model="gpt-4o")
    with OpenAIServer(lambda request: reply) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Spend.", model="openai:gpt-4o", max_cost_usd=0.4, max_attempts=1).wait(60)
        calls = server.count
        spent = run.cost_usd
        assert spent is not None
        assert spent > 0.3
        run = run.resume().wait(60)
        assert run.status == "failed"
        assert "over the limit" in str(run.error)
        assert server.count == calls
    assert run.cost_usd == spent


def test_a_run_object_goes_on_with_the_run_that_it_resumed(workspace: Workspace, served: OpenAIServer) -> None:
    handler = served.handler
    mended = handler.steps["Sum"]  # type: ignore[attr-defined]
    handler.steps["Sum"] = code("{}['a']", "sum.py")  # type: ignore[attr-defined]
    first = workspace.planning_and_control("Add two numbers.", model="openai:m", max_attempts=1).wait(60)
    assert first.status == "failed"
    # A command that was left for the process that is gone is not obeyed by the one that goes on.
    send(workspace._core.writer, first.id, "cancel", {}, "somebody")
    handler.steps["Sum"] = mended  # type: ignore[attr-defined]
    second = first.resume()
    assert not first.finished
    assert first.wait(60).status == "completed", first.error
    assert second.finished
    assert workspace._core.db.rows("SELECT outcome FROM commands")[0]["outcome"] == "dropped"


def test_a_resume_that_cannot_be_prepared_leaves_the_run_as_it_was(workspace: Workspace, served: OpenAIServer) -> None:
    served.handler.steps["Sum"] = code("{}['a']", "sum.py")  # type: ignore[attr-defined]
    run = workspace.planning_and_control("Add.", model="openai:m", max_attempts=1, engineer_model="openai:n").wait(60)
    workspace._core.writer.call(
        lambda c: c.exec_driver_sql("UPDATE workflow_runs SET meta = replace(meta, '\"engineer\"', '\"gone\"')")
    ).result()
    with pytest.raises(UsageError, match="gone"):
        run.resume()
    assert run.status == "failed"


def test_killed_at_an_error_gate_the_gate_is_asked_again(
    tmp_path: Path, served: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts were used up: no further one is made before somebody says so."""
    monkeypatch.setenv("CMBAGENT_GATES", "")
    monkeypatch.setenv("CMBAGENT_APPROVE", "error")
    monkeypatch.setenv("CMBAGENT_MAX_ATTEMPTS", "1")
    mended = served.handler.steps["Left"]  # type: ignore[attr-defined]
    served.handler.steps["Left"] = code("{}['a']", "left.py")  # type: ignore[attr-defined]
    home = tmp_path / "home"
    assert kernel(home, "start", "gate")[0] == -9
    calls = served.count
    workspace = Workspace(home)
    try:
        run = workspace.resume("crash")
        until(run, lambda: run.approvals() or run.finished)
        assert run.approvals()[0]["context"]["moment"] == "error:1"
        assert served.count == calls
        served.handler.steps["Left"] = mended  # type: ignore[attr-defined]
        run.approve(resolution="retry")
        assert run.wait(60).status == "completed", run.error
    finally:
        workspace.close()


def test_a_process_that_was_started_unseen_is_killed(workspace: Workspace, tmp_path: Path) -> None:
    """Its starter died before it could say whom it had started."""
    folder = tmp_path / "attempt_1"
    folder.mkdir()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=folder)
    assert kill_folder(folder)
    assert sleeper.wait(10) == -9


def test_a_folder_is_cleared_only_when_its_run_has_ended(
    workspace: Workspace, served: OpenAIServer, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    first = workspace.planning_and_control("Add.", model="openai:m", work_dir=folder).wait(60)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(WorkDirError, match="holds another run"):
        workspace.planning_and_control("Add.", model="openai:m", work_dir=folder)
    second = workspace.planning_and_control("Add.", model="openai:m", work_dir=folder, clear_work_dir=True)
    with pytest.raises(WorkDirError, match="is going on"):
        workspace.planning_and_control("Add.", model="openai:m", work_dir=folder, clear_work_dir=True)
    assert second.wait(60).status == "completed", second.error
    rows = rows_of_journal(folder / "journal.jsonl")["workflow_runs"]
    assert [row["id"] for row in rows] == [second.id] != [first.id]
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_run_that_was_stopped_at_a_gate_is_asked_again_there(workspace: Workspace, served: OpenAIServer) -> None:
    """Whoever goes on with it may have changed their mind; nothing is asked of a model for that."""
    options = {"model": "openai:m", "approve": "after_step", "gates": "", "plan": plan({"title": "Right"})}
    run = workspace.run_plan("Add two numbers.", **options)
    until(run, lambda: run.approvals() or run.finished)
    run.reject()
    assert run.wait(60).status == "failed"
    run.resume()
    until(run, lambda: run.approvals() or run.finished)
    run.approve(resolution="redo", feedback="Once more.")
    until(run, lambda: [gate for gate in run.approvals() if gate["context"]["moment"] == "after:2"] or run.finished)
    run.approve()
    assert run.wait(60).status == "completed", run.error
    assert served.count == 2  # the step, and its redo
    assert run.steps().attempts.tolist() == [2]
