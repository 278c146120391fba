"""A finished run of many steps, each of which failed once, written row by row."""

from __future__ import annotations

from pathlib import Path

from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from tests.stored import T0, Record

#: Events of a step.
EACH = 7


def error_of(number: int) -> str:
    """The error that a step met at its first attempt."""
    return f"ValueError: the sample of step {number} is empty"


def write_long_run(home: Path, name: str = "long", steps: int = 300) -> str:
    """Write the run and return its id."""
    db = Database.open(home)
    writer = Writer(db)
    record = Record(writer, name=name, status="completed")
    writer.update("workflow_runs", record.run, {"work_dir": str(home / "runs" / name), "model_source": "live"})
    for number in range(1, steps + 1):
        node = f"step_{number}"
        record.node(node, number, title=f"Step {number}", agent="engineer")
        if number > 1:
            record.edge(f"step_{number - 1}", node)
        for attempt in (1, 2):
            place = {"node_id": node, "attempt": attempt}
            asked = record.event("agent_call", agent_name="engineer", **place)
            script = f"print('attempt {attempt} of step {number}')\n"
            record.message(f"Do step {number}.", node_id=node, sender="workflow", recipient="engineer", event_id=asked)
            record.message("{}", node_id=node, recipient="workflow", event_id=asked, code_generated=script)
            failed = attempt == 1
            trace = f"Traceback (most recent call last):\n  File 'fit.py', line 3\n{error_of(number)}\n"
            record.event(
                "code_exec",
                agent_name="executor",
                inputs={"path": "codebase/fit.py", "code": script},
                outputs={"stdout": f"out of step {number}\n", "stderr": trace if failed else ""},
                **{
                    **place,
                    "status": "failed" if failed else "completed",
                    "error": error_of(number) if failed else None,
                },
            )
            writer.insert(
                "step_attempts",
                {
                    "id": new_id(),
                    "run_id": record.run,
                    "node_id": node,
                    "attempt": attempt,
                    "folder": f"steps/{node}/attempt_{attempt}",
                    "status": "failed" if failed else "completed",
                    "error": error_of(number) if failed else None,
                    "started_at": T0,
                    "ended_at": T0 + 1,
                },
            )
        for _ in range(EACH - 4):
            record.event("tool_call", node_id=node, attempt=2, inputs={"tool": "inspect_data"}, agent_name="engineer")
    record.settle()
    assert writer.faults == 0
    writer.close()
    db.close()
    return record.run
