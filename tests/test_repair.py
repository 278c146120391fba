"""A database made anew from the journals: names of sessions, and who answered at which price."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmbagent_nb.workspace import Workspace, repair_workspace
from tests.openai_server import OpenAIServer, Reply
from tests.team import code


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
    found = {row["run"]: row["session"] for row in workspace.db.rows(query)}
    assert found == {"project-x": "Project X", "project-y": "Project Y"}
    for name, rows in before.items():
        assert workspace.run(name).costs()[costs].values.tolist() == rows
    # The session is known by its name again: another run belongs to it, and no second one of this name is made.
    assert Workspace(home, session="Project X").session_id() == workspace.run("project-x").session_id
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
    states = [run.at(place) for place in before.id]
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
    assert [run.at(place) for place in before.id] == states
    workspace.close()
