"""Opening a database: made, migrated, current, or refused with the way out."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from cmbagent_nb.errors import DatabaseTooNew, StoreError, WorkDirError
from cmbagent_nb.store import columns, filesystem
from cmbagent_nb.store.database import VERSIONS, Database
from cmbagent_nb.store.migrate import configuration, engine, migrate
from cmbagent_nb.store.tables import Table, WorkflowRun
from cmbagent_nb.store.writer import Writer

from .stored import Record


def test_a_new_database_has_every_table(tmp_path: Path) -> None:
    """The first opening makes the schema; foreign keys and the write-ahead log are on."""
    db = Database.open(tmp_path / "deep" / "home")
    found = {row["name"] for row in db.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert set(columns.TABLES) <= found
    assert db.rows("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    assert db.rows("PRAGMA foreign_keys") == [{"foreign_keys": 1}]
    db.close()
    Database.open(tmp_path / "deep" / "home").close()


def test_migrations_give_the_schema_of_the_tables(tmp_path: Path) -> None:
    """Autogenerate finds nothing to do after the migrations; down and up again leaves the same."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    db = Database.open(tmp_path)
    schema = db.rows("SELECT name, sql FROM sqlite_master ORDER BY name")
    with engine(db).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True, "compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
        script = ScriptDirectory.from_config(configuration(connection))
    assert tuple(reversed([item.revision for item in script.walk_revisions()])) == VERSIONS
    migrate(db, "base")
    assert [row["name"] for row in db.rows("SELECT name FROM sqlite_master WHERE type = 'table'")] == [
        "alembic_version"
    ]
    migrate(db)
    assert db.rows("SELECT name, sql FROM sqlite_master ORDER BY name") == schema, "see tests/make_schema.py"
    db.close()


def test_column_names_say_what_they_hold() -> None:
    """The light rules about names fit the tables: JSON is text, times are floats, flags are booleans."""
    tables = Table.metadata.tables
    assert set(tables) == set(columns.TABLES)
    everything = [column for table in tables.values() for column in table.columns]
    names = {column.name for column in everything}
    assert names >= columns.JSON
    assert names >= columns.BOOLEAN
    for column in everything:
        kind = type(column.type).__name__
        assert (kind == "Boolean") == (column.name in columns.BOOLEAN), column
        assert column.name not in columns.JSON or kind == "Text", column
        assert not column.name.endswith("_at") or kind == "Float", column
    for table in tables.values():
        assert [column.name for column in table.primary_key] == [columns.key_of(table.name)]
        places = {columns.RANK[key.column.table.name] for key in table.foreign_keys}
        assert all(place <= columns.RANK[table.name] for place in places), table.name


def test_opening_a_current_database_loads_nothing_heavy(tmp_path: Path) -> None:
    """A database at the current version is opened by the driver alone."""
    Database.open(tmp_path).close()
    code = (
        "import sys, pathlib\n"
        "from cmbagent_nb.store.database import Database\n"
        "from cmbagent_nb.store.writer import Writer\n"
        f"Database.open(pathlib.Path({str(tmp_path)!r})).data_version()\n"
        "heavy = {'alembic', 'sqlmodel', 'sqlalchemy', 'pandas', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """A schema of the future is left alone."""
    Database.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "cmbagent.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = (tmp_path / "cmbagent.db").read_bytes()
    with pytest.raises(DatabaseTooNew, match=r"9999.*Update cmbagent_nb"):
        Database.open(tmp_path)
    assert (tmp_path / "cmbagent.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"this is not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is not a database is named, with what to do, and left as it is."""
    (tmp_path / "cmbagent.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"cmbagent\.db is damaged .*doctor --repair"):
        Database.open(tmp_path)
    assert (tmp_path / "cmbagent.db").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The error names the folder and the setting."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkDirError, match="CMBAGENT_HOME"):
        Database.open(tmp_path / "file" / "home")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's log is not safe there; PostgreSQL or a local folder is."""
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/with\\040blank nfs4 rw 0 0\nbroken\n")
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **more: real(table if str(self) == "/proc/self/mounts" else self, **more)
    )
    monkeypatch.setattr(filesystem.sys, "platform", "linux")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\).*PostgreSQL"):
        Database.open(tmp_path / "with blank" / "home")
    assert not (tmp_path / "with blank" / "home" / "cmbagent.db").exists()
    Database.open(tmp_path / "local").close()


def test_an_unknown_kind_of_database_is_refused(tmp_path: Path) -> None:
    """Only SQLite and PostgreSQL are known; a server that is not there is said in one line without the password."""
    with pytest.raises(StoreError, match="'mysql' is not known"):
        Database.open(tmp_path, "mysql://host/x")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        Database.open(tmp_path, "postgresql://me:secret@127.0.0.1:9/x?connect_timeout=2")
    assert "secret" not in str(caught.value)


def test_two_openings_at_once_migrate_once(tmp_path: Path) -> None:
    """Whoever comes second waits for the lock and finds the work done."""
    opened: list[Database] = []
    with FileLock(tmp_path / "migrate.lock"):
        threads = [threading.Thread(target=lambda: opened.append(Database.open(tmp_path))) for _ in range(4)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 4
    for db in opened:
        assert db.rows("SELECT version_num FROM alembic_version") == [{"version_num": VERSIONS[-1]}]
        db.close()


def test_data_version_tells_of_every_commit(tmp_path: Path) -> None:
    """It changes when another connection commits, and only then."""
    db = Database.open(tmp_path)
    first = db.data_version()
    assert db.data_version() == first
    writer = Writer(db)
    Record(writer).settle()
    second = db.data_version()
    assert second != first
    other = Database.open(tmp_path)
    other_writer = Writer(other)
    Record(other_writer).settle()
    assert db.data_version() != second
    for item in (writer, other_writer, db, other):
        item.close()
    with pytest.raises(StoreError, match="closed"):
        db.data_version()
    with pytest.raises(StoreError, match="closed"):
        db.rows("SELECT 1")


def test_reading_is_of_one_moment(tmp_path: Path) -> None:
    """Within one reading, a commit of the writer is not seen."""
    db = Database.open(tmp_path)
    writer = Writer(db)
    record = Record(writer)
    record.settle()
    with db.reading() as connection:
        count = "SELECT COUNT(*) FROM execution_events"
        assert connection.exec_driver_sql(count).scalar() == 0
        record.event("info")
        record.settle()
        assert connection.exec_driver_sql(count).scalar() == 0
    assert db.rows("SELECT COUNT(*) AS n FROM execution_events WHERE run_id = :run", run=record.run) == [{"n": 1}]
    one = db.get(WorkflowRun, record.run)
    assert one is not None
    assert (one.name, one.is_branch) == ("planck", False)
    assert db.get(WorkflowRun, "none") is None
    assert list(db.frame("SELECT id, name FROM workflow_runs WHERE id = :id", id="none")) == ["id", "name"]
    writer.close()
    db.close()


def test_the_indexes_serve_the_queries(tmp_path: Path) -> None:
    """No query of a view scans a table of events."""
    db = Database.open(tmp_path)
    for query in (
        "SELECT * FROM execution_events WHERE run_id = '1' ORDER BY execution_order",
        "SELECT * FROM execution_events WHERE run_id = '1' AND node_id = 's' ORDER BY execution_order",
        "SELECT * FROM execution_events WHERE event_type = 'x' AND event_subtype = 'y'",
        "SELECT * FROM execution_events WHERE session_id = '1' ORDER BY started_at",
        "SELECT * FROM execution_events WHERE parent_event_id = '1'",
        "SELECT * FROM approval_requests WHERE status = 'pending' ORDER BY created_at",
        "SELECT * FROM messages WHERE run_id = '1' ORDER BY id DESC",
        "SELECT * FROM files WHERE run_id = '1' AND file_path = 'x'",
        "SELECT * FROM skills WHERE source_run_id = '1'",
        "SELECT * FROM workflow_runs ORDER BY created_at DESC",
    ):
        plan = " / ".join(str(row["detail"]) for row in db.rows("EXPLAIN QUERY PLAN " + query))
        assert "INDEX" in plan, (query, plan)
        assert "TEMP B-TREE" not in plan, (query, plan)
    db.close()


def test_deleting_a_run_deletes_its_rows(tmp_path: Path) -> None:
    """Everything that belongs to a run goes with it."""
    db = Database.open(tmp_path)
    writer = Writer(db)
    record = Record(writer)
    event = record.event("agent_call")
    child = record.event("file_gen", parent_event_id=event)
    record.file("data/x.csv", event=child)
    record.cost("engineer", event=event)
    record.message("hello", event_id=event)
    record.node("step_1", 1)
    writer.call(lambda c: c.exec_driver_sql("DELETE FROM workflow_runs WHERE id = ?", (record.run,))).result(30)
    for table in ("execution_events", "files", "cost_records", "messages", "dag_nodes"):
        assert db.rows(f"SELECT * FROM {table}") == []
    writer.close()
    db.close()
