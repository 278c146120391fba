"""The graph of a run as rows: nodes, edges and steps, written when the plan is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cmbagent_nb.ids import new_id
from cmbagent_nb.workflow.plan import PLAN_APPROVAL, PLANNING, SKILL_MATCH, TERMINATOR, Plan

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context

#: The order of the terminator in the graph: after every step that a plan can have.
LAST = 1_000_000


async def add_planning(context: Context, *, approval: bool) -> None:
    """Add what is there before the plan: planning, and the approval if one is wanted."""
    _add_node(context, PLANNING, "planning", "Planning", "planner", 0)
    edges = [(SKILL_MATCH, PLANNING)] if context.was_offered else []
    if approval:
        _add_node(context, PLAN_APPROVAL, "approval", "Plan approval", "you", 1)
        edges.append((PLANNING, PLAN_APPROVAL))
    _add_edges(context, edges)
    await context.writer.settled()


async def add_offer(context: Context) -> None:
    """Add the node at which a person is asked whether a skill is to be used."""
    _add_node(context, SKILL_MATCH, "approval", "Use a skill?", "you", 0)
    await context.writer.settled()
    context.was_offered = True


async def add_graph(context: Context, plan: Plan, *, start: str | None) -> None:
    """Add a node and a row for each step, and the edges between them."""
    for step in plan.steps:
        _add_node(context, step.node_id, "step", step.title, step.agent, 1 + step.number)
        if step.node_id in context.past.steps:
            continue
        context.journaled.insert(
            "step",
            "workflow_steps",
            {
                "id": new_id(),
                "run_id": context.run_id,
                "session_id": context.session_id,
                "node_id": step.node_id,
                "step_number": step.number,
                "title": step.title,
                "agent": step.agent,
                "goal": step.title,
                "instructions": step.instructions,
                "status": "pending",
                "depends_on": list(step.depends_on),
                "expected_outputs": list(step.expected_outputs),
                "attempts": 0,
                "inputs": {"bullet_points": list(step.bullet_points)},
            },
        )
    _add_node(context, TERMINATOR, "terminator", "End", None, LAST)
    _add_edges(context, plan.edges(start))
    context.journaled.update("plan", "workflow_runs", context.run_id, {"plan": plan.to_dict()})
    await context.writer.settled()
    context.stream.emit("dag_created", nodes=[step.node_id for step in plan.steps])


def _add_node(context: Context, node_id: str, node_type: str, title: str, agent: str | None, order: int) -> None:
    if node_id in context.past.statuses:
        return
    row: dict[str, Any] = {
        "id": new_id(),
        "run_id": context.run_id,
        "session_id": context.session_id,
        "node_id": node_id,
        "node_type": node_type,
        "title": title,
        "agent": agent,
        "status": "pending",
        "order_index": order,
        "depth": 0,
    }
    context.journaled.insert("node", "dag_nodes", row)


def _add_edges(context: Context, edges: Iterable[tuple[str, str]]) -> None:
    for from_node, to_node in edges:
        if (from_node, to_node) in context.past.edges:
            continue
        context.journaled.insert(
            "edge",
            "dag_edges",
            {
                "run_id": context.run_id,
                "from_node_id": from_node,
                "to_node_id": to_node,
                "dependency_type": "sequential",
            },
        )
