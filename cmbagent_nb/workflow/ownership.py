"""Which process a run belongs to, and what becomes of a run whose process is gone.

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

from cmbagent_nb.errors import StateError
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.workflow.kept import Kept
from cmbagent_nb.workflow.states import ACTIVE, UNFINISHED, change_node, change_run

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Seconds between two heartbeats of a run.
HEARTBEAT = 10.0
#: Seconds without a heartbeat after which the process on another machine counts as dead.
SILENCE = 120.0


@cache
def _identity(pid: int) -> str:
    import psutil

    started = psutil.Process(pid).create_time()
    return to_json({"host": socket.gethostname(), "pid": pid, "started": started, "since_boot": _since_boot(pid)})


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


def owner() -> str:
    """Return what identifies this process in a lease: host, process id and the time it started."""
    return _identity(os.getpid())


def is_alive(lease_owner: str, heartbeat_at: float | None, now: float | None = None) -> bool:
    """Tell whether the process that holds a lease still runs; ``now`` is the time by the clock of the heartbeats."""
    import psutil

    holder = from_json(lease_owner)
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
    from sqlalchemy import text

    if connection.dialect.name != "postgresql":
        return time.time()
    return float(connection.execute(text("SELECT EXTRACT(EPOCH FROM clock_timestamp())")).scalar_one())


def beat(connection: Connection, run_id: str) -> bool:
    """Give a sign of life for a run; tell whether it is still this process's."""
    from sqlalchemy import text

    now = clock(connection)
    kept = connection.execute(
        text("UPDATE leases SET heartbeat_at = :now WHERE run_id = :run AND owner = :me"),
        {"now": now, "run": run_id, "me": owner()},
    )
    if kept.rowcount:
        connection.execute(
            text("UPDATE workflow_runs SET last_heartbeat_at = :now WHERE id = :run"), {"now": now, "run": run_id}
        )
    return bool(kept.rowcount)


def check_owner(connection: Connection, run_id: str) -> None:
    """Refuse to go on within a transaction that writes the statuses of a run which another process has taken over.

    A machine that was asleep may wake up as the former owner of a run: what it had in hand is not written any more.

    Raises
    ------
    StateError
        The run belongs to another process.
    """
    from sqlalchemy import text

    held = connection.execute(text("SELECT owner FROM leases WHERE run_id = :run"), {"run": run_id}).scalar()
    if held is not None and held != owner():
        raise StateError("the run was taken over by another process", "Look at it with %cmbagent show.", run_id=run_id)


def interrupt_orphans(db: Database, writer: Writer) -> list[str]:
    """Mark the runs whose process has died as interrupted; returns their ids."""
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
        return orphans
    with db.reading() as connection:
        now = clock(connection)
    for row in rows:
        if is_alive(row["owner"], row["heartbeat_at"], now):
            continue
        if writer.call(lambda connection, row=row: _interrupt(connection, row["id"], row["owner"])).result():  # type: ignore[misc]
            orphans.append(row["id"])
            if Path(row["work_dir"] or "").is_dir():
                Kept(writer, Path(row["work_dir"])).note("interrupted", {"by": owner()})
    return orphans


def _interrupt(connection: Connection, run_id: str, dead_owner: str) -> bool:
    from sqlalchemy import text

    now = time.time()
    taken = connection.execute(
        text("UPDATE leases SET owner = :me, heartbeat_at = :now WHERE run_id = :run AND owner = :dead"),
        {"me": owner(), "now": now, "run": run_id, "dead": dead_owner},
    )
    if taken.rowcount != 1:
        taken = connection.execute(
            text(
                "INSERT INTO leases (run_id, owner, heartbeat_at) SELECT id, :me, :now FROM workflow_runs"
                " WHERE id = :run AND owner = :dead AND NOT EXISTS (SELECT 1 FROM leases WHERE run_id = :run)"
            ),
            {"me": owner(), "now": now, "run": run_id, "dead": dead_owner},
        )
    if taken.rowcount != 1:
        return False
    reason, by = "its process ended", "lease"
    change_run(connection, run_id, "interrupted", reason=reason, by=by)
    unfinished = ", ".join(repr(status) for status in UNFINISHED)
    nodes: Any = connection.execute(
        text(f"SELECT node_id FROM dag_nodes WHERE run_id = :run AND status IN ({unfinished})"),
        {"run": run_id},
    )
    for (node_id,) in nodes.fetchall():
        change_node(connection, run_id, node_id, "interrupted", reason=reason, by=by)
    for table in ("execution_events", "step_attempts"):
        connection.execute(
            text(
                f"UPDATE {table} SET status = 'interrupted', ended_at = :now WHERE run_id = :run AND status = 'running'"
            ),
            {"run": run_id, "now": now},
        )
    connection.execute(
        text(
            "UPDATE approval_requests SET status = 'expired', resolved_at = :now"
            " WHERE run_id = :run AND status = 'pending'"
        ),
        {"run": run_id, "now": now},
    )
    return True
