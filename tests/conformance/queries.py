"""The queries that the views make use the indexes: one run among many is found without reading the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.server import queries
from cmbagent_nb.store import frames
from cmbagent_nb.store.approvals import open_gates
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.lineage import lineage
from cmbagent_nb.store.lookup import find_run
from cmbagent_nb.store.snapshot import read_snapshot
from cmbagent_nb.workflow.commands import UNHANDLED
from cmbagent_nb.workflow.ownership import interrupt_orphans, owner
from tests.conformance.backend import Backend
from tests.stored import T0

#: Runs in the store, and rows of each in every large table.
RUNS, ROWS = 150, 40

#: Tables that grow with what runs do: none may be read from one end to the other.
LARGE = frozenset(
    {
        "approval_requests", "commands", "cost_records", "dag_edges", "dag_nodes", "execution_events", "files",
        "messages", "model_replies", "state_history", "step_attempts", "workflow_steps",
    }
)  # fmt: skip


def fill(db: Database, runs: int = RUNS, rows: int = ROWS) -> list[str]:
    """Fill every large table as runs would, quickly, and return the ids of the runs."""
    session = new_id()
    ids = [new_id() for _ in range(runs)]
    mark = "?" if db.is_sqlite else "%s"
    with db.writing() as connection:

        def insert(table: str, columns: str, values: Iterator[tuple[Any, ...]]) -> None:
            marks = ", ".join([mark] * len(columns.split(",")))
            sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
            connection.exec_driver_sql(sql, list(values), clean=True)

        def each() -> Iterator[tuple[str, int]]:
            return ((run, number) for run in ids for number in range(rows))

        insert("sessions", "id, name, created_at", iter([(session, "default", T0)]))
        insert(
            "workflow_runs",
            "id, session_id, name, mode, status, created_at, work_dir",
            (
                (run, session, f"run-{place}", "one_shot", "completed" if place else "executing", T0 + place, "x")
                for place, run in enumerate(ids)
            ),
        )
        insert("leases", "run_id, owner, heartbeat_at", ((run, owner(), T0) for run in ids))
        events = {key: new_id() for key in each()}
        kinds = ("file_gen", "code_exec")
        text = '{"x":"' + 200 * "y" + '"}'
        insert(
            "execution_events",
            "id, run_id, session_id, node_id, event_type, status, started_at, execution_order, inputs, parent_event_id",
            (
                (*row, kinds[n % 2], "completed", T0, n, text, events[r, n - 1] if n % 4 else None)
                for r, n in each()
                for row in [(events[r, n], r, session, f"step_{n % 4}")]
            ),
        )
        common = "run_id, node_id, created_at"

        def of_events() -> Iterator[tuple[str, int, tuple[Any, ...]]]:
            return ((r, n, (r, f"step_{n % 4}", T0, events[r, n])) for r, n in each())

        def of_nodes() -> Iterator[tuple[str, int]]:
            return ((r, n) for r, n in each() if n < 12)

        insert("messages", f"{common}, event_id, content", ((*row, "hello " * 20) for _, _, row in of_events()))
        insert("cost_records", f"{common}, event_id, cost_usd, total_tokens", ((*e, 0.5, 9) for _, _, e in of_events()))
        insert(
            "files",
            f"{common}, event_id, id, file_path, version",
            ((*row, new_id(), f"data/{n // 2}.csv", n % 2) for _, n, row in of_events()),
        )
        insert(
            "model_replies",
            f"{common}, event_id, id, ordinal, reply",
            ((*row, new_id(), n, "{}") for _, n, row in of_events()),
        )
        insert(
            "approval_requests",
            f"id, {common}, approval_type, status",
            (
                (new_id(), r, f"step_{n}", T0, "step_approval", "pending" if r == ids[0] else "resolved")
                for r, n in of_nodes()
            ),
        )
        insert(
            "commands",
            "id, run_id, command, created_at, handled_at",
            (
                (new_id(), r, "cancel", T0, None if r == ids[0] and n == 0 else T0 + n + place * rows)
                for place, r in enumerate(ids)
                for n in range(rows)
            ),
        )
        insert(
            "state_history",
            "run_id, entity_type, entity_id, to_state, created_at",
            ((r, "workflow_step", f"step_{n}", "running", T0) for r, n in each()),
        )
        insert(
            "dag_nodes",
            "id, run_id, node_id, node_type, order_index",
            ((new_id(), r, f"step_{n}", "step", n) for r, n in of_nodes()),
        )
        insert(
            "dag_edges",
            "run_id, from_node_id, to_node_id",
            ((r, f"step_{n}", f"step_{n + 1}") for r, n in of_nodes()),
        )
        insert(
            "workflow_steps",
            "id, run_id, node_id, step_number",
            ((new_id(), r, f"step_{n}", n) for r, n in of_nodes()),
        )
        insert(
            "step_attempts",
            "id, run_id, node_id, attempt",
            ((new_id(), r, f"step_{n}", 1) for r, n in of_nodes()),
        )
    if not db.is_sqlite:  # a server does this by itself from time to time
        with db.writing() as connection:
            connection.exec_driver_sql("ANALYZE")
    return ids


def the_views_use_the_indexes(backend: Backend) -> None:
    """No query of a view reads a large table from one end to the other, and none sorts more than one run."""
    db = backend.database()
    run = fill(db)[0]
    writer = backend.writer(db)
    asked: dict[str, Callable[[], Any]] = {
        "events": lambda: frames.events(db, run),
        "nodes": lambda: frames.nodes(db, run),
        "messages": lambda: frames.messages(db, run),
        "files": lambda: frames.files(db, run),
        "costs": lambda: frames.costs(db, run),
        "steps": lambda: frames.steps(db, run),
        "history": lambda: frames.history(db, run),
        "decisions": lambda: frames.decisions(db, run),
        "runs of a status": lambda: frames.runs(db, status="executing"),
        "snapshot": lambda: read_snapshot(db, run),
        "lineage": lambda: lineage(db, run, "data/3.csv"),
        "open gates": lambda: open_gates(db),
        "open gates of a run": lambda: open_gates(db, run),
        "commands": lambda: db.rows(UNHANDLED),
        "orphans": lambda: interrupt_orphans(db, writer),
        "run by name": lambda: find_run(db, "run-7"),
        "panel's runs": lambda: queries.runs(db, limit=20, status=""),
        "panel's events": lambda: queries.events(db, run, after=10, limit=20),
        "panel's graph": lambda: queries.graph(db, run),
    }
    for name, ask in asked.items():
        for sql, parameters in _statements(db, ask):
            scanned = _scanned(db, sql, parameters)
            assert not scanned & LARGE, f"{name} reads all of {scanned & LARGE}: {sql}"


def _statements(db: Database, ask: Callable[[], Any]) -> list[tuple[str, Any]]:
    """Return what is sent to the database while ``ask`` is answered."""
    sent: list[tuple[str, Any]] = []

    def notice(sql: str, parameters: Any, *_more: Any) -> None:
        if re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)\b", sql):
            sent.append((sql, parameters))

    db.pool.listeners.append(notice)
    try:
        ask()
    finally:
        db.pool.listeners.remove(notice)
    assert sent
    return sent


def _scanned(db: Database, sql: str, parameters: Any) -> set[str]:
    """Return the tables that a query reads from one end to the other."""
    with db.reading() as connection:
        if db.is_sqlite:
            aliases = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN) (\w+) (?:AS )?(\w+)", sql)}
            lines = [row[-1] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, parameters)]
            names = [line.split()[1] for line in lines if line.startswith("SCAN ")]
            return {aliases.get(name, name) for name in names}
        plan = connection.exec_driver_sql("EXPLAIN (FORMAT JSON) " + sql, parameters).scalar()
    plan = plan if isinstance(plan, list) else json.loads(plan)
    return {
        str(node["Relation Name"])
        for node in _nodes(plan[0]["Plan"])
        if node["Node Type"] == "Seq Scan"
        or ("Index" in node["Node Type"] and "Relation Name" in node and "Index Cond" not in node)
    }


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


SPECS = (the_views_use_the_indexes,)
