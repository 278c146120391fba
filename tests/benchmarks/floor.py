"""The floor: the least that recording an event with the standard library costs.

One event is an id, a clock, thirteen columns and a payload of some 400 characters of JSON; 256 of them are one
transaction of SQLite in WAL mode. Nothing of the project is imported here, so that a peer's interpreter can run it too.
"""

from __future__ import annotations

import json
import queue
import random
import sqlite3
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GROUP = 256
COLUMNS = tuple("id run_id parent_id seq kind name agent status t0 t1 tokens cost payload".split())  # noqa: SIM905
KINDS = ("agent_call", "model_call", "tool_call", "code_exec", "info")
SCHEMA = """
CREATE TABLE event (
  id TEXT PRIMARY KEY, run_id TEXT NOT NULL, parent_id TEXT, seq INTEGER NOT NULL, kind TEXT NOT NULL,
  name TEXT NOT NULL, agent TEXT, status TEXT NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER, tokens INTEGER, cost REAL,
  payload TEXT);
CREATE INDEX ix_event_run ON event (run_id, seq);
"""
INSERT = f"INSERT INTO event ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
UPDATE = "UPDATE event SET status = ?, t1 = ?, payload = ? WHERE id = ?"


@dataclass
class Recording:
    """What recording ``n`` events took: until all was durable, of the processor, and the caller's wait for each."""

    n: int
    total: float
    cpu: float
    stored: int
    waits: list[float] = field(repr=False, default_factory=list)

    @property
    def each(self) -> float:
        """Seconds an event, until it is durable."""
        return self.total / self.n


def payloads(n: int, seed: int = 7) -> list[dict[str, Any]]:
    """Make ``n`` payloads of some 400 characters, the same each time."""
    chance = random.Random(seed)
    words = [uuid.UUID(int=chance.getrandbits(128)).hex[:8] for _ in range(200)]
    return [
        {
            "inputs": {"prompt": " ".join(chance.choices(words, k=20)), "temperature": chance.random()},
            "outputs": {"text": " ".join(chance.choices(words, k=12)), "finish": "stop"},
            "usage": {"prompt": chance.randrange(4000), "completion": chance.randrange(900)},
        }
        for _ in range(n)
    ]


def row(number: int, payload: dict[str, Any]) -> tuple[Any, ...]:
    """Build one event the way any recorder has to: id, clock, JSON."""
    at = time.time_ns()
    tokens, text = payload["usage"]["completion"], json.dumps(payload, separators=(",", ":"))
    kind, name = KINDS[number % 5], f"step-{number % 17}"
    return (uuid.uuid4().hex, "r", None, number, kind, name, "engineer", "ok", at, at, tokens, 0.001, text)


def opened(path: Path, schema: str = SCHEMA) -> sqlite3.Connection:
    """Open a new database in WAL mode that survives the death of the process."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"PRAGMA journal_mode = wal; PRAGMA synchronous = normal; {schema}")
    return connection


def together(path: Path, events: Sequence[dict[str, Any]]) -> Recording:
    """Write each event once, whole."""
    with closing(opened(path)) as connection:
        waits, group = [], []
        begun, worked = time.perf_counter(), time.process_time()
        for number, event in enumerate(events):
            before = time.perf_counter()
            group.append(row(number, event))
            if len(group) == GROUP:
                _commit(connection, INSERT, group)
            waits.append(time.perf_counter() - before)
        _commit(connection, INSERT, group)
        total, cpu = time.perf_counter() - begun, time.process_time() - worked
        return Recording(len(events), total, cpu, _count(connection), waits)


def threaded(path: Path, events: Sequence[dict[str, Any]]) -> Recording:
    """Hand each event to a thread that writes: the least that a caller waits who leaves the writing to another."""
    with closing(opened(path)) as connection:
        inbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        writer = threading.Thread(target=_drain, args=(path, inbox))
        writer.start()
        waits = []
        begun, worked = time.perf_counter(), time.process_time()
        for number, event in enumerate(events):
            before = time.perf_counter()
            inbox.put(row(number, event))
            waits.append(time.perf_counter() - before)
        inbox.put(None)
        writer.join()
        total, cpu = time.perf_counter() - begun, time.process_time() - worked
        return Recording(len(events), total, cpu, _count(connection), waits)


def _drain(path: Path, inbox: queue.SimpleQueue[tuple[Any, ...] | None]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = normal")
        rows: list[tuple[Any, ...]] = []
        while (item := inbox.get()) is not None:
            rows.append(item)
            if len(rows) == GROUP or inbox.empty():
                _commit(connection, INSERT, rows)
        _commit(connection, INSERT, rows)


def apart(path: Path, events: Sequence[dict[str, Any]]) -> Recording:
    """Write each event when it starts, and change it, in a later transaction, when it ends."""
    with closing(opened(path)) as connection:
        starts: list[tuple[Any, ...]] = []
        ends: list[tuple[Any, ...]] = []
        before: list[tuple[Any, ...]] = []
        begun, worked = time.perf_counter(), time.process_time()
        for number, event in enumerate(events):
            start = row(number, {"inputs": event["inputs"], "usage": event["usage"]})
            starts.append(start)
            ends.append(("ok", time.time_ns(), json.dumps(event, separators=(",", ":")), start[0]))
            if len(starts) == GROUP:
                _commit(connection, INSERT, starts)
                _commit(connection, UPDATE, before)
                before, ends = ends, []
        _commit(connection, INSERT, starts)
        _commit(connection, UPDATE, before + ends)
        total, cpu = time.perf_counter() - begun, time.process_time() - worked
        return Recording(len(events), total, cpu, _count(connection))


def _commit(connection: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]) -> None:
    connection.execute("BEGIN")
    connection.executemany(sql, rows)
    connection.execute("COMMIT")
    rows.clear()


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM event").fetchone()[0])
