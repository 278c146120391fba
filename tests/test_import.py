"""Importing a CMBAgent work dir: both of its layouts, whatever is missing or broken."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import InputError, StateError
from cmbagent_nb.verbs import execute
from cmbagent_nb.workflow.history import rows_of_journal
from cmbagent_nb.workspace import Workspace

TASK = "Fit the supernovae and plot the Hubble diagram."
STAMP = "20260126_101500"
ENDED = time.mktime(time.strptime(STAMP, "%Y%m%d_%H%M%S"))


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def cost(agent: str, usd: Any, prompt: int, completion: int, model: str = "gpt-4.1-2025-04-14") -> dict[str, Any]:
    tokens = {"Prompt Tokens": prompt, "Completion Tokens": completion, "Total Tokens": prompt + completion}
    return {"Agent": agent, "Cost ($)": usd, **tokens, "Model": model}


TOTAL = {**cost("Total", 99.0, 9, 9), "Model": ""}


@pytest.fixture
def one_shot(tmp_path: Path) -> Path:
    """What a one_shot leaves."""
    folder = tmp_path / "one shot"
    history = [
        {"content": TASK, "role": "user", "name": "admin"},
        {"content": None, "role": "assistant", "name": "engineer", "tool_calls": [{"id": "1"}]},
        {"content": [{"type": "text", "text": "part"}], "role": "assistant", "name": "engineer"},
        {"content": "chi2 = 12.5", "role": "user", "name": "executor"},
    ]
    put(folder / "chats/chat_history.json", history)
    put(
        folder / f"cost/cost_report_{STAMP}.json",
        [cost("engineer", 0.02, 100, 50), cost("executor", "$0.005", 10, 5), TOTAL],
    )
    put(
        folder / f"time/timing_report_{STAMP}.json",
        {"initialization_time": 1.5, "execution_time": 40.0, "total_time": 41.5},
    )
    put(folder / "codebase/fit.py", "print(1)")
    put(folder / "data/fit.csv", "a\n1\n")
    put(folder / "data/hubble.png", "not really")
    return folder


@pytest.fixture
def deep_research(tmp_path: Path) -> Path:
    """What a deep_research leaves."""
    folder = tmp_path / "deep"
    plan = [
        {"sub_task": f"Do part {part}.\nWith care.", "sub_task_agent": agent, "bullet_points": ["b"]}
        for part, agent in ((1, "engineer"), (2, "camb_context"), (3, "researcher"))
    ]
    put(folder / "planning/final_plan.json", {"sub_tasks": plan})
    put(folder / "planning/chats/chat_history.json", [{"content": TASK, "role": "user", "name": "admin"}])
    put(folder / f"planning/cost/cost_report_{STAMP}.json", [cost("planner", 0.01, 10, 10, "o3-mini-2025-01-31")])
    put(folder / f"planning/time/timing_report_{STAMP}.json", {"total_time": 10.0})
    for step in (1, 2, 10):
        put(folder / f"control/chats/chat_history_step_{step}.json", [{"content": f"step {step}", "name": "engineer"}])
        put(folder / f"control/cost/cost_report_step_{step}_{STAMP}.json", [cost("engineer", 0.1, 10, 10), TOTAL])
        put(folder / f"control/time/timing_report_step_{step}_{STAMP}.json", {"execution_time": 20.0})
    put(folder / "control/data/result.json", {"h0": 70.1})
    put(folder / "control/codebase/step.py", "print(2)")
    put(folder / "context/context_step_1.pkl", "cos\nsystem\n(S'exit 1'\ntR.")
    put(folder / "report.md", "# The end\n")
    return folder


def test_a_one_shot(workspace: Workspace, one_shot: Path) -> None:
    run = workspace.admin.import_dir(one_shot)
    assert (run.status, run.mode, run.model, run.model_source) == (
        "completed", "one_shot", "gpt-4.1-2025-04-14", "imported",
    )  # fmt: skip
    assert run.task == TASK
    assert run.cost_usd == pytest.approx(0.025)
    costs = run.costs()
    assert costs.agent_name.tolist() == ["engineer", "executor"]
    assert costs.provider.tolist() == ["openai", "openai"]
    assert costs.total_tokens.sum() == 165
    messages = run.messages()
    assert messages.sender.tolist() == ["admin", "engineer", "engineer", "executor"]
    assert messages.content.tolist()[1:3] == ["", '[{"type": "text", "text": "part"}]']
    assert messages.tool_calls[1] == [{"id": "1"}]
    assert set(messages.node_id) == {"step_1"}
    row = workspace._core.db.rows("SELECT started_at, ended_at FROM workflow_runs")[0]
    assert row["ended_at"] - row["started_at"] == 41.5
    assert row["ended_at"] == pytest.approx(max(ENDED, *(path.stat().st_mtime for path in one_shot.glob("chats/*"))))
    files = run.files().set_index("file_path")
    assert files.file_type.to_dict() == {
        "chats/chat_history.json": "chat",
        f"cost/cost_report_{STAMP}.json": "log",
        f"time/timing_report_{STAMP}.json": "log",
        "codebase/fit.py": "code",
        "data/fit.csv": "data",
        "data/hubble.png": "plot",
    }
    assert run.work_dir == workspace.home / "runs" / run.name
    assert (run.work_dir / "data/fit.csv").read_text() == "a\n1\n"
    assert run.result.text == "chi2 = 12.5"
    assert run.snapshot().finished
    assert [link["kind"] for link in run.lineage("data/fit.csv")] == ["file", "file_gen", "task"]


def test_a_deep_research(workspace: Workspace, deep_research: Path) -> None:
    run = workspace.admin.import_dir(deep_research, name="deep")
    assert (run.name, run.mode, run.task) == ("deep", "deep_research", TASK)
    steps = run.steps()
    assert steps.agent.tolist() == ["engineer", "camb_context", "researcher"]
    assert steps.title.tolist() == ["Do part 1.", "Do part 2.", "Do part 3."]
    assert steps.depends_on.tolist() == [[], ["step_1"], ["step_2"]]
    assert run.nodes().node_id.tolist() == ["planning", "step_1", "step_2", "step_3", "terminator"]
    messages = run.messages()
    assert messages.content.tolist() == [TASK, "step 1", "step 2", "step 10"]
    assert messages.node_id.tolist()[:3] == ["planning", "step_1", "step_2"]
    assert messages.node_id.isna().tolist() == [False, False, False, True]  # the plan has no step 10
    assert run.cost_usd == pytest.approx(0.31)
    assert run.costs().node_id.tolist()[:3] == ["planning", "step_1", "step_2"]
    files = run.files().set_index("file_path")
    assert files.loc["control/data/result.json", "file_type"] == "data"
    assert files.loc["context/context_step_1.pkl", "file_type"] == "context"
    assert run.result.report == "report.md"
    assert run.result.text == "# The end\n"
    row = workspace._core.db.rows("SELECT started_at, ended_at FROM workflow_runs")[0]
    assert row["ended_at"] - row["started_at"] == 70.0


def test_a_second_time_is_refused_unless_it_is_meant(workspace: Workspace, one_shot: Path) -> None:
    first = workspace.admin.import_dir(one_shot)
    with pytest.raises(StateError, match=f"imported as the run {first.name}"):
        workspace.admin.import_dir(one_shot)
    copy = one_shot.with_name("copy")
    shutil.copytree(one_shot, copy)
    with pytest.raises(StateError, match="--again"):
        workspace.admin.import_dir(copy)
    assert workspace.admin.import_dir(copy, again=True).name == f"{first.name}-2"
    assert len(workspace.runs()) == 2


def test_broken_parts_are_named_and_the_rest_is_taken(workspace: Workspace, deep_research: Path) -> None:
    put(deep_research / "planning/final_plan.json", "{ torn")
    put(
        deep_research / "control/chats/chat_history_step_1.json",
        {"chat_history": [{"content": "kept", "name": "a"}, 3]},
    )
    put(deep_research / "control/chats/chat_history_step_2.json", "3")
    put(
        deep_research / f"control/cost/cost_report_step_1_{STAMP}.json",
        {"Agent": ["x", "Total"], "Cost ($)": [None, 1]},
    )
    put(deep_research / f"control/cost/cost_report_step_2_{STAMP}.json", {"Agent": {"0": "y"}, "Cost ($)": {"0": -1}})
    put(deep_research / f"control/time/timing_report_step_1_{STAMP}.json", [])
    (deep_research / "control/data/leak.txt").symlink_to("/etc/passwd")
    output = execute(workspace, f"import '{deep_research}' --json")
    skipped = "\n".join(output.data["skipped"])
    assert "final_plan.json: it cannot be read" in skipped
    assert "chat_history_step_2.json: it holds no list" in skipped
    run = workspace.run(output.data["run_id"])
    assert run.plan is None
    assert "kept" in run.messages().content.tolist()
    assert run.costs().agent_name.tolist() == ["planner", "x", "y", "engineer"]
    assert run.cost_usd is None  # two are not known
    assert not (run.work_dir / "control/data/leak.txt").exists()


def test_what_is_no_work_dir_is_refused(workspace: Workspace, tmp_path: Path, one_shot: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "missing", "no folder"), (tmp_path / "empty", "no work dir of CMBAgent")):
        with pytest.raises(InputError, match=message):
            workspace.admin.import_dir(folder)
    run = workspace.admin.import_dir(one_shot)
    with pytest.raises(InputError, match="run of cmbagent_nb"):
        workspace.admin.import_dir(run.work_dir)
    assert len(workspace.runs()) == 1


def test_an_imported_run_is_in_its_journal_too(workspace: Workspace, deep_research: Path) -> None:
    run = workspace.admin.import_dir(deep_research)
    rows = rows_of_journal(run.work_dir / "journal.jsonl")
    assert rows["workflow_runs"][0]["name"] == run.name
    assert len(rows["workflow_steps"]) == 3
    assert len(rows["files"]) == len(run.files())


def test_the_verb(workspace: Workspace, one_shot: Path) -> None:
    text = execute(workspace, ["import", str(one_shot), "--name", "old", "--task", "Another task"]).text
    assert "old: completed" in text
    assert "1 step, 4 messages, 2 costs, 6 files" in text
    assert workspace.run("old").task == "Another task"
