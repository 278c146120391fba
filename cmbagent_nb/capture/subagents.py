"""Nodes of sub-agents: an agent that works within another's step stands under it in the graph.

The node is one for each pair of step and agent: it is made when the agent is first called, runs
again when it is called again, and ends with the last of the calls that are under way.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cmbagent_nb.capture.recorder import Recorder, Where
from cmbagent_nb.ids import new_id

if TYPE_CHECKING:
    from sqlalchemy import Connection

_under_way: WeakKeyDictionary[Recorder, Counter[str]] = WeakKeyDictionary()


@contextmanager
def sub_agent_node(recorder: Recorder, where: Where, agent: str) -> Iterator[str]:
    """Keep the node of ``agent`` under the node of ``where`` running while the block runs; give its id."""
    node_id = f"{where.node_id}.{agent}"
    calls = _under_way.setdefault(recorder, Counter())
    calls[node_id] += 1
    if calls[node_id] == 1:
        _set_status(recorder, node_id, where.node_id, agent, "running")
    status = "failed"
    try:
        yield node_id
        status = "completed"
    except (asyncio.CancelledError, GeneratorExit):
        status = "cancelled"
        raise
    finally:
        calls[node_id] -= 1
        if calls[node_id] == 0:
            _set_status(recorder, node_id, where.node_id, agent, status)


def _set_status(recorder: Recorder, node_id: str, parent: str, agent: str, status: str) -> None:
    now = time.time()
    row_id = new_id()
    run_id, session_id = recorder.run_id, recorder.session_id

    def write(connection: Connection) -> None:
        from sqlalchemy import text

        def one(sql: str, **values: Any) -> Any:
            return connection.execute(text(sql), values).first()

        key = {"run_id": run_id, "node_id": node_id}
        before = one("SELECT status FROM dag_nodes WHERE run_id = :run_id AND node_id = :node_id", **key)
        if before is None:
            above = one(
                "SELECT order_index, depth FROM dag_nodes WHERE run_id = :run_id AND node_id = :parent",
                run_id=run_id,
                parent=parent,
            )
            connection.execute(
                text(
                    "INSERT INTO dag_nodes (id, run_id, session_id, node_id, parent_node_id, node_type, title, agent,"
                    " status, order_index, depth, started_at) VALUES (:id, :run_id, :session_id, :node_id, :parent,"
                    " 'sub_agent', :agent, :agent, :status, :order_index, :depth, :now)"
                ),
                {
                    **key,
                    "id": row_id,
                    "session_id": session_id,
                    "parent": parent,
                    "agent": agent,
                    "status": status,
                    "order_index": above.order_index if above else 0,
                    "depth": above.depth + 1 if above else 1,
                    "now": now,
                },
            )
        else:
            ended = None if status == "running" else now
            connection.execute(
                text(
                    "UPDATE dag_nodes SET status = :status, ended_at = :ended"
                    " WHERE run_id = :run_id AND node_id = :node_id"
                ),
                {**key, "status": status, "ended": ended},
            )
        connection.execute(
            text(
                "INSERT INTO state_history (entity_type, entity_id, run_id, session_id, from_state, to_state,"
                " transition_reason, transitioned_by, created_at) VALUES ('dag_node', :node_id, :run_id, :session_id,"
                " :from_state, :status, 'sub-agent', 'capture', :now)"
            ),
            {
                **key,
                "session_id": session_id,
                "from_state": before.status if before else None,
                "status": status,
                "now": now,
            },
        )

    recorder.write(write)
