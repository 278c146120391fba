"""Every file leads back to its code, its prompt, its step and the task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.errors import AmbiguousReference, RunNotFound
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.lineage import lineage
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


def attempt(record: Record, number: int, code: str, *, fails: bool = False) -> str:
    """Write an attempt at step 1: the engineer is asked, its code is run; returns the event of the execution."""
    call = record.event("agent_call", agent_name="engineer", attempt=number)
    for word in ("refused", "taken"):
        reply = record.event("model_call", agent_name="engineer", attempt=number, parent_event_id=call)
        row = {"id": new_id(), "run_id": record.run, "event_id": reply, "created_at": T0, "attempt": number}
        request, said = {"prompt": f"{word} {number}"}, {"python_code": code}
        record.writer.insert("model_replies", {**row, "request": request, "reply": said})
    inputs = {"path": "codebase/tt.py", "code": code}
    status = "failed" if fails else "completed"
    return record.event(
        "code_exec",
        agent_name="executor",
        attempt=number,
        inputs=inputs,
        parent_event_id=call,
        status=status,
        outputs={"reads": ["data/in.csv", "/etc/outside"]},
    )


def plan(record: Record) -> None:
    """Write the step."""
    row = {"id": new_id(), "run_id": record.run, "node_id": "step_1", "step_number": 1, "title": "TT"}
    record.writer.insert("workflow_steps", {**row, "agent": "engineer", "instructions": "Do it", "started_at": T0})


def test_the_whole_chain(db: Database, record: Record) -> None:
    """From the picture to the task, by the attempt that made it, with what it read and who made that."""
    plan(record)
    early = record.event("file_gen", node_id="planning", agent_name="you")
    source = record.file("data/in.csv", event=early, node="planning", created_by_agent="you")
    attempt(record, 1, "bad", fails=True)
    run = attempt(record, 2, "good")
    made = record.event("file_gen", agent_name="executor", attempt=2, parent_event_id=run)
    record.file("plots/tt.png", event=made, generating_code_hash="h", created_by_agent="executor")
    later = record.event("file_gen")
    record.file("data/in.csv", event=later, version=2)
    record.settle()

    chain = lineage(db, record.run, "plots/tt.png")
    assert [link["kind"] for link in chain] == [
        "file", "file_gen", "code_exec", "agent_call", "model_call", "step", "task",
    ]  # fmt: skip
    file, _made, execution, call, reply, step, task = chain
    assert (file["file_path"], file["agent"], file["node_id"]) == ("plots/tt.png", "executor", "step_1")
    assert (execution["code"], execution["attempt"], execution["code_hash"]) == ("good", 2, "h")
    assert execution["reads"][0]["made_by"]["id"] == source
    assert execution["reads"][1] == {"path": "/etc/outside", "made_by": None}
    assert call["agent"] == "engineer"
    assert reply["prompt"] == {"prompt": "taken 2"}
    assert reply["reply"] == {"python_code": "good"}
    assert step["instructions"] == "Do it"
    assert task["task"] == "Compare the TT spectrum with theory"
    assert lineage(db, record.run, "tt.png") == chain
    assert lineage(db, record.run, "./plots/tt.png") == chain


def test_links_that_are_not_nested_are_found(db: Database, record: Record) -> None:
    """Where the events stand side by side, attempt and order lead from the file to the reply."""
    plan(record)
    call = record.event("agent_call", agent_name="engineer", attempt=1)
    record.event("model_call", agent_name="engineer", attempt=1, inputs={"message": "write"})
    record.message("here", event_id=call, code_generated="x = 1")
    record.event("code_exec", agent_name="executor", attempt=1)
    made = record.event("file_gen", agent_name="executor", attempt=1)
    record.file("data/x.csv", event=made)
    again = record.event("agent_call", agent_name="engineer", attempt=1)
    record.event("model_call", agent_name="engineer", attempt=1, inputs={"message": "again"})
    record.message("later", event_id=again, code_generated="x = 2")
    record.settle()
    chain = {link["kind"]: link for link in lineage(db, record.run, "data/x.csv")}
    assert set(chain) == {"file", "file_gen", "code_exec", "agent_call", "model_call", "step", "task"}
    assert chain["code_exec"]["code"] == "x = 1"
    assert chain["model_call"]["prompt"] == {"message": "write"}


def test_a_file_that_was_written_without_code(db: Database, record: Record) -> None:
    """A report leads to the agent's reply; a file without an event to the task alone."""
    call = record.event("agent_call", agent_name="researcher", node_id="step_4")
    record.event("model_call", agent_name="researcher", parent_event_id=call, node_id="step_4")
    made = record.event("file_gen", agent_name="researcher", parent_event_id=call, node_id="step_4")
    record.file("report.md", event=made, node="step_4", file_type="report")
    record.file("alone.txt", node="planning")
    record.settle()
    kinds = [link["kind"] for link in lineage(db, record.run, "report.md")]
    assert kinds == ["file", "file_gen", "agent_call", "model_call", "task"]
    assert [link["kind"] for link in lineage(db, record.run, "alone.txt")] == ["file", "task"]


def test_paths_that_fit_no_file_or_two(db: Database, record: Record) -> None:
    """The errors say what to do."""
    record.file("data/x.csv")
    record.file("plots/x.csv")
    record.settle()
    with pytest.raises(AmbiguousReference, match="fits 2 files"):
        lineage(db, record.run, "x.csv")
    with pytest.raises(RunNotFound, match=r"made no file 'y\.csv'"):
        lineage(db, record.run, "y.csv")
