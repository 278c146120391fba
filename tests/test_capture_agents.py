"""Agents over real HTTP: every turn, call and tool is one event with the right parent, nested and in parallel."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
from ag2 import Agent
from ag2.testing import TestConfig

from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.llm import rate_limits, retry
from tests.openai_server import OpenAIServer, Reply, in_turn, last_message, system_prompt, tool_results
from tests.recorded_run import RecordedRun, in_loop, recorded_run


def agent(gateway: Any, name: str, *tools: Any) -> Agent:
    return Agent(name, f"You are {name}.", config=gateway.config(), middleware=[Capture], tools=tools)


def chain(run: RecordedRun, event: dict[str, Any]) -> list[str]:
    """Return the types of an event and of all that is above it."""
    by_id = {row["id"]: row for row in run.events()}
    types: list[str] = []
    current: dict[str, Any] | None = event
    while current is not None:
        types.append(f"{current['event_type']}:{current['agent_name']}")
        above = by_id.get(current["parent_event_id"])
        if above is not None:
            assert current["depth"] == above["depth"] + 1
            assert current["execution_order"] > above["execution_order"]
        current = above
    return types


async def look(column: str) -> str:
    """Look into a column."""
    if column == "missing":
        raise KeyError(column)
    return f"{column} is fine"


def test_tools_are_recorded_with_their_arguments_and_results(tmp_path: Path) -> None:
    """One event a tool call, also when the tool fails or does not exist; and the turn goes on."""
    calls = Reply(
        tool_calls=[("look", {"column": "flux"}), ("look", {"column": "missing"}), ("no_such_tool", {"a": 1})]
    )
    with OpenAIServer(in_turn(calls, "done")) as server, recorded_run(tmp_path) as run:

        async def work() -> Any:
            with run.recorder.located_at("step_1", agent="engineer"):
                return await agent(run.gateway(server.url), "engineer", look).ask("go")

        assert in_loop(work()).body == "done"
        tools = {row["error"] or row["outputs"]["result"]: row for row in run.events("tool_call")}
        assert sorted(tools) == ["KeyError: 'missing'", "flux is fine", "there is no tool 'no_such_tool'"]
        assert tools["flux is fine"]["inputs"] == {"tool": "look", "arguments": {"column": "flux"}}
        assert tools["KeyError: 'missing'"]["status"] == "failed"
        assert tools["there is no tool 'no_such_tool'"]["status"] == "failed"
        assert all(chain(run, row) == ["tool_call:engineer", "agent_call:engineer"] for row in tools.values())
        assert server.count == len(run.events("model_call")) == 2
        assert all(row["tokens"] or row["sender"] == "workflow" for row in run.rows("messages"))


def test_a_nested_agent_stands_under_its_step(tmp_path: Path) -> None:
    """Its events belong to a node of its own; its calls are counted once; the handoff is told."""

    def handler(request: dict[str, Any]) -> Any:
        if "researcher" in system_prompt(request):
            return "it is 42"
        return "done" if tool_results(request) else Reply(tool_calls=[("task_researcher", {"objective": "find it"})])

    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        run.writer.insert("dag_nodes", node(run, "step_1"))
        gateway = run.gateway(server.url)

        async def work() -> None:
            for attempt in (1, 2):
                with run.recorder.located_at("step_1", attempt=attempt, agent="engineer"):
                    researcher = agent(gateway, "researcher").as_tool(description="delegate")
                    await agent(gateway, "engineer", researcher).ask("go")

        in_loop(work())
        calls = run.events("model_call")
        assert server.count == len(calls) == 6
        nested = [row for row in calls if row["agent_name"] == "researcher"]
        expected = ["model_call:researcher", "agent_call:researcher", "tool_call:engineer", "agent_call:engineer"]
        assert [chain(run, row) for row in nested] == [expected, expected]
        assert {row["node_id"] for row in nested} == {"step_1.researcher"}
        assert {row["node_id"] for row in calls if row["agent_name"] == "engineer"} == {"step_1"}
        assert [row["attempt"] for row in nested] == [1, 2]
        below = [row for row in run.rows("dag_nodes") if row["node_type"] == "sub_agent"]
        assert [(row["node_id"], row["parent_node_id"], row["status"], row["depth"]) for row in below] == [
            ("step_1.researcher", "step_1", "completed", 1)
        ]
        assert below[0]["order_index"] == 7
        states = [row["to_state"] for row in run.rows("state_history") if row["entity_id"] == "step_1.researcher"]
        assert states == ["running", "completed", "running", "completed"]
        assert [row["inputs"]["to"] for row in run.events("handoff")] == ["researcher", "researcher"]
        said = [row for row in run.rows("messages") if row["node_id"] == "step_1.researcher"]
        assert [(row["sender"], row["recipient"]) for row in said[:2]] == [
            ("engineer", "researcher"),
            ("researcher", "engineer"),
        ]
        assert run.recorder.faults == 0


def test_an_agent_called_within_anothers_step_is_a_sub_agent(tmp_path: Path) -> None:
    """Also when the run's own code calls it; in the planning node it is not."""
    with OpenAIServer(lambda request: "x") as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)

        async def work() -> None:
            with run.recorder.located_at("step_2", agent="engineer"):
                await agent(gateway, "engineer").ask("write")
                await agent(gateway, "executor").ask("judge")
            with run.recorder.located_at("planning", agent="planner"):
                await agent(gateway, "plan_reviewer").ask("review")

        in_loop(work())
        assert [row["node_id"] for row in run.events("agent_call")] == ["step_2", "step_2.executor", "planning"]


def test_the_record_of_parallel_steps_is_complete_and_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps at once, with failed calls, tools and nested agents: all that was counted, once, in its place."""
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", 0.01)
    troubles = Counter[str]()

    def handler(request: dict[str, Any]) -> Any:
        step = "step_2" if "step_2" in str(request["messages"]) else "step_1"
        if "researcher" in system_prompt(request):
            return f"found for {last_message(request)}"
        if not tool_results(request):
            troubles[step] += 1
            if troubles[step] == 1:
                return 500
            return Reply(tool_calls=[("look", {"column": step}), ("task_researcher", {"objective": f"find {step}"})])
        return f"done {step}"

    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)

        async def step(node_id: str) -> str:
            with run.recorder.located_at(node_id, agent="engineer"):
                researcher = agent(gateway, "researcher").as_tool(description="delegate")
                return (await agent(gateway, "engineer", look, researcher).ask(f"do {node_id}")).body

        async def work() -> list[str]:
            return await asyncio.gather(step("step_1"), step("step_2"))

        assert in_loop(work()) == ["done step_1", "done step_2"]
        events = run.events()
        calls = [row for row in events if row["event_type"] == "model_call"]
        assert server.count == len(calls) == 8
        assert Counter(row["status"] for row in calls) == {"failed": 2, "completed": 6}
        assert [row["execution_order"] for row in events] == list(range(1, len(events) + 1))
        assert len({row["id"] for row in events}) == len(events)
        assert all(row["run_id"] == run.recorder.run_id and row["node_id"] for row in events)
        assert len(run.rows("model_replies")) == len(run.rows("cost_records")) == gateway.calls == 6
        by_id = {row["id"]: row for row in events}
        for row in events:
            above = by_id.get(row["parent_event_id"])
            if above is None:
                assert row["event_type"] == "agent_call" and row["agent_name"] == "engineer"
            else:
                assert above["node_id"].partition(".")[0] == row["node_id"].partition(".")[0]
        for row in calls:
            above = by_id[row["parent_event_id"]]
            assert (above["event_type"], above["agent_name"]) == ("agent_call", row["agent_name"])
            assert row["node_id"].partition(".")[0] in str(row["inputs"]["message"]) + str(row["outputs"])


@pytest.mark.timing
def test_a_bare_turn_costs_less_than_a_third_of_a_millisecond(tmp_path: Path) -> None:
    """The turns with and without capture are taken alternately; other work on the machine only makes some slower."""
    with recorded_run(tmp_path) as run:

        async def turn(who: Agent) -> float:
            started = time.perf_counter()
            await who.ask("hi")
            return (time.perf_counter() - started) * 1e3

        async def work() -> float:
            captured = Agent("engineer", config=TestConfig("x"), middleware=[Capture])
            bare = Agent("engineer", config=TestConfig("x"))
            found = []
            with run.recorder.located_at("step_1", agent="engineer"):
                for _ in range(3):
                    pairs = [(await turn(captured), await turn(bare)) for _ in range(150)]
                    found.append(tenth(pair[0] for pair in pairs) - tenth(pair[1] for pair in pairs))
            return min(found)

        extra = in_loop(work())
        assert extra < 0.3, f"{extra:.3f} ms"


def tenth(durations: Iterable[float]) -> float:
    """Return the duration below which the fastest tenth lies."""
    return quantiles(durations, n=10)[0]


def node(run: RecordedRun, node_id: str) -> dict[str, Any]:
    """Return the row of a step's node."""
    return {
        "id": f"row-{node_id}",
        "run_id": run.recorder.run_id,
        "session_id": run.recorder.session_id,
        "node_id": node_id,
        "node_type": "step",
        "status": "running",
        "order_index": 7,
        "depth": 0,
    }
