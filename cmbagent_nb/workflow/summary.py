"""Summarizes a node once it has ended; the summary is stored with the node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.workflow.context import Context


async def summarize(context: Context, node_id: str) -> None:
    """Count the events, agents, files, tokens and costs of a node and store them in its ``meta``."""

    def store(connection: Connection) -> None:
        from cmbagent_nb.store.json import to_json
        from cmbagent_nb.store.node_summary import node_summary

        summary = {"execution_summary": node_summary(connection, context.run_id, node_id)}
        connection.execute(
            "UPDATE dag_nodes SET meta = :meta WHERE run_id = :run AND node_id = :node",
            {"meta": to_json(summary), "run": context.run_id, "node": node_id},
        )

    await asyncio.wrap_future(context.writer.call(store))
