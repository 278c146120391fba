"""What leaves the database and comes back: archives and pages are the same from every store; a backup says its part."""

from __future__ import annotations

from cmbagent_nb.store import archive, pages
from cmbagent_nb.workflow import backup
from cmbagent_nb.workflow.retention import compact, delete_run
from tests.conformance.backend import Backend
from tests.stored import count
from tests.test_archive import LEAVING, a_run, all_frames, same, shown


def a_run_is_archived_and_comes_back(backend: Backend) -> None:
    """Its rows leave the database, read as before, and come back although their numbers were given away."""
    db = backend.database()
    writer = backend.writer(db)
    a_run(writer, "other")
    record = a_run(writer)
    before, view = all_frames(db, record.run), shown(db, record.run)
    messages = list(pages.rows(db, "messages", record.run, size=1))
    done = archive.archive_run(db, writer, record.run)
    assert count(db, "messages") == 2  # of the other run
    same(before, all_frames(db, record.run))
    assert shown(db, record.run) == view
    assert list(pages.rows(db, "messages", record.run, size=1)) == messages
    a_run(writer, "later")
    assert archive.unarchive_run(db, writer, record.run) == done.rows
    same(before, all_frames(db, record.run))
    delete_run(db, writer, record.run)
    for table in LEAVING:
        assert db.rows(f"SELECT COUNT(*) AS n FROM {table} WHERE run_id = :run", run=record.run) == [{"n": 0}]
    assert compact(db) >= 0


def pages_go_through_a_run_in_order(backend: Backend) -> None:
    """Whatever the size of a page, each row comes once."""
    db = backend.database()
    writer = backend.writer(db)
    record = a_run(writer)
    for number in range(20):
        record.event("info", meta={"n": number})
    record.settle()
    whole = [row["id"] for row in pages.rows(db, "execution_events", record.run)]
    assert len(whole) == 23
    for size in (1, 7, 23):
        assert [row["id"] for row in pages.rows(db, "execution_events", record.run, size=size)] == whole
    key = (5, "~")
    assert (
        next(row["execution_order"] for row in pages.rows(db, "execution_events", record.run, size=3, after=key)) == 6
    )


def a_backup_says_what_it_holds(backend: Backend) -> None:
    """An embedded database is in it; one on a server is not, and the way to save it is told."""
    db = backend.database()
    writer = backend.writer(db)
    a_run(writer)
    made = backup.backup(db, backend.home.parent / "backup.tar")
    assert made.runs == 1
    assert any("pg_dump" in note for note in made.notes) != backend.is_sqlite
    back = backup.restore(made.path, backend.home.parent / "restored")
    assert (back.home / "cmbagent.db").exists() == backend.is_sqlite
    assert any("pg_restore" in note for note in back.notes) != backend.is_sqlite


SPECS = (a_run_is_archived_and_comes_back, pages_go_through_a_run_in_order, a_backup_says_what_it_holds)
