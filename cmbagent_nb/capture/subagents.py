"""Adds graph nodes for sub-agents, below the step in which they work.

The node is one for each pair of step and agent: it is made when the agent is first called, runs
again when it is called again, and ends with the last of the calls that are under way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cmbagent_nb.capture.recorder import Location, Recorder
from cmbagent_nb.ids import new_id

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

_under_way: WeakKeyDictionary[Recorder, Counter[str]] = WeakKeyDictionary()


@contextmanager
def sub_agent_node(recorder: Recorder, where: Location, agent: str) -> Iterator[str]:
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
    row_id = new_id()

    def write(connection: Connection) -> None:
        _insert(connection, recorder, {"id": row_id, "node_id": node_id, "parent": parent, "agent": agent})
        recorder.change_node(connection, node_id, status)

    recorder.write(write)


def _insert(connection: Connection, recorder: Recorder, values: dict[str, str]) -> None:
    """Make the node if it is not there yet, below that of its step."""
    above = "SELECT {} FROM dag_nodes WHERE run_id = :run_id AND node_id = :parent"
    key = {"run_id": recorder.run_id, "session_id": recorder.session_id}
    connection.execute(
        "INSERT INTO dag_nodes (id, run_id, session_id, node_id, parent_node_id, node_type, title, agent, status,"
        " order_index, depth) SELECT :id, :run_id, :session_id, :node_id, :parent, 'sub_agent', :agent, :agent,"
        f" 'pending', COALESCE(({above.format('order_index')}), 0), COALESCE(({above.format('depth')}), 0) + 1"
        " WHERE NOT EXISTS (SELECT 1 FROM dag_nodes WHERE run_id = :run_id AND node_id = :node_id)",
        {**key, **values},
    )
