"""Moves the rows of a finished run from the database into Parquet files, and back.

| invariant | how |
|---|---|
| no moment in which a row is nowhere | files are written, brought to the disk and read back before a row is deleted |
| a run is either here or there | one statement marks its row; readers follow the mark (:func:`record_of`) |
| a process may die at any moment | before the mark: a folder too many; after it: rows too many, which go next time |
| other runs go on | rows are deleted in groups, each a transaction of its own |
| what lists and sums need stays | the run's row, its steps, nodes, edges and costs; the archive has copies of them |

``<home>/archive/2026-03/<name>-<end of id>/`` holds one file a table, compressed with zstd, that pandas, DuckDB and
others read as they are, and ``archive.json``. The month is that in which the run ended. The run's folder with its
files is not touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, StoreError
from cmbagent_nb.ids import short
from cmbagent_nb.store.archived import CHUNK, MANIFEST, archived, read_manifest, read_table
from cmbagent_nb.store.columns import COUNTED, RANK
from cmbagent_nb.store.database import VERSIONS, Database, rows
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.private import make_folder, tighten
from cmbagent_nb.store.removal import delete_rows
from cmbagent_nb.store.snapshot import FINISHED

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Table

    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer

#: The folder of the archives in a workspace.
FOLDER = "archive"

#: Tables of which a copy is archived and whose rows stay: they are few, and lists and sums over runs need them.
STAYING = ("workflow_steps", "dag_nodes", "dag_edges", "cost_records")

#: Tables with runs in them that are not a part of a run's record: the library learns from them.
_OTHERS = ("leases", "skill_executions", "skill_matches")

#: The order in which the rows of a table can be inserted again; other tables are ordered by their keys.
_ORDER = {"execution_events": "execution_order, id", "files": "version, created_at, id"}


@dataclass(frozen=True)
class Archived:
    """A run that was archived."""

    id: str
    name: str
    folder: Path
    rows: int
    size_bytes: int


def archive_run(db: Database, writer: Writer, run_id: str) -> Archived:
    """Move a finished run's rows into files.

    Raises
    ------
    StateError
        The run goes on, is archived already, or has changed meanwhile.
    StoreError
        The files cannot be written, or do not hold what was written.
    """
    run = db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run_id)[0]
    _check(run)
    place = _place(run)
    folder = db.home / place
    counts = _write(db, run_id, run, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    total = sum(counts.values())
    mark = {"path": place, "at": time.time(), "rows": total, "size_bytes": size, "emptied": False}
    writer.call(lambda connection: _mark(connection, run, counts, mark), touches=[run_id], journal=False).result()
    empty(db, writer, run_id)
    return Archived(run_id, str(run["name"]), folder, total, size)


def empty(db: Database, writer: Writer, run_id: str) -> None:
    """Delete the rows of an archived run that are still in the database."""
    manifest = read_manifest(db.home / (archived(db, run_id) or {})["path"])
    for table in manifest["tables"]:
        if table not in STAYING:
            delete_rows(writer, table, run_id)
    writer.call(lambda connection: _note(connection, run_id, emptied=True), touches=[run_id], journal=False).result()


def unarchive_run(db: Database, writer: Writer, run_id: str) -> int:
    """Bring an archived run's rows back into the database and delete the archive; returns how many they are.

    Raises
    ------
    StateError
        The run is not archived.
    StoreError
        The archive is not there or damaged.
    """
    found = archived(db, run_id)
    if found is None:
        name = db.rows("SELECT name FROM workflow_runs WHERE id = :id", id=run_id)[0]["name"]
        raise StateError(f"run {name} is not archived", "Its rows are in the database.", run_id=run_id)
    folder = db.home / found["path"]
    tables = sorted(read_manifest(folder)["tables"], key=lambda table: RANK.get(table, len(RANK)))
    # From here to the end the archive counts, and what stands in the database is left over if this does not end well.
    writer.call(lambda connection: _note(connection, run_id, emptied=False), journal=False).result()
    total = 0
    known = _tables()
    for table in tables:
        if table not in known:
            continue
        if table not in STAYING:
            delete_rows(writer, table, run_id)
        held: list[dict[str, Any]] = []
        for group in read_table(folder, table):
            total += len(group)
            if table in STAYING:
                held += group
            else:
                writer.call(
                    lambda connection, table=table, group=group: _insert(connection, table, group),  # type: ignore[misc]
                    journal=False,
                ).result()
        if table in STAYING:
            writer.call(
                lambda connection, table=table, held=held: _replace(connection, table, run_id, held),  # type: ignore[misc]
                journal=False,
            ).result()
    writer.call(lambda connection: _note(connection, run_id, emptied=None), touches=[run_id], journal=False).result()
    shutil.rmtree(folder)
    return total


# ---- the files


def _place(run: Mapping[str, Any]) -> str:
    ended = run["ended_at"] or run["last_heartbeat_at"] or run["created_at"]
    month = time.strftime("%Y-%m", time.gmtime(ended))
    return f"{FOLDER}/{month}/{run['name'] or 'run'}-{short(run['id'])}"


def _write(db: Database, run_id: str, run: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Write all tables of a run beside the folder, check them, and put them in its place; returns their row counts."""
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        make_folder(fresh)
        counts, digests = {}, {}
        with db.reading() as connection:
            for name, table in _tables().items():
                counts[name], digests[name] = _write_table(connection, table, run_id, fresh / f"{name}.parquet")
        for name, digest in digests.items():
            _verify(fresh, name, counts[name], digest)
        about = {"run_id": run_id, "name": run["name"], "schema": VERSIONS[-1], "written_at": time.time()}
        _write_file(fresh / MANIFEST, to_json({**about, "tables": counts, "digests": digests}).encode())
        tighten(fresh)
        if folder.exists():
            shutil.rmtree(folder)  # of an archiving that did not come to its end
        fresh.rename(folder)
        for path in (folder, folder.parent, folder.parent.parent):
            _to_disk(path)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise StoreError(
            f"the archive {folder} cannot be written ({error.strerror or error})", "Nothing was deleted.", path=folder
        ) from error
    return counts


def _write_table(connection: Connection, table: Table, run_id: str, path: Path) -> tuple[int, str]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = _schema(table)
    names, kinds = schema.names, [str(kind) for kind in schema.types]
    order = _ORDER.get(table.name, "id")
    sql = f'SELECT {", ".join(names)} FROM "{table.name}" WHERE run_id = :run ORDER BY {order}'
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        with ParquetWriter(file, schema, compression="zstd") as writer:
            for group in connection.stream(sql, {"run": run_id}, CHUNK):
                columns = [_exact(column, kind) for column, kind in zip(zip(*group, strict=True), kinds, strict=True)]
                _add(digest, zip(*columns, strict=True))
                count += len(group)
                writer.write_batch(pa.record_batch(columns, schema=schema))
        file.flush()
        os.fsync(file.fileno())
    return count, digest.hexdigest()


def _verify(folder: Path, table: str, count: int, expected: str) -> None:
    """Read a file back and compare all its values with those that were written."""
    digest, found = hashlib.sha256(), 0
    for group in read_table(folder, table):
        found += len(group)
        _add(digest, (tuple(row.values()) for row in group))
    if found != count or digest.hexdigest() != expected:
        raise StoreError(
            f"the file {folder / f'{table}.parquet'} does not hold what was written", "Nothing was deleted. Try again."
        )


def _add(digest: Any, group: Iterable[tuple[Any, ...]]) -> None:
    for row in group:
        digest.update(repr(row).encode("utf-8", "backslashreplace"))


def _schema(table: Table) -> pa.Schema:
    import pyarrow as pa
    from sqlalchemy import Boolean, Float, Integer, LargeBinary

    kinds = ((Boolean, pa.bool_()), (Integer, pa.int64()), (Float, pa.float64()), (LargeBinary, pa.binary()))
    return pa.schema(
        [
            (column.name, next((kind for type_, kind in kinds if isinstance(column.type, type_)), pa.string()))
            for column in table.columns
        ]
    )


def _exact(column: Iterable[Any], kind: str) -> list[Any]:
    """Return values as their column has them: SQLite gives 0 and 1 for no and yes, and 1 for 1.0."""
    if kind == "bool":
        return [None if value is None else bool(value) for value in column]
    if kind == "double":
        return [None if value is None else float(value) for value in column]
    return list(column)


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _to_disk(folder: Path) -> None:
    """Bring a folder's list of files to the disk, where the platform knows how."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- the rows


def _tables() -> dict[str, Table]:
    """Return the tables that hold a run's record, in the order in which rows can be inserted."""
    from cmbagent_nb.store.tables import Table

    found = {
        name: table
        for name, table in Table.metadata.tables.items()
        if "run_id" in table.columns and name not in _OTHERS
    }
    return dict(sorted(found.items(), key=lambda item: RANK.get(item[0], len(RANK))))


def _check(run: Mapping[str, Any]) -> None:
    if run["status"] not in FINISHED:
        raise StateError(
            f"run {run['name']} is {run['status']}", "Only runs that have ended can be archived.", run_id=run["id"]
        )
    if "archived" in (from_json(run["meta"]) if run["meta"] else {}):
        raise StateError(f"run {run['name']} is archived already", "There is nothing to do.", run_id=run["id"])


def _mark(connection: Connection, run: Mapping[str, Any], counts: Mapping[str, int], mark: Mapping[str, Any]) -> None:
    """Mark a run as archived, if it is still as it was when it was read."""
    (now,) = rows(connection, "SELECT * FROM workflow_runs WHERE id = :id", {"id": run["id"]})
    _check(now)
    here = {
        table: rows(connection, f'SELECT COUNT(*) AS n FROM "{table}" WHERE run_id = :run', {"run": run["id"]})[0]["n"]
        for table in counts
    }
    if now["ended_at"] != run["ended_at"] or here != dict(counts):
        raise StateError(f"run {run['name']} has changed while it was archived", "Try again.", run_id=run["id"])
    _change_meta(connection, run["id"], lambda meta: {**meta, "archived": dict(mark)})


def _note(connection: Connection, run_id: str, *, emptied: bool | None) -> None:
    """Write whether the database has rows of an archived run left; None: it is archived no more."""

    def change(meta: dict[str, Any]) -> dict[str, Any]:
        if emptied is None:
            return {name: value for name, value in meta.items() if name != "archived"}
        return {**meta, "archived": {**meta["archived"], "emptied": emptied}}

    _change_meta(connection, run_id, change)


def _change_meta(connection: Connection, run_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    (run,) = rows(connection, "SELECT meta FROM workflow_runs WHERE id = :id", {"id": run_id})
    meta = change(from_json(run["meta"]) if run["meta"] else {})
    connection.execute("UPDATE workflow_runs SET meta = :meta WHERE id = :id", {"meta": to_json(meta), "id": run_id})


def _insert(connection: Connection, table: str, group: list[dict[str, Any]]) -> None:
    """Insert rows; those with a number for a key get new ones, since theirs may have been given away."""
    known = _tables()[table].columns
    names = [name for name in group[0] if name in known and not (name == "id" and table in COUNTED)]
    sql = f'INSERT INTO "{table}" ({", ".join(names)}) VALUES ({", ".join(":" + name for name in names)})'
    connection.execute(sql, [{name: row[name] for name in names} for row in group])


def _replace(connection: Connection, table: str, run_id: str, group: list[dict[str, Any]]) -> None:
    connection.execute(f'DELETE FROM "{table}" WHERE run_id = :run', {"run": run_id})
    if group:
        _insert(connection, table, group)
