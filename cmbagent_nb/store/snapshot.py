"""Reads the state of a run, bounded and ready to draw: the one input of every view.

All that is in a snapshot is read in one transaction, so its parts fit together.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cmbagent_nb.errors import RunNotFound
from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.conflicts import CONFLICTING, conflict_lines
from cmbagent_nb.store.database import Database, rows
from cmbagent_nb.store.event_labels import error_word, event_label
from cmbagent_nb.store.files import is_missing, mark_missing
from cmbagent_nb.store.lookup import parsed
from cmbagent_nb.store.waiting import WAITING, waits

#: Statuses after which a run does nothing more by itself.
FINISHED = frozenset({"completed", "failed", "cancelled", "interrupted"})

#: The texts within payloads of events longer than this are shortened; ``run.events()`` has them whole.
_LONG_PAYLOAD = 20_000

#: Payloads longer than this are left out of a snapshot.
_LONGEST_PAYLOAD = 100_000

#: Characters of a text within a long payload.
_LONGEST_TEXT = 2_000

#: Characters of a message that a snapshot holds.
_LONGEST_MESSAGE = 20_000

_Select = Callable[..., list[dict[str, Any]]]


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes
    ----------
    run
        The run's row with totals: ``calls``, ``failed_calls``, ``tokens``, ``cost_usd`` (None when the cost of
        a call is unknown), ``cost_known``, ``unknown_cost_calls``, ``n_events``, ``n_messages``, ``n_files``,
        ``elapsed_s``, ``waiting`` (what it waits for, and since when), and ``silent_s``: seconds since the process of
        a run that goes on gave a sign of life.
    nodes
        The graph's nodes in order, each with ``attempt``, ``max_attempts``, ``n_events``, ``n_files``,
        ``cost_usd``, ``duration_s``, ``error_word``.
    edges
        Pairs of node ids.
    gates
        The gates that are open, the oldest first.
    events
        The newest events, in the order in which they happened, each with ``label``, ``cost_usd``, ``tokens``;
        ``long`` tells that a payload was shortened or left out.
    files
        The newest version of each file, the newest first; ``missing`` where it is not at its place any more.
    messages
        The newest messages, in the order in which they were written.
    costs
        Calls, tokens and cost by agent and model.
    plan
        The plan, when there is one.
    proposed
        The newest plan that a person was asked about, when there is none.
    bars
        Who was busy when: turns of agents, runs of code and gates, the newest, without what went in and came out;
        ``n_bars`` in ``run`` tells how many there are.
    report
        The text that the run gives as its result, when there is one.
    finished
        Whether the run does nothing more by itself.
    """

    run: dict[str, Any]
    nodes: list[dict[str, Any]]
    edges: list[tuple[str, str]]
    gates: list[dict[str, Any]]
    events: list[dict[str, Any]]
    files: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    plan: dict[str, Any] | None
    report: str | None
    finished: bool
    proposed: dict[str, Any] | None = None
    bars: list[dict[str, Any]] = field(default_factory=list)


def read_snapshot(
    db: Database, run_id: str, *, events: int = 200, messages: int = 50, files: int = 200, bars: int = 2000
) -> Snapshot:
    """Read a run as it stands, with the newest ``events``, ``messages``, ``files`` and ``bars``.

    Raises
    ------
    RunNotFound
        There is no run with this id.
    """
    with record_of(db, run_id).reading() as connection:

        def select(sql: str, **values: Any) -> list[dict[str, Any]]:
            return rows(connection, sql, {"run": run_id, **values})

        found = select("SELECT * FROM workflow_runs WHERE id = :run")
        if not found:
            raise RunNotFound(f"no run has the id {run_id!r}", "List the runs with %cmbagent runs.", reference=run_id)
        run = parsed(found[0])
        costs = select(_COSTS)
        counts = {row["node_id"]: row for row in select(_COUNTS)}
        run |= _totals(run, costs, counts, select)
        run["conflicts"] = conflict_lines(select(CONFLICTING, mark='%"conflict":%'))
        run["waiting"] = [] if run["status"] in FINISHED else waits(select(WAITING))
        edges = select("SELECT from_node_id, to_node_id FROM dag_edges WHERE run_id = :run ORDER BY id")
        gates = select(
            "SELECT * FROM approval_requests WHERE run_id = :run AND status = 'pending' ORDER BY created_at, id"
        )
        newest = _events(select, events)
        return Snapshot(
            run=run,
            nodes=_nodes(run, counts, select),
            edges=[(row["from_node_id"], row["to_node_id"]) for row in edges],
            gates=[parsed(row) for row in gates],
            events=newest,
            files=mark_missing(run["work_dir"], [parsed(row) for row in select(_FILES, n=files)]),
            messages=[parsed(row) for row in reversed(select(_MESSAGES, n=messages, longest=_LONGEST_MESSAGE))],
            costs=_by_agent_and_model(costs),
            plan=run["plan"] if isinstance(run["plan"], dict) else None,
            report=_report(run["result"]),
            finished=run["status"] in FINISHED,
            proposed=None if isinstance(run["plan"], dict) else _proposed(select),
            bars=_bars(select, bars, newest),
        )


_COSTS = """
SELECT node_id, agent_name, provider, model, COUNT(*) AS calls, SUM(prompt_tokens) AS prompt_tokens,
       SUM(completion_tokens) AS completion_tokens, SUM(cached_tokens) AS cached_tokens,
       SUM(total_tokens) AS total_tokens, SUM(cost_usd) AS cost_known, COUNT(*) - COUNT(cost_usd) AS unknown_cost_calls
FROM cost_records WHERE run_id = :run
GROUP BY node_id, agent_name, provider, model ORDER BY MIN(id)
"""

_COUNTS = "SELECT node_id, COUNT(*) AS n_events FROM execution_events WHERE run_id = :run GROUP BY node_id"

_NEWEST = "SELECT id FROM execution_events WHERE run_id = :run ORDER BY execution_order DESC LIMIT :n"

_EVENTS = """
SELECT id, run_id, session_id, node_id, parent_event_id, event_type, event_subtype, agent_name, agent_role, attempt,
       status, started_at, ended_at, duration_ms,
       CASE WHEN LENGTH(inputs) <= :longest THEN inputs END AS inputs,
       CASE WHEN LENGTH(outputs) <= :longest THEN outputs END AS outputs,
       CASE WHEN LENGTH(meta) <= :longest THEN meta END AS meta,
       COALESCE(LENGTH(inputs), 0) > :long OR COALESCE(LENGTH(outputs), 0) > :long AS long,
       error, execution_order, depth
FROM execution_events WHERE run_id = :run ORDER BY execution_order DESC LIMIT :n
"""

_BARS = """
SELECT id, run_id, node_id, event_type, event_subtype, agent_name, attempt, status, started_at, ended_at, duration_ms,
       SUBSTR(error, 1, 400) AS error
FROM execution_events WHERE run_id = :run AND event_type IN ('agent_call', 'code_exec', 'approval')
ORDER BY execution_order DESC LIMIT :n
"""

_EVENT_COSTS = f"""
SELECT event_id, SUM(total_tokens) AS tokens, SUM(cost_usd) AS cost_known, COUNT(*) - COUNT(cost_usd) AS unknown
FROM cost_records WHERE run_id = :run AND event_id IN (SELECT id FROM ({_NEWEST}) AS newest) GROUP BY event_id
"""

_FILES = """
SELECT * FROM files AS f WHERE run_id = :run AND NOT EXISTS (
    SELECT 1 FROM files AS g WHERE g.run_id = :run AND g.file_path = f.file_path AND g.version > f.version)
ORDER BY created_at DESC, id DESC LIMIT :n
"""

# What a failed attempt left behind is kept, and not counted among the files of its node.
_FILE_COUNTS = """
SELECT node_id, COUNT(DISTINCT file_path) AS n FROM files
WHERE run_id = :run AND COALESCE(priority, '') <> 'internal' GROUP BY node_id
"""

_MESSAGES = """
SELECT id, run_id, session_id, node_id, event_id, sender, recipient, SUBSTR(content, 1, :longest) AS content,
       LENGTH(content) AS length, code_generated,
       agent_role, SUBSTR(reasoning, 1, :longest) AS reasoning, created_at, duration_ms, tokens
FROM messages WHERE run_id = :run ORDER BY id DESC LIMIT :n
"""


def _totals(
    run: dict[str, Any], costs: list[dict[str, Any]], counts: dict[str, Any], select: _Select
) -> dict[str, Any]:
    (other,) = select(
        "SELECT (SELECT COUNT(*) FROM messages WHERE run_id = :run) AS n_messages, "
        "(SELECT COUNT(DISTINCT file_path) FROM files WHERE run_id = :run AND "
        "COALESCE(priority, '') <> 'internal') AS n_files, "
        "(SELECT COUNT(*) FROM model_replies WHERE run_id = :run) AS replies, "
        "(SELECT COUNT(*) FROM execution_events WHERE run_id = :run AND event_type = 'model_call' "
        "AND status = 'failed') AS failed_calls, "
        "(SELECT COUNT(*) FROM execution_events WHERE run_id = :run AND event_type IN "
        "('agent_call', 'code_exec', 'approval')) AS n_bars"
    )
    unknown = sum(row["unknown_cost_calls"] for row in costs)
    known = float(sum(row["cost_known"] or 0.0 for row in costs))
    end = run["ended_at"] or (run["last_heartbeat_at"] if run["status"] in FINISHED else time.time())
    begin = run["started_at"] or run["created_at"]
    return {
        "calls": max(sum(row["calls"] for row in costs), other["replies"]),
        "failed_calls": other["failed_calls"],
        "tokens": sum(row["total_tokens"] or 0 for row in costs),
        "cost_usd": None if unknown else known,
        "cost_known": known,
        "unknown_cost_calls": unknown,
        "n_events": sum(row["n_events"] for row in counts.values()),
        "n_bars": other["n_bars"],
        "n_messages": other["n_messages"],
        "n_files": other["n_files"],
        "elapsed_s": max(0.0, (end or begin) - begin),
        "silent_s": 0.0 if run["status"] in FINISHED else max(0.0, time.time() - (run["last_heartbeat_at"] or begin)),
        "work_dir_missing": is_missing(run["work_dir"], "."),
    }


def _nodes(run: dict[str, Any], counts: dict[str, Any], select: _Select) -> list[dict[str, Any]]:
    found = select("SELECT * FROM dag_nodes WHERE run_id = :run ORDER BY order_index, depth, id")
    steps = {row["node_id"]: row for row in select("SELECT * FROM workflow_steps WHERE run_id = :run")}
    attempts: dict[str, dict[str, Any]] = {}
    for row in select("SELECT node_id, attempt, error FROM step_attempts WHERE run_id = :run ORDER BY attempt"):
        before = attempts.get(row["node_id"], {})
        attempts[row["node_id"]] = {**row, "error": row["error"] or before.get("error")}
    files = _numbers(select(_FILE_COUNTS))
    spent: dict[str, float | None] = defaultdict(float)
    for row in select(
        "SELECT node_id, SUM(cost_usd) AS known, COUNT(*) - COUNT(cost_usd) AS unknown "
        "FROM cost_records WHERE run_id = :run GROUP BY node_id"
    ):
        spent[row["node_id"]] = None if row["unknown"] else row["known"]
    most = (run["meta"] or {}).get("max_attempts") if isinstance(run["meta"], dict) else None
    nodes = []
    for row in found:
        node = parsed(row)
        name = node["node_id"]
        step, last = steps.get(name, {}), attempts.get(name, {})
        node["attempt"] = max(last.get("attempt") or 0, step.get("attempts") or 0)
        node["max_attempts"] = (node["meta"] or {}).get("max_attempts", most)
        node["n_files"] = files.get(name, 0)
        node["n_events"] = counts[name]["n_events"] if name in counts else 0
        node["cost_usd"] = spent[name]
        end = node["ended_at"] or (time.time() if node["status"] == "running" else None)
        node["duration_s"] = max(0.0, end - node["started_at"]) if end and node["started_at"] else None
        node["error_word"] = _trouble(node, step, last, select)
        nodes.append(node)
    return nodes


def _trouble(node: dict[str, Any], step: dict[str, Any], last: dict[str, Any], select: _Select) -> str | None:
    """Return why a node failed, or why it is tried again."""
    failed = node["status"] in {"failed", "retrying", "interrupted"}
    if not failed and not (node["status"] == "running" and node["attempt"] > 1):
        return None
    error = step.get("error") or (node["meta"] or {}).get("error") or last.get("error")
    if not error:
        latest = select(
            "SELECT error FROM execution_events WHERE run_id = :run AND node_id = :node AND error IS NOT NULL "
            "ORDER BY execution_order DESC LIMIT 1",
            node=node["node_id"],
        )
        error = latest[0]["error"] if latest else None
    return error_word(error if isinstance(error, str) else None)


def _events(select: _Select, most: int) -> list[dict[str, Any]]:
    costs = {row["event_id"]: row for row in select(_EVENT_COSTS, n=most)}
    found = []
    for row in reversed(select(_EVENTS, n=most, long=_LONG_PAYLOAD, longest=_LONGEST_PAYLOAD)):
        event = parsed(row)
        cost = costs.get(event["id"])
        event["long"] = bool(event["long"])
        if event["long"]:
            event |= {part: _shortened(event[part]) for part in ("inputs", "outputs")}
        event["label"] = event_label(event)
        event["tokens"] = cost["tokens"] if cost else None
        event["cost_usd"] = cost["cost_known"] if cost and not cost["unknown"] else None
        found.append(event)
    return found


def _bars(select: _Select, most: int, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    labels = {event["id"]: event["label"] for event in events}
    return [{**row, "label": labels.get(row["id"]) or event_label(row)} for row in reversed(select(_BARS, n=most))]


def _proposed(select: _Select) -> dict[str, Any] | None:
    """Return the plan that the newest gate about a plan has shown."""
    rows = select(
        "SELECT context FROM approval_requests WHERE run_id = :run AND approval_type = 'plan_approval'"
        " ORDER BY created_at DESC, id DESC LIMIT 1"
    )
    context = parsed(rows[0])["context"] if rows else None
    plan = context.get("plan") if isinstance(context, dict) else None
    return plan if isinstance(plan, dict) else None


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        left = len(value) - _LONGEST_TEXT
        return value if left <= 0 else f"{value[:_LONGEST_TEXT]} [… {left:,} more characters …]"
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value[:_LONGEST_TEXT]] if isinstance(value, list) else value


def _by_agent_and_model(costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    grouped: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in costs:
        key = (row["agent_name"], row["provider"], row["model"])
        total = grouped.setdefault(key, {"agent_name": key[0], "provider": key[1], "model": key[2]})
        for name in _SUMMED:
            total[name] = total.get(name, 0) + (row[name] or 0)
    for total in grouped.values():
        total["cost_usd"] = None if total["unknown_cost_calls"] else total["cost_known"]
    return list(grouped.values())


_SUMMED = (
    "calls", "prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens", "cost_known", "unknown_cost_calls",
)  # fmt: skip


def _numbers(found: list[dict[str, Any]]) -> dict[str, int]:
    return {row["node_id"]: row["n"] for row in found}


def _report(result: Any) -> str | None:
    """Return the text of a run's result."""
    text = result.get("text") if isinstance(result, dict) else None
    return str(text) if text else None
