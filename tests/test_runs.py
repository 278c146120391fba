"""Runs over real HTTP: what they cost in calls, what they leave, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import RunFailed
from cmbagent_nb.workspace import Workspace
from tests.openai_server import CUT, OpenAIServer, Reply, Status, in_turn
from tests.team import APPROVED, CHANGES, Team, code, plan

SQUARE = """
import json
from pathlib import Path
Path("data/squares.json").write_text(json.dumps({"squares": [n * n for n in range(5)]}))
print("the largest square is 16")
"""

Serve = Callable[[Any], AbstractContextManager[OpenAIServer]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start a model server with a handler, and make it the one that ``openai:`` models use."""

    @contextmanager
    def start(handler: Any) -> Iterator[OpenAIServer]:
        with OpenAIServer(handler) as server:
            monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
            monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
            yield server

    return start


def four_steps(**more: Any) -> dict[str, Any]:
    """A plan of four steps: two that are independent, one that needs both, and a report."""
    return plan(
        {"title": "First", "expected_outputs": ["data/first.json"], **more},
        {"title": "Second", "expected_outputs": ["data/second.json"]},
        {"title": "Third", "depends_on": [1, "step_2"]},
        {"title": "Report", "agent": "researcher", "depends_on": [3]},
    )


def writes(name: str, value: float) -> dict[str, Any]:
    """An engineer's reply whose code writes a number into a file of its own and one of a common name."""
    return code(
        f"import json\nfor name in ('{name}', 'common'):\n"
        f"    json.dump({{'value': {value}}}, open(f'data/{{name}}.json', 'w'))\nprint('{name} is {value}')\n",
        f"{name}.py",
    )


ADD = code(
    "import json\n"
    "values = [json.load(open(f'data/{name}.json'))['value'] for name in ('first', 'second')]\n"
    "json.dump({'sum': sum(values)}, open('data/sum.json', 'w'))\n",
    "add.py",
)
REPORT = {"title": "Sum", "markdown": "# Sum\n\nThe sum is {{ data/sum.json#sum | .1f }}."}
TEAM = {"First": writes("first", 1.5), "Second": writes("second", 2.25), "Third": ADD}


def test_one_shot_that_works_costs_one_call(workspace: Workspace, serve: Serve) -> None:
    with serve(in_turn(code(SQUARE, "squares.py"))) as server:
        run = workspace.one_shot("Compute the squares of 0 to 4.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 1
    assert run.result.text == "the largest square is 16"
    assert json.loads((run.work_dir / "data/squares.json").read_text()) == {"squares": [0, 1, 4, 9, 16]}
    assert list(run.files().query("is_final_output").file_path) == ["data/squares.json"]
    assert run.cost_usd is None  # nobody knows what test-model costs: unknown, not zero


@pytest.mark.parametrize(("reviews", "calls"), [([CHANGES], 7), ([APPROVED], 6)])
def test_plan_of_four_steps_costs_as_promised(
    workspace: Workspace, serve: Serve, reviews: list[Any], calls: int
) -> None:
    team = Team(plan=four_steps(), review=reviews, report=REPORT, steps=TEAM)
    with serve(team) as server:
        run = workspace.planning_and_control("Add two numbers.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == calls
    assert run.result.report == "report.md"
    assert "The sum is [3.8](data/sum.json)." in run.result.text
    assert set(run.steps().status) == {"completed"}


def test_files_of_parallel_steps_are_credited_to_the_right_one(workspace: Workspace, serve: Serve) -> None:
    with serve(Team(plan=four_steps(), review=APPROVED, report=REPORT, steps=TEAM)):
        run = workspace.planning_and_control("Add two numbers.").wait(60)
    files = run.files()
    assert files[files.file_path == "data/first.json"].node_id.tolist() == ["step_1"]
    assert files[files.file_path == "data/second.json"].node_id.tolist() == ["step_2"]
    common = files[files.file_path == "data/common.json"].sort_values("version")
    assert sorted(common.node_id) == ["step_1", "step_2"]
    assert common.version.tolist() == [1, 2]
    assert common.iloc[1].parent_file_id == common.iloc[0].id
    for node_id, value in (("step_1", 1.5), ("step_2", 2.25)):
        made = json.loads((run.work_dir / f"steps/{node_id}/attempt_1/data/common.json").read_text())
        assert made == {"value": value}


def test_every_file_leads_back_to_the_task(workspace: Workspace, serve: Serve) -> None:
    with serve(Team(plan=four_steps(), review=APPROVED, report=REPORT, steps=TEAM)):
        run = workspace.planning_and_control("Add two numbers.").wait(60)
    for path in run.files().query("is_final_output").file_path:
        kinds = [link["kind"] for link in run.lineage(path)]
        assert kinds[0] == "file"
        assert kinds[-1] == "task"
        assert "model_call" in kinds
    chain = run.lineage("data/sum.json")
    assert "code_exec" in [link["kind"] for link in chain]


def test_a_failed_attempt_is_retried_with_its_error_code_and_output(workspace: Workspace, serve: Serve) -> None:
    broken = code("print('before')\ntable = {'rs': 1}\nprint(table['rd'])\n", "broken.py")

    def mended(request: dict[str, Any]) -> dict[str, Any]:
        prompt = request["messages"][-1]["content"]
        text = prompt if isinstance(prompt, str) else prompt[0]["text"]
        assert "KeyError: 'rd'" in text
        assert "print(table['rd'])" in text
        assert "before" in text
        return code(SQUARE, "squares.py")

    with serve(in_turn(broken, mended)) as server:
        run = workspace.one_shot("Compute the squares.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 2
    attempts = run.events().query("event_type == 'code_exec'")
    assert attempts.status.tolist() == ["failed", "completed"]
    assert attempts.attempt.tolist() == [1, 2]
    assert run.events().query("event_type == 'retry'").event_subtype.tolist() == ["scheduled", "succeeded"]
    assert run.steps().attempts.tolist() == [2]


def test_a_step_that_exhausts_its_attempts_fails_and_the_rest_stands(workspace: Workspace, serve: Serve) -> None:
    steps = {**TEAM, "First": code("import json\njson.loads('not json')\n", "first.py")}
    with serve(Team(plan=four_steps(), review=APPROVED, report=REPORT, steps=steps)):
        run = workspace.planning_and_control("Add two numbers.").wait(60)
    assert run.status == "failed"
    assert dict(zip(run.steps().node_id, run.steps().status, strict=True)) == {
        "step_1": "failed",
        "step_2": "completed",
        "step_3": "skipped",
        "step_4": "skipped",
    }
    assert "JSONDecodeError" in str(run.error)
    assert "after 3 attempts" in str(run.error)
    assert (run.work_dir / "data/second.json").exists()
    assert not (run.work_dir / "data/first.json").exists()
    with pytest.raises(RunFailed, match="step 1"):
        _ = run.result


def test_a_missing_output_costs_one_verdict(workspace: Workspace, serve: Serve) -> None:
    verdict = {"achieved": False, "reason": "the file is not there", "fix_suggestion": "Write data/first.json."}
    steps = {**TEAM, "First": [code("print('nothing written')", "first.py"), writes("first", 1.5)]}
    with serve(Team(plan=four_steps(), review=APPROVED, report=REPORT, verdict=verdict, steps=steps)) as server:
        run = workspace.planning_and_control("Add two numbers.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 6 + 2
    assert "step_1.executor" in set(run.nodes().node_id)


@pytest.mark.parametrize(
    "bad",
    [
        "This is no JSON.",
        {"goal": "no steps here"},
        plan({"title": "First", "agent": "astrologer"}),
        plan({"title": "First", "depends_on": [2]}, {"title": "Second", "depends_on": [1]}),
        plan({"title": "First", "depends_on": [7]}),
    ],
    ids=["not json", "missing field", "unknown agent", "cycle", "unknown dependency"],
)
def test_a_bad_plan_goes_back_to_the_planner(workspace: Workspace, serve: Serve, bad: Any) -> None:
    team = Team(plan=[bad, four_steps()], review=APPROVED, report=REPORT, steps=TEAM)
    with serve(team) as server:
        run = workspace.planning_and_control("Add two numbers.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 7


def test_a_planner_that_never_gives_a_plan_fails_the_run_with_the_reason(workspace: Workspace, serve: Serve) -> None:
    with serve(Team(plan="I would rather talk.")) as server:
        run = workspace.planning_and_control("Add two numbers.").wait(60)
        assert server.count == 3  # the first reply and two more
    assert run.status == "failed"
    assert "planner" in str(run.error)
    assert set(run.nodes().status) <= {"failed", "skipped"}


@pytest.mark.parametrize("trouble", [Status(429, retry_after=0.01), 500, CUT], ids=["429", "500", "cut"])
def test_a_call_that_fails_is_made_again(workspace: Workspace, serve: Serve, trouble: Any) -> None:
    with serve(in_turn(trouble, code(SQUARE))) as server:
        run = workspace.one_shot("Compute the squares.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 2
    assert run.events().query("event_type == 'model_call'").status.tolist() == ["failed", "completed"]


def test_a_server_that_only_fails_ends_the_run_in_one_line(workspace: Workspace, serve: Serve) -> None:
    with serve(lambda request: Status(500, retry_after=0.01)) as server:
        run = workspace.one_shot("Compute the squares.").wait(60)
        calls = server.count
    assert run.status == "failed"
    assert "500" in str(run.error)
    assert len(str(run.error).splitlines()) == 1
    assert len(run.events().query("event_type == 'model_call'")) == calls


def test_two_runs_at_once_keep_apart(workspace: Workspace, serve: Serve) -> None:
    def handler(request: dict[str, Any]) -> Any:
        name = "alpha" if "alpha" in json.dumps(request["messages"]) else "beta"
        return code(f"open('data/{name}.txt', 'w').write('{name}')\nprint('{name}')\n", f"{name}.py")

    with serve(handler):
        runs = [workspace.one_shot(f"Write {name}.") for name in ("alpha", "beta")]

        async def all_ended() -> None:
            await asyncio.gather(*runs)

        asyncio.run(all_ended())
    for run, name in zip(runs, ("alpha", "beta"), strict=True):
        assert run.result.text == name
        assert run.files().query("file_type == 'data'").file_path.tolist() == [f"data/{name}.txt"]
        assert name in run.messages().to_csv()
        assert {"alpha": "beta", "beta": "alpha"}[name] not in run.messages().to_csv()
        assert set(run.events().run_id) == {run.id}


def test_inputs_reach_the_code(workspace: Workspace, serve: Serve) -> None:
    pd = pytest.importorskip("pandas")
    script = "import pandas as pd\nprint(pd.read_parquet('input/df.parquet').x.sum())\n"
    with serve(in_turn(code(script))):
        run = workspace.one_shot("Add up x.", inputs={"df": pd.DataFrame({"x": [1, 2, 39]})}).wait(60)
    assert run.result.text == "42"
    reads = run.events().query("event_type == 'code_exec'").iloc[0].outputs["reads"]
    assert "input/df.parquet" in str(reads)


def test_reasoning_is_kept_with_the_message(workspace: Workspace, serve: Serve) -> None:
    reply = {**code(SQUARE), "reasoning": "Squares are products."}
    with serve(in_turn(Reply(reply))):
        run = workspace.one_shot("Compute the squares.").wait(60)
    assert "Squares are products." in set(run.messages().reasoning)


def test_work_dir_has_the_reports_that_cmbagent_writes(workspace: Workspace, serve: Serve, tmp_path: Path) -> None:
    with serve(Team(plan=four_steps(), review=APPROVED, report=REPORT, steps=TEAM)):
        run = workspace.planning_and_control("Add two numbers.", work_dir=tmp_path / "here").wait(60)
    assert run.work_dir == tmp_path / "here"
    final = json.loads((run.work_dir / "planning/final_plan.json").read_text())
    assert [task["sub_task_agent"] for task in final["sub_tasks"]] == ["engineer"] * 3 + ["researcher"]
    costs = json.loads(next((run.work_dir / "cost").glob("cost_report_*.json")).read_text())
    assert costs[-1]["Agent"] == "Total"
    assert costs[-1]["Prompt Tokens"] == 600
    timing = json.loads(next((run.work_dir / "time").glob("timing_report_*.json")).read_text())
    assert timing["total_time"] >= timing["execution_time"] > 0
    assert (run.work_dir / "chats/chat_history_step_1.json").exists()
    assert (run.work_dir / "journal.jsonl").exists()
