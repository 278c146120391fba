"""Places the boxes of a graph: layers from left to right, each centred.

Long edges get a place of their own in every layer that they cross, so that they pass between
boxes. The layout is deterministic, tolerates cycles and unknown nodes, and costs well under a
millisecond for the graph of a plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

HEIGHT = 42.0
CHILD_HEIGHT = 24.0
CHILD_GAP = 6.0
GAP_X = 38.0
GAP_Y = 22.0
_LANE = 12.0

Edge = tuple[str, str]
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A placed node; x and y are of its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> Point:
        """The middle of the box."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def left(self) -> Point:
        """Point at which edges come in."""
        return self.x, self.y + self.height / 2

    @property
    def top(self) -> Point:
        """Point at which edges come in when they run downwards."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> Point:
        """Point at which edges go out when they run downwards."""
        return self.x + self.width / 2, self.y + self.height

    @property
    def right(self) -> Point:
        """Point at which edges go out."""
        return self.x + self.width, self.y + self.height / 2


@dataclass(frozen=True)
class Layout:
    """The placed boxes; for every edge the points that it bends at; and the size of the whole."""

    boxes: Mapping[str, Box]
    bends: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float
    down: bool = False

    def controls(self, start: str, end: str) -> list[Point]:
        """The control points of an edge: two for each of its S-shaped pieces."""
        first, last = self.boxes[start], self.boxes[end]
        ends = (first.bottom, last.top) if self.down else (first.right, last.left)
        points = [ends[0], *self.bends[(start, end)], ends[1]]
        found: list[Point] = []
        for (x, y), (to_x, to_y) in pairwise(points):
            half_x, half_y = (x + to_x) / 2, (y + to_y) / 2
            found.extend([(x, half_y), (to_x, half_y)] if self.down else [(half_x, y), (half_x, to_y)])
        return found


def layered(
    widths: Mapping[str, float],
    edges: Iterable[Edge],
    children: Mapping[str, Sequence[str]] | None = None,
    *,
    down: bool = False,
) -> Layout:
    """Place nodes of the given widths, in the given order, so that edges run from left to right.

    ``children`` are drawn as small boxes under their parent. ``down`` makes the edges run downwards, for
    places that are narrow.

    >>> plan = layered({"a": 100, "b": 100, "c": 100}, [("a", "b"), ("a", "c")])
    >>> plan.boxes["a"].x < plan.boxes["b"].x == plan.boxes["c"].x
    True
    """
    children = children or {}
    kept = reduced(widths, edges)
    layer_of = _layers(widths, kept)
    columns: list[list[str]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for node, layer in layer_of.items():
        columns[layer].append(node)
    chains: dict[Edge, list[str]] = {}
    links: list[Edge] = []
    for start, end in kept:
        chain = [start]
        for layer in range(layer_of[start] + 1, layer_of[end]):
            lane = f"\0{start}\0{end}\0{layer}"
            columns[layer].append(lane)
            chain.append(lane)
        chain.append(end)
        chains[(start, end)] = chain
        links.extend(pairwise(chain))
    _order(columns, links)
    place = _place_down if down else _place
    return place(columns, chains, widths, children)


def reduced(nodes: Collection[str], edges: Iterable[Edge]) -> list[Edge]:
    """Drop the edges that point backwards, lead nowhere, or say what longer ways say already.

    >>> reduced("abc", [("a", "b"), ("b", "c"), ("a", "c"), ("c", "a")])
    [('a', 'b'), ('b', 'c')]
    """
    after: dict[str, set[str]] = {node: set() for node in nodes}
    kept: list[Edge] = []
    for start, end in dict.fromkeys(edges):
        if start in after and end in after and start != end and not _reaches(after, end, start):
            after[start].add(end)
            kept.append((start, end))
    return [
        (start, end)
        for start, end in kept
        if not any(_reaches(after, other, end) for other in after[start] if other != end)
    ]


def _reaches(after: Mapping[str, set[str]], start: str, goal: str) -> bool:
    seen, front = {start}, [start]
    while front:
        node = front.pop()
        if node == goal:
            return True
        fresh = after[node] - seen
        seen |= fresh
        front.extend(fresh)
    return False


def _layers(nodes: Iterable[str], edges: Sequence[Edge]) -> dict[str, int]:
    layer = dict.fromkeys(nodes, 0)
    for _ in layer:
        changed = False
        for start, end in edges:
            if layer[end] <= layer[start]:
                layer[end] = layer[start] + 1
                changed = True
        if not changed:
            break
    return layer


def _order(columns: list[list[str]], links: Sequence[Edge]) -> None:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for start, end in links:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    for _ in range(3):
        for index in range(1, len(columns)):
            _sort(columns[index], columns[index - 1], before)
        for index in range(len(columns) - 2, 0, -1):
            _sort(columns[index], columns[index + 1], after)


def _sort(column: list[str], beside: list[str], neighbours: Mapping[str, list[str]]) -> None:
    place = {node: (index + 0.5) / len(beside) for index, node in enumerate(beside)}
    own = {node: (index + 0.5) / len(column) for index, node in enumerate(column)}

    def key(node: str) -> float:
        places = [place[other] for other in neighbours.get(node, ()) if other in place]
        return sum(places) / len(places) if places else own[node]

    column.sort(key=key)


def _place(
    columns: list[list[str]],
    chains: Mapping[Edge, list[str]],
    widths: Mapping[str, float],
    children: Mapping[str, Sequence[str]],
) -> Layout:
    def tall(node: str) -> float:
        if node not in widths:
            return _LANE
        return HEIGHT + len(children.get(node, ())) * (CHILD_HEIGHT + CHILD_GAP)

    heights = [sum(map(tall, column)) + GAP_Y * (len(column) - 1) for column in columns]
    height = max(heights, default=0.0)
    boxes: dict[str, Box] = {}
    lanes: dict[str, tuple[Point, Point]] = {}
    x = 0.0
    for column, own in zip(columns, heights, strict=True):
        wide = max((widths.get(node, 0.0) for node in column), default=0.0)
        y = (height - own) / 2
        for node in column:
            if node in widths:
                boxes[node] = Box(x, y, wide, HEIGHT)
                for index, child in enumerate(children.get(node, ())):
                    under = y + HEIGHT + CHILD_GAP + index * (CHILD_HEIGHT + CHILD_GAP)
                    boxes[child] = Box(x + 14, under, wide - 14, CHILD_HEIGHT)
            else:
                lanes[node] = ((x, y + _LANE / 2), (x + wide, y + _LANE / 2))
            y += tall(node) + GAP_Y
        x += wide + GAP_X
    bends = {edge: tuple(point for lane in chain[1:-1] for point in lanes[lane]) for edge, chain in chains.items()}
    return Layout(boxes, bends, max(x - GAP_X, 0.0), height)


def _place_down(
    rows: list[list[str]],
    chains: Mapping[Edge, list[str]],
    widths: Mapping[str, float],
    children: Mapping[str, Sequence[str]],
) -> Layout:
    across = [sum(widths.get(node, _LANE) for node in row) + GAP_Y * (len(row) - 1) for row in rows]
    whole = max(across, default=0.0)
    boxes: dict[str, Box] = {}
    lanes: dict[str, tuple[Point, Point]] = {}
    y = 0.0
    for row, own in zip(rows, across, strict=True):
        most = max((len(children.get(node, ())) for node in row), default=0)
        tall = HEIGHT + most * (CHILD_HEIGHT + CHILD_GAP)
        x = (whole - own) / 2
        for node in row:
            wide = widths.get(node, _LANE)
            if node in widths:
                boxes[node] = Box(x, y, wide, HEIGHT)
                for index, child in enumerate(children.get(node, ())):
                    under = y + HEIGHT + CHILD_GAP + index * (CHILD_HEIGHT + CHILD_GAP)
                    boxes[child] = Box(x + 14, under, wide - 14, CHILD_HEIGHT)
            else:
                lanes[node] = ((x + wide / 2, y), (x + wide / 2, y + tall))
            x += wide + GAP_Y
        y += tall + GAP_Y
    bends = {edge: tuple(point for lane in chain[1:-1] for point in lanes[lane]) for edge, chain in chains.items()}
    return Layout(boxes, bends, whole, max(y - GAP_Y, 0.0), down=True)
