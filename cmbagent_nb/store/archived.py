"""Reads an archived run as if its rows were still in the database.

The rows of an archived run are in Parquet files (see :mod:`cmbagent_nb.store.archive`). Readers of a run ask
:func:`record_of` for the database that holds it: the workspace's own, or a small one that is made of the archive,
on the disk and not in memory, kept while it is in use and a little longer.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store import forks
from cmbagent_nb.store.columns import TABLES
from cmbagent_nb.store.connection import Pool
from cmbagent_nb.store.database import FILE_NAME, SCHEMA, Database
from cmbagent_nb.store.json import from_json
from cmbagent_nb.store.private import FILE

#: The file beside the tables of an archived run: what they are, and how many rows they have.
MANIFEST = "archive.json"

#: Rows that are in memory at once.
CHUNK = 5000

#: Archives that stay open.
_MOST_OPEN = 3

_open: OrderedDict[tuple[str, str], Database] = OrderedDict()
_lock = threading.Lock()
forks.fresh(sys.modules[__name__], "_lock")


def record_of(db: Database, run_id: str) -> Database:
    """Return the database that holds a run's rows: ``db`` itself, or one made of the run's archive.

    Raises
    ------
    StoreError
        The run was archived, and its archive is not there or damaged.
    """
    found = archived(db, run_id)
    if found is None:
        return db
    folder = db.home / found["path"]
    key = (str(folder), str(found["at"]))
    with _lock:
        if key not in _open:
            _open[key] = _made(db, run_id, folder)
        _open.move_to_end(key)
        while len(_open) > _MOST_OPEN:
            _open.popitem(last=False)  # it is closed when nobody reads from it any more
        return _open[key]


def archived(db: Database, run_id: str) -> dict[str, Any] | None:
    """Return what a run's row says of its archive; None for a run that was not archived."""
    rows = db.rows("SELECT meta FROM workflow_runs WHERE id = :id AND meta LIKE '%\"archived\":%'", id=run_id)
    meta = from_json(rows[0]["meta"]) if rows else {}
    found = meta.get("archived") if isinstance(meta, dict) else None
    return found if isinstance(found, dict) else None


def archived_runs(db: Database) -> list[str]:
    """Return the ids of the runs that were archived."""
    rows = db.rows("SELECT id, meta FROM workflow_runs WHERE meta LIKE '%\"archived\":%' ORDER BY created_at, id")
    return [row["id"] for row in rows if isinstance(from_json(row["meta"]).get("archived"), dict)]


def find_archived(db: Database, table: str, identifier: str) -> dict[str, Any] | None:
    """Return the row with this id from the archives; None where no archived run has it."""
    from pyarrow.parquet import read_table as read

    for run_id in archived_runs(db):
        path = db.home / (archived(db, run_id) or {})["path"] / f"{table}.parquet"
        if path.is_file():
            found = read(path, filters=[("id", "==", identifier)]).to_pylist()
            if found:
                return dict(found[0])
    return None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what an archive consists of.

    Raises
    ------
    StoreError
        It is not there, or cannot be read.
    """
    try:
        found = from_json((folder / MANIFEST).read_bytes())
        return dict(found)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"the archive {folder} cannot be read ({error})",
            "Put the folder back, for example from a backup of the workspace.",
            path=folder,
        ) from error


def read_table(folder: Path, table: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of an archived table in groups.

    Raises
    ------
    StoreError
        The file is not there or damaged.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(folder / f"{table}.parquet") as file:
            for batch in file.iter_batches(CHUNK):
                yield batch.to_pylist()
    except (OSError, ArrowInvalid) as error:
        raise StoreError(
            f"the archive {folder} cannot be read ({error})",
            "Put the folder back, for example from a backup of the workspace.",
            path=folder,
        ) from error


def _made(db: Database, run_id: str, folder: Path) -> Database:
    """Make a database of an archive and of the rows of its run and session, which never leave ``db``."""
    manifest = read_manifest(folder)
    place = Path(tempfile.mkdtemp(prefix="cmbagent-archive-"))
    (place / FILE_NAME).touch(mode=FILE)
    made = Database(place, "")
    made.home = db.home  # where the paths of its rows lead
    weakref.finalize(made, _close, made.pool, place)
    run = db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run_id)
    session = db.rows("SELECT * FROM sessions WHERE id = :id", id=run[0]["session_id"])
    with closing(sqlite3.connect(place / FILE_NAME)) as connection:  # where no links are enforced
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        _insert(connection, "sessions", session)
        _insert(connection, "workflow_runs", run)
        for table in manifest["tables"]:
            if table in TABLES:
                for rows in read_table(folder, table):
                    _insert(connection, table, rows)
        connection.commit()
    return made


def _insert(connection: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    known = {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}
    names = [name for name in rows[0] if name in known]
    sql = f'INSERT INTO "{table}" ({", ".join(names)}) VALUES ({", ".join("?" * len(names))})'
    connection.executemany(sql, [tuple(row[name] for name in names) for row in rows])


def _close(pool: Pool, place: Path) -> None:
    pool.dispose()
    shutil.rmtree(place, ignore_errors=True)
