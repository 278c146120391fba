"""The graph: where boxes go, and what SVG and Mermaid make of a run."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.render.labels import label
from cmbagent_nb.render.layout import Box, layered, reduced
from cmbagent_nb.render.mermaid import graph_mermaid
from cmbagent_nb.render.status import LOOKS, TONES, look
from cmbagent_nb.render.svg import graph_svg
from cmbagent_nb.store.snapshot import Snapshot
from cmbagent_nb.workflow import states

MARKUP = "<script>alert('x')</script>\"&"


def node(name: str, status: str = "pending", **more: Any) -> dict[str, Any]:
    kind = "step" if name.startswith("step_") else name.split("_")[-1]
    return {"node_id": name, "node_type": kind, "title": None, "agent": "engineer", "status": status, **more}


def snapshot(**more: Any) -> Snapshot:
    empty: dict[str, Any] = {
        "run": {"id": "0" * 36, "name": "a-run", "status": "executing", "mode": "one_shot"},
        "nodes": [],
        "edges": [],
        "gates": [],
        "events": [],
        "files": [],
        "messages": [],
        "costs": [],
        "plan": None,
        "report": None,
        "finished": False,
    }
    return Snapshot(**{**empty, **more})


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@given(
    size=st.integers(1, 9),
    pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20),
    down=st.booleans(),
)
def test_no_two_boxes_overlap_and_edges_run_one_way(size: int, pairs: list[tuple[int, int]], down: bool) -> None:
    """Whatever the edges are: cycles, loops, unknown nodes."""
    names = {f"n{number}": 60.0 + 10 * number for number in range(size)}
    plan = layered(names, [(f"n{start}", f"n{end}") for start, end in pairs], {"n0": ["child"]}, down=down)
    assert set(plan.boxes) == {*names, "child"}
    for one, other in combinations(plan.boxes.values(), 2):
        assert not overlap(one, other)
    for start, end in plan.bends:
        first, last = plan.boxes[start], plan.boxes[end]
        assert (first.y + first.height <= last.y) if down else (first.x + first.width <= last.x)
        assert len(plan.controls(start, end)) >= 2
    for box in plan.boxes.values():
        assert box.x >= 0 and box.y >= 0
        assert box.x + box.width <= plan.width + 1e-6 and box.y + box.height <= plan.height + 1e-6


def test_an_edge_that_longer_ways_say_already_is_not_drawn() -> None:
    assert reduced("abc", [("a", "b"), ("a", "c"), ("b", "c"), ("c", "c"), ("x", "a")]) == [("a", "b"), ("b", "c")]


def test_a_long_edge_passes_between_the_boxes() -> None:
    plan = layered(dict.fromkeys("abcde", 80.0), [("a", "b"), ("b", "c"), ("c", "d"), ("e", "d")])
    assert plan.bends[("a", "b")] == ()
    assert len(plan.bends[("e", "d")]) == 4
    for x, y in plan.bends[("e", "d")]:
        assert not any(box.x < x < box.x + box.width and box.y < y < box.y + box.height for box in plan.boxes.values())


def test_every_status_has_a_look_and_shape_tells_what_colour_tells() -> None:
    for status in (*states.RUN, *states.STEP):
        assert status in LOOKS
    for tone in TONES:
        assert len({tone.ink, tone.light, tone.dark}) == 3
    shapes = {look(status).glyph for status in ("completed", "failed", "running", "waiting_approval", "pending")}
    assert len(shapes) == 5


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("page", ["#ffffff", "#111418"])
def test_static_colours_read_on_a_light_and_on_a_dark_page(page: str) -> None:
    for tone in TONES:
        high, low = sorted((luminance(tone.ink), luminance(page)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3.0, tone.name


def test_what_a_node_says() -> None:
    done = node("step_2", "completed", title="DESI fit", n_files=3, cost_usd=0.009)
    assert (label(done).title, label(done).note) == ("2 DESI fit", "engineer · 3 files · $0.009")
    again = node("step_2", "running", attempt=2, max_attempts=3)
    assert label(again).note == "engineer · attempt 2 of 3"
    failed = node("step_2", "failed", error_word="KeyError: 'x'")
    assert label(failed).note == "engineer · KeyError: 'x'"
    assert label(node("plan_approval", "waiting_approval")).note == "waiting for you"


def test_the_svg_is_well_formed_and_needs_nothing() -> None:
    inner = {"node_type": "sub_agent", "parent_node_id": "step_1"}
    nodes = [
        node("planning", "completed", title=MARKUP),
        node("step_1", "running", title="One"),
        node("step_2", "waiting_approval", title="Two", agent=MARKUP),
        node("step_1.researcher", "completed", agent="researcher") | inner,
    ]
    drawn = graph_svg(snapshot(nodes=nodes, edges=[("planning", "step_1"), ("planning", "step_2")]))
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//{*}rect")) == 4
    assert "<script" not in drawn and "href" not in drawn and "<style" not in drawn and "url(" not in drawn
    assert 'stroke-dasharray="5 3"' in drawn  # the one that waits
    texts = "".join(root.itertext())
    assert "<script>alert" in texts and "researcher" in texts


def test_the_mermaid_text_keeps_its_form_whatever_a_title_says() -> None:
    nodes = [node("planning", "completed", title='a"] --> b; click x "javascript:'), node("step_1", title="#35; `x`")]
    text = graph_mermaid(snapshot(nodes=nodes, edges=[("planning", "step_1")]))
    lines = text.splitlines()
    assert lines[0] == "flowchart LR"
    assert "  n0 --> n1" in lines
    for line in lines[1:3]:
        assert re.fullmatch(r'  n\d\["[^"<>`]*(<br/>[^"<>`]*)?"\]:::\w+', line), line


def test_a_plan_that_waits_is_drawn_before_its_steps_exist() -> None:
    gate = {
        "id": "1" * 36,
        "node_id": "plan_approval",
        "approval_type": "plan_approval",
        "context": {"plan": {"steps": [{"title": "First"}, {"title": "Second", "depends_on": [1]}]}},
    }
    waiting = snapshot(nodes=[node("plan_approval", "waiting_approval")], gates=[gate])
    text = graph_mermaid(waiting)
    assert "1 First" in text and "  n0 --> n1" in text and "  n1 --> n2" in text
    assert "2 Second" in graph_svg(waiting)
