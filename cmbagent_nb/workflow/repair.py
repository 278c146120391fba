"""Mends a workspace run by run: each of its two copies, database and journals, gives what the other has lost.

| what is damaged | what is done |
|---|---|
| the database | it is moved aside, a new one is made of what can be read of it and of the journals |
| rows of a run | they come from its journal |
| a journal | it is moved aside, and written again from its good lines and the database |
| both | what neither has is told as lost |

Nothing that is damaged is deleted: it lies beside its place under a name with ``.damaged-`` and the time. One run that
cannot be mended holds no other up.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.store import health
from cmbagent_nb.store.columns import COUNTED, JSON, key_of
from cmbagent_nb.store.connection import is_wrong
from cmbagent_nb.store.files import from_record, row_to_record
from cmbagent_nb.store.images import KIND
from cmbagent_nb.store.images import TABLES as RUN_TABLES
from cmbagent_nb.store.journal import FILE_NAME, VERSION, open_journal, read_journal
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.private import make_folder, open_private
from cmbagent_nb.store.sqlite import SUFFIXES, kind_of
from cmbagent_nb.workflow.history import REWRITTEN, rows_of_database
from cmbagent_nb.workflow.rebuild import Rebuilt, rebuild, take_twin

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

LOG = logging.getLogger(__name__)

#: What changes all the time, or belongs to a process, and is no part of a comparison.
PASSING = frozenset({"last_heartbeat_at", "progress_percentage", "owner", "work_dir"})

#: Statuses of what goes on: a copy that says more than this is the newer one.
_OPEN = frozenset({"draft", "planning", "executing", "pending", "running", "retrying", "paused", "waiting_approval"})


@dataclass
class Mended:
    """Repair of one run."""

    name: str
    #: Rows that were taken from the journal, by table.
    rows: dict[str, int] = field(default_factory=dict)
    #: Whether the run itself had to be taken from its journal.
    taken_in: bool = False
    #: What was done with its journal, and what is lost.
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = []
        if self.rows:
            counts = ", ".join(f"{count} of {table}" for table, count in self.rows.items())
            parts.append(f"{'taken' if self.taken_in else 'mended'} from its journal ({counts})")
        return f"{self.name}: {'; '.join([*parts, *self.notes]) or 'nothing to do'}"


def journals(home: Path) -> Iterator[Path]:
    """Yield the places of the journals of the runs in a workspace, also of those that are not there."""
    folder = home / "runs"
    with suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda item: item.name):
            if entry.is_dir() and os.path.lexists(Path(entry.path, FILE_NAME)):
                yield Path(entry.path, FILE_NAME)


def set_aside(path: Path) -> Path | None:
    """Move a damaged file, and what belongs to it, out of the way; returns where it is now."""
    if not any(os.path.lexists(path.with_name(path.name + suffix)) for suffix in ("", *SUFFIXES)):
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while any(os.path.lexists(f"{target}{suffix}") for suffix in ("", *SUFFIXES)):
        number += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for suffix in ("", *SUFFIXES):
        part = path.with_name(path.name + suffix)
        if os.path.lexists(part):
            part.rename(f"{target}{suffix}")
    return target


def salvage(aside: Path, writer: Writer) -> int:
    """Take what can be read of a damaged database into the new one; returns how many rows that were."""
    total = 0
    for _ in range(2):  # a row may come before what it refers to
        group: list[tuple[str, Mapping[str, Any]]] = []
        for table, row in health.rows_of(aside):
            group.append((table, row))
            if len(group) == 500:
                total += _salvaged(writer, group)
                group = []
        total += _salvaged(writer, group)
    return total


def _salvaged(writer: Writer, group: list[tuple[str, Mapping[str, Any]]]) -> int:
    def store(connection: Connection) -> int:
        return sum(_insert(connection, table, row) for table, row in group)

    return writer.call(store, journal=False).result() if group else 0


def repair(db: Database, writer: Writer) -> list[Mended]:
    """Compare each run of a workspace with its journal, and mend what differs; returns what was done, run by run."""
    found: list[Mended] = []
    seen: set[str] = set()
    for path in journals(db.home):
        try:
            run_id, mended = _repair_run(db, writer, path)
        except Exception as error:
            LOG.debug("a run cannot be mended", exc_info=True)
            why = error.what if isinstance(error, CMBAgentError) else f"{type(error).__name__}: {error}"
            found.append(Mended(path.parent.name, notes=[f"cannot be mended ({why})"]))
            continue
        seen.add(run_id)
        if mended is not None:
            found.append(mended)
    for row in db.rows("SELECT id, name, work_dir FROM workflow_runs ORDER BY created_at"):
        if row["id"] in seen:
            continue
        folder = Path(row["work_dir"] or "")
        if not row["work_dir"] or not folder.is_dir():
            found.append(Mended(str(row["name"]), notes=["its folder is gone, and its files and its journal with it"]))
        elif folder.parent == db.home / "runs":
            done = "its journal was written again from the database"
            try:
                _write_journal(db, writer, row["id"], folder / FILE_NAME, old=None)
            except (CMBAgentError, OSError) as error:
                done = f"its journal cannot be written ({getattr(error, 'what', error)})"
            found.append(Mended(str(row["name"]), notes=[done]))
    writer.barrier().result()
    return found


def _repair_run(db: Database, writer: Writer, path: Path) -> tuple[str, Mended | None]:
    name = path.parent.name
    known = db.rows(
        "SELECT id, name FROM workflow_runs WHERE work_dir = :dir",
        dir=f"runs/{name}" if db.is_sqlite else str(path.parent),
    )
    run_id = str(known[0]["id"]) if known else None
    mended = Mended(str(known[0]["name"]) if known else name)
    why = kind_of(path)
    if why:
        told, why = None, f"its journal is {why}"
    else:
        try:
            told = rebuild(path, db.home, run_id)
        except CMBAgentError as error:
            told, why = None, error.what
    if told is not None and told.run is not None:
        run_id, mended.name = told.run["id"], str(told.run.get("name") or name)
        mended.taken_in = not db.rows("SELECT 1 AS n FROM workflow_runs WHERE id = :id", id=run_id)
        mended.rows = writer.call(lambda connection: _take_in(connection, told, db.home), journal=False).result()
        if mended.taken_in and not told.whole:
            mended.notes.append("events and messages were not in the journals of its version, and are lost")
    elif run_id is None:
        empty = not why and path.stat().st_size == 0
        mended.notes.append(
            f"lost: {why or ('its journal is empty' if empty else 'its journal names no run')}, and the database does"
            " not have it; its files are in its folder"
        )
        return "", mended
    assert run_id is not None
    faults = told.faults if told is not None else []
    if why or faults or told is None or told.run is None or _lacks(db, told):
        old = set_aside(path) if why or faults else path
        shown = f", the old one is {old.name}" if old is not None and old != path else ""
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            mended.notes.append(f"in its journal, {'; '.join(faults[:3])}{more}")
        mended.notes.append(f"{why + '; ' if why else ''}its journal was written again{shown}")
        void = told.void if told is not None else set[int]()
        _write_journal(db, writer, run_id, path, old=None if why or (told and told.foreign) else old, void=void)
    return run_id, mended if mended.rows or mended.notes else None


# ---- rows


def _take_in(connection: Connection, told: Rebuilt, home: Path) -> dict[str, int]:
    """Put into the database what only the journal has, or has better; returns how many rows of each table."""
    run = told.run
    assert run is not None
    if connection.is_sqlite:  # a text that is none any more differs from what the journal tells
        connection.raw.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        return _taken_in(connection, told, run, home)
    finally:
        if connection.is_sqlite:
            connection.raw.text_factory = str


def _taken_in(connection: Connection, told: Rebuilt, run: dict[str, Any], home: Path) -> dict[str, int]:
    _session(connection, run.get("session_id"), told.session_name, run.get("created_at") or time.time())
    counts: dict[str, int] = {}
    for table in RUN_TABLES:
        key = key_of(table)
        stored = _stored_rows(connection, table, run["id"])
        # A run was known before: what its journal tells without a key is a row that nothing else in it is.
        free = {number: row for number, row in stored.items() if number not in told.tables[table]}
        for identifier, row in told.tables[table].items():
            keyed = not isinstance(identifier, tuple)
            mine = stored.get(identifier) if keyed else take_twin(free, table, row)
            if mine is None:
                counts[table] = counts.get(table, 0) + _insert(connection, table, row)
                continue
            better = _better(mine, row, trusted=keyed and not told.faults)
            if table == "workflow_runs" and misplaced(home, mine["work_dir"], told.path.parent):
                better["work_dir"] = row["work_dir"]
            if better:
                sets = ", ".join(f'"{name}" = ?' for name in better)
                _sql(connection, f'UPDATE "{table}" SET {sets} WHERE {key} = ?', (*better.values(), mine[key]))
                counts[table] = counts.get(table, 0) + 1
    # No process holds it: whoever looks next finds it interrupted and may go on with it.
    lease = {"run_id": run["id"], "owner": run.get("owner") or "{}", "heartbeat_at": run.get("created_at") or 0.0}
    _insert(connection, "leases", lease)
    return {table: count for table, count in counts.items() if count}


def _stored_rows(connection: Connection, table: str, run_id: str) -> dict[Any, dict[str, Any]]:
    key = "id" if table == "workflow_runs" else "run_id"
    cursor = _sql(connection, f'SELECT * FROM "{table}" WHERE {key} = ?', (run_id,))
    names = tuple(cursor.keys())
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {row[key_of(table)]: row for row in rows}


def _better(mine: Mapping[str, Any], told: Mapping[str, Any], *, trusted: bool) -> dict[str, Any]:
    """Return the columns of a row in which the journal is right and the database is not.

    A journal that has lost lines may tell of a row as it was earlier: it is right only where a value is unreadable.
    """
    found = {name: told[name] for name in differing(mine, told) if trusted or unreadable(name, mine[name])}
    newer = mine.get("status") != told.get("status") and told.get("status") in _OPEN
    return {} if newer else found


def misplaced(home: Path, stored: str | None, folder: Path) -> bool:
    """Tell whether the database says that a run is in a folder without a journal, while its journal is in another."""
    place = Path(from_record(home, stored) or "") if stored else None
    return place is None or (place != folder and not os.path.lexists(place / FILE_NAME))


def unreadable(column: str, value: Any) -> bool:
    """Tell whether a stored text is none, or no JSON where there should be some."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
        if column in JSON:
            from_json(value)
    except ValueError:
        return True
    return False


def differing(mine: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """Return the columns in which a stored row differs from what its journal tells."""
    return [name for name, value in told.items() if name in mine and name not in PASSING and mine[name] != value]


def _insert(connection: Connection, table: str, row: Mapping[str, Any]) -> int:
    """Insert a row as it is stored; one that is there already, or that the tables do not take, is left out."""
    from cmbagent_nb.store.tables import Table

    columns = Table.metadata.tables[table].columns
    values = {name: value for name, value in row.items() if name in columns}
    for attempt in range(2):
        names = ", ".join(f'"{name}"' for name in values)
        sql = f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(values))})'
        try:
            with connection.begin_nested():
                _sql(connection, sql, tuple(values.values()))
            return 1
        except Exception as error:
            if not is_wrong(error):
                raise
            if attempt or table not in RUN_TABLES:
                return 0
            # Once more without links to rows that are not there, and without a number that was given away.
            bare = {name: None if name in _LINKS else value for name, value in values.items()}
            if table in COUNTED and "id" in bare and not _is_there(connection, table, row):
                del bare["id"]
            values = bare
    return 0


def _sql(connection: Connection, sql: str, values: tuple[Any, ...]) -> Any:
    return connection.exec_driver_sql(sql if connection.is_sqlite else sql.replace("?", "%s"), values)


#: Columns that may name a row which is not there any more.
_LINKS = ("event_id", "parent_event_id", "parent_file_id", "skill_id", "parent_run_id", "project_id")


def _is_there(connection: Connection, table: str, row: Mapping[str, Any]) -> bool:
    query = f'SELECT run_id FROM "{table}" WHERE id = ?'
    found = _sql(connection, query, (row["id"],)).fetchone()
    return found is not None and found[0] == row.get("run_id")


def _session(connection: Connection, session_id: str | None, name: str, began: float) -> None:
    if session_id is None:
        return
    query = "SELECT 1 FROM sessions WHERE id = ?"
    if _sql(connection, query, (session_id,)).fetchone() is None:
        row = {"id": session_id, "name": name, "status": "active", "created_at": began}
        if not _insert(connection, "sessions", row):  # the name was given to another one since
            _insert(connection, "sessions", {**row, "name": f"{name} ({session_id[-8:]})"})


# ---- journals


def _lacks(db: Database, told: Rebuilt) -> bool:
    """Tell whether the database has rows of a run that its journal does not have."""
    run = told.run
    assert run is not None
    for table in RUN_TABLES:
        key = "id" if table == "workflow_runs" else "run_id"
        keys = {
            row["k"] for row in db.rows(f'SELECT {key_of(table)} AS k FROM "{table}" WHERE {key} = :run', run=run["id"])
        }
        if not keys <= told.tables[table].keys():
            return True
    return False


def _write_journal(
    db: Database, writer: Writer, run_id: str, path: Path, old: Path | None, void: Collection[int] = ()
) -> None:
    """Write a journal that holds the good lines of the old one, and all rows of the run as the database has them.

    Lines whose numbers are in ``void`` tell of nothing, and are left out.
    """
    writer.barrier().result()
    fresh = path.with_name(f".{path.name}.new")
    make_folder(path.parent)
    seq = 0
    with open(fresh, "wb", opener=open_private) as file:
        for entry in read_journal(old) if old is not None else ():
            seq = max(seq, entry.seq)
        if old is not None:
            with open_journal(old) as lines:
                shutil.copyfileobj(_good(lines, void), file)
        if seq == 0:
            for row in db.rows(
                "SELECT s.id, s.name FROM sessions s JOIN workflow_runs r ON r.session_id = s.id WHERE r.id = :id",
                id=run_id,
            ):
                seq += 1
                file.write(_line(seq, "session", row))
        seq = max(
            seq,
            db.rows("SELECT COALESCE(MAX(journal_position), 0) AS n FROM checkpoints WHERE run_id = :id", id=run_id)[0][
                "n"
            ],
        )
        kept = rows_of_database(db, run_id)
        until = seq + 1 + sum(map(len, kept.values()))
        seq += 1
        file.write(_line(seq, REWRITTEN, {"until": until}))
        for table, found in kept.items():
            for row in found:
                seq += 1
                file.write(_line(seq, "restored", {"table": table, "row": row_to_record(db.home, table, row)}))
        for table in RUN_TABLES:
            key = "id" if table == "workflow_runs" else "run_id"
            with db.reading() as connection:
                cursor = _sql(connection, f'SELECT * FROM "{table}" WHERE {key} = ?', (run_id,))
                columns = tuple(cursor.keys())
                for rows in cursor.partitions(200):
                    seq += 1
                    values = [tuple(row) for row in rows]
                    file.write(_line(seq, KIND, {"rows": [{"table": table, "columns": columns, "values": values}]}))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class _good:  # noqa: N801 (used like a function)
    """The lines of a journal that can be read, as a file to copy from."""

    def __init__(self, lines: Any, void: Collection[int]) -> None:
        self._lines, self._void = lines, void

    def read(self, size: int = -1) -> bytes:
        """Return the next good line; nothing at the end."""
        from cmbagent_nb.store.journal import LONGEST, is_good

        while line := self._lines.readline(LONGEST):
            if not is_good(line):
                continue
            entry = from_json(line) if self._void else {"seq": 0}
            if entry["seq"] in self._void:
                if entry["kind"] != KIND:
                    continue
                line = _line(entry["seq"], "note", {})  # images are told anew: no moment of the past is lost with one
            return bytes(line) if line.endswith(b"\n") else bytes(line) + b"\n"
        return b""


def _line(seq: int, kind: str, data: Any) -> bytes:
    return to_json({"v": VERSION, "seq": seq, "at": time.time(), "kind": kind, "data": data}).encode() + b"\n"


@dataclass
class Repaired:
    """Outcome of the repair of a workspace."""

    #: What was wrong with the database, and where it was moved; nothing and None where it stays in use.
    damage: list[str] = field(default_factory=list)
    aside: Path | None = None
    #: Rows that could be read of it.
    salvaged: int = 0
    runs: list[Mended] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of the runs that were taken from their journals."""
        return [run.name for run in self.runs if run.taken_in]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "damage": self.damage,
            "moved_to": None if self.aside is None else str(self.aside),
            "rows_read": self.salvaged,
            "runs": [
                {"name": run.name, "taken_in": run.taken_in, "rows": run.rows, "notes": run.notes} for run in self.runs
            ],
            "notes": self.notes,
        }

    def __str__(self) -> str:
        lines = []
        if self.aside is not None:
            lines.append(f"The database was damaged ({'; '.join(self.damage[:3])}) and moved to {self.aside}.")
            lines.append(f"A new one was made; {self.salvaged} rows could be read of the old one.")
        lines += [f"  {run}" for run in self.runs] or ["The runs and their journals hold the same: nothing to do."]
        return "\n".join([*lines, *self.notes])


def lost_skills(db: Database) -> int:
    """Return how many skills have their folder but no row any more."""
    folder = db.home / "skills"
    names = (
        {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.ipynb"))}
        if folder.is_dir()
        else set()
    )
    return len(names - {str(row["name"]) for row in db.rows("SELECT name FROM skills")})
