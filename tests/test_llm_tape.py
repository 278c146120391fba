"""The tape: a run gone through again spends no call, and anything that differs is live."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent

from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.llm.tape import Stored, Tape
from tests.openai_server import OpenAIServer, Reply, tool_results
from tests.recorded_run import RecordedRun, in_loop, recorded_run


def handler(request: dict[str, Any]) -> Any:
    if tool_results(request):
        return "the file is there"
    return Reply(tool_calls=[("find", {"name": "a.csv"})], reasoning_content="I look first")


def go(run: RecordedRun, url: str, work_dir: Path, tape: Tape | None = None, prompt: str = "look in") -> Any:
    """Let an agent work with a tool; the prompt names the work directory. Return (body, gateway)."""

    async def find(name: str) -> str:
        """Find a file."""
        return f"{work_dir}/data/{name}"

    async def work() -> Any:
        gateway = run.gateway(url, tape=tape)
        gateway.work_dir = work_dir
        with run.recorder.located_at("step_1", agent="engineer"):
            who = Agent("engineer", "Work.", config=gateway.config(), tools=[find], middleware=[Capture])
            return (await who.ask(f"{prompt} {work_dir}")).body, gateway

    return in_loop(work())


@pytest.mark.parametrize("source", ["database", "journal"])
def test_a_run_gone_through_again_makes_no_call(tmp_path: Path, source: str) -> None:
    """Either copy of the record is enough, also in another work directory."""
    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        body, _ = go(run, server.url, tmp_path / "first place")
        run.writer.barrier().result(20)
        if source == "database":
            tape = Tape.load(run.db, run.recorder.run_id)
        else:
            tape = Tape.from_journal(Path(shutil.copy(run.journal, tmp_path / "copy.jsonl")))
        assert len(tape) == server.count == 2
        again, gateway = go(run, server.url, tmp_path / "second place", tape)
        assert (again, server.count, len(tape)) == (body, 2, 0)
        assert (gateway.calls, gateway.replayed_calls, gateway.tokens, gateway.cost_usd) == (0, 2, 0, 0.0)
        replayed = [event for event in run.events("model_call") if event["event_subtype"] == "replayed"]
        assert len(replayed) == 2
        assert {event["meta"]["source"] for event in replayed} == {"replay"}
        assert replayed[0]["outputs"]["tool_calls"][0]["name"] == "find"
        assert len(run.rows("model_replies")) == len(run.rows("cost_records")) == 2


def test_another_question_is_live_and_so_is_what_follows(tmp_path: Path) -> None:
    """A changed prompt is never answered with the old reply."""
    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        go(run, server.url, tmp_path)
        run.writer.barrier().result(20)
        _, gateway = go(run, server.url, tmp_path, Tape.load(run.db, run.recorder.run_id), prompt="look again in")
        assert (server.count, gateway.calls, gateway.replayed_calls) == (4, 2, 0)


def test_a_tape_that_ends_early_goes_on_live(tmp_path: Path) -> None:
    """As after a crash between two calls: the first is given again, the second is made."""
    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        go(run, server.url, tmp_path)
        run.writer.call(lambda connection: connection.exec_driver_sql("DELETE FROM model_replies WHERE ordinal = 2"))
        run.writer.barrier().result(20)
        body, gateway = go(run, server.url, tmp_path, Tape.load(run.db, run.recorder.run_id))
        assert (body, server.count, gateway.replayed_calls, gateway.calls) == ("the file is there", 3, 1, 1)
        assert [row["ordinal"] for row in run.rows("model_replies", "created_at")] == [1, 2]


def test_a_new_attempt_gets_new_replies() -> None:
    """A redo is a new attempt, to which no reply of an earlier one belongs."""
    tape = Tape.of([Stored("step_1", 1, "engineer", 1, "h", {})])
    assert tape.take("step_1", 2, "engineer", 1, "h") is None
    assert tape.take("step_1", 1, "researcher", 1, "h") is None
    assert tape.take("step_1", 1, "engineer", 1, "h") is not None
    assert tape.take("step_1", 1, "engineer", 1, "h") is None


def test_once_live_always_live_at_that_node_and_attempt() -> None:
    """Also for the agents below it; other nodes and attempts are not concerned."""
    stored = [
        Stored(node, attempt, "engineer", ordinal, f"h{ordinal}", {})
        for node in ("step_1", "step_1.researcher", "step_2")
        for attempt in (1, 2)
        for ordinal in (1, 2)
    ]
    tape = Tape.of(stored)
    assert tape.take("step_1", 1, "engineer", 1, "changed") is None
    assert tape.take("step_1", 1, "engineer", 2, "h2") is None
    assert tape.take("step_1.researcher", 1, "engineer", 1, "h1") is None
    assert tape.take("step_1", 2, "engineer", 1, "h1") is not None
    assert tape.take("step_2", 1, "engineer", 1, "h1") is not None


def test_calls_at_the_same_time_find_their_replies_in_any_order() -> None:
    """Two calls of one sub-agent at once may be counted the other way round the second time."""
    tape = Tape.of([Stored("step_1.a", 1, "a", number, f"h{number}", {"text": str(number)}) for number in (1, 2)])
    second, first = tape.take("step_1.a", 1, "a", 1, "h2"), tape.take("step_1.a", 1, "a", 2, "h1")
    assert first is not None and second is not None
    assert (first.reply["text"], second.reply["text"]) == ("1", "2")


def test_a_masked_reply_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not what the model said; neither copy gives it."""
    monkeypatch.setenv("PLANTED_TOKEN", "planted-0123456789-key")
    with OpenAIServer(lambda request: "it is planted-0123456789-key") as server, recorded_run(tmp_path) as run:
        go(run, server.url, tmp_path)
        run.writer.barrier().result(20)
        assert len(Tape.load(run.db, run.recorder.run_id)) == len(Tape.from_journal(run.journal)) == 0


@pytest.mark.parametrize("source", ["database", "journal"])
def test_what_a_tool_gave_is_given_again_without_running_it(tmp_path: Path, source: str) -> None:
    """The folder has changed since, and the second call of the same tool gave something else than the first."""
    ran: list[str] = []

    def answer(request: dict[str, Any]) -> Any:
        told = tool_results(request)
        return Reply(tool_calls=[("look", {"name": "a"})]) if len(told) < 3 else " / ".join(told)

    def go(work_dir: Path, tape: Tape | None, enabled: bool) -> Any:
        def look(name: str) -> str:
            """Look at a file."""
            ran.append(name)
            if len(ran) == 3:
                raise ValueError("it is gone")
            return f"{work_dir}/{name} was looked at {len(ran)} times"

        async def work() -> Any:
            gateway = run.gateway(server.url, tape=tape)
            gateway.work_dir = work_dir
            run.recorder.enabled = enabled
            with run.recorder.located_at("step_1", agent="engineer"):
                who = Agent("engineer", "Work.", config=gateway.config(), tools=[look], middleware=[Capture])
                return (await who.ask("Look.")).body, gateway

        return in_loop(work())

    with OpenAIServer(answer) as server, recorded_run(tmp_path) as run:
        body, _ = go(tmp_path / "first place", None, enabled=False)
        run.writer.barrier().result(20)
        assert len(ran) == 3
        loaded = Tape.load(run.db, run.recorder.run_id) if source == "database" else Tape.from_journal(run.journal)
        again, gateway = go(tmp_path / "second", loaded, enabled=True)
        assert again == body
        assert "first place/a was looked at 2 times" in again
        assert (len(ran), server.count, gateway.replayed_calls) == (3, 4, 4)
        run.writer.barrier().result(20)
        tools = run.events("tool_call")
        assert [(item["event_subtype"], item["status"]) for item in tools] == [
            ("replayed", "completed"),
            ("replayed", "completed"),
            ("replayed", "failed"),
        ]
        assert f"{tmp_path}/second/a was looked at 1 times" in str(tools[0]["outputs"])
        assert tools[2]["error"] == "ValueError: it is gone"


def test_a_tool_of_a_live_reply_is_run() -> None:
    """Only what was called by a reply that was given is known, and only once."""
    call = {"id": "c1", "name": "look", "arguments": "{}"}
    kept = {**call, "text": "seen", "placed": False, "failed": False}
    stored = [
        Stored("step_1", 1, "engineer", 1, "h1", {"tool_calls": [call]}),
        Stored("step_1", 1, "engineer", 2, "h2", {"tool_results": [kept]}),
    ]
    asked = ("step_1", 1, "engineer", "c1", "look", "{}")
    live = Tape.of(stored)
    assert live.take("step_1", 1, "engineer", 1, "changed") is None
    assert live.result(*asked) is None
    tape = Tape.of(stored)
    assert tape.result(*asked) is None
    assert tape.take("step_1", 1, "engineer", 1, "h1") is not None
    assert tape.result("step_1", 1, "engineer", "c1", "look", '{"other": 1}') is None
    assert tape.result(*asked) == kept
    assert tape.result(*asked) is None
