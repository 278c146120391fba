"""Archives runs that ended long ago, and deletes one for good.

Nothing is archived by itself. ``cmbagent archive`` takes the runs that ended before ``archive_days`` (90, a
setting: ``CMBAGENT_ARCHIVE_DAYS`` or ``config.toml``), or before ``--older-than``; run it by hand, or each night from
cron. What becomes of the rows is in :mod:`cmbagent_nb.store.archive`. A run that was archived looks and reads as
before; resuming it brings its rows back first.

Large PostgreSQL databases
--------------------------
Archiving keeps the tables small, and that is enough for most. Where tens of millions of events have to stay at hand,
``execution_events`` and ``messages`` can be partitioned by month, so that a month goes with one ``DROP TABLE`` and an
index covers one month only. A partitioned table's primary key has to hold the column by which it is partitioned, and
then no other table can refer to its ``id`` alone: the links to events become plain columns, which the writer and all
queries are content with. While nothing else uses the database::

    BEGIN;
    -- the links of other tables to events; one such line for each that \\d execution_events names
    ALTER TABLE messages DROP CONSTRAINT messages_event_id_fkey;
    ALTER TABLE execution_events RENAME TO execution_events_before;
    CREATE TABLE execution_events (LIKE execution_events_before INCLUDING DEFAULTS) PARTITION BY RANGE (started_at);
    ALTER TABLE execution_events ADD PRIMARY KEY (id, started_at);
    ALTER TABLE execution_events ADD FOREIGN KEY (run_id) REFERENCES workflow_runs (id) ON DELETE CASCADE;
    -- times are seconds since 1970; a partition for each month, and one for what fits none
    CREATE TABLE execution_events_2026_03 PARTITION OF execution_events
        FOR VALUES FROM (1772323200) TO (1775001600);
    CREATE TABLE execution_events_other PARTITION OF execution_events DEFAULT;
    CREATE INDEX ON execution_events (run_id, execution_order);
    CREATE INDEX ON execution_events (run_id, node_id, execution_order);
    INSERT INTO execution_events SELECT * FROM execution_events_before;
    DROP TABLE execution_events_before;
    COMMIT;

``messages`` goes likewise by ``created_at``. A new month's partition is made before the month begins (pg_partman does
that by itself); rows of a month without one go to the default partition and are found there. Migrations of later
versions expect the tables as they were made: undo this before an update, or ask in an issue.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, UsageError
from cmbagent_nb.execution.trees import remove_tree
from cmbagent_nb.store.archive import Archived, archive_run, empty
from cmbagent_nb.store.archived import archived
from cmbagent_nb.store.database import Database, rows
from cmbagent_nb.store.json import from_json
from cmbagent_nb.store.removal import delete_rows
from cmbagent_nb.store.snapshot import FINISHED
from cmbagent_nb.workflow.leftovers import end_leftovers

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer

#: Where the folder of a run that is being deleted is until its rows are gone.
TRASH = "trash"

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 86400.0, "w": 604800.0, "y": 31557600.0}


def span(text: str | float | timedelta) -> float:
    """Return the seconds of a span of time; a number alone means days.

    >>> span("90d"), span("12h"), span(2)
    (7776000.0, 43200.0, 172800.0)

    Raises
    ------
    UsageError
        It is no span of time.
    """
    if isinstance(text, timedelta):
        return text.total_seconds()
    found = _SPAN.fullmatch(str(text).strip().lower())
    if not found or found[2] not in _SECONDS:
        raise UsageError(f"{text!r} is no span of time", "Write 12h, 90d, 8w or 1y.", span=text)
    return float(found[1]) * _SECONDS[found[2]]


def due(db: Database, older_than: float, session: str | None = None) -> list[dict[str, Any]]:
    """Return the runs that ended more than so many seconds ago and are not archived, the oldest first."""
    ended = ", ".join(repr(status) for status in sorted(FINISHED))
    found = db.rows(
        "SELECT * FROM (SELECT id, name, status, meta, session_id,"
        " COALESCE(ended_at, last_heartbeat_at, created_at) AS ended_at FROM workflow_runs"
        f" WHERE status IN ({ended})) AS r WHERE ended_at < :before"
        " AND (:session = '' OR session_id IN (SELECT id FROM sessions WHERE id = :session OR name = :session))"
        " ORDER BY ended_at, id",
        before=time.time() - older_than,
        session=session or "",
    )
    for run in found:
        run["meta"] = from_json(run["meta"]) if run["meta"] else {}
    return [run for run in found if "archived" not in run["meta"]]


def archive(db: Database, writer: Writer, older_than: float, session: str | None = None) -> list[Archived]:
    """Archive the runs that ended more than so many seconds ago; first end what an earlier archiving has begun."""
    writer.check()
    for run in db.rows("SELECT id, meta FROM workflow_runs WHERE meta LIKE '%\"archived\":%'"):
        mark = from_json(run["meta"]).get("archived")
        if isinstance(mark, dict) and not mark["emptied"]:
            empty(db, writer, run["id"])
    return [archive_run(db, writer, run["id"]) for run in due(db, older_than, session)]


def compact(db: Database) -> int:
    """Give the space that deleted rows have left back to the disk; returns how many bytes that were.

    The database is rewritten: others wait meanwhile. A server does this by itself.

    Raises
    ------
    StateError
        The database is busy.
    """
    if db.path is None:
        return 0
    before = _size(db.path)
    try:
        with closing(sqlite3.connect(db.path, timeout=10.0, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        raise StateError(
            f"the database cannot be compacted now ({error})", "Try again when no run goes on and the disk has space."
        ) from error
    return max(0, before - _size(db.path))


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*") if part.is_file())


def delete_run(db: Database, writer: Writer, run_id: str) -> str:
    """Delete a run: its rows, its archive, and its folder when that is one of the workspace's own.

    Skills that were made of it stay, and so does a folder that was given with ``--work-dir``. Returns what was
    deleted, in words.

    Raises
    ------
    StateError
        The run goes on.
    """
    writer.check()
    (run,) = db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run_id)
    if run["status"] not in FINISHED:
        raise StateError(f"run {run['name']} is {run['status']}", "Cancel it first.", run_id=run_id)
    end_leftovers(db, run_id)
    mark = archived(db, run_id)
    trash = db.home / TRASH / run_id
    work_dir = Path(run["work_dir"] or "")
    own = work_dir.parent == db.home / "runs"
    if own and work_dir.is_dir():
        # Out of the way first: a journal among the runs would bring a lost run back at the next repair.
        trash.parent.mkdir(exist_ok=True)
        _remove(trash)
        work_dir.rename(trash)
    for table in ("messages", "model_replies", "files", "execution_events", "state_history"):
        delete_rows(writer, table, run_id)
    writer.call(lambda connection: _delete(connection, run_id), touches=[run_id], journal=False).result()
    if mark is not None:
        shutil.rmtree(db.home / mark["path"], ignore_errors=True)
    _remove(trash)
    if not own:
        # The name was reserved by an empty folder.
        reserved = db.home / "runs" / str(run["name"])
        if reserved.is_dir() and not any(reserved.iterdir()):
            reserved.rmdir()
    kept = f"; its folder {work_dir} is not the workspace's own and stays" if not own and work_dir.is_dir() else ""
    return f"Deleted {run['name']}{kept}."


def _remove(folder: Path) -> None:
    """Remove a folder; what cannot be removed stays, out of the way."""
    with contextlib.suppress(OSError):
        remove_tree(folder)


def _delete(connection: Connection, run_id: str) -> None:
    (run,) = rows(connection, "SELECT status, name FROM workflow_runs WHERE id = :id", {"id": run_id})
    if run["status"] not in FINISHED:
        raise StateError(f"run {run['name']} is {run['status']}", "Cancel it first.", run_id=run_id)
    connection.execute("DELETE FROM workflow_runs WHERE id = :id", {"id": run_id})
