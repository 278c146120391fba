"""Checkpoints: places in a run's journal, from which it can be looked at as it stood.

A checkpoint is a row and a line; it costs the same whatever the run holds. Going on with a run needs none: the journal
and the database hold all that is needed at every moment.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import RunNotFound, StoreError
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.journal import FILE_NAME, VERSION, read_journal
from cmbagent_nb.workflow.history import REWRITTEN, State, rows_of_journal, state_of

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Kinds of checkpoints, by what led to them.
KINDS = ("step_complete", "reply", "pause", "error", "timed", "manual", "emergency", "end")


class Checkpoints:
    """Makes the checkpoints of one run."""

    def __init__(self, writer: Writer, work_dir: Path, run_id: str, session_id: str) -> None:
        self._writer = writer
        self._path = work_dir / FILE_NAME
        self._run_id = run_id
        self._session_id = session_id
        self._size = -1

    def add(self, kind: str, *, node_id: str | None = None, name: str | None = None) -> str:
        """Make a checkpoint here; returns its id. It is stored when the writer has settled."""
        checkpoint_id = new_id()
        self._writer.checkpoint(
            self._path,
            {
                "id": checkpoint_id,
                "run_id": self._run_id,
                "session_id": self._session_id,
                "node_id": node_id,
                "checkpoint_type": kind,
                "name": name,
                "created_at": time.time(),
            },
        )
        return checkpoint_id

    async def keep_time(self, minutes: float) -> None:
        """Make a checkpoint every so many minutes if something has changed; until cancelled. 0 means never."""
        while minutes > 0:
            await asyncio.sleep(minutes * 60)
            size = await asyncio.to_thread(_size, self._path)
            if size != self._size:
                self.add("timed")
                await self._writer.settled()
                self._size = await asyncio.to_thread(_size, self._path)


def find_checkpoint(db: Database, run_id: str, reference: str) -> int:
    """Return the position of a checkpoint, by its id, the end of its id, or its name.

    Raises
    ------
    RunNotFound
        The run has no such checkpoint, or several that fit.
    StoreError
        It was made by a newer version.
    """
    sql = "SELECT id, name, journal_position, meta FROM checkpoints WHERE run_id = :id"
    rows = record_of(db, run_id).rows(sql, id=run_id)
    found = [row for row in rows if row["name"] == reference or row["id"] == reference]
    found = found or [row for row in rows if row["id"].endswith(reference) or row["id"].startswith(reference)]
    if len(found) != 1 or found[0]["journal_position"] is None:
        raise RunNotFound(
            f"the run has {len(found) or 'no'} checkpoint{'s' if len(found) > 1 else ''} called {reference!r}",
            "List them with run.checkpoints().",
            reference=reference,
        )
    return int(found[0]["journal_position"])


def state_at(path: Path, position: int | None, run_id: str) -> State:
    """Return a run as it stood at a position of its journal; at its end when that is ``None``.

    Raises
    ------
    StoreError
        The journal is gone or of another run, or a newer version wrote it up to there.
    """
    if not path.exists():
        raise StoreError(f"the journal {path} is not there", "Put the run's folder back.", path=path)
    rows = rows_of_journal(path, position)
    if any(row["id"] != run_id for row in rows["workflow_runs"]):
        raise StoreError(
            f"the journal {path} is one of another run",
            "Run `cmbagent doctor --repair`: it is written again from the database.",
            path=path,
            position=position,
        )
    newest = max((entry.seq for entry in read_journal(path)), default=0)
    if position is not None and newest < position:
        raise StoreError(
            f"the journal {path} cannot be read up to line {position}",
            f"A newer version of cmbagent_nb may have written it (this one reads version {VERSION}): update it.",
            path=path,
            position=position,
        )
    if position is not None and not _is_whole(path, position):
        raise StoreError(
            f"the journal {path} has lost lines before line {position}",
            "Look at the run as it stands now: `cmbagent show`.",
            path=path,
            position=position,
        )
    return state_of(rows)


def _is_whole(path: Path, position: int) -> bool:
    """Tell whether a journal has all lines up to a position, or all since it was written anew."""
    expected, whole = 1, True
    for entry in read_journal(path):
        if entry.seq > position:
            break
        if entry.kind == REWRITTEN and entry.data["until"] <= position:
            whole = True
        elif entry.seq > expected:
            whole = False
        expected = entry.seq + 1
    return whole and expected == position + 1


def prune(writer: Writer, run_id: str, keep: int) -> int:
    """Drop all but the newest ``keep`` checkpoints that nobody named; returns how many were dropped."""
    statement = (
        "DELETE FROM checkpoints WHERE run_id = :run AND name IS NULL AND id NOT IN (SELECT id FROM checkpoints"
        " WHERE run_id = :run AND name IS NULL ORDER BY journal_position DESC, id DESC LIMIT :keep)"
    )
    return int(
        writer.call(lambda connection: connection.execute(statement, {"run": run_id, "keep": keep}).rowcount).result()
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
