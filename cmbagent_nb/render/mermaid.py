"""The graph of a run as Mermaid text, which GitHub and many editors draw."""

from __future__ import annotations

import re

from cmbagent_nb.render.labels import agents_of, label, main_nodes
from cmbagent_nb.render.layout import reduced
from cmbagent_nb.render.preview import planned
from cmbagent_nb.render.status import TONES, look
from cmbagent_nb.store.snapshot import Snapshot


def graph_mermaid(snapshot: Snapshot) -> str:
    """Write the graph of a run as a Mermaid flow chart; reads as text too."""
    nodes, edges = planned(snapshot)
    main = main_nodes(nodes)
    names = {str(node["node_id"]): f"n{index}" for index, node in enumerate(main)}
    lines = ["flowchart LR"]
    for node in main:
        text = label(node)
        note = f"<br/>{_quote(text.note)}" if text.note else ""
        name = names[str(node["node_id"])]
        lines.append(f'  {name}["{text.glyph} {_quote(text.title)}{note}"]:::{look(node.get("status")).tone.name}')
        for index, agent in enumerate(agents_of(nodes, str(node["node_id"]))):
            shown = look(agent.get("status"))
            called = _quote(str(agent.get("agent") or ""))
            lines.append(f'  {name}a{index}("{shown.glyph} {called}"):::{shown.tone.name}')
            lines.append(f"  {name} -.- {name}a{index}")
    lines.extend(f"  {names[start]} --> {names[end]}" for start, end in reduced(names, edges))
    lines.extend(f"  classDef {tone.name} stroke:{tone.ink},stroke-width:2px" for tone in TONES)
    return "\n".join(lines)


def _quote(text: str) -> str:
    """Write a text so that Mermaid takes none of it for syntax or markup."""
    return re.sub(r"""[#"<>&`;\\]""", lambda found: f"#{ord(found.group())};", text)
