"""Reads the record of one node by attempt, when the node is opened, in time independent of the run's length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.database import Database, rows
from cmbagent_nb.store.event_labels import event_label
from cmbagent_nb.store.lookup import parsed

#: Events of a node that are read at most, the newest ones, and the longest payload of one of them.
MOST = 400
LONGEST = 4_000_000

#: What a node is opened for: what was asked, run, decided, and what went wrong.
KINDS = ("agent_call", "tool_call", "code_exec", "approval", "error", "skill", "policy", "retry")


@dataclass
class AttemptDetail:
    """One attempt at a node; ``number`` 0 holds what belongs to none."""

    number: int
    row: dict[str, Any] = field(default_factory=dict)
    #: Its events in order, with ``inputs`` and ``outputs`` whole; ``too_long`` tells that a payload was left out.
    events: list[dict[str, Any]] = field(default_factory=list)
    #: What was asked and answered, in order and whole.
    messages: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class NodeDetail:
    """A node with its attempts in order, and how many of its events are not among them."""

    node_id: str
    attempts: list[AttemptDetail]
    left_out: int = 0


def read_node(db: Database, run_id: str, node_id: str) -> NodeDetail:
    """Read what happened at a node and at the agents inside it."""
    with record_of(db, run_id).reading() as connection:

        def select(sql: str, **values: Any) -> list[dict[str, Any]]:
            return rows(connection, sql, {"run": run_id, "node": node_id, **values})

        (total,) = select(_COUNT)
        found = [parsed(row) for row in reversed(select(_EVENTS, n=MOST, longest=LONGEST))]
        attempts: dict[int, AttemptDetail] = {}

        def of(number: Any) -> AttemptDetail:
            return attempts.setdefault(int(number or 0), AttemptDetail(int(number or 0)))

        for row in select(
            "SELECT * FROM step_attempts WHERE run_id = :run AND node_id = :node ORDER BY attempt, started_at"
        ):
            of(row["attempt"]).row = parsed(row)
        for event in found:
            event["label"] = event_label(event)
            event["too_long"] = bool(event["too_long"])
            of(event["attempt"]).events.append(event)
        for row in select(_MESSAGES, longest=LONGEST):
            of(row["attempt"]).messages.append(row)
        for row in select(f"SELECT * FROM files WHERE {_OF_NODE} ORDER BY created_at, id"):
            file = parsed(row)
            number = (file["meta"] or {}).get("attempt") if isinstance(file["meta"], dict) else None
            of(number).files.append(file)
    ordered = [attempts[number] for number in sorted(attempts)]
    return NodeDetail(node_id, ordered, max(0, int(total["n"]) - len(found)))


_NAMES = ", ".join(f"'{kind}'" for kind in KINDS)
_OF_NODE = "run_id = :run AND (node_id = :node OR node_id LIKE :node || '.%')"
_MESSAGES = """
SELECT m.sender, m.recipient, SUBSTR(m.content, 1, :longest) AS content, m.reasoning, m.code_generated, m.created_at,
       e.attempt
FROM messages m LEFT JOIN execution_events e ON e.id = m.event_id
WHERE m.run_id = :run AND (m.node_id = :node OR m.node_id LIKE :node || '.%') ORDER BY m.id
"""
_EVENTS = f"""
SELECT id, run_id, node_id, parent_event_id, event_type, event_subtype, agent_name, agent_role, attempt, status,
       started_at, ended_at, duration_ms, error, execution_order, depth,
       CASE WHEN LENGTH(inputs) <= :longest THEN inputs END AS inputs,
       CASE WHEN LENGTH(outputs) <= :longest THEN outputs END AS outputs,
       COALESCE(LENGTH(inputs), 0) > :longest OR COALESCE(LENGTH(outputs), 0) > :longest AS too_long
FROM execution_events WHERE {_OF_NODE} AND (event_type IN ({_NAMES}) OR error IS NOT NULL)
ORDER BY execution_order DESC LIMIT :n
"""
_COUNT = f"""
SELECT COUNT(*) AS n FROM execution_events WHERE {_OF_NODE} AND (event_type IN ({_NAMES}) OR error IS NOT NULL)
"""
