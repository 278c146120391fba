"""deep_research: each step knows of all that was done before it, in a budget, at no more calls than it needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from cmbagent_nb.run import Run
from cmbagent_nb.workflow.condense import tokens
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Status, text_of
from tests.team import APPROVED, Team, code, plan

Serve = Callable[[Any], AbstractContextManager[OpenAIServer]]

REPORT = {"title": "End", "markdown": "# End\n\nThe width is {{ data/first.json#width | .1f }}."}
SUMMARY = "## First\n- The width is 1.5 (data/first.json).\n"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Start a model server with a handler, and make it the one that is used."""

    @contextmanager
    def start(handler: Any) -> Iterator[OpenAIServer]:
        with OpenAIServer(handler) as server:
            monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
            monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
            yield server

    return start


def writes(name: str, value: float, talk: int = 0) -> dict[str, Any]:
    """Code that writes a number into a file and says much or little of it."""
    return code(
        f"import json\njson.dump({{'width': {value}, 'ok': True}}, open('data/{name}.json', 'w'))\n"
        f"print('the width of {name} is {value}')\nprint('and so on and on. ' * {talk})\n",
        f"{name}.py",
    )


def team(talk: int = 0, **answers: Any) -> Team:
    """First, then Second and Third, which do not need it, then a report that needs Third only."""
    steps = plan(
        {"title": "First"},
        {"title": "Second", "depends_on": [1]},
        {"title": "Third", "depends_on": [2]},
        {"title": "Report", "agent": "researcher", "depends_on": [3]},
    )
    done = {"First": writes("first", 1.5, talk), "Second": writes("second", 2.25, talk), "Third": writes("third", 3.0)}
    return Team(plan=steps, review=APPROVED, report=REPORT, steps=done, **answers)


def prompts(server: OpenAIServer, title: str) -> list[str]:
    """What was asked for a step."""
    texts = ["\n".join(text_of(item) for item in request.json["messages"]) for request in server.requests]
    return [text for text in texts if f"# Your step: {title}" in text]


def told(run: Run, number: int) -> dict[str, Any]:
    """The file that says what a step was told."""
    found: dict[str, Any] = json.loads((run.work_dir / f"context/context_step_{number}.json").read_text())
    return found


def test_steps_know_of_all_before_them_at_no_further_call(workspace: Workspace, serve: Serve) -> None:
    independent = plan({"title": "First"}, {"title": "Second", "depends_on": [1]}, {"title": "Third"})
    steps = {"First": writes("first", 1.5), "Second": writes("second", 2.25), "Third": writes("third", 3.0)}
    with serve(Team(plan=independent, review=APPROVED, steps=steps)) as server:
        run = workspace.start("Measure widths.", mode="deep").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 5  # 2 + n, as without context
    assert run.mode == "deep_research"
    assert "the width of first is 1.5" in prompts(server, "Second")[0]
    files = run.files()
    assert sorted(files[files.file_type == "context"].file_path) == [
        f"context/context_step_{number}.json" for number in (1, 2, 3)
    ]
    assert told(run, 1)["steps"] == []
    assert told(run, 2)["as_they_are"] == told(run, 2)["steps"]
    assert told(run, 2)["summarized_by"] == ""


def test_a_step_is_told_of_and_given_the_files_of_steps_that_it_does_not_depend_on(
    workspace: Workspace, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMBAGENT_PARALLEL_STEPS", "1")
    steps = plan({"title": "First"}, {"title": "Second"}, {"title": "Third", "depends_on": [2]})
    reads = code("import json\nprint(json.load(open('data/first.json'))['width'])\n", "third.py")
    done = {"First": writes("first", 1.5), "Second": writes("second", 2.25), "Third": reads}
    with serve(Team(plan=steps, review=APPROVED, steps=done)) as server:
        run = workspace.deep_research("Measure widths.").wait(60)
        assert run.status == "completed", run.error
        assert "the width of first is 1.5" in prompts(server, "Third")[0]
    assert run.result.text == "1.5"
    assert told(run, 3)["steps"] == ["step_1", "step_2"]


def test_what_does_not_fit_is_summarized_by_one_call_and_what_it_lacks_is_added(
    workspace: Workspace, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMBAGENT_CONTEXT_TOKENS", "500")
    monkeypatch.setenv("CMBAGENT_CONTEXT_KEEP", "1")
    with serve(team(talk=200, text=SUMMARY)) as server:
        run = workspace.deep_research("Measure widths.", approve="plan", gates="approve").wait(60)
        assert run.status == "completed", run.error
        asked = [request for request in server.requests if request.schema is None]
        assert len(asked) == len({json.dumps(request.json["messages"]) for request in asked})  # none twice
    titles = ["First", "Second", "Third", "Report"]
    for number in (2, 3, 4):
        found = told(run, number)
        assert found["tokens"] == tokens(found["text"]) <= 500
        assert "Approve the plan? approved by" in found["text"]
        assert "data/first.json" in found["text"]
        assert "1.5" in found["text"]
        assert found["text"] in prompts(server, titles[number - 1])[0]
    last = told(run, 4)
    assert last["summarized_by"] == "summarizer"
    assert last["text"].startswith("## First")
    assert "second: width = 2.25" in last["text"]  # the summary had left it out
    assert last["as_they_are"] == ["step_3"]
    nodes = run.nodes()
    assert "step_4.summarizer" in nodes.node_id.tolist()
    assert "summarizer" in run.events().query("event_type == 'agent_call'").agent_name.tolist()


def test_steps_that_begin_together_share_a_summary(
    workspace: Workspace, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMBAGENT_CONTEXT_TOKENS", "300")
    monkeypatch.setenv("CMBAGENT_CONTEXT_KEEP", "0")
    steps = plan(
        {"title": "First"},
        *({"title": title, "depends_on": [1]} for title in ("Second", "Third", "Fourth")),
    )
    done = {title: writes(title.lower(), 2.0) for title in ("Second", "Third", "Fourth")}
    scripted = Team(plan=steps, review=APPROVED, steps={**done, "First": writes("first", 1.5, 200)}, text=SUMMARY)
    with serve(scripted) as server:
        run = workspace.deep_research("Measure widths.").wait(60)
        assert run.status == "completed", run.error
        assert server.count == 2 + 4 + 1
    assert len({told(run, number)["text"] for number in (2, 3, 4)}) == 1


@pytest.mark.parametrize("reply", ["much too long " * 500, "", Status(400)])
def test_a_summary_of_no_use_is_replaced_by_an_extract(
    workspace: Workspace, serve: Serve, monkeypatch: pytest.MonkeyPatch, reply: Any
) -> None:
    monkeypatch.setenv("CMBAGENT_CONTEXT_TOKENS", "300")
    monkeypatch.setenv("CMBAGENT_CONTEXT_KEEP", "1")
    with serve(team(talk=200, text=reply)):
        run = workspace.deep_research("Measure widths.").wait(60)
        assert run.status == "completed", run.error
    last = told(run, 4)
    assert last["summarized_by"] == "extract"
    for fact in ("first: width = 1.5", "second: width = 2.25", "the width of third is 3.0"):
        assert fact in last["text"]


def test_a_later_attempt_and_a_resumed_step_are_told_the_same(
    workspace: Workspace, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMBAGENT_CONTEXT_TOKENS", "300")
    monkeypatch.setenv("CMBAGENT_CONTEXT_KEEP", "0")
    scripted = team(talk=200, text=SUMMARY)
    scripted.steps["Third"] = [code("raise ValueError('no')", "third.py")] * 2 + [writes("third", 3.0)]
    with serve(scripted) as server:
        run = workspace.deep_research("Measure widths.", max_attempts=2).wait(60)
        assert run.status == "failed"
        summaries = scripted.asked["text"]
        again = workspace.resume(run.id).wait(60)
        assert again.status == "completed", again.error
        asked = prompts(server, "Third")
        carried = {text.split("# What earlier steps left")[1].split("# Attempt")[0] for text in asked}
        assert len(asked) == 3
        assert len({text.strip() for text in carried}) == 1
    assert scripted.asked["text"] == summaries + 1  # for the report only: what it is told is longer
    files = again.files()
    assert (files.file_path == "context/context_step_3.json").sum() == 1
    assert (again.work_dir / "context/context_step_3.json").is_file()


def test_what_a_step_was_told_is_kept_when_a_later_attempt_succeeds(workspace: Workspace, serve: Serve) -> None:
    scripted = team(talk=200, text=SUMMARY)
    scripted.steps["Third"] = [code("raise ValueError('no')", "third.py"), writes("third", 3.0)]
    with serve(scripted):
        run = workspace.deep_research("Measure widths.", max_attempts=2).wait(60)
    assert run.status == "completed", run.error
    assert (run.files().file_path == "context/context_step_3.json").sum() == 1
    assert (run.work_dir / "context/context_step_3.json").is_file()


def test_without_a_model_an_extract_is_made(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from cmbagent_nb.datasets import planck2018_tt
    from cmbagent_nb.llm.playbook import Playbook

    monkeypatch.setenv("CMBAGENT_CONTEXT_TOKENS", "700")
    monkeypatch.setenv("CMBAGENT_CONTEXT_KEEP", "1")
    task = Playbook.load("planck-desi").task
    run = workspace.deep_research(task, model="playbook:planck-desi", inputs={"df": planck2018_tt()}).wait(120)
    assert run.status == "completed", run.error
    last = told(run, len(run.steps()))
    assert last["summarized_by"] == "extract"
    assert last["tokens"] <= 700
    chi2 = json.loads((run.work_dir / "data/planck_tt.json").read_text())["chi2"]
    assert f"planck_tt: chi2 = {chi2}, bins = 215" in last["text"]
    for path in run.files().query("node_id == 'step_1' and file_type == 'data'").file_path:
        assert path in last["text"]
