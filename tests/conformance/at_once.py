"""Several processes use one store at the same time: two kernels, a server, a command line. Nothing is lost."""

from __future__ import annotations

from cmbagent_nb.store.lookup import find_run
from tests.conformance.backend import Backend
from tests.stored import Record, count

#: A kernel with a run of its own: events, messages, changes of status, and changes to a row that all share.
KERNEL = """
import pathlib, sys
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.states import change_run
from tests.stored import Record
home, url, name, shared = sys.argv[1:]
db = Database.open(pathlib.Path(home), url)
writer = Writer(db)
record = Record(writer, name=name, status="executing")
print(record.run, flush=True)
sys.stdin.readline()
for number in range(ROUNDS):
    event = record.event("info", status="running", inputs={"text": "x" * 200})
    record.message(str(number))
    writer.update("execution_events", event, {"status": "completed", "ended_at": 1.0})
    if number % 10 == 0:
        target = "waiting_approval" if number % 20 == 0 else "executing"
        writer.call(lambda c: change_run(c, record.run, target, reason="", by=name)).result(60)
    if number % 7 == 0:
        writer.update("workflow_runs", shared, {"owner": name, "last_heartbeat_at": float(number)})
        writer.update("workflow_runs", record.run, {"last_heartbeat_at": float(number)})
writer.close()
db.close()
print(writer.faults, flush=True)
"""

#: A command line: leaves commands for others' runs, again and again from new connections.
COMMANDS = """
import pathlib, sys
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.commands import send
home, url, shared = sys.argv[1:]
print(flush=True)
sys.stdin.readline()
faults = 0
for _ in range(5):
    db = Database.open(pathlib.Path(home), url)
    writer = Writer(db)
    for number in range(10):
        send(writer, shared, "cancel", {"number": number}, "test")
    writer.close()
    faults += writer.faults
    db.close()
print(faults, flush=True)
"""

ROUNDS = 200


def kernels_a_server_and_a_command_line(backend: Backend) -> None:
    """Three kernels, a command line and a reader at once: every row is there, in its run's order."""
    db = backend.database()
    record = Record(backend.writer(db), name="shared")
    record.settle()
    kernels = [
        backend.process(KERNEL.replace("ROUNDS", str(ROUNDS)), f"kernel-{number}", record.run) for number in range(3)
    ]
    command_line = backend.process(COMMANDS, record.run)
    everybody = [*kernels, command_line]
    runs = [process.stdout.readline().strip() for process in everybody][:3]  # type: ignore[union-attr]
    for process in everybody:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    for _ in range(100):
        record.event("info")
        record.settle()
        (row,) = db.rows(
            "SELECT COUNT(*) AS n, COALESCE(MAX(execution_order), 0) AS last FROM execution_events WHERE run_id = :run",
            run=runs[0],
        )
        assert row["n"] == row["last"]  # what a reader sees has no gaps
    for process in everybody:
        out, _ = process.communicate(timeout=90)
        assert (process.returncode, out.strip()) == (0, "0")
    assert count(db, "execution_events") == 3 * ROUNDS + 100
    assert count(db, "commands") == 50
    for number, run in enumerate(runs):
        assert find_run(db, f"kernel-{number}")["id"] == run
        events = db.rows("SELECT status, ended_at FROM execution_events WHERE run_id = :run", run=run)
        assert [tuple(row.values()) for row in events] == [("completed", 1.0)] * ROUNDS
        said = db.rows("SELECT content FROM messages WHERE run_id = :run ORDER BY id", run=run)
        assert [row["content"] for row in said] == [*map(str, range(ROUNDS))]
        states = db.rows("SELECT to_state FROM state_history WHERE run_id = :run ORDER BY id", run=run)
        assert len(states) == ROUNDS / 10
        (row,) = db.rows("SELECT last_heartbeat_at FROM workflow_runs WHERE id = :run", run=run)
        assert row == {"last_heartbeat_at": float(ROUNDS - 1 - (ROUNDS - 1) % 7)}


SPECS = (kernels_a_server_and_a_command_line,)
