"""Replay: a recorded run is gone through again without a model, and the first difference is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Reply, tool_results
from tests.team import CHANGES, Team, code, plan
from tests.test_gates import until, until_gate

WRITE = (
    "import json, pandas as pd\ndf = pd.read_parquet('input/df.parquet')\n"
    "json.dump({'n': int(df.x.sum())}, open('data/n.json', 'w'))\n"
)


@pytest.fixture
def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run with a review, a comment at the plan's gate, a retry and a report, whose server is gone afterwards."""
    import pandas as pd

    team = Team(
        plan=[plan({"title": "Count"}), plan({"title": "Count"}), _two()],
        review=CHANGES,
        report={"title": "n", "markdown": "There are {{ data/n.json#n }}."},
        steps={"Count": [code("{}['a']", "count.py"), code(WRITE, "count.py")]},
    )
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control(
            "Count.", model="openai:m", approve="plan", inputs={"df": pd.DataFrame({"x": [40, 2]})}
        )
        first = until_gate(run)
        run.approve(resolution="modified", feedback="Write a report, too.")
        until(run, lambda: any(gate["id"] != first["id"] for gate in run.approvals()))
        run.approve()
        assert run.wait(60).status == "completed", run.error
    monkeypatch.setenv("CMBAGENT_BASE_URL", "http://127.0.0.1:9/v1")
    yield run


def _two() -> dict[str, object]:
    return plan({"title": "Count"}, {"title": "Report", "agent": "researcher", "depends_on": [1]})


def test_a_replayed_run_is_the_same_without_a_call(run: Run, workspace: Workspace) -> None:
    replay = run.replay()
    assert replay.same, replay.differences
    again = workspace.run(replay.run_id)
    assert again.model_source == "replay"
    assert again.status == "completed"
    assert again.result.text == run.result.text
    calls = again.events().query("event_type == 'model_call'")
    assert set(calls.event_subtype) == {"replayed"}
    assert len(again.costs()) == 0
    assert again.name == f"{run.name}-replay"


def test_the_first_difference_is_told(run: Run) -> None:
    """The input has changed since: the code makes another number, and the report is another."""
    import pandas as pd

    pd.DataFrame({"x": [40, 3]}).to_parquet(run.work_dir / "input/df.parquet")
    replay = run.replay()
    assert not replay.same
    assert any("data/n.json" in item for item in replay.differences)
    assert "is not on the tape" in str(replay.first)  # the researcher's prompt tells the number


def test_an_agent_with_other_instructions_asks_another_question(run: Run, workspace: Workspace) -> None:
    agents = workspace.home / "agents"
    agents.mkdir()
    (agents / "planner.yaml").write_text(
        "name: planner\nrole: primary\ndescription: Plans.\nplannable: false\nreply: plan\n"
        "instructions: Plan otherwise.\n"
    )
    replay = run.replay()
    assert "Call 1 of planner in planning" in str(replay.first)
    assert json.dumps(list(replay.differences))


def test_what_tools_gave_is_given_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner saw the work dir as it was, and so did the engineer; neither is there any more, nor the note."""
    import pandas as pd

    def after_a_look(answer: Any) -> Any:
        def handler(request: dict[str, Any]) -> Any:
            look = ("search_files", {"pattern": "**/*"}), ("inspect_data", {"path": "input/note.txt"})
            return answer if tool_results(request) else Reply(tool_calls=look)

        return handler

    team = Team(plan=after_a_look(plan({"title": "Count"})), review=CHANGES, steps={"Count": after_a_look(code(WRITE))})
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        note = workspace.home.parent / "note.txt"
        note.write_text("as it was")
        inputs = {"df": pd.DataFrame({"x": [40, 2]}), "note": note}
        run = workspace.planning_and_control("Count.", model="openai:m", inputs=inputs).wait(60)
        assert run.status == "completed", run.error
        told = [text for request in server.requests for text in tool_results(request.json)]
        assert any("as it was" in text for text in told)
        assert not any("journal.jsonl" in text for text in told)
    (run.work_dir / "input" / "note.txt").write_text("another")
    replay = run.replay()
    assert replay.same, replay.differences
    calls = workspace.run(replay.run_id).events().query("event_type == 'tool_call'")
    assert len(calls) == 2 * 2 + 2  # two in each round of planning, and the engineer's
    assert set(calls.event_subtype) == {"replayed"}


def test_a_failed_run_that_was_resumed_is_replayed_to_its_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To go on was a person's decision as well: the attempts that it gave are made again."""
    bad = code("raise ValueError('no')", "print.py")
    team = Team(steps={"Print": [bad, bad, bad, code("print(1)", "print.py")]})
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Print one.", model="openai:m", plan=plan({"title": "Print"}))
        assert run.wait(60).status == "failed"
        assert run.resume().wait(60).status == "completed", run.error
    monkeypatch.setenv("CMBAGENT_BASE_URL", "http://127.0.0.1:9/v1")
    replay = run.replay()
    assert replay.same, replay.differences
