"""The record of a whole run over HTTP is complete and exact: nothing is missing, nothing is there twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.store.journal import read_journal
from cmbagent_nb.workflow.history import rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Reply, schema_name, text_of, tool_results
from tests.team import APPROVED, code, plan

PLAN = plan(
    {"title": "Left", "expected_outputs": ["data/left.json"]},
    {"title": "Right", "expected_outputs": ["data/right.json"]},
    {"title": "Both", "agent": "researcher", "depends_on": [1, 2]},
)
REPORT = {"title": "Both", "markdown": "Left {{ data/left.json#n }}, right {{ data/right.json#n }}."}
COUNTER = "open({counter!r}, 'a').write('x')\n"


def handler(counter: Path) -> Any:
    """Two parallel steps: one fails first and uses a tool, the other asks a colleague who uses a tool."""
    count = COUNTER.format(counter=str(counter))

    def answer(request: dict[str, Any]) -> Any:
        schema = schema_name(request)
        users = "\n".join(text_of(item) for item in request["messages"] if item["role"] == "user")
        results = tool_results(request)
        if schema == "Plan":
            return PLAN
        if schema == "Review":
            return APPROVED
        if schema == "Report":
            return REPORT
        if schema is None:  # the colleague
            return "Write n." if results else Reply(tool_calls=[("list_packages", {"prefix": "numpy"})])
        if "# Your step: Left" in users:
            if "failed" not in users:
                return code(count + "import json\njson.loads('{')\n", "left.py")
            if not results:
                return Reply(tool_calls=[("search_files", {"pattern": "*"})])
            return code(count + "open('data/left.json', 'w').write('{\"n\": 1}')\n", "left.py")
        if not results:
            return Reply(tool_calls=[("ask_researcher", {"objective": "What shall I write?"})])
        return code(count + "open('data/right.json', 'w').write('{\"n\": 2}')\n", "right.py")

    return answer


@pytest.fixture
def run(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    agents = workspace.home / "agents"
    agents.mkdir(parents=True)
    (agents / "engineer.yaml").write_text(
        "name: engineer\nrole: primary\ndescription: Writes code.\nplannable: true\nreply: code\n"
        "tools: [search_files, 'agent:researcher']\ninstructions: Write code.\n"
    )
    (agents / "researcher.yaml").write_text(
        "name: researcher\nrole: helper\ndescription: Knows.\nplannable: true\nreply: report\n"
        "tools: [list_packages]\ninstructions: Know.\n"
    )
    with OpenAIServer(handler(tmp_path / "executions")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Count to both sides.", model="openai:test-model").wait(60)
        run.server_calls = server.count
    run.executions = len((tmp_path / "executions").read_text())
    assert run.status == "completed", run.error
    return run


def test_every_call_is_one_event(run: Any) -> None:
    events = run.events()
    kinds = events.event_type.value_counts()
    assert kinds["model_call"] == run.server_calls == 10
    assert kinds["code_exec"] == run.executions == 3
    assert kinds["tool_call"] == 3
    assert kinds["retry"] == 2
    assert events.id.is_unique
    assert len(run._host.db.rows("SELECT 1 FROM model_replies WHERE run_id = :id", id=run.id)) == run.server_calls
    assert len(run.costs()) == run.server_calls
    assert kinds["file_gen"] == len(run.files())


def test_every_parent_is_right(run: Any) -> None:
    events = run.events().set_index("id")
    parents = {
        "model_call": {"agent_call"},
        "tool_call": {"agent_call"},
        "code_exec": {"agent_call"},
        "file_gen": {"code_exec", "agent_call"},
    }
    for event in events.itertuples():
        if event.event_type in parents:
            parent = events.loc[event.parent_event_id]
            assert parent.event_type in parents[event.event_type]
            assert parent.execution_order < event.execution_order
            assert parent.depth == event.depth - 1
            if event.event_type in ("model_call", "tool_call"):
                assert (parent.node_id, parent.attempt) == (event.node_id, event.attempt)
    # The colleague's turn stands under the call of the tool that asked for it.
    nested = events[(events.event_type == "agent_call") & (events.node_id == "step_2.researcher")]
    assert len(nested) == 1
    tool = events.loc[nested.iloc[0].parent_event_id]
    assert (tool.event_type, tool.node_id) == ("tool_call", "step_2")
    inner = events[events.parent_event_id == nested.index[0]]
    assert sorted(inner.event_type) == ["model_call", "model_call", "tool_call"]


def test_the_order_is_total_and_nothing_lacks_its_place(run: Any) -> None:
    events = run.events()
    assert events.execution_order.tolist() == list(range(1, len(events) + 1))
    assert set(events.run_id) == {run.id}
    nodes = set(run.nodes().node_id)
    assert set(events.node_id) <= nodes
    assert "step_2.researcher" in nodes
    assert set(run.messages().node_id) <= nodes
    assert not events.started_at.isna().any()
    assert not events.ended_at.isna().any()
    assert set(events.status) == {"completed", "failed"}
    handoffs = events[events.event_type == "handoff"]
    assert {(item["from"], item["to"]) for item in handoffs.inputs} >= {
        ("planner", "plan_reviewer"),
        ("engineer", "executor"),
        ("executor", "engineer"),
    }


def test_there_is_one_row_for_the_session_and_one_for_the_run(run: Any, workspace: Workspace) -> None:
    for table in ("sessions", "workflow_runs"):
        assert workspace._core.db.rows(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"] == 1
    assert len(workspace.runs()) == 1


def test_each_file_is_credited_to_its_step_and_attempt(run: Any) -> None:
    files = run.files().set_index("file_path")
    assert files.loc["data/left.json"].node_id == "step_1"
    assert files.loc["data/right.json"].node_id == "step_2"
    assert files.loc["steps/step_1/attempt_1/codebase/left.py"].priority == "internal"
    assert files.loc["codebase/left.py"].created_by_agent == "engineer"
    for path, file in files.iterrows():
        assert (run.work_dir / str(path)).stat().st_size == file.size_bytes


def test_nodes_know_what_happened_in_them(run: Any) -> None:
    row = run._host.db.rows("SELECT meta FROM dag_nodes WHERE run_id = :id AND node_id = 'step_1'", id=run.id)[0]
    summary = json.loads(row["meta"])["execution_summary"]
    text = json.dumps(summary)
    for word in ("model_call", "tool_call", "engineer", "retry"):
        assert word in text
    assert {"attempts", "n_files"} & set(run.nodes().columns)


def test_journal_and_database_tell_the_same(run: Any) -> None:
    path = run.work_dir / "journal.jsonl"
    of_database = state_of(rows_of_database(run._host.db, run.id))
    of_journal = state_of(rows_of_journal(path))
    assert of_journal.differences(of_database) == []
    assert len(of_journal.replies) == run.server_calls
    assert of_journal.attempts == {
        ("step_1", 1): "failed",
        ("step_1", 2): "completed",
        ("step_2", 1): "completed",
        ("step_3", 1): "completed",
    }
    entries = read_journal(path)
    kinds = [entry.kind for entry in entries if entry.kind != "rows"]  # images of rows come after what they tell of
    assert kinds[0] == "run"
    assert kinds[-1] == "checkpoint"


def test_a_replay_runs_a_colleague_again_but_no_tool(run: Any, workspace: Workspace) -> None:
    """The colleague's own replies are on the tape, and so is what its tool gave."""
    replay = run.replay()
    assert replay.same, replay.differences
    again = workspace.run(replay.run_id)
    tools = again.events().query("event_type == 'tool_call'")
    said = {item["tool"]: subtype for item, subtype in zip(tools.inputs, tools.event_subtype, strict=True)}
    assert said == {"search_files": "replayed", "list_packages": "replayed", "ask_researcher": "complete"}
    assert "step_2.researcher" in set(again.nodes().node_id)
