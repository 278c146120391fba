"""The graph that a plan would have, while the plan waits for approval and the run has no steps yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmbagent_nb.store.snapshot import Snapshot


def planned(snapshot: Snapshot) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Return the nodes and edges of a run, with the steps of the plan that a gate asks about."""
    if any(node.get("node_type") == "step" for node in snapshot.nodes):
        return snapshot.nodes, snapshot.edges
    gate = next((gate for gate in snapshot.gates if gate.get("approval_type") == "plan_approval"), None)
    context = gate.get("context") if gate else None
    plan = context.get("plan") if isinstance(context, Mapping) else None
    steps = plan.get("steps") if isinstance(plan, Mapping) else None
    if gate is None or not isinstance(steps, list):
        return snapshot.nodes, snapshot.edges
    nodes, edges = list(snapshot.nodes), list(snapshot.edges)
    for number, step in enumerate(steps, start=1):
        name = f"step_{number}"
        nodes.append(
            {
                "node_id": name,
                "node_type": "step",
                "title": step.get("title"),
                "agent": step.get("agent"),
                "status": "pending",
            }
        )
        before = [_name(item) for item in step.get("depends_on") or ()]
        edges.extend((start, name) for start in before or [str(gate.get("node_id"))])
    return nodes, edges


def _name(item: Any) -> str:
    text = str(item)
    return text if text.startswith("step_") else f"step_{text}"
