"""The two lines that a node of the graph carries, for every renderer alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmbagent_nb.render.status import look
from cmbagent_nb.render.text import cut, plural, seconds, usd

TITLE_LENGTH = 24
NOTE_LENGTH = 30
_NAMES = {
    "planning": "Planning",
    "approval": "Approval",
    "branch_point": "Branch point",
    "terminator": "End",
}


@dataclass(frozen=True)
class Label:
    """Text of a node: the status glyph, a title, and a soft line under it."""

    glyph: str
    title: str
    note: str

    @property
    def width(self) -> float:
        """The width in pixels that the node needs at 12 and 10.5 pixels of font size."""
        return min(max(6.9 * (len(self.title) + 2), 5.8 * len(self.note), 40.0) + 24, 200.0)


def step_number(node: Mapping[str, Any]) -> str:
    """Return the number of a step's node, or nothing for other nodes.

    >>> step_number({"node_id": "step_3", "node_type": "step"})
    '3'
    """
    name = str(node.get("node_id", ""))
    return name.removeprefix("step_") if node.get("node_type") == "step" and name.startswith("step_") else ""


def label(node: Mapping[str, Any]) -> Label:
    """Return the lines of a node of a snapshot."""
    kind = str(node.get("node_type", ""))
    title = str(node.get("title") or _NAMES.get(kind) or node.get("agent") or node.get("node_id", ""))
    number = step_number(node)
    if number and not title.startswith(f"{number} "):
        title = f"{number} {title}"
    return Label(look(node.get("status")).glyph, cut(title, TITLE_LENGTH), cut(_note(node, kind), NOTE_LENGTH))


def _note(node: Mapping[str, Any], kind: str) -> str:
    status = str(node.get("status") or "pending")
    if status == "completed" and kind != "terminator":
        return _result(node, kind)
    agent = str(node.get("agent") or "")
    if kind == "terminator":
        return "" if status in {"pending", "completed"} else look(status).label
    if status in {"waiting_approval", "paused", "skipped", "cancelled", "interrupted", "not_run"}:
        return _line(agent if kind == "step" else "", look(status).label)
    attempt = int(node.get("attempt") or 0)
    most = int(node.get("max_attempts") or 0)
    tries = f"attempt {attempt} of {most}" if attempt > 1 and most >= attempt else ""
    if status == "failed":
        return _line(agent if kind == "step" else "", str(node.get("error_word") or "failed"))
    if status in {"running", "retrying"}:
        word = node.get("error_word") if status == "retrying" else None
        return _line(agent, str(word) if word else tries or "running")
    return agent


def _result(node: Mapping[str, Any], kind: str) -> str:
    agent = str(node.get("agent") or "")
    files = int(node.get("n_files") or 0)
    cost = node.get("cost_usd")
    if kind == "step":
        return _line(
            agent,
            plural(files, "file") if files else "",
            usd(cost) if cost else seconds(node.get("duration_s")),
        )
    return _line(agent if kind == "sub_agent" else "", usd(cost) if cost else "", seconds(node.get("duration_s")))


def _line(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def main_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the nodes of the graph itself, without the agents inside them."""
    return [node for node in nodes if node.get("node_type") != "sub_agent"]


def agents_of(nodes: Sequence[Mapping[str, Any]], node_id: str) -> list[Mapping[str, Any]]:
    """Return the nodes of the agents that were called inside a node."""
    return [node for node in nodes if node.get("node_type") == "sub_agent" and node.get("parent_node_id") == node_id]
