"""A run with a real database, writer and recorder, for tests of capture and models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmbagent_nb.capture.recorder import Recorder
from cmbagent_nb.ids import new_id
from cmbagent_nb.llm.gateway import Gateway
from cmbagent_nb.llm.http import close_clients
from cmbagent_nb.llm.spec import ModelSpec
from cmbagent_nb.redaction import redactor
from cmbagent_nb.settings import Settings
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.states import change_node


@dataclass
class RecordedRun:
    """The parts of a run that record it."""

    db: Database
    writer: Writer
    recorder: Recorder
    work_dir: Path

    @property
    def journal(self) -> Path:
        return self.work_dir / "journal.jsonl"

    def rows(self, table: str, order: str = "id") -> list[dict[str, Any]]:
        """Return all rows of a table after what is queued has been written."""
        self.writer.barrier().result(20)
        rows = self.db.rows(f"SELECT * FROM {table} ORDER BY {order}")
        for row in rows:
            for name in ("inputs", "outputs", "meta", "tool_calls", "reply", "request", "usage"):
                if isinstance(row.get(name), str):
                    row[name] = json.loads(row[name])
        return rows

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        rows = self.rows("execution_events", "execution_order")
        return [row for row in rows if kind is None or row["event_type"] == kind]

    def gateway(self, url: str = "", model: str = "openai:test-model", **options: Any) -> Gateway:
        limits = {name: options.pop(name) for name in ("call_timeout", "first_byte_timeout") if name in options}
        settings = Settings(base_url=url, **{"call_timeout": 20.0, **limits})
        return Gateway(
            ModelSpec.parse(model),
            settings=settings,
            recorder=self.recorder,
            writer=self.writer,
            journal=self.journal,
            work_dir=self.work_dir,
            **options,
        )


@contextmanager
def recorded_run(home: Path, **options: Any) -> Iterator[RecordedRun]:
    """Open a database in ``home`` with one session and one run in it."""
    db = Database.open(home)
    writer = Writer(db, scrub=redactor().scrub)
    session_id, run_id = new_id(), new_id()
    work_dir = home / "runs" / "test"
    work_dir.mkdir(parents=True)
    now = time.time()
    writer.insert("sessions", {"id": session_id, "name": "default", "status": "active", "created_at": now})
    writer.insert(
        "workflow_runs",
        {"id": run_id, "session_id": session_id, "mode": "one_shot", "status": "executing", "created_at": now},
    )
    try:
        recorder = Recorder(writer, run_id, session_id, **options)

        def change(connection: Any, node_id: str, status: str) -> None:
            change_node(connection, run_id, node_id, status, reason="sub-agent", by="capture")

        recorder.change_node = change  # as the engine does
        yield RecordedRun(db, writer, recorder, work_dir)
        assert writer.faults == 0
    finally:
        writer.close()
        db.close()


def in_loop(work: Any) -> Any:
    """Run a coroutine on a loop of its own and close what it opened."""

    async def main() -> Any:
        try:
            return await work
        finally:
            await close_clients()

    return asyncio.run(main())
