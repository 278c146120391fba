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
