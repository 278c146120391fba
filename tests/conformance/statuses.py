"""Statuses, gates, leases, commands: of those who act at the same time, one wins and the others are told."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from cmbagent_nb.errors import StateError
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.notifications import changes
from cmbagent_nb.store.sessions import session_of
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.commands import send
from cmbagent_nb.workflow.gates import Answer, _store
from cmbagent_nb.workflow.ownership import interrupt_orphans, owner
from cmbagent_nb.workflow.resume import _take_over
from cmbagent_nb.workflow.states import RUN, change_node, change_run
from tests.conformance.backend import Backend
from tests.stored import T0, Record


def _all(writers: list[Writer], work: Any) -> list[Any]:
    """Let every writer do the same at once; return what came of it, or the error."""

    def one(writer: Writer) -> Any:
        try:
            return writer.call(work).result(30)
        except StateError as error:
            return error

    with ThreadPoolExecutor(len(writers)) as pool:
        return list(pool.map(one, writers))


def a_status_changes_with_its_history(backend: Backend) -> None:
    """Legal changes are made, each with a row of history; others are refused and leave nothing."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer, status="draft")
    record.node("step_1", 1, status="pending")
    record.settle()
    for target in ("executing", "waiting_approval", "executing", "completed"):
        writer.call(lambda c, to=target: change_run(c, record.run, to, reason="because", by="test")).result(30)  # type: ignore[misc]
    assert writer.call(lambda c: change_run(c, record.run, "completed", reason="", by="")).result(30) is None
    for target in RUN:
        if target != "completed":
            with pytest.raises(StateError):
                writer.call(lambda c, to=target: change_run(c, record.run, to, reason="", by="")).result(30)  # type: ignore[misc]
    writer.call(lambda c: change_node(c, record.run, "step_1", "running", reason="", by="test")).result(30)
    rows = db.rows("SELECT from_state, to_state FROM state_history ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("draft", "executing"),
        ("executing", "waiting_approval"),
        ("waiting_approval", "executing"),
        ("executing", "completed"),
        ("pending", "running"),
    ]


def one_answer_counts(backend: Backend) -> None:
    """Of six who answer a gate at once, the first is taken and the others learn that it was."""
    db = backend.database()
    writers = [backend.writer() for _ in range(6)]
    record = Record(writers[0])
    gate = new_id()
    row = {"id": gate, "run_id": record.run, "approval_type": "plan_approval", "created_at": T0, "context": {}}
    writers[0].insert("approval_requests", row)
    record.settle()
    won = _all(writers, lambda c: _store(c, Answer(gate, "approved", "NUL \x00", "you"), new_id()))
    assert sorted(won) == [False] * 5 + [True]
    (row,) = db.rows("SELECT status, resolution, user_feedback FROM approval_requests")
    assert row == {"status": "resolved", "resolution": "approved", "user_feedback": "NUL \ufffd"}


def one_takes_an_interrupted_run_over(backend: Backend) -> None:
    """A dead owner's run is found once, and gone on with by one of those who try."""
    db = backend.database()
    writers = [backend.writer() for _ in range(4)]
    record = Record(writers[0])
    dead = json.dumps({**json.loads(owner()), "started": 1.0, "since_boot": ""})
    work_dir = backend.home / "runs" / "planck"
    writers[0].update("workflow_runs", record.run, {"work_dir": work_dir})
    writers[0].insert("leases", {"run_id": record.run, "owner": dead, "heartbeat_at": T0})
    record.event("code_exec", status="running")
    record.settle()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda writer: interrupt_orphans(db, writer), writers))
    assert sorted(found) == [[], [], [], [record.run]]
    assert db.rows("SELECT status FROM execution_events") == [{"status": "interrupted"}]
    came = _all(writers, lambda c: _take_over(c, record.run, plans=False, work_dir=work_dir))
    assert sum(not isinstance(item, StateError) for item in came) == 1
    assert sum("cannot be resumed" in str(item) for item in came) == 3
    assert db.rows("SELECT status FROM workflow_runs") == [{"status": "executing"}]
    assert db.rows("SELECT owner FROM leases") == [{"owner": owner(db)}]


def what_is_looked_for_and_then_made_is_made_once(backend: Backend) -> None:
    """Calls of several processes do not come between one another: a session's name is found or made."""
    db = backend.database()
    ids = _all([backend.writer() for _ in range(6)], lambda c: session_of(c, "default"))
    assert len(set(ids)) == 1
    assert db.rows("SELECT COUNT(*) AS n FROM sessions") == [{"n": 1}]


def locks_that_cross_are_untangled(backend: Backend) -> None:
    """Two that change the same rows in opposite orders: both get it, without delay, and no row is refused."""
    db = backend.database()
    one, two = backend.writer(), backend.writer()
    record = Record(one)
    events = [record.event("info", attempt=0) for _ in range(2)]
    record.settle()
    started = time.monotonic()
    for _ in range(20):
        futures: list[Future[None]] = []
        for writer, order in ((one, events), (two, events[::-1])):
            for event in order:
                writer.update("execution_events", event, {"status": "running", "agent_name": str(order)})
                writer.update("execution_events", event, {"error": "x"})
            futures.append(writer.barrier())
        for future in futures:
            future.result(30)

    def both(order: list[str]) -> Any:
        def work(connection: Any) -> None:
            for event in order:
                sql = "UPDATE execution_events SET attempt = attempt + 1 WHERE id = :id"
                connection.execute(sql, {"id": event})

        return work

    calls = [writer.call(both(order)) for writer, order in ((one, events), (two, events[::-1])) for _ in range(20)]
    for call in calls:
        call.result(30)
    assert time.monotonic() - started < 60
    assert db.rows("SELECT attempt FROM execution_events") == [{"attempt": 40}] * 2


def news_of_others_arrive(backend: Backend) -> None:
    """What another connection commits is told within moments; what is older is not told again; silence is None."""
    db = backend.database()
    other = backend.writer()
    record = Record(other)
    record.settle()

    async def work() -> None:
        source = changes(db)
        try:
            assert await source.wait(10) is not None  # look at what is there
            assert await source.wait(0.3) is None
            for _ in range(5):
                record.event("info")
                change_set = await source.wait(60)
                assert change_set is not None
                assert change_set.runs in (None, frozenset({record.run}))
            await asyncio.to_thread(send, other, record.run, "cancel", {}, "test")
            assert await source.wait(10) is not None
        finally:
            await source.close()

    asyncio.run(work())


SPECS = (
    a_status_changes_with_its_history,
    one_answer_counts,
    one_takes_an_interrupted_run_over,
    what_is_looked_for_and_then_made_is_made_once,
    locks_that_cross_are_untangled,
    news_of_others_arrive,
)
