"""Summarizes a node: counts, times, tokens and costs, from the rows of the record.

The engine stores it in ``dag_nodes.meta["execution_summary"]`` when a node ends; the frame of the
nodes computes it for nodes that still run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from cmbagent_nb.store.database import rows

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

#: Events in which an agent is at work; their time is the agent's.
_WORK = frozenset({"agent_call", "code_exec"})


def node_summary(connection: Connection, run_id: str, node_id: str) -> dict[str, Any]:
    """Summarize a node and the sub-agents under it; an empty summary where nothing is recorded."""
    nodes = rows(
        connection,
        "SELECT node_id, parent_node_id, started_at, ended_at FROM dag_nodes WHERE run_id = :run",
        {"run": run_id},
    )
    members = _family(nodes, node_id)
    own: dict[str, Any] = next((node for node in nodes if node["node_id"] == node_id), {})
    marks = ", ".join(f":n{place}" for place in range(len(members)))
    values = {f"n{place}": member for place, member in enumerate(members)} | {"run": run_id}

    def select(columns: str, table: str, end: str = "") -> list[dict[str, Any]]:
        query = f"SELECT {columns} FROM {table} WHERE run_id = :run AND node_id IN ({marks}) {end}"
        return rows(connection, query, values)

    events = select(
        "id, parent_event_id, event_type, agent_name, status, attempt, started_at, ended_at, duration_ms",
        "execution_events",
    )
    costs = select("agent_name, total_tokens, cost_usd", "cost_records")
    files = select(
        "file_type, COUNT(DISTINCT file_path) AS n",
        "files",
        "AND COALESCE(priority, '') <> 'internal' GROUP BY file_type",
    )
    messages = select("COUNT(*) AS n", "messages")[0]["n"]
    attempts = select("MAX(attempt) AS n", "step_attempts")[0]["n"]
    calls = Counter(event["agent_name"] for event in events if event["event_type"] == "agent_call")
    statuses = Counter(event["status"] for event in events)
    started = own.get("started_at") or min((event["started_at"] for event in events), default=None)
    ended = own.get("ended_at") or max((event["ended_at"] or 0.0 for event in events), default=0.0) or None
    return {
        "total_events": len(events),
        "event_types": dict(Counter(event["event_type"] for event in events)),
        "agents_involved": sorted({event["agent_name"] for event in events if event["agent_name"]}),
        "agent_call_counts": {agent: count for agent, count in calls.items() if agent},
        "files_generated": sum(row["n"] for row in files),
        "files_by_type": {row["file_type"]: row["n"] for row in files},
        "messages_count": messages,
        "timing": {
            "started_at": started,
            "ended_at": ended,
            "duration_seconds": max(0.0, ended - started) if ended is not None and started is not None else None,
            "agent_time_breakdown": _time_by_agent(events),
        },
        "cost_summary": _cost_summary(costs),
        "success_metrics": {
            "completion_rate": statuses["completed"] / len(events) if events else None,
            "completed_count": statuses["completed"],
            "failed_count": statuses["failed"],
            "error_count": sum(event["event_type"] == "error" for event in events) + statuses["failed"],
        },
        "attempts": attempts or max((event["attempt"] or 0 for event in events), default=0),
    }


def _family(nodes: list[dict[str, Any]], node_id: str) -> list[str]:
    """Return a node's id and those of all nodes under it."""
    under = defaultdict(list)
    for node in nodes:
        under[node["parent_node_id"]].append(node["node_id"])
    members, todo = [], [node_id]
    while todo:
        current = todo.pop()
        if current not in members:
            members.append(current)
            todo += under[current]
    return members


def _time_by_agent(events: list[dict[str, Any]]) -> dict[str, float]:
    """Return seconds by agent; what one agent spends within another's call counts once, for the inner one."""
    by_id = {event["id"]: event for event in events}
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        if event["event_type"] not in _WORK or not event["duration_ms"]:
            continue
        seconds = event["duration_ms"] / 1000
        spent[event["agent_name"] or ""] += seconds
        around = by_id.get(event["parent_event_id"] or "")
        while around is not None and around["event_type"] not in _WORK:
            around = by_id.get(around["parent_event_id"] or "")
        if around is not None:
            spent[around["agent_name"] or ""] -= seconds
    return {agent: round(max(seconds, 0.0), 6) for agent, seconds in spent.items() if agent}


def _cost_summary(costs: list[dict[str, Any]]) -> dict[str, Any]:
    by_agent: dict[str, float | None] = {}
    for row in costs:
        agent = row["agent_name"] or ""
        before = by_agent.get(agent, 0.0)
        by_agent[agent] = None if before is None or row["cost_usd"] is None else before + row["cost_usd"]
    known = [row["cost_usd"] for row in costs if row["cost_usd"] is not None]
    return {
        "total_tokens": sum(row["total_tokens"] or 0 for row in costs),
        "total_cost_usd": sum(known) if len(known) == len(costs) else None,
        "unknown_cost_calls": len(costs) - len(known),
        "by_agent": by_agent,
    }
