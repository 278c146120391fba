"""The graph of a run as an SVG that needs nothing: no style sheet, no script, no request.

Colours are attributes; text and lines take the page's own colour (``currentColor``), so that
the same picture reads in a light and in a dark theme, in a saved notebook as in a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmbagent_nb.render.labels import Label, agents_of, label, main_nodes
from cmbagent_nb.render.layout import Box, Layout, layered
from cmbagent_nb.render.preview import planned
from cmbagent_nb.render.status import IDLE, look
from cmbagent_nb.render.text import cut, esc
from cmbagent_nb.store.snapshot import Snapshot

_FONT = "system-ui,-apple-system,'Segoe UI',sans-serif"
_MARGIN = 6.0


def graph_svg(snapshot: Snapshot) -> str:
    """Draw the graph of a run.

    Returns
    -------
    str
        One ``<svg>`` element; texts are escaped.
    """
    return nodes_svg(*planned(snapshot))


def nodes_svg(nodes: Sequence[Mapping[str, Any]], edges: Sequence[tuple[str, str]]) -> str:
    """Draw nodes and edges in the form that snapshots and plans have them."""
    main = main_nodes(nodes)
    inner = {str(node["node_id"]): agents_of(nodes, str(node["node_id"])) for node in main}
    labels = {str(node["node_id"]): label(node) for node in main}
    plan = layered(
        {name: text.width for name, text in labels.items()},
        edges,
        {name: [str(agent["node_id"]) for agent in agents] for name, agents in inner.items()},
    )
    parts = [_edge(plan, start, end) for start, end in plan.bends]
    for node in main:
        name = str(node["node_id"])
        parts.append(_node(plan.boxes[name], labels[name], str(node.get("status") or "")))
        parts.extend(_agent(plan.boxes[str(agent["node_id"])], agent) for agent in inner[name])
    width, height = plan.width + 2 * _MARGIN, plan.height + 2 * _MARGIN
    title = "; ".join(f"{labels[str(node['node_id'])].title}: {look(node.get('status')).label}" for node in main)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{esc(title)}" '
        f'viewBox="{-_MARGIN:g} {-_MARGIN:g} {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'preserveAspectRatio="xMinYMid meet" font-family="{_FONT}" '
        f'style="max-width:100%;height:auto">{"".join(parts)}</svg>'
    )


def _node(box: Box, text: Label, status: str) -> str:
    shown = look(status)
    dash = ' stroke-dasharray="5 3"' if shown.dashed else ""
    strong = "2.2" if shown.dashed else "1.6"
    single = not text.note
    middle = box.y + box.height / 2
    title = (
        f'<text x="{box.x + 12:g}" y="{middle + 4 if single else box.y + 18:g}" font-size="12" fill="currentColor">'
        f'<tspan fill="{shown.tone.ink}">{esc(shown.glyph)}</tspan> {esc(text.title)}</text>'
    )
    note = (
        ""
        if single
        else f'<text x="{box.x + 12:g}" y="{box.y + 33:g}" font-size="10.5" fill="currentColor" '
        f'fill-opacity="0.68">{esc(text.note)}</text>'
    )
    return (
        f'<g><rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="8" '
        f'fill="{shown.tone.ink}" fill-opacity="0.07" stroke="{shown.tone.ink}" stroke-width="{strong}"{dash}/>'
        f"{title}{note}</g>"
    )


def _agent(box: Box, node: Mapping[str, Any]) -> str:
    shown = look(node.get("status"))
    name = node.get("agent") or node.get("title") or node["node_id"]
    rail = f"M{box.x - 7:g} {box.y - 6:g}V{box.y + box.height / 2:g}H{box.x:g}"
    return (
        f'<path d="{rail}" fill="none" stroke="currentColor" stroke-opacity="0.4"/>'
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="6" fill="none" '
        f'stroke="{shown.tone.ink}"/>'
        f'<text x="{box.x + 8:g}" y="{box.y + 16:g}" font-size="11" fill="currentColor">'
        f'<tspan fill="{shown.tone.ink}">{esc(shown.glyph)}</tspan> {esc(cut(name, 20))}</text>'
    )


def _edge(plan: Layout, start: str, end: str) -> str:
    points = [plan.boxes[start].right, *plan.bends[(start, end)], plan.boxes[end].left]
    (x, y), last = points[0], points[-1]
    path = f"M{x:g} {y:g}"
    for to_x, to_y in points[1:]:
        stop = to_x - 5 if (to_x, to_y) == last else to_x
        if to_y == y:
            path += f"H{stop:g}"
        else:
            half = (stop - x) / 2
            path += f"C{x + half:g} {y:g} {stop - half:g} {to_y:g} {stop:g} {to_y:g}"
        x, y = stop, to_y
    head = f"M{x - 3:g} {y - 4:g}L{x + 5:g} {y:g}L{x - 3:g} {y + 4:g}z"
    return f'<path d="{path}" fill="none" stroke="{IDLE.ink}" stroke-width="1.2"/><path d="{head}" fill="{IDLE.ink}"/>'
