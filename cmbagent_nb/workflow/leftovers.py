"""Ends what still runs of a run that has ended: code that outlived its kernel, and processes that it had detached."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.execution import marks
from cmbagent_nb.execution.group import kill_group
from cmbagent_nb.store.database import FILE_NAME
from cmbagent_nb.store.files import from_record
from cmbagent_nb.store.sqlite import connect, odd_part
from cmbagent_nb.workflow.ownership import is_alive, was_here
from cmbagent_nb.workflow.states import ENDED

if TYPE_CHECKING:
    import psutil

    from cmbagent_nb.store.database import Database

#: How often it is looked for processes that are left.
_ROUNDS = 5


def end_leftovers(db: Database, run_id: str) -> int:
    """Kill the processes of a run that is not going on anywhere; return how many there were.

    A process is known by the mark in its environment, or as the one that was recorded, by its id and start time: no
    other is touched.
    """
    found = db.rows("SELECT status, work_dir, owner FROM workflow_runs WHERE id = :run", run=run_id)
    if not found or found[0]["status"] not in ENDED or not found[0]["work_dir"]:
        return 0
    work_dir = Path(found[0]["work_dir"])
    ended = marks.end_run(run_id, work_dir)
    if not was_here(found[0]["owner"], db):
        return ended  # what is recorded are processes of the original of a copied workspace
    for row in db.rows(
        "SELECT pid, process_started_at FROM step_attempts"
        " WHERE run_id = :run AND pid IS NOT NULL AND process_started_at IS NOT NULL",
        run=run_id,
    ):
        ended += kill_group(row["pid"], row["process_started_at"])
    return ended


def leftovers(home: Path) -> dict[str, list[psutil.Process]]:
    """Return the processes of runs of a workspace's own database that have ended, by the run's name; only looks."""
    found: dict[str, list[psutil.Process]] = {}
    processes = marks.marked()
    path = home / FILE_NAME
    if not processes or not path.exists():
        return found
    if odd_part(path):
        return found
    with closing(connect(path.absolute(), "ro", timeout=2.0)) as connection:
        for process, mark in processes:
            row = connection.execute(
                "SELECT r.name, r.status, r.work_dir, COALESCE(l.owner, r.owner), l.heartbeat_at FROM workflow_runs r"
                " LEFT JOIN leases l ON l.run_id = r.id WHERE r.id = ?",
                (mark.run_id,),
            ).fetchone()
            if row is None or not Path(mark.folder).is_relative_to(
                os.path.realpath(from_record(home, row[2]) or "/nowhere")
            ):
                continue
            if row[1] in ENDED or (row[3] and not is_alive(row[3], row[4])):
                found.setdefault(str(row[0]), []).append(process)
    return found


def end_all_leftovers(home: Path) -> dict[str, int]:
    """Kill the processes of :func:`leftovers`; return how many there were, by the run's name."""
    ended: dict[str, int] = {}
    for _ in range(_ROUNDS):  # what loses its parent is somebody else's child at the next look
        found = leftovers(home)
        for name, processes in found.items():
            ended[name] = ended.get(name, 0) + len(marks.kill(processes))
        if not found:
            break
    return ended
