"""A skill that is asked for when a run is started is made when the run has succeeded."""

from __future__ import annotations

import pytest

from cmbagent_nb.errors import SkillError, UsageError
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import Team, code

COUNT = 'LIMIT = 7\nopen("data/n.txt", "w").write(str(sum(range(LIMIT))))\n'


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def use(server: OpenAIServer) -> None:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")

    return use


def test_the_result_of_a_run_says_which_skill_was_made(workspace: Workspace, model) -> None:  # type: ignore[no-untyped-def]
    """The end of the run waits for it; a run that fails makes none."""
    with OpenAIServer(Team(steps={"Count": [code(COUNT, "count.py")]})) as server:
        model(server)
        run = workspace.one_shot("Count to 7.", create_skill=True, skill_name="counting", name="Count").wait(90)
        assert run.status == "completed", run.error
        made = run.result.skill
        assert made is not None
        assert (made["name"], made["version"], made["status"], made["error"]) == ("counting", 1, "active", None)
        assert "Skill counting v1: verified: 1 of 1 file reproduced" in str(run.result)
        assert [item.name for item in workspace.skills.get("counting").parameters] == ["LIMIT", "n_file"]
        plain = workspace.one_shot("Count to 7.").wait(60)
        assert plain.result.skill is None
    with OpenAIServer(Team(steps={"Count": [code("1 / 0", "count.py")]})) as server:
        model(server)
        failed = workspace.one_shot("Count to 7.", create_skill=True, max_attempts=1).wait(60)
        assert failed.status == "failed"
    assert workspace.skills.list()["name"].tolist() == ["counting"]


def test_a_name_that_no_skill_can_have_is_told_before_the_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started."""
    monkeypatch.setenv("CMBAGENT_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(SkillError, match="cannot be the name"):
        workspace.one_shot("Count.", create_skill=True, skill_name="../x", model="openai:test-model")
    with pytest.raises(UsageError, match="not asked for"):
        workspace.one_shot("Count.", skill_name="x", model="openai:test-model")
    assert workspace.runs().empty
