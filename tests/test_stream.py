"""The stream of a run: no listener holds the run up, none makes memory grow, and none misses anything."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import RunFailed
from cmbagent_nb.workflow import stream as module
from cmbagent_nb.workflow.stream import PATIENCE, WAITING, Stream, StreamEvent, _Backlog, _Missed
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code


def test_a_callback_that_waits_does_not_hold_the_run_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends while its callback still sits in its first call; the callback hears of everything all the same."""
    free, heard = threading.Event(), []
    asked = threading.Event()

    def answer(request: Any) -> Any:
        assert asked.wait(30)
        return code("print(6 * 7)")

    with OpenAIServer(answer) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Multiply six by seven.", model="openai:m")

        def wait(event: StreamEvent) -> None:
            heard.append(event["event_type"])
            free.wait(30)

        run.on("*", wait)
        live = workspace._core.host.live[run.id]
        asked.set()
        live.ended.result(30)
        assert len(heard) == 1
        free.set()
        assert live.stream.drain(10)
    assert run.status == "completed", run.error
    assert heard[-1] == "workflow_completed" and "step_completed" in heard


def test_who_waits_for_the_end_has_had_its_callbacks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    with OpenAIServer(lambda request: code("raise SystemExit(3)")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Fail.", model="openai:m", max_attempts=1)
        run.on("workflow_failed", lambda event: (time.sleep(0.05), heard.append(event["event_type"])))
        with pytest.raises(RunFailed):
            _ = run.result
        assert heard == ["workflow_failed"]
        assert [thread for thread in threading.enumerate() if thread.name == "cmbagent-callback"] == []


def test_a_listener_that_is_slower_than_the_run_reads_the_rest_from_the_record(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for three events only: what did not fit comes from the record, and no event of that is missing."""
    monkeypatch.setattr(module, "WAITING", 3)
    listening = threading.Event()

    def answer(request: Any) -> Any:
        assert listening.wait(30)
        return code("print(6 * 7)")

    async def follow() -> list[StreamEvent]:
        found = []
        events = run.stream()
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        listening.set()
        found.append(await first)
        await asyncio.wrap_future(live.ended)
        found.extend([event async for event in events])
        return found

    with OpenAIServer(answer) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Multiply six by seven.", model="openai:m")
        live = workspace._core.host.live[run.id]
        found = asyncio.run(follow())
    captured = [event["data"]["execution_order"] for event in found if event["event_type"] == "event_captured"]
    orders = run.events().execution_order.tolist()
    assert captured and captured == orders[orders.index(captured[0]) :]
    assert "code_exec" in {event["data"].get("event_type") for event in found}
    sequence = [event["seq"] for event in found]
    assert sequence == sorted(sequence)


def test_a_callback_that_is_too_slow_is_told_what_it_missed() -> None:
    stream, free, first = Stream("r", "s"), threading.Event(), threading.Event()
    stream.position = lambda: stream._seq * 10
    found: list[StreamEvent] = []

    def slow(event: StreamEvent) -> None:
        found.append(event)
        first.set()
        assert free.wait(30)

    stream.on("tick", slow)
    for number in range(3 * WAITING):
        stream.emit("tick", number=number)
        if number == 0:
            assert first.wait(10)
    stream.emit("tock")
    stream.close()
    free.set()
    assert stream.drain(10)
    assert [event["seq"] for event in found[:-1]] == list(range(1, WAITING + 2))
    assert found[-1]["event_type"] == "events_missed"
    assert found[-1]["data"] == {
        "first_seq": WAITING + 2,
        "last_seq": 3 * WAITING,
        "after": (WAITING + 1) * 10,
        "upto": 3 * WAITING * 10,
    }


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_whatever_waits_or_is_missed_is_all_there_is_in_order(moves: list[bool], room: int) -> None:
    """However fast both sides are: what is taken and what is told as missed are all events, each once, in order."""
    stream, taken, before = Stream("r", "s"), [], module.WAITING
    module.WAITING = room
    try:
        backlog = _Backlog(lambda: None)
        stream._followers.append(backlog)
        for put in moves:
            if put:
                stream.emit("tick")
            elif (item := backlog.take()) is not None:
                taken.append(item)
            assert len(backlog._waiting) <= room + 1
        while (item := backlog.take()) is not None:
            taken.append(item)
    finally:
        module.WAITING = before
    seen: list[int] = []
    for item in taken:
        seen += range(item.first["seq"], item.last["seq"] + 1) if isinstance(item, _Missed) else [item["seq"]]
    assert seen == list(range(1, sum(moves) + 1))


def test_a_callback_that_fails_again_and_again_is_given_up() -> None:
    stream, calls = Stream("r", "s"), []

    def fails(event: StreamEvent) -> None:
        calls.append(event)
        raise ValueError("no")

    stream.on("*", fails)
    for _ in range(3 * PATIENCE):
        stream.emit("tick")
    stream.close()
    assert stream.drain(10)
    assert len(calls) == PATIENCE


def test_a_callback_can_be_stopped() -> None:
    stream, calls, heard = Stream("r", "s"), [], threading.Event()
    stop = stream.on("tick", lambda event: (calls.append(event["seq"]), heard.set()))
    stream.emit("tick")
    assert heard.wait(10)
    stop()
    stream.emit("tick")
    stream.close()
    assert stream.drain(10)
    assert calls == [1]


def test_a_callback_that_comes_after_the_end_leaves_no_thread() -> None:
    """Nothing comes any more, so nothing waits for it."""
    stream = Stream("run", "session")
    stream.close()
    heard: list[StreamEvent] = []
    before = set(threading.enumerate())
    stop = stream.on("*", heard.append)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    stop()
    assert heard == []
