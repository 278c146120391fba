"""Asking agents over real HTTP: the form of replies, re-asks, tools, helpers, and agents of the user's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.agents.ask import Answer, ask
from cmbagent_nb.agents.registry import AgentSpec, Registry
from cmbagent_nb.agents.replies import Code, Review, plan_model
from cmbagent_nb.agents.tools import ToolBox
from cmbagent_nb.capture.recorder import Recorder
from cmbagent_nb.errors import ModelCallFailed, ReplyInvalid
from cmbagent_nb.llm.gateway import Gateway
from cmbagent_nb.llm.spec import ModelSpec
from cmbagent_nb.runtime import Runtime
from cmbagent_nb.settings import Settings
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from tests.openai_server import OpenAIServer, Reply, Status, in_turn, last_message, system_prompt, tool_results

CODE = {"filename": "a.py", "explanation": "e", "modification_summary": "", "python_code": "print(1)\n"}
RUN, SESSION = "run-1", "session-1"


@dataclass
class Bench:
    """A run's parts, without a workflow: what an agent is asked with."""

    db: Database
    writer: Writer
    recorder: Recorder
    registry: Registry
    folder: Path
    settings: Settings

    def ask(self, server: OpenAIServer, name: str, prompt: str = "Do it.", **options: Any) -> Answer[Any]:
        async def main() -> Answer[Any]:
            gateway = Gateway(
                ModelSpec.parse("openai:test-model"),
                settings=Settings(base_url=server.url),
                recorder=self.recorder,
                writer=self.writer,
                work_dir=self.folder,
            )
            with self.recorder.located_at("step_1", 1, name):
                return await ask(
                    self.registry[name],
                    prompt,
                    **{"reply": None, **options},
                    gateway=gateway,
                    recorder=self.recorder,
                    tools=ToolBox(self.folder),
                )

        return Runtime.get().submit(main()).result(60)

    def events(self) -> list[dict[str, Any]]:
        self.writer.barrier().result(20)
        return self.db.rows("SELECT * FROM execution_events ORDER BY execution_order")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key-0123456789abcdef")
    db = Database.open(tmp_path / "home")
    writer = Writer(db)
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "fit.json").write_text('{"chi2": 207.6}')
    writer.insert("sessions", {"id": SESSION, "name": "default", "status": "active", "created_at": 0.0})
    writer.insert(
        "workflow_runs",
        {"id": RUN, "session_id": SESSION, "name": "r", "mode": "one_shot", "status": "executing", "created_at": 0.0},
    )
    yield Bench(db, writer, Recorder(writer, RUN, SESSION), Registry.load(), folder, Settings())
    writer.close()
    db.close()
    assert writer.faults == 0


def test_a_good_reply_takes_one_call(bench: Bench) -> None:
    with OpenAIServer(in_turn({**CODE, "reasoning": "because"})) as server:
        answer = bench.ask(server, "engineer", reply=Code)
    assert server.count == 1 and answer.asks == 1
    assert (answer.value.python_code, answer.value.reasoning) == ("print(1)\n", "because")
    request = server.requests[0].json
    assert request["response_format"]["json_schema"]["name"] == "Code"
    assert request["response_format"]["json_schema"]["strict"] is True
    assert system_prompt(request) == bench.registry["engineer"].instructions
    assert {item["function"]["name"] for item in request["tools"]} == set(bench.registry["engineer"].tools)
    events = bench.events()
    assert [event["event_type"] for event in events] == ["agent_call", "model_call"]
    assert answer.event_id == events[0]["id"] == events[1]["parent_event_id"]
    assert answer.messages[0] == {"sender": "workflow", "recipient": "engineer", "content": "Do it."}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("I cannot do that.", "no JSON object"),
        ('{"filename": "a.py"}', "python_code: is missing"),
        ('{"filename": "a.py", "python_code": "x = 1', "not valid JSON"),
        ("", "empty"),
    ],
)
def test_a_bad_reply_is_given_back_with_the_reason(bench: Bench, bad: str, reason: str) -> None:
    with OpenAIServer(in_turn(bad, CODE)) as server:
        answer = bench.ask(server, "engineer", reply=Code)
    assert server.count == 2 and answer.asks == 2 and answer.value.filename == "a.py"
    second = server.requests[1].json
    assert reason in last_message(second)
    assert [item["role"] for item in second["messages"]][-3:] == ["user", "assistant", "user"], "one conversation"
    calls = [event for event in bench.events() if event["event_type"] == "agent_call"]
    assert len(calls) == 2 and answer.event_id == calls[1]["id"]


def test_after_three_bad_replies_it_is_over(bench: Bench) -> None:
    with OpenAIServer(in_turn("one", "two", "three")) as server, pytest.raises(ReplyInvalid) as caught:
        bench.ask(server, "engineer", reply=Code)
    assert server.count == 3
    assert caught.value.text == "three" and "no JSON object" in caught.value.reason
    assert len(caught.value.messages) == 6


def test_the_callers_check_counts_too(bench: Bench) -> None:
    def check(value: Code) -> str | None:
        return None if value.filename == "b.py" else "The file must be b.py."

    with OpenAIServer(in_turn(CODE, {**CODE, "filename": "b.py"})) as server:
        answer = bench.ask(server, "engineer", reply=Code, check=check)
    assert answer.value.filename == "b.py"
    assert "The file must be b.py." in last_message(server.requests[1].json)


def test_an_unknown_agent_in_a_plan_is_given_back(bench: Bench) -> None:
    step = {"title": "t", "agent": "wizard", "instructions": "i"}
    plans = [{"goal": "g", "steps": [{**step, "agent": name}]} for name in ("wizard", "engineer")]
    with OpenAIServer(in_turn(*plans)) as server:
        answer = bench.ask(server, "planner", reply=plan_model(bench.registry.plannable()))
    assert answer.value.steps[0].agent == "engineer"
    assert "'engineer' or 'researcher'" in last_message(server.requests[1].json)
    schema = server.requests[0].json["response_format"]["json_schema"]["schema"]
    assert schema["$defs"]["PlannedStep"]["properties"]["agent"]["enum"] == ["engineer", "researcher"]


def test_tools_are_called_and_recorded(bench: Bench) -> None:
    answers = (
        Reply(tool_calls=[("inspect_data", {"path": "data/fit.json"}), ("inspect_data", {"path": "../../x"})]),
        Reply(tool_calls=[("no_such_tool", {})]),
        {"approved": True},
    )
    with OpenAIServer(in_turn(*answers)) as server:
        answer = bench.ask(server, "plan_reviewer", reply=Review)
    assert answer.value.approved and server.count == 3
    results = tool_results(server.requests[1].json)
    assert "chi2: 207.6" in results[0] and "not in the working directory" in results[1]
    tools = [event for event in bench.events() if event["event_type"] == "tool_call"]
    assert [event["status"] for event in tools] == ["completed", "completed", "failed"]


def test_tools_without_end_are_ended(bench: Bench) -> None:
    endless = Reply(tool_calls=[("search_files", {"pattern": "*.zz"})])
    with OpenAIServer(lambda request: endless) as server, pytest.raises(ReplyInvalid, match="called tools 25 times"):
        bench.ask(server, "engineer", reply=Code)
    assert server.count == 25


def test_an_agent_can_be_another_ones_tool(bench: Bench) -> None:
    """The helper's turn is nested in the caller's, in a node of its own, and answers in plain text."""
    bench.registry.register(
        AgentSpec(name="boss", description="d", instructions="Lead.", tools=("agent:researcher",), reply="text")
    )

    def handler(request: dict[str, Any]) -> Any:
        if "Another agent asks you" in system_prompt(request):
            return "It is 42."
        return (
            f"Done: {tool_results(request)[0]}"
            if tool_results(request)
            else Reply(tool_calls=[("ask_researcher", {"objective": "What is it?"})])
        )

    with OpenAIServer(handler) as server:
        answer = bench.ask(server, "boss")
    assert answer.text == "Done: It is 42." and server.count == 3
    events = bench.events()
    nested = next(
        event for event in events if event["event_type"] == "agent_call" and event["agent_name"] == "researcher"
    )
    tool = next(event for event in events if event["event_type"] == "tool_call")
    assert nested["parent_event_id"] == tool["id"] and nested["node_id"] == "step_1.researcher"
    assert len([event for event in events if event["event_type"] == "model_call"]) == 3


@pytest.mark.parametrize("own_config", [True, False])
def test_an_agent_of_the_users_own_is_recorded_like_any_other(bench: Bench, own_config: bool) -> None:
    """Its prompt, tools and model are kept; its calls go through the gateway."""
    from ag2 import Agent, tool
    from ag2.config import OpenAIConfig

    @tool
    def measure(what: str) -> str:
        """Measure something."""
        return f"{what} is 7"

    def handler(request: dict[str, Any]) -> Any:
        results = tool_results(request)
        return f"I measured: {results[0]}" if results else Reply(tool_calls=[("measure", {"what": "it"})])

    with OpenAIServer(handler) as server:
        config = OpenAIConfig(model="own-model", api_key="x" * 20, base_url=server.url) if own_config else None
        bench.registry.register(Agent("gauge", "You measure.", config=config, tools=[measure]))
        answer = bench.ask(server, "gauge")
    assert answer.text == "I measured: it is 7"
    assert {request.json["model"] for request in server.requests} == {"own-model" if own_config else "test-model"}
    assert system_prompt(server.requests[0].json) == "You measure."
    kinds = [event["event_type"] for event in bench.events()]
    assert sorted(kinds) == ["agent_call", "model_call", "model_call", "tool_call"]


def test_a_form_can_be_asked_of_the_users_own_agent(bench: Bench) -> None:
    from ag2 import Agent

    bench.registry.register(Agent("judge", "You judge."), reply="review")
    with OpenAIServer(in_turn("Fine.", {"approved": True})) as server:
        answer = bench.ask(server, "judge", reply=Review)
    assert answer.value.approved and server.count == 2
    assert server.requests[1].json["model"] == "test-model"


def test_an_agent_may_have_a_model_of_its_own(bench: Bench) -> None:
    changed = bench.registry.changed({"engineer": "openai:other-model"})
    bench.registry = changed
    with OpenAIServer(in_turn(CODE)) as server:
        bench.ask(server, "engineer", reply=Code)
    assert server.requests[0].json["model"] == "other-model"


def test_a_failing_model_is_told_as_such(bench: Bench) -> None:
    with OpenAIServer(lambda request: Status(401)) as server, pytest.raises(ModelCallFailed):
        bench.ask(server, "engineer", reply=Code)


def test_plain_text_must_not_be_empty(bench: Bench) -> None:
    bench.registry.register(AgentSpec(name="poet", description="d", instructions="Write."))
    with OpenAIServer(in_turn("  ", "A poem.")) as server:
        assert bench.ask(server, "poet").value == "A poem."
    assert server.count == 2


def test_prompts_are_the_same_again(bench: Bench, tmp_path: Path) -> None:
    """No clock, no absolute path, no id: the same question is the same request."""
    hashes = []
    for _ in range(2):
        with OpenAIServer(in_turn(CODE)) as server:
            bench.ask(server, "engineer", reply=Code)
        hashes.append(json.dumps(server.requests[0].json, sort_keys=True))
        assert str(tmp_path) not in hashes[-1]
    assert hashes[0] == hashes[1]
