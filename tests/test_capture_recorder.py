"""The recorder: one event an action, right parents, a total order, and no harm."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cmbagent_nb.capture.recorder import Recorder, current_location, current_recorder
from tests.recorded_run import recorded_run


def test_spans_nest_and_are_ordered_by_their_start(tmp_path: Path) -> None:
    """A span's parent is the span around it; order and depth follow from the nesting."""
    with recorded_run(tmp_path) as run:
        with run.recorder.located_at("step_1", attempt=2, agent="engineer"):
            with run.recorder.span("agent_call", inputs={"message": "do"}) as outer:
                with run.recorder.span("code_exec", agent="executor", role="primary") as inner:
                    inner.subtype = "timeout"
                    inner.outputs = {"exit_code": 1}
                made = run.recorder.record("file_gen", subtype="create", outputs={"path": "a.png"}, parent=inner.id)
            run.recorder.handoff("engineer", "executor", "run the code", {"file": "a.py"})
        events = run.events()
        assert [event["event_type"] for event in events] == ["agent_call", "code_exec", "file_gen", "handoff"]
        assert [event["execution_order"] for event in events] == [1, 2, 3, 4]
        assert [event["parent_event_id"] for event in events] == [None, outer.id, inner.id, None]
        assert [event["depth"] for event in events] == [0, 1, 2, 0]
        assert {event["node_id"] for event in events} == {"step_1"}
        assert {event["attempt"] for event in events} == {2}
        assert {event["run_id"] for event in events} == {run.recorder.run_id}
        assert events[0]["agent_name"] == "engineer"
        assert events[0]["event_subtype"] == "complete"
        assert (events[1]["event_subtype"], events[1]["agent_role"]) == ("timeout", "primary")
        assert events[1]["outputs"] == {"exit_code": 1}
        assert events[2]["id"] == made
        assert events[3]["inputs"]["to"] == "executor"
        assert all(event["status"] == "completed" and event["ended_at"] >= event["started_at"] for event in events)


def test_a_failure_and_a_cancellation_are_told_and_go_on(tmp_path: Path) -> None:
    """What leaves a span marks it and is raised again."""
    with recorded_run(tmp_path) as run:
        with pytest.raises(KeyError), run.recorder.located_at("step_1"), run.recorder.span("tool_call"):
            raise KeyError("column")
        with pytest.raises(asyncio.CancelledError), run.recorder.span("agent_call"):
            raise asyncio.CancelledError
        failed, cancelled = run.events()
        assert (failed["status"], failed["event_subtype"], failed["error"]) == ("failed", "error", "KeyError: 'column'")
        assert cancelled["status"] == "cancelled"


def test_what_runs_is_seen_before_it_ends(tmp_path: Path) -> None:
    """A crash leaves an action visible as running: its row is there from its start."""
    with recorded_run(tmp_path) as run, run.recorder.located_at("step_1"), run.recorder.span("code_exec") as span:
        (event,) = run.events()
        assert (event["id"], event["status"], event["ended_at"]) == (span.id, "running", None)


def test_parallel_tasks_and_threads_keep_their_own_parents(tmp_path: Path) -> None:
    """The parent follows the task or thread, and the order is total across them."""
    with recorded_run(tmp_path) as run:

        async def step(number: int) -> None:
            with run.recorder.located_at(f"step_{number}"), run.recorder.span("agent_call"):
                for _ in range(20):
                    await asyncio.sleep(0)
                    with run.recorder.span("tool_call"):
                        await asyncio.to_thread(run.recorder.record, "info")

        async def both() -> None:
            await asyncio.gather(step(1), step(2))

        asyncio.run(both())
        events = run.events()
        orders = [event["execution_order"] for event in events]
        assert orders == list(range(1, 83))
        by_id = {event["id"]: event for event in events}
        for event in events:
            if event["event_type"] != "agent_call":
                above = by_id[event["parent_event_id"]]
                assert above["node_id"] == event["node_id"]
                assert (above["event_type"], event["event_type"]) in {
                    ("agent_call", "tool_call"),
                    ("tool_call", "info"),
                }


def test_two_runs_in_one_context_keep_apart(tmp_path: Path) -> None:
    """A span of another run is never a parent."""
    with recorded_run(tmp_path) as run:
        other = Recorder(run.writer, run.recorder.run_id, run.recorder.session_id, first_order=100)
        with run.recorder.located_at("step_1"), run.recorder.span("agent_call"):
            assert current_recorder() is run.recorder
            with other.located_at("step_9"), other.span("agent_call") as span:
                where = current_location()
                assert where is not None and where.recorder is other
        row = next(event for event in run.events() if event["id"] == span.id)
        assert (row["parent_event_id"], row["execution_order"], row["node_id"]) == (None, 100, "step_9")
        assert current_location() is None


def test_messages_carry_their_event_and_node(tmp_path: Path) -> None:
    """A message belongs to the event around it, and its role is the sender's."""
    with recorded_run(tmp_path, roles={"engineer": "primary"}) as run:
        with run.recorder.located_at("step_1"), run.recorder.span("agent_call") as span:
            run.recorder.message(sender="engineer", recipient="executor", content="hi", tool_calls=[{"name": "x"}])
        (message,) = run.rows("messages")
        assert (message["event_id"], message["node_id"], message["agent_role"]) == (span.id, "step_1", "primary")
        assert message["tool_calls"] == [{"name": "x"}]


def test_capture_off_keeps_what_resume_needs(tmp_path: Path) -> None:
    """Messages and fine-grained events stop; code, files and gates stay, under parents that exist."""
    with recorded_run(tmp_path, enabled=False) as run:
        with run.recorder.located_at("step_1"), run.recorder.span("agent_call") as turn:
            assert turn.reference is None
            run.recorder.message(sender="a", recipient="b", content="c")
            with run.recorder.span("code_exec") as code, run.recorder.span("tool_call"):
                made = run.recorder.record("file_gen")
        assert run.rows("messages") == []
        first, second = run.events()
        assert (first["id"], first["parent_event_id"]) == (code.id, None)
        assert (second["id"], second["parent_event_id"]) == (made, code.id)


class BrokenWriter:
    """A writer that fails at everything, as no real one does."""

    def insert(self, table: str, row: object) -> None:
        raise OSError("the disk is gone")

    def update(self, table: str, id: str, values: object) -> None:
        raise OSError("the disk is gone")


def test_a_fault_of_capture_never_reaches_the_run() -> None:
    """Its own faults are counted, not raised, from any thread."""
    recorder = Recorder(BrokenWriter(), "run", "session")  # type: ignore[arg-type]
    with recorder.located_at("step_1"), recorder.span("agent_call"):
        recorder.message(sender="a", recipient="b", content="c")
        thread = threading.Thread(target=recorder.record, args=("info",))
        thread.start()
        thread.join()
    assert recorder.faults == 5
