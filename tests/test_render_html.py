"""The static page, its parts, and Markdown: what a model wrote never becomes markup."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.render import parts
from cmbagent_nb.render.html import run_html
from cmbagent_nb.render.markdown import markdown_html
from cmbagent_nb.render.node import node_panel
from cmbagent_nb.store.node_record import AttemptDetail, NodeDetail
from tests.test_render_graph import MARKUP, node, snapshot

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Reader(HTMLParser):
    """Collects tags and attributes, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)


def safe(text: str) -> Reader:
    """Assert that HTML runs nothing and asks for nothing."""
    read = Reader(text)
    assert not {"script", "iframe", "object", "embed", "link", "meta", "form"} & set(read.tags)
    for name, value in read.attributes:
        assert not name.startswith("on"), name
        if name in {"src", "href", "xlink:href", "action"}:
            assert str(value).startswith(("data:image/", "#", "http://", "https://")), value
        if name == "src":
            assert str(value).startswith("data:image/"), value
    return read


def full(text: str) -> Any:
    """A snapshot in which every text that a model could write is ``text``."""
    step = {"title": text, "agent": text, "instructions": text, "bullet_points": [text], "expected_outputs": [text]}
    plan = {"goal": text, "steps": [step]}
    event = {
        "id": "e",
        "node_id": "step_1",
        "event_type": "code_exec",
        "label": text,
        "status": "failed",
        "error": text,
        "attempt": 1,
        "depth": 0,
        "agent_name": text,
        "started_at": 1.0,
        "duration_ms": 3.0,
    }
    gate = {
        "id": "1" * 36,
        "approval_type": "plan_approval",
        "node_id": "plan_approval",
        "context": {"title": text, "body": text, "plan": plan, "options": [{"id": "approved", "label": text}]},
    }
    run: dict[str, Any] = {"id": "0" * 36, "name": text, "status": "failed", "error": text, "model": text}
    run["result"] = {"text": text, "report": "r.md"}
    message = {"sender": text, "recipient": text, "content": text, "reasoning": text, "code_generated": text}
    return snapshot(
        run={
            "id": "0" * 36,
            "name": text,
            "status": "failed",
            "error": text,
            "model": text,
            "result": {"text": text, "report": "r.md"},
        },
        nodes=[node("step_1", "failed", title=text, agent=text, error_word=text)],
        gates=[gate],
        events=[event, {**event, "event_type": "agent_call"}],
        files=[{"file_path": text, "node_id": "step_1", "created_by_agent": text, "size_bytes": 1}],
        messages=[message, {**message, "content": f'{{"reasoning": "{"x" * 400}", "steps": [{{"title": "t"}}]}}'}],
        costs=[{"agent_name": text, "model": text, "calls": 1}],
        plan=plan,
    )


def detail(text: str) -> NodeDetail:
    """A node with two attempts whose every text is ``text``."""
    ran = {"event_type": "code_exec", "status": "failed", "error": text, "label": text, "agent_name": text}
    ran |= {"inputs": {"path": text, "code": text}, "outputs": {"stdout": text, "stderr": text}}
    said = {"content": text, "code_generated": text, "recipient": text, "created_at": 1.0}
    asked = [{**said, "sender": "workflow"}, {**said, "sender": text}]
    gate = {"event_type": "approval", "inputs": {"title": text}, "outputs": {"resolution": text, "feedback": text}}
    tool = {"event_type": "tool_call", "label": text, "inputs": {text: text}, "outputs": {text: text}, "error": text}
    file = {"file_path": text, "node_id": "step_1", "created_by_agent": text, "size_bytes": 1}
    row: dict[str, Any] = {"status": text, "folder": text, "error": text, "started_at": 1.0, "ended_at": 2.0}
    first = AttemptDetail(1, row, [tool, ran, gate], asked, [file])
    return NodeDetail("step_1", [first, AttemptDetail(2, row, [gate], asked)], 3)


def everything(text: str) -> str:
    state = full(text)
    return "".join(
        [
            run_html(state, report=True),
            parts.event_list(state),
            node_panel(state, "step_1", detail(text)),
            parts.message_list(state),
            parts.cost_table(state),
            parts.footer(state),
        ]
    )


def test_markup_from_a_model_stays_text() -> None:
    plain = sorted(safe(everything("harmless")).tags)
    assert sorted(safe(everything(MARKUP)).tags) == plain
    assert sorted(safe(everything("<img src=x onerror=alert(1)>")).tags) == plain


@given(st.text())
def test_no_text_makes_the_page_unsafe(text: str) -> None:
    safe(everything(text))


@given(st.text(alphabet=st.sampled_from(list("[]()!<>\"'`*_#|-\n\\ :/.javscriptdhw&;%")), max_size=80))
def test_no_markdown_makes_the_page_unsafe(text: str) -> None:
    safe(markdown_html(text, Path("/")))


def test_links_and_pictures_of_markdown(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a b.png").write_bytes(PIXEL)
    outside = tmp_path.parent / "outside.png"
    outside.write_bytes(PIXEL)
    html = markdown_html(
        "![good](<plots/a b.png>) ![up](../outside.png) ![net](https://example.org/x.png) "
        "[script](javascript:alert(1)) [page](https://example.org)",
        tmp_path,
    )
    read = safe(html)
    assert read.tags.count("img") == 1
    assert "up: ../outside.png" in html and "net: https://example.org/x.png" in html
    assert ("href", "https://example.org") in read.attributes


def test_the_static_page_tells_what_to_type() -> None:
    html = run_html(full("x"))
    assert "%cmbagent show" in html and "%cmbagent approve 11111111" in html


def test_rows_of_parallel_steps_name_their_step() -> None:
    """A row names its step where the one before belongs to another; rows of one step alone name none."""
    nodes = [node("step_1", "running", title="Fit"), node("step_2", "running", title="Plot <it>")]
    places = ("step_1", "step_1", "step_2", "step_1", "step_2.researcher")
    events = [{"event_type": "agent_call", "node_id": place, "label": f"row {n}"} for n, place in enumerate(places)]
    html = parts.event_list(snapshot(nodes=nodes, events=events))
    rows = html.split('<div class="cmbv-ev"')[1:]
    named = [row.partition('cmbv-at">')[2].partition("</span>")[0] for row in rows]
    assert named == ["1 Fit", "", "2 Plot &lt;it&gt;", "1 Fit", "2 Plot &lt;it&gt;"]
    assert "cmbv-at" not in parts.event_list(snapshot(nodes=nodes, events=events[:2]))


def test_costs_that_are_not_known_are_not_zero() -> None:
    assert parts.spent({"cost_usd": None, "cost_known": 0.0}) == "cost unknown"
    assert parts.spent({"cost_usd": None, "cost_known": 0.25}) == "$0.25 + unknown cost"
    assert parts.spent({"cost_usd": 0.038, "meta": {"max_cost_usd": 0.5}}) == "$0.038 of $0.50"
    assert parts.spent({"model_source": "playbook", "cost_usd": 0.0}) == "recorded replies, no cost"


def test_the_result_is_rendered_when_it_is_a_report() -> None:
    report = snapshot(run={"id": "r", "result": {"text": "# Title", "report": "report.md"}})
    assert "<h1>Title</h1>" in parts.result(report)
    output = snapshot(run={"id": "r", "result": {"text": "# 5 < 6", "report": None}})
    assert parts.result(output) == "<pre># 5 &lt; 6</pre>"


def test_a_run_that_gives_no_sign_of_life_says_so() -> None:
    for silent, said in ((12.0, False), (120.0, True)):
        run = {**snapshot().run, "silent_s": silent}
        line = parts.status_line(snapshot(run=run))
        assert ("no sign of life for 2 min 00 s" in line) is said


def test_a_reply_of_another_form_is_shown_all_the_same() -> None:
    step = '{"title": "Fit", "depends_on": 1, "bullet_points": 5, "expected_outputs": "data/fit.json"}'
    for text in (f'{{"steps": [{step}]}}', '{"a":' * 50_000):
        message = {"id": 1, "sender": "planner", "recipient": "workflow", "content": text, "created_at": 0.0}
        assert "planner" in parts.message_list(snapshot(messages=[message]))


def test_the_commands_of_an_open_gate_are_taken_by_the_verbs() -> None:
    from cmbagent_nb.verbs import parser

    gate = {"id": "1" * 36, "node_id": "step_1", "context": {"options": [{"id": "approved"}, {"id": "skip"}]}}
    html = run_html(snapshot(gates=[gate]))
    commands = [part.partition("</code>")[0] for part in html.split("<code>%cmbagent approve ")[1:]]
    assert [parser("%cmbagent").parse_args(f"approve {command}").choose for command in commands] == [None, "skip"]
