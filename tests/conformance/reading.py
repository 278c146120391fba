"""What is read: the same frames, snapshots and lineages from every store, each of one moment."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from cmbagent_nb.errors import AmbiguousReference, RunNotFound
from cmbagent_nb.ids import new_id
from cmbagent_nb.store import frames
from cmbagent_nb.store.approvals import open_gates
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.lineage import lineage
from cmbagent_nb.store.lookup import find_run, find_skill
from cmbagent_nb.store.snapshot import read_snapshot
from cmbagent_nb.store.tables import WorkflowRun
from cmbagent_nb.store.writer import Writer
from tests.conformance.backend import Backend
from tests.stored import T0, Record

FRAMES = ("events", "nodes", "messages", "files", "costs", "steps", "history", "decisions")


class Rows:
    """Rows to be written to several stores, handed over as to a writer."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def insert(self, table: str, row: dict[str, Any]) -> None:
        self.rows.append((table, row))

    def write(self, writer: Writer) -> None:
        for table, row in self.rows:
            writer.insert(table, row)
        writer.barrier().result(30)


def _a_run(rows: Rows, name: str, **more: Any) -> Record:
    """A run with something in every table."""
    record = Record(rows, name=name, session=f"session of {name}", **more)  # type: ignore[arg-type]
    common = {"run_id": record.run, "session_id": record.session}
    for order, (node, status) in enumerate([("planning", "completed"), ("step_1", "failed"), ("step_2", "running")]):
        record.node(node, order, status=status, started_at=T0 + order, meta={"é": order})
        if order:
            step = {"node_id": node, "step_number": order, "title": node, "status": status, "attempts": 2}
            step |= {"depends_on": ["planning"], "expected_outputs": [], "started_at": T0}
            rows.insert("workflow_steps", {"id": new_id(), **common, **step})
            record.edge("planning", node)
        attempt = {"node_id": node, "attempt": order, "pid": 2**31 + order, "error": "KeyError: 'x'", "started_at": T0}
        rows.insert("step_attempts", {"id": new_id(), "run_id": record.run, **attempt})
    agent = record.event("agent_call", agent_name="engineer", inputs={"text": "x" * 30_000})
    call = record.event("model_call", agent_name="engineer", parent_event_id=agent, depth=1, status="failed")
    record.cost("engineer", event=call, cost=0.125)
    record.cost("engineer", event=call, cost=None, node="step_2")
    reply = {"node_id": "step_1", "event_id": call, "agent_name": "engineer", "created_at": T0 + 0.5}
    reply |= {"request": {"messages": []}, "reply": {"text": "é"}, "usage": {"tokens": 30}}
    rows.insert("model_replies", {"id": new_id(), "run_id": record.run, **reply})
    code = record.event("code_exec", parent_event_id=agent, depth=1, outputs={"reads": ["input/df.parquet"]})
    made = record.event("file_gen", parent_event_id=code, depth=2)
    for version in (1, 2):
        record.file("data/peaks.csv", event=made, version=version, is_final_output=version == 2)
    record.file("plots/é.png", event=made, file_type="plot", priority="internal")
    for number in range(3):
        record.message(f"message {number}", event_id=agent, tokens=number or None, tool_calls=[{"n": number}])
    change = {"entity_type": "workflow_run", "entity_id": record.run, "to_state": "executing", "created_at": T0}
    rows.insert("state_history", {**common, **change})
    for status in ("resolved", "pending"):
        context = {"title": "Plan", "options": [{"id": "approved", "label": "Approve"}]}
        gate = {"approval_type": "plan_approval", "status": status, "context": context, "created_at": T0, **common}
        rows.insert("approval_requests", {"id": new_id(), **gate})
    return record


def _filled(backend: Backend) -> tuple[Database, Database, list[Record]]:
    rows = Rows()
    records = [_a_run(rows, name) for name in ("planck", "DESI", "_act", "élan")]
    for name, version in (("b", 1), ("B", 2), ("a-b", 1), ("aa", 1), ("B", 10)):
        row = {"id": new_id(), "name": name, "version": version, "created_at": T0, "tags": ["x"], "status": "active"}
        rows.insert("skills", row)
    db, other = backend.database(), backend.elsewhere()
    rows.write(backend.writer(db))
    rows.write(backend.writer(other))
    return db, other, records


def frames_are_the_same(backend: Backend) -> None:
    """Every frame of a run, of a session and of all runs: values, types, order and columns."""
    db, other, records = _filled(backend)
    wanted = [{"run_id": records[0].run}, {"session": records[1].session}, {"session": "session of élan"}, {}]
    for name in FRAMES:
        for which in [*wanted, {"run_id": "none"}]:
            mine, theirs = getattr(frames, name)(db, **which), getattr(frames, name)(other, **which)
            pd.testing.assert_frame_equal(mine, theirs, obj=f"{name} {which}")
            assert len(mine) or which == {"run_id": "none"}
    for which in ({}, {"status": "executing"}, {"session": "session of DESI"}, {"mode": "one_shot"}):
        pd.testing.assert_frame_equal(frames.runs(db, **which), frames.runs(other, **which))
    pd.testing.assert_frame_equal(frames.skills(db), frames.skills(other))
    assert list(frames.skills(db).name) == ["B", "B", "a-b", "aa", "b"]
    pd.testing.assert_frame_equal(frames.skill_executions(db), frames.skill_executions(other))
    assert str(frames.events(db).started_at.dtype) == "datetime64[ns, UTC]"
    assert frames.runs(db).created_at[0] == pd.Timestamp("2023-11-14T22:13:20Z")


def snapshots_are_the_same(backend: Backend) -> None:
    """All that a view shows, but for what depends on the clock."""
    db, other, records = _filled(backend)
    mine, theirs = (read_snapshot(where, records[0].run, events=3, messages=2) for where in (db, other))
    for snapshot in (mine, theirs):
        for name in ("elapsed_s", "silent_s"):
            snapshot.run.pop(name)
        for node in snapshot.nodes:
            node.pop("duration_s")
    assert mine == theirs
    assert mine.run["cost_usd"] is None
    assert (mine.run["cost_known"], mine.run["tokens"], len(mine.events), len(mine.gates)) == (0.125, 60, 3, 1)
    assert {type(value) for cost in mine.costs for value in cost.values()} <= {str, int, float, type(None)}
    assert open_gates(db) == open_gates(other)
    assert len(open_gates(db)) == 4
    for path in ("data/peaks.csv", "peaks.csv", "plots/é.png"):
        chain = lineage(db, records[0].run, path)
        assert chain == lineage(other, records[0].run, path)
        assert [link["kind"] for link in chain][:3] == ["file", "file_gen", "code_exec"]
        assert chain[-1]["kind"] == "task"
    with pytest.raises(RunNotFound):
        lineage(db, records[0].run, "data/%")


def references_find_their_run(backend: Backend) -> None:
    """By id, name, beginning and end of an id; letters that mean something to LIKE mean nothing."""
    db, _, records = _filled(backend)
    run = records[0].run
    for reference in (run, "planck", run[-8:], run[-8:].upper(), f" {run} "):
        assert find_run(db, reference)["id"] == run
    assert find_run(db, "élan")["id"] == records[3].run
    with pytest.raises(AmbiguousReference):
        find_run(db, run[:4])
    for reference in ("PLANCK", "%", "_", "", "plan%", "\x00", "a' OR '1'='1"):
        with pytest.raises(RunNotFound):
            find_run(db, reference)
    assert find_skill(db, "B")["version"] == 10
    assert find_skill(db, "B@2")["version"] == 2


def reading_is_of_one_moment(backend: Backend) -> None:
    """Within one reading, a commit is not seen; after it, it is."""
    db = backend.database()
    record = Record(backend.writer(db))
    record.settle()
    counting = "SELECT COUNT(*) FROM execution_events"
    with db.reading() as connection:
        assert connection.exec_driver_sql(counting).scalar() == 0
        record.event("info")
        record.settle()
        assert connection.exec_driver_sql(counting).scalar() == 0
    assert db.rows(counting.replace("(*)", "(*) AS n")) == [{"n": 1}]
    assert db.rows("SELECT COUNT(*) AS n FROM execution_events WHERE run_id = :run", run=record.run) == [{"n": 1}]
    found = db.get(WorkflowRun, record.run)
    assert found is not None
    assert (found.name, found.is_branch, found.created_at) == ("planck", False, T0)


def the_version_tells_of_every_commit(backend: Backend) -> None:
    """It changes when another connection commits, also when one that began earlier commits later."""
    db = backend.database()
    record = Record(backend.writer(db))
    record.settle()
    for writer in (record.writer, backend.writer()):
        seen = db.data_version()
        assert db.data_version() == seen
        record.writer = writer
        record.event("info")
        record.settle()
        assert db.data_version() != seen


SPECS = (
    frames_are_the_same,
    snapshots_are_the_same,
    references_find_their_run,
    reading_is_of_one_moment,
    the_version_tells_of_every_commit,
)
