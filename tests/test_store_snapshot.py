"""The snapshot that every view draws."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.errors import RunNotFound
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.event_labels import error_word, event_label
from cmbagent_nb.store.snapshot import read_snapshot
from cmbagent_nb.store.writer import Writer

from .stored import T0, Record


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A fresh database."""
    opened = Database.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def record(db: Database) -> Iterator[Record]:
    """A run in it."""
    writer = Writer(db)
    yield Record(writer)
    writer.close()
    assert writer.faults == 0


def test_a_run_in_the_middle(db: Database, record: Record) -> None:
    """Nodes, edges, gates, events, files, messages and costs fit together."""
    writer = record.writer
    record.node("planning", 0, node_type="planning", started_at=T0, ended_at=T0 + 2)
    record.node("step_1", 1, status="running", started_at=T0 + 2)
    record.node("step_1.researcher", 1, status="completed", depth=1, parent_node_id="step_1")
    record.node("step_2", 2, status="pending")
    for begin, end in (("planning", "step_1"), ("step_1", "step_2")):
        record.edge(begin, end)
    for attempt, status in ((1, "failed"), (2, "running")):
        row = {"id": new_id(), "run_id": record.run, "node_id": "step_1", "attempt": attempt, "status": status}
        error = "Traceback\n  File\nKeyError: 'DM'\n" if status == "failed" else None
        writer.insert("step_attempts", {**row, "error": error})
    call = record.event("agent_call", agent_name="engineer", status="running", ended_at=None)
    reply = record.event("model_call", agent_name="engineer", parent_event_id=call, depth=1)
    record.event("model_call", agent_name="engineer", parent_event_id=call, status="failed", error="HTTP 429")
    record.event("code_exec", inputs={"path": "codebase/step_1.py", "code": "x" * 50_000})
    record.event("info", inputs={"text": "x" * 500_000})
    record.cost("engineer", event=reply, cost=0.5)
    record.cost("planner", node="planning", cost=None)
    record.file("plots/tt.png", version=1)
    record.file("plots/tt.png", version=2)
    record.file("data/x.csv", version=1)
    record.file("steps/step_1/attempt_1/x.py", version=1, priority="internal", created_at=T0)
    record.message("first")
    record.message("s" * 50_000)
    gate = {"run_id": record.run, "approval_type": "step_approval", "node_id": "step_2"}
    for number, status in enumerate(("pending", "resolved", "pending")):
        context = {"title": f"Gate {number}", "options": [{"id": "approved", "label": "Approve"}]}
        row = {"id": new_id(), **gate, "status": status, "context": context, "created_at": T0 + 10 - number}
        writer.insert("approval_requests", row)
    writer.update("workflow_runs", record.run, {"plan": {"goal": "g", "steps": []}})
    record.settle()

    snapshot = read_snapshot(db, record.run)
    run = snapshot.run
    assert (run["calls"], run["failed_calls"], run["tokens"]) == (2, 1, 60)
    assert (run["cost_usd"], run["cost_known"], run["unknown_cost_calls"]) == (None, 0.5, 1)
    assert (run["n_events"], run["n_messages"], run["n_files"]) == (5, 2, 2)
    assert run["elapsed_s"] == pytest.approx(time.time() - T0, abs=5)
    assert not snapshot.finished
    assert snapshot.plan == {"goal": "g", "steps": []}
    assert snapshot.report is None

    nodes = {node["node_id"]: node for node in snapshot.nodes}
    assert list(nodes) == ["planning", "step_1", "step_1.researcher", "step_2"]
    step = nodes["step_1"]
    assert (step["attempt"], step["max_attempts"], step["error_word"]) == (2, 3, "KeyError: 'DM'")
    assert (step["n_events"], step["n_files"], step["cost_usd"]) == (5, 2, 0.5)
    assert step["duration_s"] > 0
    assert nodes["planning"]["cost_usd"] is None
    assert nodes["planning"]["duration_s"] == 2
    assert nodes["planning"]["error_word"] is None
    assert nodes["step_2"]["duration_s"] is None
    assert nodes["step_1.researcher"]["parent_node_id"] == "step_1"
    assert snapshot.edges == [("planning", "step_1"), ("step_1", "step_2")]

    assert [gate["context"]["title"] for gate in snapshot.gates] == ["Gate 2", "Gate 0"]
    assert [event["label"] for event in snapshot.events] == [
        "agent_call engineer",
        "model_call engineer",
        "model_call engineer",
        "code_exec step_1.py",
        "info",
    ]
    assert [event["execution_order"] for event in snapshot.events] == [1, 2, 3, 4, 5]
    assert (snapshot.events[1]["cost_usd"], snapshot.events[1]["tokens"]) == (0.5, 30)
    assert snapshot.events[3]["long"]
    assert snapshot.events[3]["inputs"] == {
        "path": "codebase/step_1.py",
        "code": "x" * 2000 + " [… 48,000 more characters …]",
    }
    assert snapshot.events[4]["inputs"] is None
    assert not snapshot.events[0]["long"]
    assert [(file["file_path"], file["version"]) for file in snapshot.files] == [
        ("plots/tt.png", 2),
        ("data/x.csv", 1),
        ("steps/step_1/attempt_1/x.py", 1),
    ]
    assert [message["content"][:6] for message in snapshot.messages] == ["first", "ssssss"]
    assert len(snapshot.messages[1]["content"]) == 20_000
    assert [(cost["agent_name"], cost["calls"], cost["cost_usd"]) for cost in snapshot.costs] == [
        ("engineer", 1, 0.5),
        ("planner", 1, None),
    ]


def test_a_finished_run(db: Database, record: Record) -> None:
    """Its time stands still, and its report is there."""
    values = {"status": "completed", "ended_at": T0 + 60, "result": {"text": "# Result", "report": "report.md"}}
    record.writer.update("workflow_runs", record.run, values)
    record.settle()
    snapshot = read_snapshot(db, record.run)
    assert snapshot.finished
    assert snapshot.run["elapsed_s"] == 60
    assert snapshot.report == "# Result"
    assert snapshot.run["cost_usd"] == 0
    assert (snapshot.nodes, snapshot.edges, snapshot.gates, snapshot.events, snapshot.costs) == ([], [], [], [], [])


def test_a_run_that_is_not_there(db: Database) -> None:
    """The error says how to find one."""
    with pytest.raises(RunNotFound, match="%cmbagent runs"):
        read_snapshot(db, "none")


def test_it_is_bounded(db: Database, record: Record) -> None:
    """A run with thousands of events gives the newest ones."""
    record.node("step_1", 1)
    for number in range(5000):
        record.event("tool_call", inputs={"tool": f"t{number}"}, agent_name="engineer")
        record.message(str(number))
    record.settle()
    snapshot = read_snapshot(db, record.run, events=200, messages=50)
    assert [event["label"] for event in snapshot.events] == [f"tool_call t{number}" for number in range(4800, 5000)]
    assert [message["content"] for message in snapshot.messages] == [str(number) for number in range(4950, 5000)]
    assert snapshot.run["n_events"] == 5000


@pytest.mark.parametrize(
    ("event", "label"),
    [
        ({"event_type": "handoff", "inputs": {"from": "engineer", "to": "executor"}}, "handoff engineer → executor"),
        ({"event_type": "tool_call", "inputs": {"tool": "search_files"}}, "tool_call search_files"),
        ({"event_type": "tool_call", "agent_name": "engineer"}, "tool_call engineer"),
        ({"event_type": "file_gen", "outputs": {"path": "plots/tt.png"}}, "file_gen plots/tt.png"),
        ({"event_type": "approval", "inputs": {"kind": "step_approval"}}, "gate · step"),
        ({"event_type": "approval", "inputs": {"kind": "error_recovery"}}, "gate · error recovery"),
        (
            {
                "event_type": "state_transition",
                "inputs": {"entity": "step_1", "from": "pending"},
                "outputs": {"to": "x"},
            },
            "state_transition step_1 pending → x",
        ),
        (
            {"event_type": "state_transition", "run_id": "r", "inputs": {"entity": "r"}, "outputs": {"to": "planning"}},
            "state_transition run planning",
        ),
        ({"event_type": "retry", "node_id": "step_2", "event_subtype": "scheduled"}, "retry step_2 scheduled"),
        ({"event_type": "error", "error": "a\nValueError: no"}, "error ValueError: no"),
        ({"event_type": "info", "inputs": {"message": "m" * 200}}, "info " + "m" * 54 + "…"),
        ({"event_type": "info", "inputs": "text", "outputs": None}, "info"),
        ({}, "event"),
    ],
)
def test_labels(event: dict[str, object], label: str) -> None:
    """Every kind of event has a short text."""
    assert event_label(event) == label


def test_error_words() -> None:
    """The last line says it, bounded."""
    assert error_word(None) is error_word(" \n ") is None
    assert error_word("a\n\nValueError: " + "x" * 100) == "ValueError: " + "x" * 47 + "…"
