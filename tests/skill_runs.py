"""Runs for the tests of skills: real code, run by the launcher in real folders, recorded by the real writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb.execution.attempt_folder import prepare, publish
from cmbagent_nb.execution.launcher import Limits, launch
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer


@dataclass
class Step:
    """A step to run: its code, after the code of attempts that fail."""

    code: str
    title: str = "A step"
    depends_on: tuple[int, ...] = ()
    failing: tuple[str, ...] = ()
    filename: str = ""
    instructions: str = "Do it."


@dataclass
class Home:
    """A workspace with an open database."""

    path: Path
    db: Database
    writer: Writer
    faults: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Home:
        db = Database.open(path)
        return cls(path, db, Writer(db))

    def close(self) -> None:
        self.writer.close()
        faults = self.writer.faults
        self.db.close()
        assert faults == 0


def make_run(home: Home, task: str, steps: Iterable[Step], inputs: dict[str, Any] | None = None) -> str:
    """Run steps one after the other and record them as the engine does; returns the run's id."""
    run_id, session_id, now = new_id(), new_id(), time.time()
    work_dir = home.path / "runs" / run_id
    (work_dir / "input").mkdir(parents=True)
    for name, value in (inputs or {}).items():
        _store(work_dir / "input", name, value)
    writer = home.writer
    writer.insert("sessions", {"id": session_id, "name": "default", "status": "active", "created_at": now})
    writer.insert(
        "workflow_runs",
        {
            "id": run_id,
            "session_id": session_id,
            "name": f"run-{run_id[-8:]}",
            "mode": "planning_and_control",
            "model": "test:scripted",
            "model_source": "live",
            "status": "completed",
            "task_description": task,
            "created_at": now,
            "work_dir": str(work_dir),
        },
    )
    made: dict[int, list[str]] = {}
    order = 0
    for number, step in enumerate(steps, start=1):
        node_id = f"step_{number}"
        seeds = [path for earlier in step.depends_on for path in made[earlier]]
        codes = [*step.failing, step.code]
        writer.insert(
            "workflow_steps",
            {
                "id": new_id(),
                "run_id": run_id,
                "session_id": session_id,
                "node_id": node_id,
                "step_number": number,
                "title": step.title,
                "agent": "engineer",
                "instructions": step.instructions,
                "status": "completed",
                "depends_on": [f"step_{earlier}" for earlier in step.depends_on],
                "attempts": len(codes),
            },
        )
        for attempt, code in enumerate(codes, start=1):
            order += 1
            last = attempt == len(codes)
            made[number] = _attempt(home, run_id, work_dir, node_id, attempt, code, seeds, step, order, last)
    writer.barrier().result()
    return run_id


def _attempt(
    home: Home,
    run_id: str,
    work_dir: Path,
    node_id: str,
    attempt: int,
    code: str,
    seeds: list[str],
    step: Step,
    order: int,
    succeeds: bool,
) -> list[str]:
    folder = prepare(work_dir, node_id, attempt, seeds)
    script = folder / "codebase" / (step.filename or f"{node_id}.py")
    script.write_text(code, encoding="utf-8")
    outcome = asyncio.run(launch(script, folder, limits=Limits(timeout_s=120)))
    assert (outcome.status == "completed") is succeeds, outcome.stderr
    event_id = new_id()
    home.writer.insert(
        "step_attempts",
        {
            "id": new_id(),
            "run_id": run_id,
            "node_id": node_id,
            "attempt": attempt,
            "folder": folder.relative_to(work_dir).as_posix(),
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "started_at": outcome.started_at,
            "ended_at": outcome.ended_at,
            "meta": {"reads": outcome.reads, "script": f"codebase/{script.name}"},
        },
    )
    home.writer.insert(
        "execution_events",
        {
            "id": event_id,
            "run_id": run_id,
            "node_id": node_id,
            "event_type": "code_exec",
            "agent_name": "executor",
            "attempt": attempt,
            "status": outcome.status,
            "started_at": outcome.started_at,
            "ended_at": outcome.ended_at,
            "duration_ms": outcome.duration_s * 1e3,
            "inputs": {"path": f"codebase/{script.name}", "code": code},
            "outputs": {"stdout": outcome.stdout, "stderr": outcome.stderr, "reads": outcome.reads},
            "execution_order": order,
        },
    )
    if not succeeds:
        return []
    published = publish(folder, work_dir, outcome.made)
    for item in published:
        home.writer.insert(
            "files",
            {
                "id": new_id(),
                "run_id": run_id,
                "node_id": node_id,
                "event_id": event_id,
                "file_path": item.path,
                "file_type": item.file_type,
                "mime": item.mime,
                "size_bytes": item.size,
                "content_hash": item.sha256,
                "version": 1,
                "created_by_agent": "engineer",
                "is_final_output": item.file_type in ("data", "plot", "report"),
                "created_at": time.time(),
                "meta": {"attempt": attempt},
            },
        )
    return [item.path for item in published]


def _store(folder: Path, name: str, value: Any) -> None:
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        value.to_parquet(folder / f"{name}.parquet")
    elif isinstance(value, np.ndarray):
        np.save(folder / f"{name}.npy", value)
    else:
        (folder / name).write_text(value, encoding="utf-8")
