"""Ties a run to its process, and marks runs whose process is gone as interrupted.

A run belongs to one process by its row in ``leases``; that process alone writes the run's statuses.
When it is dead, whoever looks next takes the lease and marks the run as interrupted, with all that
was going on in it.
"""

from __future__ import annotations

import os
import socket
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, StoreError
from cmbagent_nb.store.claims import may_write
from cmbagent_nb.store.database import FILE_NAME, Database
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.sqlite import identity
from cmbagent_nb.workflow.journaled import JournaledWriter
from cmbagent_nb.workflow.states import ACTIVE, UNFINISHED, change_node, change_run

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer

#: Seconds between two heartbeats of a run.
HEARTBEAT = 10.0
#: Seconds for which whoever looks waits to mark a run whose process is gone.
MARKING = 3.0
#: Seconds without a heartbeat after which the process on another machine counts as dead.
SILENCE = 120.0


@cache
def _identity(pid: int, database: str) -> str:
    import psutil

    started = psutil.Process(pid).create_time()
    found = {"host": socket.gethostname(), "pid": pid, "started": started, "since_boot": _since_boot(pid)}
    return to_json({**found, "database": database} if database else found)


def _database(of: Database | Connection | None) -> str:
    """Return what tells a database from a copy of it; empty for one on a server, which has one place."""
    if of is None:
        return ""
    if isinstance(of, Database):
        path = of.path
    else:
        home = of.home
        path = home / FILE_NAME if home is not None else None
    return "" if path is None else identity(path)


def _since_boot(pid: int) -> str:
    """Return when a process started as the kernel counts it, which no clock that is set changes; empty where unknown.

    The time of day at which a process started is computed from the clock as it stands now: after a jump of the clock
    the same process would look like another.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"{boot} {stat.rpartition(')')[2].split()[19]}"


def owner(of: Database | Connection | None = None) -> str:
    """Return what identifies this process in a lease: host, process id, the time it started, and the database.

    With the database, since a copy of a workspace has the leases of the original, and nobody has its runs there.
    """
    return _identity(os.getpid(), _database(of))


def is_alive(
    lease_owner: str, heartbeat_at: float | None, now: float | None = None, of: Database | Connection | None = None
) -> bool:
    """Tell whether the process that holds a lease in a database still runs.

    ``now`` is the time by the clock of the heartbeats.
    """
    import psutil

    try:
        holder = from_json(lease_owner)
        holder["host"], int(holder["pid"]), float(holder["started"])
    except (ValueError, TypeError, KeyError):
        return False  # a damaged lease is nobody's
    if holder.get("database") and of is not None and (here := _database(of)) and holder["database"] != here:
        return False  # of the original, or of what lay here before
    if holder["host"] != socket.gethostname():
        return (time.time() if now is None else now) - (heartbeat_at or 0.0) < SILENCE
    try:
        process = psutil.Process(holder["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False  # it has ended and nobody has asked how: in a container nobody may ever do
        # Process ids are used again; a start time one second off is another process.
        since_boot = _since_boot(holder["pid"])
        if since_boot and holder.get("since_boot"):
            return bool(since_boot == holder["since_boot"])
        return abs(float(process.create_time()) - float(holder["started"])) < 1.0
    except psutil.Error:
        return False


def clock(connection: Connection) -> float:
    """Return the time by the clock that all who use a database share: the server's, or this machine's for a file.

    Machines' own clocks differ, and are set: a live run would be taken for a dead one.
    """
    if connection.is_sqlite:
        return time.time()
    return float(connection.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())").scalar())


def beat(connection: Connection, run_id: str) -> bool:
    """Give a sign of life for a run; tell whether it is still this process's."""
    now = clock(connection)
    renewed = connection.execute(
        "UPDATE leases SET heartbeat_at = :now WHERE run_id = :run AND owner = :me",
        {"now": now, "run": run_id, "me": owner(connection)},
    )
    if renewed.rowcount:
        connection.execute(
            "UPDATE workflow_runs SET last_heartbeat_at = :now WHERE id = :run", {"now": now, "run": run_id}
        )
    return bool(renewed.rowcount)


def check_owner(connection: Connection, run_id: str) -> None:
    """Refuse to go on within a transaction that writes the statuses of a run which another process has taken over.

    A machine that was asleep may wake up as the former owner of a run: what it had in hand is not written any more.

    Raises
    ------
    StateError
        The run belongs to another process.
    """
    held = connection.execute("SELECT owner FROM leases WHERE run_id = :run", {"run": run_id}).scalar()
    if held is not None and held != owner(connection):
        raise StateError("the run was taken over by another process", "Look at it with %cmbagent show.", run_id=run_id)


def interrupt_orphans(db: Database, writer: Writer) -> list[str]:
    """Mark the runs whose process has died as interrupted; returns their ids.

    Where that cannot be written within some seconds, they are read as interrupted (``db.orphans``).
    """
    active = ", ".join(repr(status) for status in ACTIVE)
    rows = db.rows(
        # A process may have died after it had written the run's row and before it had written the lease.
        "SELECT r.id AS id, r.work_dir AS work_dir, COALESCE(l.owner, r.owner) AS owner,"
        " COALESCE(l.heartbeat_at, r.last_heartbeat_at) AS heartbeat_at"
        f" FROM workflow_runs r LEFT JOIN leases l ON l.run_id = r.id WHERE r.status IN ({active})"
        " AND COALESCE(l.owner, r.owner) IS NOT NULL"
    )
    orphans: list[str] = []
    if not rows:
        db.orphans.clear()
        return orphans
    with db.reading() as connection:
        now = clock(connection)
    dead = [row for row in rows if not is_alive(row["owner"], row["heartbeat_at"], now, db)]
    left = {row["id"] for row in dead}
    for row in dead if not db.read_only else ():
        future = writer.call(lambda connection, row=row: _interrupt(connection, row["id"], row["owner"]))  # type: ignore[misc]
        try:
            marked = future.result(timeout=MARKING if not writer.trouble else 0.05)
        except (TimeoutError, StoreError):  # whoever reads does not wait: it is shown as what it is
            future.cancel()
            break
        left.discard(row["id"])
        if marked:
            orphans.append(row["id"])
            folder = Path(row["work_dir"] or "")
            if folder.is_dir() and may_write(db.home, folder, row["id"]):
                JournaledWriter(writer, folder).note("interrupted", {"by": owner(db)})
    db.orphans.clear()
    db.orphans.update(left)
    return orphans


def was_here(run_owner: str | None, of: Database | Connection) -> bool:
    """Tell whether a run was carried out with this database, and not with the original of which it is a copy."""
    here = _database(of)
    try:
        there = from_json(run_owner).get("database", "") if run_owner else ""
    except (ValueError, AttributeError):
        there = ""
    return not here or not there or here == there


def forget_processes(connection: Connection, run_id: str, run_owner: str | None, work_dir: Path) -> None:
    """Leave the processes of the original alone: a copy of its record names them, and they are not to be killed here.

    What works below the work dir is the run's own, wherever its database has been.
    """
    import psutil

    if was_here(run_owner, connection):
        return
    query = "SELECT id, pid FROM step_attempts WHERE run_id = :run AND pid IS NOT NULL"
    for attempt, pid in connection.execute(query, {"run": run_id}).fetchall():
        try:
            ours = Path(psutil.Process(pid).cwd()).is_relative_to(work_dir.resolve())
        except (psutil.Error, OSError):
            ours = False
        if not ours:
            statement = "UPDATE step_attempts SET pid = NULL, process_started_at = NULL WHERE id = :id"
            connection.execute(statement, {"id": attempt})


def _interrupt(connection: Connection, run_id: str, dead_owner: str) -> bool:
    now = time.time()
    taken = connection.execute(
        "UPDATE leases SET owner = :me, heartbeat_at = :now WHERE run_id = :run AND owner = :dead",
        {"me": owner(connection), "now": now, "run": run_id, "dead": dead_owner},
    )
    if taken.rowcount != 1:
        taken = connection.execute(
            "INSERT INTO leases (run_id, owner, heartbeat_at) SELECT id, :me, :now FROM workflow_runs"
            " WHERE id = :run AND owner = :dead AND NOT EXISTS (SELECT 1 FROM leases WHERE run_id = :run)",
            {"me": owner(connection), "now": now, "run": run_id, "dead": dead_owner},
        )
    if taken.rowcount != 1:
        return False
    reason, by = "its process ended", "lease"
    change_run(connection, run_id, "interrupted", reason=reason, by=by)
    unfinished = ", ".join(repr(status) for status in UNFINISHED)
    nodes: Any = connection.execute(
        f"SELECT node_id FROM dag_nodes WHERE run_id = :run AND status IN ({unfinished})",
        {"run": run_id},
    )
    for (node_id,) in nodes.fetchall():
        change_node(connection, run_id, node_id, "interrupted", reason=reason, by=by)
    for table in ("execution_events", "step_attempts"):
        connection.execute(
            f"UPDATE {table} SET status = 'interrupted', ended_at = :now WHERE run_id = :run AND status = 'running'",
            {"run": run_id, "now": now},
        )
    connection.execute(
        "UPDATE approval_requests SET status = 'expired', resolved_at = :now"
        " WHERE run_id = :run AND status = 'pending'",
        {"run": run_id, "now": now},
    )
    return True
