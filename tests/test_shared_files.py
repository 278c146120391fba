"""Large files are shared between steps and not copied: a step that changes one in place is told of."""

from __future__ import annotations

import pytest

from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan


def test_a_shared_file_that_is_changed_in_place_is_an_error_in_the_record(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Python opens is copied first; what another program changes is the file of the step before."""
    monkeypatch.setattr("cmbagent_nb.execution.attempt_folder.LINK_ABOVE", 0)
    monkeypatch.setattr("cmbagent_nb.execution.attempt_folder._clone", lambda source, target: False)
    changes = "import subprocess\nsubprocess.run(['sh', '-c', 'echo new > data/a.txt'], check=True)"
    steps = {"Make": code("open('data/a.txt', 'w').write('old')", "make.py"), "Change": code(changes, "change.py")}
    team = Team(plan=plan({"title": "Make"}, {"title": "Change", "depends_on": [1]}), review=APPROVED, steps=steps)
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Make and change.", model="openai:m").wait(60)
    assert run.status == "completed", run.error
    events = run.events()
    found = events[events.event_subtype == "shared_file_changed"]
    assert found.event_type.tolist() == ["error"]
    assert found.node_id.tolist() == ["step_2"]
    assert found.inputs.iloc[0] == {"paths": ["data/a.txt"]}
    assert "data/a.txt: changed in place" in found.error.iloc[0]
    executed = events[(events.event_type == "code_exec") & (events.node_id == "step_2")]
    assert found.parent_event_id.tolist() == executed.id.tolist()
