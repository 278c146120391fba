"""The writer: nothing is lost, nothing is out of order, no bad row harms another, whatever the values."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import StoreError
from cmbagent_nb.ids import new_id
from tests.conformance.backend import Backend
from tests.stored import Record, count, faults

COUNT = "SELECT COUNT(*) FROM execution_events"


def rows_keep_their_order(backend: Backend) -> None:
    """Eight threads at once: every row arrives, each thread's in its order."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)

    def work(thread: int) -> None:
        for number in range(100):
            row = {"run_id": record.run, "sender": str(thread), "content": str(number), "created_at": 1.0}
            writer.insert("messages", row)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    record.settle()
    for thread in range(8):
        found = db.rows("SELECT content FROM messages WHERE sender = :thread ORDER BY id", thread=str(thread))
        assert [int(row["content"]) for row in found] == list(range(100))


def start_and_end_become_one_row(backend: Backend) -> None:
    """Changes that fall together with their row, and those that come later, leave the same row."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    record.settle()
    held = threading.Event()
    writer.call(lambda _connection: held.wait(30))  # so that what follows falls together
    event = record.event("tool_call", status="running", ended_at=None, inputs={"x": 1})
    writer.update("execution_events", event, {"status": "completed", "ended_at": 9.0, "outputs": [1]})
    writer.update("execution_events", event, {"error": "none"})
    held.set()
    record.settle()
    writer.update("execution_events", event, {"meta": {"late": True}})
    record.settle()
    (row,) = db.rows("SELECT * FROM execution_events")
    assert (row["status"], row["ended_at"], row["outputs"], row["meta"]) == ("completed", 9.0, "[1]", '{"late":true}')


def a_bad_row_harms_no_other(backend: Backend) -> None:
    """Bad rows are counted and kept in a file with the reason; all good rows of their group go in, in order."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    earlier = record.event("info")
    record.settle()
    held = threading.Event()
    writer.call(lambda _connection: held.wait(30))
    for number in range(199):
        record.event("info")
        record.message(str(number))
        if number % 50 == 0:
            record.event("info", no_such_column=1)
    record.event("info", run_id="no such run")
    record.event("info", execution_order=None)
    record.event("info", attempt="many")
    record.event("info", attempt=1.5)
    record.event("info", duration_ms="long")
    record.file("x", is_final_output="no")
    record.node("step_1", 1)
    record.node("step_1", 2)
    writer.insert("no_such_table", {"id": "x"})
    writer.insert("messages", 7)  # type: ignore[arg-type]
    held.set()
    record.settle()
    held.clear()
    writer.call(lambda _connection: held.wait(30))
    writer.update("execution_events", "no such row", {"status": "completed"})
    writer.update("execution_events", earlier, {"run_id": "no such run"})
    held.set()
    record.settle()
    assert count(db, "execution_events") == 200
    assert [row["content"] for row in db.rows("SELECT content FROM messages ORDER BY id")] == [*map(str, range(199))]
    backend.expected_faults = 15
    assert writer.faults == len(faults(backend.home)) == 15
    assert all(fault["error"] for fault in faults(backend.home))


def a_row_is_worth_more_than_its_link(backend: Backend) -> None:
    """A row that names an event that is not there is kept without the link, and counted."""
    db = backend.database()
    record = Record(backend.writer(db))
    event = record.event("info", parent_event_id="nowhere")
    record.message("hello", event_id="nowhere")
    record.settle()
    assert db.rows("SELECT id, parent_event_id FROM execution_events") == [{"id": event, "parent_event_id": None}]
    assert db.rows("SELECT content, event_id FROM messages") == [{"content": "hello", "event_id": None}]
    backend.expected_faults = 2


def values_come_back_alike(backend: Backend) -> None:
    """Numbers keep every bit, texts every character that a database takes; a column's kind decides, not the driver."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    floats = [0.1, 1 / 3, 1e-320, 1.7976931348623157e308, -0.0, 1_700_000_000.123456789, math.inf, math.nan, 3]
    for value in floats:
        record.event("info", duration_ms=value)
    record.event("info", error="NUL \x00 \ud800 é 🚀", agent_name="a\x00", node_id=Path("x") / "y", attempt=True)
    record.event("info", error=ValueError("bad \x00"), agent_name=5, event_subtype=2.5, node_id=True)
    record.event("info", inputs={"nan": math.nan, "big": 10**30, "nul": "\x00", "é": [None, True]}, attempt="7")
    record.message("\ud800", sender={"a": 1}, tokens=3.0)
    record.file("a", is_final_output=1, size_bytes=2**40)
    skill = {"id": new_id(), "name": "s", "created_at": 1, "trusted": False, "task_embedding": b"\x00\xff"}
    writer.insert("skills", skill)
    record.settle()
    found = [row["duration_ms"] for row in db.rows("SELECT duration_ms FROM execution_events ORDER BY execution_order")]
    assert [repr(value) for value in found[:9]] == [
        *("0.1", repr(1 / 3), "1e-320", "1.7976931348623157e+308", repr(found[4]), "1700000000.1234567"),  # exact
        *("inf", "None", "3.0"),
    ]
    assert found[4] == 0.0
    texts = db.rows(
        "SELECT error, agent_name, node_id, event_subtype, attempt FROM execution_events"
        " WHERE execution_order > 9 ORDER BY execution_order"
    )
    assert [tuple(row.values()) for row in texts] == [
        ("NUL \ufffd \ufffd é 🚀", "a\ufffd", "x/y", None, 1),
        ("bad \ufffd", "5", "true", "2.5", None),
        (None, None, "step_1", None, 7),
    ]
    (inputs,) = db.rows("SELECT inputs FROM execution_events WHERE execution_order = 12")
    assert inputs["inputs"] == (
        '{"nan":{"$float":"nan"},"big":{"$int":"0xc9f2c9cd04674edea40000000"},"nul":"\\u0000","é":[null,true]}'
    )
    assert db.rows("SELECT content, sender, tokens FROM messages") == [
        {"content": "\ufffd", "sender": '{"a":1}', "tokens": 3}
    ]
    (file,) = db.rows("SELECT is_final_output, size_bytes FROM files")
    assert file == {"is_final_output": True, "size_bytes": 2**40}
    assert file["is_final_output"] is True
    (skill,) = db.rows("SELECT created_at, trusted, task_embedding FROM skills")
    assert (repr(skill["created_at"]), skill["trusted"], bytes(skill["task_embedding"])) == ("1.0", False, b"\x00\xff")


def what_goes_past_the_queue_is_clean_too(backend: Backend) -> None:
    """A person's text with NUL in a call, and in what is searched for."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    sql = "UPDATE workflow_runs SET error = :error WHERE id = :id"
    writer.call(lambda c: c.execute(sql, {"error": "a\x00b\ud800", "id": record.run})).result(30)
    assert db.rows("SELECT error FROM workflow_runs") == [{"error": "a\ufffdb\ufffd"}]
    assert db.rows("SELECT id FROM workflow_runs WHERE name = :name", name="\x00\ud800") == []


def keys_go_on_after_rows_with_keys(backend: Backend) -> None:
    """Rows that come with keys of their own, as from a backup, do not get in the way of later ones."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    record.message("first")
    record.settle()
    for number in (10, 12):
        record.message(f"number {number}", id=number)
    record.settle()
    record.message("last")
    record.settle()
    assert [row["id"] for row in db.rows("SELECT id FROM messages ORDER BY id")] == [1, 10, 12, 13]


def calls_keep_their_place(backend: Backend) -> None:
    """A call sees every row before it and none after it; what it raises is rolled back and given to the caller."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    seen = []
    for _ in range(5):
        record.event("info")
        seen.append(writer.call(lambda c: c.exec_driver_sql(COUNT).scalar()))
    assert [future.result(30) for future in seen] == [1, 2, 3, 4, 5]

    def fail(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE workflow_runs SET status = 'failed'")
        raise KeyError("no")

    with pytest.raises(KeyError):
        writer.call(fail).result(30)
    with pytest.raises(Exception, match="no_such_table"):
        writer.call(lambda c: c.exec_driver_sql("SELECT * FROM no_such_table")).result(30)
    assert db.rows("SELECT status FROM workflow_runs") == [{"status": "executing"}]
    assert writer.call(lambda _c: 7).result(30) == 7


def barriers_hold(backend: Backend) -> None:
    """``await settled()`` is over when the rows are stored; a cancelled wait does no harm."""
    db = backend.database()
    writer = backend.writer(db)

    async def work() -> None:
        record = Record(writer)
        for number in range(20):
            record.event("info")
            await writer.settled()
            assert await asyncio.to_thread(count, db, "execution_events") == number + 1
        for _ in range(20):
            task = asyncio.ensure_future(writer.settled())
            await asyncio.sleep(0)
            task.cancel()
        await writer.settled()

    asyncio.run(work())


def a_store_that_is_gone_is_waited_for(backend: Backend) -> None:
    """Callers go on meanwhile; rows and calls are there once it is back, in their order."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    record.settle()
    with backend.gone():
        for _ in range(100):
            record.event("info")
        rows, call = writer.barrier(), writer.call(lambda c: c.exec_driver_sql(COUNT).scalar())
        record.event("info")
        deadline = time.monotonic() + 30
        while not writer.trouble and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "cannot be written" in writer.trouble
        assert not rows.done()
    rows.result(30)
    assert call.result(30) == 100
    record.settle()
    assert count(db, "execution_events") == 101
    assert writer.trouble == ""


def what_cannot_be_written_is_taken_in_later(backend: Backend) -> None:
    """When patience ends, rows go to a file and calls fail; on return the rows are taken in, each once, in order."""
    db = backend.database()
    writer = backend.writer(db, patience=0.2)
    record = Record(writer)
    record.settle()
    with backend.gone():
        first = record.event("info", status="running", inputs={"nan": math.nan})
        record.settle()
        writer.update("execution_events", first, {"status": "completed"})
        second = record.event("info", parent_event_id=first)
        record.message("while it was gone")
        record.settle()
        with pytest.raises(StoreError, match="cannot be written"):
            writer.call(lambda c: None).result(30)
        assert list(backend.home.glob("unwritten-*.jsonl"))
    third = record.event("info", parent_event_id=second)
    record.settle()
    rows = db.rows("SELECT id, parent_event_id, status, inputs FROM execution_events ORDER BY execution_order")
    assert [row["id"] for row in rows] == [first, second, third]
    assert [row["parent_event_id"] for row in rows] == [None, first, second]
    assert (rows[0]["status"], rows[0]["inputs"]) == ("completed", '{"nan":{"$float":"nan"}}')
    assert [row["content"] for row in db.rows("SELECT content FROM messages")] == ["while it was gone"]
    assert not list(backend.home.glob("unwritten-*"))
    assert writer.trouble == ""


def closing_writes_everything(backend: Backend) -> None:
    """Rows handed over right before the end are stored."""
    db = backend.database()
    writer = backend.writer(db)
    record = Record(writer)
    for _ in range(2500):
        record.event("info")
    writer.close()
    assert count(db, "execution_events") == 2500


SPECS = (
    rows_keep_their_order,
    start_and_end_become_one_row,
    a_bad_row_harms_no_other,
    a_row_is_worth_more_than_its_link,
    values_come_back_alike,
    what_goes_past_the_queue_is_clean_too,
    keys_go_on_after_rows_with_keys,
    calls_keep_their_place,
    barriers_hold,
    a_store_that_is_gone_is_waited_for,
    what_cannot_be_written_is_taken_in_later,
    closing_writes_everything,
)
