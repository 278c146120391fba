"""Rows for the tests of the record: a small run with a plan, a graph, events, files and costs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer

T0 = 1_700_000_000.0


class Record:
    """A run that is written row by row; ``order`` counts its events."""

    def __init__(self, writer: Writer, *, name: str = "planck", session: str = "default", status: str = "executing"):
        self.writer = writer
        self.session = new_id()
        self.run = new_id()
        self.order = 0
        writer.insert("sessions", {"id": self.session, "name": session, "created_at": T0})
        writer.insert(
            "workflow_runs",
            {
                "id": self.run,
                "session_id": self.session,
                "name": name,
                "mode": "planning_and_control",
                "model": "playbook:planck",
                "status": status,
                "task_description": "Compare the TT spectrum with theory",
                "created_at": T0,
                "started_at": T0,
                "meta": {"max_attempts": 3},
            },
        )

    def event(self, event_type: str, **more: Any) -> str:
        """Write an event that took 100 ms and return its id."""
        self.order += 1
        start = T0 + self.order
        row = {
            "id": new_id(),
            "run_id": self.run,
            "session_id": self.session,
            "node_id": "step_1",
            "event_type": event_type,
            "status": "completed",
            "started_at": start,
            "ended_at": start + 0.1,
            "duration_ms": 100.0,
            "execution_order": self.order,
            **more,
        }
        self.writer.insert("execution_events", row)
        return str(row["id"])

    def node(self, node_id: str, order: int, **more: Any) -> str:
        """Write a node and return the id of its row."""
        row = {"id": new_id(), "run_id": self.run, "session_id": self.session, "node_id": node_id}
        row |= {"node_type": "step", "title": node_id, "status": "completed", "order_index": order, **more}
        self.writer.insert("dag_nodes", row)
        return str(row["id"])

    def edge(self, begin: str, end: str) -> None:
        """Write an edge between two nodes."""
        self.writer.insert("dag_edges", {"run_id": self.run, "from_node_id": begin, "to_node_id": end})

    def cost(self, agent: str, *, event: str | None = None, cost: float | None = 0.01, node: str = "step_1") -> None:
        """Write the cost of a call of 30 tokens."""
        row: dict[str, Any] = {"run_id": self.run, "session_id": self.session, "node_id": node, "event_id": event}
        row |= {"provider": "openai", "model": "gpt", "agent_name": agent, "created_at": T0}
        row |= {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "cost_usd": cost}
        self.writer.insert("cost_records", row)

    def file(self, path: str, *, event: str | None = None, version: int = 1, node: str = "step_1", **more: Any) -> str:
        """Write a file and return the id of its row."""
        row = {
            "id": new_id(),
            "run_id": self.run,
            "session_id": self.session,
            "node_id": node,
            "event_id": event,
            "file_path": path,
            "file_type": "data",
            "content_hash": hashlib.sha256(f"{path}{version}".encode()).hexdigest(),
            "version": version,
            "created_at": T0 + version,
            **more,
        }
        self.writer.insert("files", row)
        return str(row["id"])

    def message(self, content: str, **more: Any) -> None:
        """Write a message from the engineer to the executor."""
        row = {"run_id": self.run, "session_id": self.session, "node_id": "step_1", "created_at": T0}
        self.writer.insert(
            "messages", {**row, "sender": "engineer", "recipient": "executor", "content": content, **more}
        )

    def settle(self) -> None:
        """Wait until all is stored."""
        self.writer.barrier().result(30)


def count(db: Database, table: str) -> int:
    """Return how many rows a table has."""
    return int(db.rows(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"])


def faults(home: Path) -> list[dict[str, Any]]:
    """Return the rows that were refused."""
    from cmbagent_nb.store.json import from_json

    path = home / "faults.jsonl"
    return [from_json(line) for line in path.read_text().splitlines()] if path.exists() else []
