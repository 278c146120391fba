"""The record as DataFrames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from cmbagent_nb.ids import new_id
from cmbagent_nb.store import columns, frames
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.node_summary import node_summary
from cmbagent_nb.store.tables import Table
from cmbagent_nb.store.totals import TOTALS
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.states import change_run

from .stored import T0, Record

FRAMES = {
    "events": "execution_events",
    "nodes": "dag_nodes",
    "messages": "messages",
    "files": "files",
    "costs": "cost_records",
    "steps": "workflow_steps",
    "history": "state_history",
    "decisions": "approval_requests",
}


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


def test_empty_frames_have_their_columns(db: Database) -> None:
    """Before anything is recorded, every frame has its columns, and times have their type."""
    for name, table in FRAMES.items():
        frame = getattr(frames, name)(db)
        assert len(frame) == 0
        assert [column for column in frame if column in Table.metadata.tables[table].columns] == [
            column.name for column in Table.metadata.tables[table].columns
        ]
        for column in frame:
            assert not column.endswith("_at") or str(frame[column].dtype) == "datetime64[ns, UTC]"
    assert len(frames.runs(db)) == len(frames.skills(db)) == len(frames.skill_executions(db)) == 0
    assert {"duration_s", "tokens", "cost_usd", "model_calls"} <= set(frames.runs(db))


def test_events(db: Database, record: Record) -> None:
    """JSON comes as values, times in UTC, gaps as missing."""
    record.event("agent_call", inputs={"n": [1, math.inf], "big": 10**30}, attempt=2)
    record.event("info", ended_at=None, status="running", attempt=None)
    record.settle()
    frame = frames.events(db, record.run)
    assert list(frame["event_type"]) == ["agent_call", "info"]
    assert frame["inputs"][0] == {"n": [1, math.inf], "big": 10**30}
    assert frame["inputs"][1] is None
    assert frame["started_at"][0] == pd.Timestamp(T0 + 1, unit="s", tz="UTC")
    assert frame["ended_at"].isna().tolist() == [False, True]
    assert str(frame["attempt"].dtype) == "Int64"
    assert frame["attempt"].isna().tolist() == [False, True]
    assert (frame["ended_at"] - frame["started_at"])[0] == pd.Timedelta(milliseconds=100)
    assert len(frames.events(db, "none")) == 0


def test_one_run_one_session_or_all(db: Database, record: Record) -> None:
    """A frame can be of a run, of a session by its name or id, or of everything."""
    other = Record(record.writer, name="other", session="Project X", status="completed")
    record.event("info")
    other.event("info")
    other.event("info")
    other.settle()
    assert [len(frames.events(db, run)) for run in (record.run, other.run, None)] == [1, 2, 3]
    assert len(frames.events(db, session="Project X")) == len(frames.events(db, session=other.session)) == 2
    assert list(frames.runs(db)["name"]) == ["other", "planck"]
    assert list(frames.runs(db, session="Project X")["id"]) == [other.run]
    assert list(frames.runs(db, status="executing")["name"]) == ["planck"]
    assert list(frames.runs(db, mode="one_shot")["name"]) == []


def test_what_runs_that_have_ended_spent_is_not_added_up_again(db: Database, record: Record) -> None:
    """Their totals are kept with their rows, and are right again when one of them spends more."""
    other = Record(record.writer, name="other")
    for run in (record, other):
        run.cost("engineer", cost=0.25)
        run.cost("engineer", cost=0.5)
    record.settle()
    wanted = ["tokens", "cost_usd", "model_calls"]
    listed = frames.runs(db).set_index("name")[wanted]
    for run in (record, other):
        record.writer.call(lambda c, run=run: change_run(c, run.run, "completed", reason="", by="engine")).result(20)
    assert frames.runs(db).set_index("name")[wanted].equals(listed)
    with record.writer.db.writing() as connection:
        connection.exec_driver_sql("DELETE FROM cost_records")  # whoever adds up now finds nothing
    assert frames.runs(db).set_index("name")[wanted].equals(listed)
    record.cost("engineer", cost=None)
    record.settle()
    again = frames.runs(db).set_index("name")
    assert again.loc["other", wanted].tolist() == listed.loc["other"].tolist()
    assert (again.loc["planck", "model_calls"], again.loc["planck", "cost_usd"] == 0.75) == (1, False)
    assert not set(TOTALS) & set(again)


def test_an_unknown_cost_is_missing_and_not_zero(db: Database, record: Record) -> None:
    """A sum with an unknown part is unknown."""
    other = Record(record.writer, name="other")
    record.cost("engineer", cost=0.5)
    record.cost("planner", cost=0.25)
    other.cost("engineer", cost=None)
    Record(record.writer, name="free")
    other.settle()
    runs = frames.runs(db).set_index("name")
    assert runs.loc["planck", ["tokens", "cost_usd", "model_calls"]].tolist() == [60, 0.75, 2]
    assert runs.loc["other", "tokens"] == 30
    assert pd.isna(runs.loc["other", "cost_usd"])
    assert runs.loc["free", "cost_usd"] == 0
    assert pd.isna(frames.costs(db, other.run)["cost_usd"][0])


def test_files_and_decisions(db: Database, record: Record) -> None:
    """Flags are booleans; a gate shows what was asked and what was answered."""
    record.file("plots/tt.png", is_final_output=True, size_bytes=2**40)
    context = {"title": "Plan", "body": "…", "options": [{"id": "approved"}, {"id": "rejected", "label": "No"}]}
    row = {"id": new_id(), "run_id": record.run, "approval_type": "plan_approval", "created_at": T0}
    answer = {"status": "resolved", "resolution": "approved", "resolved_at": T0 + 5, "resolved_by": "you"}
    record.writer.insert("approval_requests", {**row, "context": context, **answer})
    record.writer.insert("approval_requests", {**row, "id": new_id(), "created_at": T0 + 1})
    record.settle()
    files = frames.files(db, record.run)
    assert files["is_final_output"].dtype == bool
    assert files["size_bytes"][0] == 2**40
    decisions = frames.decisions(db, record.run)
    assert decisions["title"].tolist() == ["Plan", None]
    assert decisions["options"].tolist() == [["approved", "rejected"], []]
    assert decisions["resolution"][0] == "approved"
    assert decisions["resolved_at"].isna().tolist() == [False, True]


def nested(record: Record) -> None:
    """A step in which the engineer asks the researcher, runs code twice and makes two files."""
    record.node("step_1", 1, started_at=T0, ended_at=T0 + 9, status="running")
    record.node("step_1.researcher", 1, parent_node_id="step_1", depth=1, node_type="sub_agent")
    record.node("step_10", 2, status="pending")
    outer = record.event("agent_call", agent_name="engineer", duration_ms=5000.0)
    tool = record.event("tool_call", agent_name="engineer", parent_event_id=outer, duration_ms=2500.0)
    inner = record.event(
        "agent_call",
        agent_name="researcher",
        parent_event_id=tool,
        duration_ms=2000.0,
        node_id="step_1.researcher",
    )
    record.event("model_call", agent_name="researcher", parent_event_id=inner, node_id="step_1.researcher")
    record.event("code_exec", agent_name="executor", status="failed", error="KeyError: 'x'", duration_ms=500.0)
    record.event("code_exec", agent_name="executor", attempt=2, duration_ms=1500.0)
    record.event("info", node_id="step_10")
    record.file("data/x.csv")
    record.file("plots/x.png", file_type="plot")
    record.file("plots/x.png", file_type="plot", version=2)
    record.file("steps/step_1/attempt_1/x.py", file_type="code", priority="internal")
    record.cost("engineer", cost=0.1)
    record.cost("researcher", cost=None, node="step_1.researcher")
    record.message("hello")
    record.settle()


def test_a_node_knows_what_happened_in_it(db: Database, record: Record) -> None:
    """Its summary counts what is in it and in the agents under it, and nobody's time twice."""
    nested(record)
    with db.reading() as connection:
        summary = node_summary(connection, record.run, "step_1")
        empty = node_summary(connection, record.run, "step_7")
    assert summary == {
        "total_events": 6,
        "event_types": {"agent_call": 2, "tool_call": 1, "model_call": 1, "code_exec": 2},
        "agents_involved": ["engineer", "executor", "researcher"],
        "agent_call_counts": {"engineer": 1, "researcher": 1},
        "files_generated": 2,
        "files_by_type": {"data": 1, "plot": 1},
        "messages_count": 1,
        "timing": {
            "started_at": T0,
            "ended_at": T0 + 9,
            "duration_seconds": 9.0,
            "agent_time_breakdown": {"engineer": 3.0, "researcher": 2.0, "executor": 2.0},
        },
        "cost_summary": {
            "total_tokens": 60,
            "total_cost_usd": None,
            "unknown_cost_calls": 1,
            "by_agent": {"engineer": 0.1, "researcher": None},
        },
        "success_metrics": {
            "completion_rate": pytest.approx(5 / 6),
            "completed_count": 5,
            "failed_count": 1,
            "error_count": 1,
        },
        "attempts": 2,
    }
    assert (empty["total_events"], empty["attempts"], empty["cost_summary"]["total_cost_usd"]) == (0, 0, 0)


def test_nodes_show_their_summaries(db: Database, record: Record) -> None:
    """A node that has ended shows the summary that is kept with it, another one what there is now."""
    nested(record)
    kept = {"total_events": 99, "success_metrics": {"error_count": 7}, "timing": {"duration_seconds": 1.5}}
    record.node("step_2", 3, meta={"execution_summary": kept})
    record.settle()
    frame = frames.nodes(db, record.run).set_index("node_id")
    assert list(frame.index) == ["step_1", "step_1.researcher", "step_10", "step_2"]
    assert frame["n_events"].tolist() == [6, 2, 1, 99]
    assert frame["errors"].tolist() == [1, 0, 0, 7]
    assert frame.loc["step_1", "agent_calls"] == {"engineer": 1, "researcher": 1}
    assert frame.loc["step_2", "duration_s"] == 1.5
    assert len(frames.nodes(db)) == 4
    assert set(frames.SUMMARY_COLUMNS) <= set(frames.nodes(db))
    assert columns.JSON
