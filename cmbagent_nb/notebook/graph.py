"""Draws the graph of the live view, behind a small protocol so that the renderer can be replaced.

| fact about ipycytoscape 1.3 | what is done |
|---|---|
| its first fit is made for 400 pixels of height | fitted again once the page says that it is drawn |
| the canvas knows nothing of the page's theme | colours that read on both, until the page tells its theme |
| data changed in place is not sent | only whole dictionaries are assigned, and only when they differ |
| a click shows ``data.tooltip`` as HTML | no node has one |
| a message for each node and edge | nodes come and go rarely; statuses change one node each |
| it takes away only the last elements of its lists | anything else makes a new canvas in the same place |
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from cmbagent_nb.notebook.comms import assign
from cmbagent_nb.render.labels import agents_of, label, main_nodes
from cmbagent_nb.render.layout import Layout, layered
from cmbagent_nb.render.status import TONES, look
from cmbagent_nb.render.svg import nodes_svg
from cmbagent_nb.render.text import cut, esc

Nodes = Sequence[Mapping[str, Any]]
Edges = Sequence[tuple[str, str]]
_PADDING = 10
#: Pixels of width under which the graph runs downwards.
_NARROW = 640


class GraphView(Protocol):
    """A renderer of the graph."""

    widget: Any

    def update(self, nodes: Nodes, edges: Edges, selected: str) -> None:
        """Draw this state; cheap when little or nothing has changed."""

    def theme(self, name: str) -> None:
        """Take the colours of the page: ``light``, ``dark`` or empty when it is not known."""

    def fit(self, width: int) -> None:
        """Fit the drawing into its place again, which is ``width`` pixels wide; 0 when that is not known."""

    def interactive(self) -> list[Any]:
        """The widgets that people use."""


class StaticGraph:
    """The graph as SVG: before the interactive one is loaded, and where it cannot be."""

    def __init__(self) -> None:
        import ipywidgets

        self.widget = ipywidgets.HTML()

    def update(self, nodes: Nodes, edges: Edges, selected: str) -> None:
        """Draw this state."""
        assign(self.widget, value=nodes_svg(nodes, edges))

    def theme(self, name: str) -> None:
        """Nothing: the SVG takes the page's colours by itself."""

    def fit(self, width: int) -> None:
        """Nothing: the page fits it."""

    def interactive(self) -> list[Any]:
        """None."""
        return []


class CytoscapeGraph:
    """The graph as an interactive canvas; a click on a node selects it and opens it to its agents."""

    def __init__(self, on_select: Callable[[str], None]) -> None:
        import ipycytoscape
        import ipywidgets

        self._kit = ipycytoscape
        self._nodes: dict[str, Any] = {}
        self._edges: dict[tuple[str, str], Any] = {}
        self._theme = ""
        self._width = self._arranged = 0
        self._on_select = on_select
        self._canvas = self._new_canvas()
        self.widget = ipywidgets.Box([self._canvas])
        self.widget.layout.width = "100%"

    def _new_canvas(self) -> Any:
        canvas = self._kit.CytoscapeWidget(
            user_zooming_enabled=False,
            user_panning_enabled=True,
            auto_ungrabify=True,
            auto_unselectify=True,
            min_zoom=0.2,
            max_zoom=1.0,
            cytoscape_layout={"name": "preset", "fit": True, "padding": _PADDING},
            cytoscape_style=_style(self._theme),
        )
        canvas.layout.width = "100%"
        canvas.on("node", "click", lambda node: self._on_select(str(node["data"]["node_id"])))
        return canvas

    def _rebuild(self) -> None:
        """Begin again on a new canvas."""
        old, nodes, edges = self._canvas, self._nodes, self._edges
        self._nodes, self._edges, self._arranged = {}, {}, 0
        self._canvas = self._new_canvas()
        self.widget.children = (self._canvas,)
        for gone in (old, *nodes.values(), *edges.values()):
            gone.close()

    def update(self, nodes: Nodes, edges: Edges, selected: str) -> None:
        """Draw this state: new elements are added, old ones taken away, changed ones assigned."""
        main = main_nodes(nodes)
        names = [str(node["node_id"]) for node in main]
        inner = agents_of(nodes, selected.split(".", maxsplit=1)[0])
        plan = layered(
            {str(node["node_id"]): label(node).width for node in main},
            edges,
            {selected.split(".", maxsplit=1)[0]: [str(node["node_id"]) for node in inner]} if inner else {},
            down=0 < self._width < _NARROW,
        )
        links = [(start, end) for start, end in plan.bends]
        links.extend((str(node["parent_node_id"]), str(node["node_id"])) for node in inner)
        shown = {
            str(node["node_id"]): self._data(node, plan, small=node.get("node_type") == "sub_agent")
            for node in (*main, *inner)
        }
        classes = {str(node["node_id"]): _classes(node, str(node["node_id"]) == selected) for node in (*main, *inner)}
        changed = self._match(shown, classes, links, plan, set(names))
        if changed or self._width != self._arranged:
            self._arrange(plan)
        else:
            for name, data in shown.items():
                assign(self._nodes[name], data=data, classes=classes[name])

    def _match(
        self,
        shown: Mapping[str, dict[str, Any]],
        classes: Mapping[str, str],
        links: Sequence[tuple[str, str]],
        plan: Layout,
        main: set[str],
    ) -> bool:
        """Make the elements on the canvas those that are to be shown; tell whether they moved."""
        moved = False
        wanted = set(links)
        if not (_only_last_go(self._nodes, shown) and _only_last_go(self._edges, wanted)):
            self._rebuild()
            moved = True
        gone = [link for link in self._edges if link not in wanted]
        graph = self._canvas.graph
        for link in reversed(gone):
            graph.remove_edge(self._edges.pop(link))
        for name in reversed([name for name in self._nodes if name not in shown]):
            graph.remove_node(self._nodes.pop(name))
            moved = True
        fresh = []
        for name, data in shown.items():
            node = self._nodes.get(name)
            place = _centre(plan, name)
            if node is None:
                node = self._kit.Node(data=data, classes=classes[name], position=place)
                self._nodes[name] = node
                fresh.append(node)
                moved = True
            else:
                moved |= node.position != place or node.data["w"] != data["w"]
                assign(node, data=data, classes=classes[name], position=place)
        if fresh:
            graph.add_nodes(fresh)
        added = []
        for start, end in links:
            data = _edge_data(plan, start, end, inner=end not in main)
            edge = self._edges.get((start, end))
            if edge is None:
                edge = self._kit.Edge(data=data, classes=_edge_class(plan, inner=end not in main))
                self._edges[(start, end)] = edge
                added.append(edge)
            else:
                assign(edge, data=data, classes=_edge_class(plan, inner=end not in main))
        if added:
            graph.add_edges(added)
        return moved or bool(added) or bool(gone)

    def _arrange(self, plan: Layout) -> None:
        self._arranged = self._width
        room = (self._width or plan.width + 100) - 2 * _PADDING - 20
        scale = min(1.0, room / max(plan.width, 1.0))
        height = min(max(plan.height * scale + 2 * _PADDING, 62.0), 480.0)
        assign(self._canvas.layout, height=f"{height:g}px")
        self._canvas.cytoscape_layout = {
            "name": "preset",
            "positions": {name: _centre(plan, name) for name in self._nodes},
            "fit": True,
            "padding": _PADDING,
        }

    def _data(self, node: Mapping[str, Any], plan: Layout, *, small: bool) -> dict[str, Any]:
        name = str(node["node_id"])
        box = plan.boxes[name]
        return {
            "id": name,
            "node_id": name,
            "w": box.width,
            "h": box.height,
            "picture": _picture(node, box.width, box.height, self._theme, small=small),
        }

    def theme(self, name: str) -> None:
        """Take the page's colours."""
        if name != self._theme:
            self._theme = name
            self._canvas.set_style(_style(name))
            for node in self._nodes.values():
                node.data = {**node.data, "picture": ""}

    def fit(self, width: int) -> None:
        """Fit the drawing into its place again; in a narrow one the edges run downwards from the next update on."""
        self._width = width
        self._canvas.relayout()

    def interactive(self) -> list[Any]:
        """The canvas."""
        return [self._canvas]


def _only_last_go(have: Iterable[Any], wanted: Container[Any]) -> bool:
    """Tell whether all elements to remove come after those to keep.

    >>> _only_last_go("abc", "ab"), _only_last_go("abc", "ac"), _only_last_go("", "a")
    (True, False, True)
    """
    stay = [item in wanted for item in have]
    return stay == sorted(stay, reverse=True)


def _centre(plan: Layout, name: str) -> dict[str, float]:
    x, y = plan.boxes[name].centre
    return {"x": x, "y": y}


def _classes(node: Mapping[str, Any], selected: bool) -> str:
    shown = look(node.get("status"))
    return " ".join([shown.tone.name, *(["dashed"] if shown.dashed else []), *(["selected"] if selected else [])])


def _edge_class(plan: Layout, *, inner: bool) -> str:
    return "inner" if inner else "bent down" if plan.down else "bent"


def _edge_data(plan: Layout, start: str, end: str, *, inner: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"id": f"{start}->{end}", "source": start, "target": end}
    if not inner:
        weights, distances = _curve(plan, start, end)
        data["weights"] = weights
        data["distances"] = distances
    return data


def _curve(plan: Layout, start: str, end: str) -> tuple[str, str]:
    """Give the control points of an edge in cytoscape's terms: along and beside the line between the centres."""
    controls = plan.controls(start, end)
    (ax, ay), (bx, by) = plan.boxes[start].centre, plan.boxes[end].centre
    dx, dy = bx - ax, by - ay
    length = max((dx * dx + dy * dy) ** 0.5, 1.0)
    weights = [((x - ax) * dx + (y - ay) * dy) / length**2 for x, y in controls]
    distances = [((y - ay) * dx - (x - ax) * dy) / length for x, y in controls]
    return " ".join(f"{value:.4f}" for value in weights), " ".join(f"{value:.2f}" for value in distances)


def _inks(theme: str) -> tuple[str, str]:
    """The colours of text and of soft text."""
    return {"light": ("#1b1f24", "#5b6570"), "dark": ("#e6e9ed", "#98a2ad")}.get(theme, ("#808790", "#808790"))


def _picture(node: Mapping[str, Any], width: float, height: float, theme: str, *, small: bool) -> str:
    """The texts of a node as a picture, since a node of cytoscape has only one label of one size."""
    ink, soft = _inks(theme)
    shown = look(node.get("status"))
    tone = {"light": shown.tone.light, "dark": shown.tone.dark}.get(theme, shown.tone.ink)
    if small:
        title, note, size, first = cut(node.get("agent") or node.get("title"), 20), "", 11, height / 2 + 4
    else:
        text = label(node)
        title, note, size, first = text.title, text.note, 12, 18 if text.note else height / 2 + 4
    second = f'<text x="12" y="33" font-size="10.5" fill="{soft}">{esc(note)}</text>' if note else ""
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f"font-family=\"system-ui,-apple-system,'Segoe UI',sans-serif\">"
        f'<text x="{8 if small else 12}" y="{first:g}" font-size="{size}" fill="{ink}">'
        f'<tspan fill="{tone}">{esc(shown.glyph)}</tspan> {esc(title)}</text>{second}</svg>'
    )
    return "data:image/svg+xml;utf8," + quote(svg, safe="")


def _style(theme: str) -> list[dict[str, Any]]:
    ink = _inks(theme)[0]
    idle = {"light": "#8a94a0", "dark": "#6b7480"}.get(theme, "#808a95")
    rules: list[dict[str, Any]] = [
        {
            "selector": "node",
            "style": {
                "shape": "round-rectangle",
                "width": "data(w)",
                "height": "data(h)",
                "background-color": ink,
                "background-opacity": 0.04,
                "background-image": "data(picture)",
                "background-fit": "none",
                "background-width": "100%",
                "background-height": "100%",
                "background-clip": "none",
                "background-image-opacity": 1,
                "border-width": 1.6,
                "border-color": idle,
                "overlay-opacity": 0,
            },
        },
        {"selector": "node[picture = '']", "style": {"background-image": "none"}},
        {
            "selector": "edge",
            "style": {
                "width": 1.2,
                "line-color": idle,
                "target-arrow-color": idle,
                "target-arrow-shape": "triangle",
                "arrow-scale": 0.8,
                "curve-style": "straight",
                "overlay-opacity": 0,
            },
        },
        {
            "selector": "edge.bent",
            "style": {
                "curve-style": "unbundled-bezier",
                "edge-distances": "node-position",
                "control-point-weights": "data(weights)",
                "control-point-distances": "data(distances)",
                "source-endpoint": "50% 0%",
                "target-endpoint": "-50% 0%",
            },
        },
        {"selector": "edge.down", "style": {"source-endpoint": "0% 50%", "target-endpoint": "0% -50%"}},
        {
            "selector": "edge.inner",
            "style": {
                "curve-style": "taxi",
                "taxi-direction": "downward",
                "target-arrow-shape": "none",
                "line-style": "dotted",
            },
        },
    ]
    for tone in TONES:
        colour = {"light": tone.light, "dark": tone.dark}.get(theme, tone.ink)
        rules.append({"selector": f"node.{tone.name}", "style": {"border-color": colour}})
    rules.append({"selector": "node.dashed", "style": {"border-style": "dashed", "border-width": 2.2}})
    rules.append({"selector": "node.selected", "style": {"border-width": 3, "background-opacity": 0.1}})
    return rules
