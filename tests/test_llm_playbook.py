"""Playbooks: recorded replies by agent, node, attempt and ordinal, and a plain word where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent

from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.errors import ModelError, PlaybookMiss, UnknownModel
from cmbagent_nb.llm.playbook import Playbook, find_for_task, normalised, playbooks
from tests.openai_server import OpenAIServer
from tests.recorded_run import in_loop, recorded_run

YAML = """
name: small
title: A small one
task: |
  Count the   galaxies.
mode: one_shot
note: Written for a test.
replies:
  - {agent: planner, node: planning, ordinal: 2, reply: second}
  - {agent: engineer, node: step_1, tool: look, arguments: {column: z}}
  - {agent: engineer, node: step_1, ordinal: 2, reply: {filename: a.py}, code: a.py}
  - {agent: engineer, node: step_1, attempt: 2, calls: [{tool: look, arguments: {column: a}}, {tool: look}]}
  - {agent: executor, node: step_1, reply: {achieved: true}}
  - {agent: researcher, node: step_2, reply: {title: T}, markdown: report.md}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "small"
    place.mkdir()
    (place / "playbook.yaml").write_text(YAML)
    (place / "a.py").write_text("print('ä')\n")
    (place / "report.md").write_text("# T\n")
    return place


def test_replies_are_found_by_agent_node_attempt_and_ordinal(folder: Path) -> None:
    """Attempt and ordinal are 1 unless given; code and reports come from the files beside."""
    book = Playbook.load(str(folder))
    assert book.find("planner", "planning", 1, 2).text == "second"
    assert book.find("engineer", "step_1", 1, 1).calls == (("look", {"column": "z"}),)
    code = book.find("engineer", "step_1", 1, 2).text
    assert json.loads(str(code)) == {"filename": "a.py", "python_code": "print('ä')\n"}
    assert len(book.find("engineer", "step_1", 2, 1).calls) == 2
    assert json.loads(str(book.find("researcher", "step_2", 1, 1).text)) == {"title": "T", "markdown": "# T\n"}
    assert book.find("executor", "step_1.executor", 1, 1) is book.find("executor", "step_1", 1, 1)
    assert not book.can_react


def test_a_missing_reply_says_what_a_playbook_cannot_do(folder: Path) -> None:
    """One line, with how to set a model; an earlier reply means that somebody asked for changes."""
    book = Playbook.load(str(folder))
    with pytest.raises(PlaybookMiss, match="cannot react to comments") as changed:
        book.find("planner", "planning", 1, 3)
    assert "--model provider:name" in str(changed.value)
    assert changed.value.ordinal == 3
    with pytest.raises(PlaybookMiss, match="recorded replies of its own task"):
        book.find("engineer", "step_7", 1, 1)


def test_an_agent_uses_real_tools_by_a_playbook_and_leaves_the_same_record(folder: Path, tmp_path: Path) -> None:
    """No HTTP call is made, nothing is spent, and each event says where its words came from."""
    seen: list[str] = []

    async def look(column: str) -> str:
        """Look into a column."""
        seen.append(column)
        return "fine"

    with OpenAIServer(lambda request: "a model") as server, recorded_run(tmp_path / "home") as run:
        gateway = run.gateway(server.url, f"playbook:{folder}")

        async def work() -> Any:
            with run.recorder.located_at("step_1", agent="engineer"):
                config = gateway.config("openai:gpt-5")
                return await Agent("engineer", config=config, tools=[look], middleware=[Capture]).ask("go")

        assert json.loads(in_loop(work()).body)["filename"] == "a.py"
        assert (seen, server.count) == (["z"], 0)
        kinds = [event["event_type"] for event in run.events()]
        assert kinds == ["agent_call", "model_call", "tool_call", "model_call"]
        assert {event["meta"]["source"] for event in run.events("model_call")} == {"playbook"}
        assert [row["cost_usd"] for row in run.rows("cost_records")] == [0.0, 0.0]
        assert (gateway.calls, gateway.tokens, gateway.cost_usd, gateway.source) == (2, 0, 0.0, "playbook")
        assert run.rows("messages")[-1]["code_generated"] == "print('ä')\n"


def test_a_miss_is_a_failed_call_and_not_tried_again(folder: Path, tmp_path: Path) -> None:
    """The error reaches the caller as it is."""
    with recorded_run(tmp_path / "home") as run:
        gateway = run.gateway(model=f"playbook:{folder}")

        async def work() -> None:
            with run.recorder.located_at("step_9"):
                await Agent("engineer", config=gateway.config()).ask("go")

        with pytest.raises(PlaybookMiss):
            in_loop(work())
        (call,) = run.events("model_call")
        assert (call["status"], gateway.failed_calls) == ("failed", 1)


def test_a_playbook_is_found_only_for_its_own_task() -> None:
    """White space and case do not matter; any other word does."""
    for item in playbooks():
        assert find_for_task(f"  {item.task.upper()}\n") == item.name
        assert find_for_task(item.task + " again") is None
        assert normalised(item.task)
    assert find_for_task("") is None
    assert playbooks(), "the package ships playbooks"


def test_a_name_that_is_not_there_is_told_with_a_near_one() -> None:
    """A typing mistake is answered with the name that was meant."""
    name = playbooks()[0].name
    with pytest.raises(UnknownModel, match=f"Did you mean playbook:{name}"):
        Playbook.load(name[:-1])
    with pytest.raises(UnknownModel, match="no playbook 'zzzz'"):
        Playbook.load("zzzz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("replies: [", "cannot be read"),
        ("name: x", "list of replies"),
        ("name: x\nrepplies: []\nreplies: []", "unknown field 'repplies'"),
        ("name: x\nreplies: [{agent: a}]", "reply 1 does not name its agent and node"),
        ("name: x\nreplies: [{agent: a, node: b, ordnal: 2, reply: x}]", "unknown field 'ordnal'"),
        ("name: x\nreplies: [{agent: a, node: b}]", "neither a reply nor a tool"),
        ("name: x\nreplies: [{agent: a, node: b, reply: {}, code: ../../x.py}]", "outside of the playbook's folder"),
        ("name: x\nreplies: [{agent: a, node: b, reply: {}, code: gone.py}]", "'gone.py', which cannot be read"),
        ("name: x\nreplies: [{agent: a, node: b, reply: 1}, {agent: a, node: b, reply: 2}]", "recorded twice"),
    ],
)
def test_a_broken_playbook_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    """The file and what is wrong with it."""
    (tmp_path / "playbook.yaml").write_text(text)
    with pytest.raises(ModelError) as raised:
        Playbook.load(str(tmp_path))
    assert words in str(raised.value)
    assert str(tmp_path) in str(raised.value)
