"""The graph that a plan would have: while it waits for approval, is being changed, or was rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmbagent_nb.store.snapshot import Snapshot

#: The node of the gate at which a plan is shown.
PLAN_APPROVAL = "plan_approval"


def planned(snapshot: Snapshot) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Return the nodes and edges of a run, with the steps of a plan that was shown to a person and is not followed.

    They are ``pending`` while they can still be carried out, and ``not_run`` once the run has ended without them.
    """
    if any(node.get("node_type") == "step" for node in snapshot.nodes):
        return snapshot.nodes, snapshot.edges
    gate = next((gate for gate in snapshot.gates if gate.get("approval_type") == "plan_approval"), None)
    context = gate.get("context") if gate else None
    plan = context.get("plan") if isinstance(context, Mapping) else snapshot.proposed
    steps = plan.get("steps") if isinstance(plan, Mapping) else None
    start = str(gate.get("node_id")) if gate else PLAN_APPROVAL
    if not any(node.get("node_id") == start for node in snapshot.nodes):
        return snapshot.nodes, snapshot.edges
    if not isinstance(steps, list):
        return snapshot.nodes, snapshot.edges
    status = "not_run" if snapshot.finished else "pending"
    nodes, edges = list(snapshot.nodes), list(snapshot.edges)
    names = {f"step_{number}" for number in range(1, len(steps) + 1)}
    for number, item in enumerate(steps, start=1):
        step = item if isinstance(item, Mapping) else {"title": item}
        name = f"step_{number}"
        nodes.append(
            {
                "node_id": name,
                "node_type": "step",
                "title": step.get("title"),
                "agent": step.get("agent"),
                "status": status,
            }
        )
        before = [_name(name) for name in step.get("depends_on") or ()]
        edges.extend((first, name) for first in [name for name in before if name in names] or [start])
    return nodes, edges


def _name(item: Any) -> str:
    text = str(item)
    return text if text.startswith("step_") else f"step_{text}"
