"""The writer: nothing is lost, nothing is out of order, no caller waits, no bad row harms another."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import StoreError
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.json import to_json
from cmbagent_nb.store.spill import SpillFiles
from cmbagent_nb.store.writer import Writer

from .stored import Record, count, faults


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A fresh database."""
    opened = Database.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def writer(db: Database) -> Iterator[Writer]:
    """Its writer."""
    made = Writer(db)
    yield made
    made.close()


def test_start_and_end_are_one_write(db: Database, writer: Writer) -> None:
    """A row and the changes to it that fall together are one INSERT; later changes are one UPDATE."""
    record = Record(writer)
    record.settle()
    statements: list[str] = []

    def notice(sql: str, *_more: Any) -> None:
        statements.append(sql)

    db.pool.listeners.append(notice)
    held = threading.Event()
    writer.call(lambda _connection: held.wait(30))  # so that what follows falls together
    event = record.event("tool_call", status="running", ended_at=None, inputs={"x": 1})
    values = {"status": "completed", "ended_at": 9.0, "outputs": [1]}
    writer.update("execution_events", event, values)
    writer.update("execution_events", event, {"error": "none"})
    held.set()
    record.settle()
    assert [sql.split()[0] for sql in statements if "execution_events" in sql] == ["INSERT"]
    assert values == {"status": "completed", "ended_at": 9.0, "outputs": [1]}
    writer.update("execution_events", event, {"meta": {"late": True}})
    record.settle()
    db.pool.listeners.remove(notice)
    (row,) = db.rows("SELECT * FROM execution_events")
    assert (row["status"], row["ended_at"], row["outputs"], row["meta"]) == ("completed", 9.0, "[1]", '{"late":true}')
    assert writer.faults == 0


def test_many_threads_lose_nothing(db: Database, writer: Writer) -> None:
    """Eight threads at once: every row arrives, each thread's in its order."""
    record = Record(writer)

    def work(thread: int) -> None:
        for number in range(500):
            row = {"run_id": record.run, "sender": str(thread), "content": str(number), "created_at": 1.0}
            writer.insert("messages", row)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    record.settle()
    for thread in range(8):
        rows = db.rows("SELECT content FROM messages WHERE sender = :thread ORDER BY id", thread=str(thread))
        assert [int(row["content"]) for row in rows] == list(range(500))
    assert writer.faults == 0


def test_a_bad_row_harms_no_other(db: Database, writer: Writer, tmp_path: Path) -> None:
    """Bad rows are counted and kept in a file with the reason; all good rows of their group go in."""
    record = Record(writer)
    for number in range(20):
        record.event("info")
        if number % 5 == 0:
            record.event("info", no_such_column=1)
    record.event("info", run_id="no such run")
    record.event("info", execution_order=None)
    writer.insert("no_such_table", {"id": "x"})
    writer.insert("messages", 7)  # type: ignore[arg-type]
    writer.update("execution_events", "no such row", {"status": "completed"})
    record.settle()
    assert count(db, "execution_events") == 20
    assert writer.faults == len(faults(tmp_path)) == 9
    assert [fault["table"] for fault in faults(tmp_path)].count("execution_events") == 7
    assert {fault["operation"] for fault in faults(tmp_path)} == {"insert", "update"}
    assert all(fault["error"] for fault in faults(tmp_path))


def test_a_row_is_worth_more_than_its_link(db: Database, writer: Writer) -> None:
    """A row that names an event that is not there is kept without the link, and counted."""
    record = Record(writer)
    event = record.event("info", parent_event_id="nowhere")
    record.message("hello", event_id="nowhere")
    record.settle()
    assert db.rows("SELECT id, parent_event_id FROM execution_events") == [{"id": event, "parent_event_id": None}]
    assert db.rows("SELECT content, event_id FROM messages") == [{"content": "hello", "event_id": None}]
    assert writer.faults == 2


def test_calls_keep_their_place(db: Database, writer: Writer) -> None:
    """A call sees every row before it and none after it; what it raises is rolled back and given to the caller."""
    record = Record(writer)
    seen = []
    for _ in range(5):
        record.event("info")
        sql = "SELECT COUNT(*) FROM execution_events"
        seen.append(writer.call(lambda c, sql=sql: c.exec_driver_sql(sql).scalar()))  # type: ignore[misc]
    assert [future.result(30) for future in seen] == [1, 2, 3, 4, 5]

    def fail(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE workflow_runs SET status = 'failed'")
        raise KeyError("no")

    with pytest.raises(KeyError):
        writer.call(fail).result(30)
    assert db.rows("SELECT status FROM workflow_runs") == [{"status": "executing"}]
    future = writer.call(lambda _c: None)
    assert future.result(30) is None
    assert writer.faults == 0


def test_barriers_on_the_loop(db: Database, writer: Writer) -> None:
    """``await settled()`` is over when the rows are stored; a cancelled wait does no harm."""

    async def work() -> None:
        record = Record(writer)
        for number in range(50):
            record.event("info")
            await writer.settled()
            assert await asyncio.to_thread(count, db, "execution_events") == number + 1
        for _ in range(20):
            task = asyncio.ensure_future(writer.settled())
            await asyncio.sleep(0)
            task.cancel()
        await writer.settled()

    asyncio.run(work())
    assert writer.faults == 0


def test_watchers_are_told_which_runs_changed(db: Database, writer: Writer) -> None:
    """Inserts, updates and calls name their runs; a failing watcher harms no one; one that left is not called."""
    told: list[set[str]] = []

    def broken(_runs: set[str]) -> None:
        raise RuntimeError("no")

    writer.on_commit(broken)
    leave = writer.on_commit(told.append)
    one, two = Record(writer, name="one"), Record(writer, name="two")
    two.settle()
    assert set().union(*told) == {one.run, two.run}
    told.clear()
    event = one.event("info")
    one.settle()
    writer.update("execution_events", event, {"status": "failed"})
    one.settle()
    assert told == [{one.run}, {one.run}]
    told.clear()
    sql = "UPDATE workflow_runs SET status = 'completed' WHERE id = ?"
    writer.call(lambda c: c.exec_driver_sql(sql, (two.run,))).result(30)
    writer.call(lambda c: None, touches=[one.run]).result(30)
    assert told == [{two.run}, {one.run}]
    other = Writer(db)  # it has not seen these runs
    other.on_commit(told.append)
    told.clear()
    other.update("execution_events", event, {"status": "completed"})
    other.call(lambda c: c.exec_driver_sql(sql, (two.run,))).result(30)
    other.close()
    assert told == [{one.run}, {two.run}]
    leave()
    told.clear()
    one.event("info")
    one.settle()
    assert told == []
    assert writer.callback_faults > 0
    assert writer.faults == 0


def test_a_lock_is_waited_for(db: Database, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the database the callers go on; afterwards all is there."""
    monkeypatch.setattr("cmbagent_nb.store.database.BUSY_TIMEOUT", 0.05)
    record = Record(writer)
    record.settle()
    db.pool.dispose()
    writer.close()
    fresh = Database.open(tmp_path)
    patient = Writer(fresh)
    record.writer = patient
    counting = "SELECT COUNT(*) FROM execution_events"
    with closing(sqlite3.connect(tmp_path / "cmbagent.db", isolation_level=None)) as other:
        for what in ("rows", "call"):
            other.execute("BEGIN IMMEDIATE")
            if what == "rows":
                for _ in range(100):
                    record.event("info")
                done: Any = patient.barrier()
            else:
                done = patient.call(lambda connection: connection.exec_driver_sql(counting).scalar())
            deadline = time.monotonic() + 30
            while not patient.trouble and time.monotonic() < deadline:
                time.sleep(0.01)
            assert "locked" in patient.trouble
            assert not done.done()
            other.execute("COMMIT")
            assert done.result(30) == (None if what == "rows" else 100)
            assert patient.trouble == ""
    assert patient.faults == 0
    patient.close()
    fresh.close()


def test_what_cannot_be_written_is_taken_in_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When patience ends, rows go to a file and calls fail; on return the rows are taken in, each once, in order."""
    monkeypatch.setattr("cmbagent_nb.store.database.BUSY_TIMEOUT", 0.02)
    db = Database.open(tmp_path)
    writer = Writer(db, patience=0.1)
    record = Record(writer)
    record.settle()
    with closing(sqlite3.connect(tmp_path / "cmbagent.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = record.event("info", inputs={"nan": float("nan")}, status="running")
        record.settle()
        writer.update("execution_events", first, {"status": "completed"})
        second = record.event("info", parent_event_id=first)
        record.settle()
        with pytest.raises(StoreError, match="cannot be written"):
            writer.call(lambda c: None).result(30)
        for number in range(3):
            writer.update("execution_events", second, {"attempt": number})
            record.settle()
        assert list(tmp_path.glob("unwritten-*.jsonl"))
        other.execute("COMMIT")
    third = record.event("info", parent_event_id=second)
    record.settle()
    rows = db.rows("SELECT id, parent_event_id, status, inputs, attempt FROM execution_events ORDER BY execution_order")
    assert [row["id"] for row in rows] == [first, second, third]
    assert [row["parent_event_id"] for row in rows] == [None, first, second]
    assert rows[1]["attempt"] == 2
    assert (rows[0]["status"], rows[0]["inputs"]) == ("completed", '{"nan":{"$float":"nan"}}')
    assert not list(tmp_path.glob("unwritten-*"))
    assert (writer.faults, writer.trouble) == (0, "")
    writer.close()
    db.close()


def test_closing_while_the_database_is_locked_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next writer of the workspace takes them in."""
    monkeypatch.setattr("cmbagent_nb.store.database.BUSY_TIMEOUT", 0.02)
    db = Database.open(tmp_path)
    writer = Writer(db)
    record = Record(writer)
    record.settle()
    with closing(sqlite3.connect(tmp_path / "cmbagent.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        events = [record.event("info") for _ in range(10)]
        started = time.monotonic()
        writer.close(timeout=0.2)
        assert time.monotonic() - started < 60  # not for the lock, which is never released
        other.execute("COMMIT")
    events.append(record.event("info"))  # after the end
    with pytest.raises(StoreError, match="closed"):
        writer.call(lambda c: None).result(30)
    writer.barrier().result(30)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for path in tmp_path.glob("unwritten-*.jsonl"):  # a process that died while it took rows in
        path.rename(f"{path}.{int(gone.stdout)}.taken")
    again = Writer(db)
    record.writer = again
    events.append(record.event("info"))
    again.close()
    found = db.rows("SELECT id FROM execution_events ORDER BY execution_order")
    assert [row["id"] for row in found] == events
    assert (writer.faults, again.faults) == (0, 0)
    db.close()


def test_closing_writes_everything(db: Database) -> None:
    """Rows handed over right before the end are stored; a second close does nothing."""
    writer = Writer(db)
    record = Record(writer)
    for _ in range(3000):
        record.event("info")
    writer.close()
    writer.close()
    assert count(db, "execution_events") == 3000


def test_secrets_are_masked(db: Database, tmp_path: Path) -> None:
    """Texts, JSON, journal and refused rows are masked; ids, hashes and paths stay; a masked reply is marked."""
    secret = "sk-verysecret-0123456789"
    writer = Writer(db, lambda text: text.replace(secret, "[redacted:KEY]"))
    record = Record(writer)
    event = record.event("tool_call", inputs={"key": [secret]}, error=f"bad {secret}")
    record.file(f"data/{secret}.csv", content_hash=secret)
    reply = {"id": new_id(), "run_id": record.run, "request": {"k": secret}, "reply": {}, "created_at": 1.0}
    writer.insert("model_replies", reply)
    writer.insert("model_replies", {**reply, "id": new_id(), "request": {}, "masked": False})
    writer.journal(tmp_path / "journal.jsonl", "note", {"key": secret})
    record.event("info", no_such_column=secret)
    record.settle()
    writer.close()
    (row,) = db.rows("SELECT inputs, error FROM execution_events WHERE id = :id", id=event)
    assert row == {"inputs": '{"key":["[redacted:KEY]"]}', "error": "bad [redacted:KEY]"}
    assert db.rows("SELECT file_path, content_hash FROM files") == [
        {"file_path": f"data/{secret}.csv", "content_hash": secret}
    ]
    assert [row["masked"] for row in db.rows("SELECT masked FROM model_replies ORDER BY id")] == [1, 0]
    assert secret not in (tmp_path / "journal.jsonl").read_text()
    assert secret not in (tmp_path / "faults.jsonl").read_text()
    assert writer.faults == 1


def test_odd_values_find_their_place(db: Database, writer: Writer) -> None:
    """Surrogates, NUL, NaN, paths, exceptions and structures in plain columns do not fail."""
    record = Record(writer)
    record.event("info", error=ValueError("bad \ud800 \x00"), agent_name="a\x00", node_id=Path("x") / "y")
    record.message("\ud800", sender={"a": 1}, tokens=3)
    record.file("a", is_final_output=1, size_bytes=2**40)
    record.settle()
    (event,) = db.rows("SELECT error, agent_name, node_id FROM execution_events")
    assert event == {"error": "bad \ufffd \ufffd", "agent_name": "a\ufffd", "node_id": "x/y"}
    assert db.rows("SELECT content, sender, tokens FROM messages") == [
        {"content": "\ufffd", "sender": '{"a":1}', "tokens": 3}
    ]
    assert writer.faults == 0


def test_a_journal_that_cannot_be_written_harms_no_row(db: Database, writer: Writer, tmp_path: Path) -> None:
    """It is a fault, and the rows around it are stored."""
    record = Record(writer)
    (tmp_path / "file").write_text("x")
    writer.journal(tmp_path / "file" / "journal.jsonl", "note", {})
    record.event("info")
    record.settle()
    assert count(db, "execution_events") == 1
    assert [fault["operation"] for fault in faults(tmp_path)] == ["journal"]


@pytest.mark.parametrize("tables", [("messages", "execution_events"), ("messages",), ("cost_records", "state_history")])
def test_rows_that_were_taken_in_when_the_process_died_are_not_taken_in_again(
    tmp_path: Path, tables: tuple[str, ...]
) -> None:
    """Also those of tables that count up their keys, where nothing would refuse them."""
    db = Database.open(tmp_path)
    writer = Writer(db)
    record = Record(writer)
    record.settle()
    writer.close()
    common = {"run_id": record.run, "session_id": record.session, "created_at": 5.25}
    change = {"entity_type": "workflow_run", "entity_id": record.run, "from_state": None, "to_state": "executing"}
    event = {"id": new_id(), "event_type": "info", "status": "running", "started_at": 5.0}
    rows = {
        "messages": {**common, "sender": "é", "content": "x", "tool_calls": [{"a": float("nan")}], "tokens": None},
        "execution_events": {"run_id": record.run, "session_id": record.session, **event},
        "cost_records": {**common, "agent_name": "engineer", "total_tokens": 7, "cost_usd": 0.1},
        "state_history": {**common, **change},
    }
    spilled = SpillFiles(tmp_path, lambda text: text)
    spilled.keep([("insert", table, rows[table]) for table in tables])
    (file,) = tmp_path.glob("unwritten-*.jsonl")
    kept = file.read_bytes()
    for turn in range(2):
        file.write_bytes(kept)  # it is there again: as if the process had died before it removed it
        writer = Writer(db)
        record.writer = writer
        record.message(f"and on {turn}")
        writer.barrier().result(20)
        writer.close()
        assert writer.faults == 0
        assert not list(tmp_path.glob("unwritten-*"))
    for table in tables:
        expected = 3 if table == "messages" else 1
        assert len(db.rows(f"SELECT * FROM {table} WHERE run_id = :run", run=record.run)) == expected
    db.close()


CRASHING = """
import os, pathlib, signal, sys, time
sys.path.insert(0, {root!r})
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from tests.stored import Record
writer = Writer(Database.open(pathlib.Path({home!r})))
record = Record(writer)
record.settle()
for number in range(200):
    record.event("info")
    time.sleep(0.001)
{end}
"""


@pytest.mark.parametrize("end", ["writer.barrier().result(); os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)"])
def test_a_process_that_ends_loses_nothing(db: Database, tmp_path: Path, end: str) -> None:
    """What a barrier confirmed survives SIGKILL; an orderly end needs no barrier."""
    code = CRASHING.format(root=str(Path(__file__).parents[1]), home=str(tmp_path), end=end)
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == (-signal.SIGKILL if "kill" in end else 0)
    assert count(db, "execution_events") == 200


def test_two_processes_write_at_once(db: Database, writer: Writer, tmp_path: Path) -> None:
    """Two writers of one workspace, in two processes, lose nothing."""
    code = CRASHING.format(root=str(Path(__file__).parents[1]), home=str(tmp_path), end="writer.close()")
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    record = Record(writer)
    for _ in range(500):
        record.event("info")
        record.settle()
    assert [other.wait(60) for other in others] == [0, 0]
    assert count(db, "execution_events") == 500 + 2 * 200
    assert writer.faults == 0


@pytest.mark.timing
def test_handing_over_is_quick(db: Database, writer: Writer) -> None:
    """The caller's wait for a row is a few microseconds while the writer is at work."""
    record = Record(writer)
    waits = []
    for number in range(5000):
        row = {"id": new_id(), "run_id": record.run, "event_type": "info", "started_at": 1.0, "inputs": {"n": number}}
        before = time.perf_counter()
        writer.insert("execution_events", row)
        waits.append(time.perf_counter() - before)
    record.settle()
    assert sorted(waits)[2500] < 12e-6
    assert count(db, "execution_events") == 5000


@pytest.mark.timing
def test_rows_do_not_wait_long_and_calls_not_at_all(db: Database, writer: Writer) -> None:
    """What nobody waits for is stored within milliseconds all the same; many calls in a row do not linger."""
    record = Record(writer)
    record.settle()
    stored = threading.Event()
    writer.on_commit(lambda _runs: stored.set())
    lags = []
    for _ in range(20):
        stored.clear()
        start = time.perf_counter()
        record.event("info")
        assert stored.wait(10)
        lags.append(time.perf_counter() - start)
    assert sorted(lags)[10] < 0.005
    start = time.perf_counter()
    for future in [writer.call(lambda c: c.exec_driver_sql("SELECT 1").scalar()) for _ in range(200)]:
        assert future.result(30) == 1
    assert time.perf_counter() - start < 200 * 0.002


def test_rows_handed_over_after_the_close_are_kept_whoever_gave_up_waiting(db: Database, tmp_path: Path) -> None:
    """A barrier that nobody waits for any more takes no row with it, and the next writer's barrier has them all."""
    writer = Writer(db)
    record = Record(writer)
    writer.close()
    writer._idle = False  # as when the thread has ended and nobody has looked after it yet
    first = record.event("tool_call")
    given_up, waited = writer.barrier(), writer.barrier()
    refused, unasked = writer.call(lambda _: 1), writer.call(lambda _: 1)
    assert given_up.cancel() and unasked.cancel()
    second = record.event("tool_call")
    writer._idle = True
    third = record.event("tool_call")  # its caller sees to the rest
    waited.result(0)
    with pytest.raises(StoreError, match="closed"):
        refused.result(0)
    with closing(Writer(db)) as later:
        later.barrier().result(30)
        found = {row["id"] for row in db.rows("SELECT id FROM execution_events")}
    assert {first, second, third} <= found
    assert not list(tmp_path.glob("unwritten-*"))


def test_rows_after_the_close_that_no_file_takes_are_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the disk full, whoever waits hears of it, and who only hands over sees no error."""
    writer = Writer(db)
    record = Record(writer)
    writer.close()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SpillFiles, "keep", full)
    writer._idle = False
    record.event("tool_call")
    waited = writer.barrier()
    writer._idle = True
    record.event("tool_call")
    with pytest.raises(StoreError, match="No space left"):
        waited.result(0)
    assert writer.faults


@pytest.mark.parametrize(
    "line", ['["insert", "sessions", "x"]', '["update", "sessions", null]', '["insert", [], {}]', ""]
)
def test_what_is_no_row_in_a_file_of_unwritten_ones_harms_no_other(db: Database, tmp_path: Path, line: str) -> None:
    """The good rows of the file go in, and so does what is handed over; a file that cannot be read is left alone."""
    session = {"id": new_id(), "name": "kept", "status": "active", "created_at": 1.0}
    path = tmp_path / "unwritten-0.jsonl"
    if line:
        path.write_text(f"{line}\n{to_json(['insert', 'sessions', session])}\n")
    else:
        path.mkdir()
    with closing(Writer(db)) as writer:
        Record(writer).settle()
        assert count(db, "workflow_runs") == 1
        assert writer.faults == bool(line)
    assert path.is_dir() if not line else db.rows("SELECT 1 FROM sessions WHERE name = 'kept'")


def test_a_file_that_a_process_of_the_same_id_had_claimed_is_taken_in(db: Database, tmp_path: Path) -> None:
    """In a container each start has the same process id: what the last one had in hand is not ours."""
    session = {"id": new_id(), "name": "kept", "status": "active", "created_at": 1.0}
    held = tmp_path / f"unwritten-0.jsonl.{os.getpid()}.taken"
    held.write_text(to_json(["insert", "sessions", session]) + "\n")
    with closing(Writer(db)) as writer:
        writer.barrier().result(30)
        assert held.exists()  # claimed since this process began
    os.utime(held, (1.0, 1.0))
    with closing(Writer(db)) as writer:
        writer.barrier().result(30)
    assert db.rows("SELECT name FROM sessions WHERE id = :id", id=session["id"]) and not held.exists()
