"""Databases with many rows, filled past the writer, which would take minutes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from cmbagent_nb.store.database import Database
from tests.benchmarks import floor
from tests.stored import T0

#: Events and nodes of a run.
A_RUN, NODES = 1_000, 8

SESSION = "0" * 36
_RUN = ("id", "session_id", "name", "mode", "status", "created_at", "started_at", "ended_at", "work_dir", "meta")
_NODE = ("id", "run_id", "session_id", "node_id", "node_type", "title", "status", "order_index", "depth")
_EDGE = ("run_id", "from_node_id", "to_node_id")
_EVENT = (
    "id", "run_id", "session_id", "node_id", "parent_event_id", "event_type", "event_subtype", "agent_name", "attempt",
    "status", "started_at", "ended_at", "duration_ms", "inputs", "outputs", "meta", "execution_order", "depth",
)  # fmt: skip
_MESSAGE = ("run_id", "session_id", "node_id", "sender", "content", "created_at")

Rows = Iterator[tuple[Any, ...]]


def on_disk(db: Database, events: int) -> str:
    """Fill a database of SQLite; return the id of a run in the middle."""
    with closing(sqlite3.connect(db.path or "")) as connection:
        connection.executescript("PRAGMA synchronous = off; PRAGMA cache_size = -200000")
        for table, columns, rows in _tables(events // A_RUN):
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        connection.execute("ANALYZE")
        connection.commit()
    return _id(events // A_RUN // 2)


def on_server(db: Database, events: int) -> str:
    """Fill a database of PostgreSQL; return the id of a run in the middle."""
    import psycopg

    with psycopg.connect(**db.connecting()) as connection:
        for table, columns, rows in _tables(events // A_RUN):
            with connection.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        connection.commit()
        connection.autocommit = True
        connection.execute("ANALYZE")
    return _id(events // A_RUN // 2)


def with_messages(db: Database, number: int) -> None:
    """Fill a database of SQLite with one run, ``planck``, of so many messages of 1.5 kB and as many events."""
    text = "chi2 = 1.5 in data/fit.json, and so it goes on. " * 31
    run, common = _id(0), (_id(0), SESSION, "step_1")
    messages = ((*common, "engineer", f"{count} {text}", T0 + count) for count in range(number))
    ended = ("engineer", 1, "completed", T0, T0, 0.0, None, None, None)
    events = ((_id(n + 10), *common, None, "message", None, *ended, n, 0) for n in range(number))
    rows = {
        "sessions": (("id", "name", "created_at"), [(SESSION, "default", T0)]),
        "workflow_runs": (_RUN, [(run, SESSION, "planck", "one_shot", "completed", T0, T0, T0 + 9, ".", "{}")]),
        "execution_events": (_EVENT, events),
        "messages": (_MESSAGE, messages),
    }
    with closing(sqlite3.connect(db.path or "")) as connection:
        connection.execute("PRAGMA synchronous = off")
        for table, (columns, given) in rows.items():
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", given)
        connection.commit()


def _tables(runs: int) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    yield "sessions", ("id", "name", "created_at"), iter([(SESSION, "default", T0)])
    yield "workflow_runs", _RUN, (
        (_id(run), SESSION, f"run-{run}", "one_shot", "completed", T0 + run, T0 + run, T0 + run + 60, ".", "{}")
        for run in range(runs)
    )  # fmt: skip
    yield (
        "dag_nodes",
        _NODE,
        (
            (_id(run * NODES + node), _id(run), SESSION, f"step_{node}", "step", f"Step {node}", "completed", node, 0)
            for run in range(runs)
            for node in range(NODES)
        ),
    )
    yield (
        "dag_edges",
        _EDGE,
        ((_id(run), f"step_{node}", f"step_{node + 1}") for run in range(runs) for node in range(NODES - 1)),
    )
    yield "execution_events", _EVENT, _events(runs)


def _events(runs: int) -> Rows:
    from cmbagent_nb.store.json import to_json

    texts = [tuple(to_json(event[part]) for part in ("inputs", "outputs", "usage")) for event in floor.payloads(A_RUN)]
    for run in range(runs):
        for number, payload in enumerate(texts):
            identifier, at = run * A_RUN + number, T0 + run + number / A_RUN
            parent = _id(identifier - 1) if number % 5 else None
            kind = floor.KINDS[number % 5]
            yield (
                _id(identifier), _id(run), SESSION, f"step_{number * NODES // A_RUN}", parent, kind, "complete",
                "engineer", 1, "completed", at, at + 0.1, 100.0, *payload, number + 1, 1 if parent else 0,
            )  # fmt: skip


def _id(number: int) -> str:
    return f"{number:036d}"
