"""A run, a plan and a lineage as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.render.labels import label, main_nodes, step_number
from cmbagent_nb.render.status import look
from cmbagent_nb.render.text import cut, plural, seconds

if TYPE_CHECKING:
    from cmbagent_nb.store.snapshot import Snapshot


def run_text(snapshot: Snapshot, made: dict[str, Any], prog: str) -> str:
    """Write a run: status, task, nodes, graph, open gates and result."""
    from cmbagent_nb.render.mermaid import graph_mermaid
    from cmbagent_nb.verbs.follow import gate_lines
    from cmbagent_nb.verbs.run import conflicts, headline

    row = snapshot.run
    parts = [headline(made), f"  id        {row['id']}", f"  task      {cut(row['task_description'], 200)}"]
    parts += [f"  model     {row['model']}", f"  work dir  {row['work_dir']}"]
    if made["error"]:
        parts.append(f"  error     {made['error']}")
    parts += conflicts(made)
    nodes = main_nodes(snapshot.nodes)
    if nodes:
        parts += ["", *(f"  {node_line(node)}" for node in nodes), "", graph_mermaid(snapshot)]
    for gate in snapshot.gates:
        parts += ["", *gate_lines(gate, prog)]
    if made["result"]:
        parts += ["", made["result"].rstrip()]
    return "\n".join(parts)


def node_line(node: Mapping[str, Any]) -> str:
    """Write a node of a graph in a line: its status, title, agent and what is to be said of it."""
    status, attempt = str(node["status"]), int(node.get("attempt") or 0)
    facts = [str(node.get("agent") or "")]
    if status in ("failed", "retrying", "interrupted"):
        facts += [look(status).label, cut(node.get("error_word"), 80)]
    elif status == "completed":
        files = int(node.get("n_files") or 0)
        facts += [plural(files, "file") if files else "", seconds(node.get("duration_s"))]
    elif attempt > 1:
        facts.append(f"attempt {attempt} of {node.get('max_attempts') or attempt}")
    else:
        facts.append(look(status).label)
    number = step_number(node)
    title = cut(node.get("title"), 70) or label(node).title
    title = f"{number} {title}" if number and not title.startswith(f"{number} ") else title
    return f"{look(status).glyph} {title}  {' · '.join(fact for fact in facts if fact)}".rstrip()


def lineage_text(links: Iterable[Mapping[str, Any]]) -> str:
    """Write how a file came to be, the file first."""
    lines: list[str] = []
    for link in links:
        where = " · ".join(str(link[key]) for key in ("agent", "node_id") if link.get(key))
        arrow = "← " if lines else ""
        title = cut(str(link["label"]).removeprefix(f"{link['kind']} "), 90)
        lines.append(f"{arrow}{link['kind']:11} {title}" + (f"  ({where})" if where else ""))
        reads = [str(item["path"]) for item in link.get("reads") or ()]
        if reads:
            lines.append(f"    read {', '.join(reads)}")
    return "\n".join(lines)
