"""A database made anew from the journals: names of sessions, and who answered at which price."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cmbagent_nb.admin import repair_workspace
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Reply
from tests.team import APPROVED, Team, code, plan
from tests.test_gates import until_gate


def test_sessions_keep_their_names_and_costs_their_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in two sessions, answered by another model than the one that was asked for."""
    home = tmp_path / "home"
    costs = ["node_id", "agent_name", "provider", "model", "total_tokens", "cached_tokens", "cost_usd"]
    with OpenAIServer(
        lambda request: Reply(code("print(1)"), model="gpt-4o-mini-2024-07-18", cached_tokens=40)
    ) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        for session in ("Project X", "Project Y"):
            workspace = Workspace(home, session=session)
            run = workspace.one_shot("Print one.", model="openai:gpt-5", name=session.lower().replace(" ", "-"))
            assert run.wait(60).status == "completed", run.error
        before = {name: workspace.run(name).costs()[costs].values.tolist() for name in ("project-x", "project-y")}
        assert before["project-x"][0][3] == "gpt-4o-mini-2024-07-18"
        workspace.close()
    for path in home.glob("cmbagent.db*"):
        path.unlink()
    assert repair_workspace(home) == ["project-x", "project-y"]
    workspace = Workspace(home, session="Project X")
    query = "SELECT r.name AS run, s.name AS session FROM workflow_runs r JOIN sessions s ON s.id = r.session_id"
    found = {row["run"]: row["session"] for row in workspace._core.db.rows(query)}
    assert found == {"project-x": "Project X", "project-y": "Project Y"}
    for name, rows in before.items():
        assert workspace.run(name).costs()[costs].values.tolist() == rows
    # The session is known by its name again: another run belongs to it, and no second one of this name is made.
    assert Workspace(home, session="Project X")._core.session_id() == workspace.run("project-x").session_id
    workspace.close()


def test_checkpoints_are_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with a name and those without, and the run can be looked at as it stood at each of them."""
    home = tmp_path / "home"
    workspace = Workspace(home)
    with OpenAIServer(lambda request: code("print(1)")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Print one.", model="openai:m", name="kept").wait(60)
    columns = ["id", "node_id", "checkpoint_type", "journal_position", "created_at"]
    before = run.checkpoints()[columns]
    assert len(before) > 2
    states = [run.state_at(place) for place in before.id]
    workspace.close()
    with (run.work_dir / "journal.jsonl").open("a") as journal:  # lines that are JSON, and none of ours
        for kind, data in (("state", "null"), ("other", '"values"'), ("interrupted", "[]")):
            journal.write(f'{{"v":1,"seq":900,"at":1.0,"kind":"{kind}","data":{data}}}\n')
    for path in home.glob("cmbagent.db*"):
        path.unlink()
    assert repair_workspace(home) == ["kept"]
    workspace = Workspace(home)
    run = workspace.run("kept")
    assert run.checkpoints()[columns].equals(before)
    assert [run.state_at(place) for place in before.id] == states
    workspace.close()


#: A process that is killed while its run shows its plan.
AT_A_GATE = """
import os, signal, sys, threading
from cmbagent_nb.workspace import Workspace

workspace = Workspace(sys.argv[1])
run = workspace.planning_and_control("Print one.", model="openai:m", name="gate", approve="plan")
opened = threading.Event()
run.subscribe(opened.set)
while not run.approvals():
    opened.wait(0.1)
    opened.clear()
workspace._core.writer.barrier().result()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_gate_of_a_run_that_was_killed_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process died, that was noticed, and then the database was lost: every row is one that the tables take."""
    home = tmp_path / "home"
    team = Team(plan=plan({"title": "Print"}), review=APPROVED, steps={"Print": code("print(1)")})
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        assert subprocess.run([sys.executable, "-c", AT_A_GATE, str(home)], timeout=90, check=False).returncode == -9
        workspace = Workspace(home)
        assert workspace.run("gate").status == "interrupted"
        workspace.close()
        for path in home.glob("cmbagent.db*"):
            path.unlink()
        assert repair_workspace(home) == ["gate"]
        assert not (home / "faults.jsonl").exists()
        workspace = Workspace(home)
        run = workspace.run("gate")
        query = "SELECT status, resolved_at > 0 AS ended FROM approval_requests WHERE run_id = :id ORDER BY id"
        assert workspace._core.db.rows(query, id=run.id) == [{"status": "expired", "ended": 1}]
        run = run.resume()
        until_gate(run)
        run.approve()
        assert run.wait(60).status == "completed", run.error
        workspace.close()
