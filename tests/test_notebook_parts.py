"""Parts of the live view that need no page: the timeline's figure, previews of files, the card of a gate."""

from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cmbagent_nb.errors import GateError
from cmbagent_nb.notebook.files import FilesPanel, preview
from cmbagent_nb.notebook.gates import GateCard
from cmbagent_nb.notebook.timeline import figure
from cmbagent_nb.notebook.view import recorded_in
from tests.test_render_graph import MARKUP, snapshot
from tests.test_render_html import safe


def event(kind: str, agent: str, start: float, end: float | None, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{kind}-{start}",
        "event_type": kind,
        "agent_name": agent,
        "node_id": "step_1",
        "label": MARKUP,
        "status": "completed" if end else "running",
        "started_at": start,
        "ended_at": end,
        **more,
    }


def busy() -> Any:
    events = [
        event("agent_call", "planner", 100.0, 102.0),
        event("approval", "you", 102.0, 105.0),
        event("agent_call", "engineer", 105.0, 107.0),
        event("agent_call", "engineer", 105.5, 107.5),
        event("code_exec", "executor", 107.0, 108.0, status="failed", error=f"KeyError: {MARKUP}"),
        event("code_exec", "executor", 108.0, None),
        event("state_transition", "", 108.0, 108.0),
    ]
    return snapshot(run={"id": "r", "started_at": 100.0, "ended_at": None}, bars=events)


@pytest.mark.parametrize("theme", ["", "light", "dark"])
def test_plotly_accepts_the_figure_that_is_made_without_it(theme: str) -> None:
    drawn = figure(busy(), theme=theme, width=500, now=110.0)
    assert drawn is not None
    json.dumps(drawn)
    import plotly.graph_objects as go

    checked = go.Figure({"data": drawn["data"], "layout": drawn["layout"]})
    assert list(checked.layout.yaxis.ticktext) == ["planner  ", "engineer  ", "executor  ", "you  "]
    bars = {trace.y[0] if len(set(trace.y)) == 1 else "two": trace for trace in checked.data}
    assert len(bars["two"].x) == 2  # what overlaps has rows of its own
    executor = checked.data[2]
    assert list(executor.base) == [7.0, 8.0] and list(executor.x) == [1.0, 2.0]  # the one that runs: until now
    assert MARKUP not in str(drawn)


def test_nothing_to_draw_is_no_figure() -> None:
    assert figure(snapshot(run={"id": "r"})) is None


def test_the_timeline_does_not_import_plotly() -> None:
    source = Path(sys.modules["cmbagent_nb.notebook.timeline"].__file__ or "").read_text()
    assert "import plotly" not in source and "from plotly" not in source


def test_previews(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(f"{n},{MARKUP}" for n in range(100)))
    (tmp_path / "a.json").write_text(json.dumps({"text": MARKUP}))
    (tmp_path / "a.py").write_text(f"# {MARKUP}\n" + "x = 1\n" * 10_000)
    (tmp_path / "a.md").write_text(f"# Title\n{MARKUP}\n")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + bytes(range(256)))
    (tmp_path / "empty.csv").write_text("")
    shown = {
        name: preview(tmp_path / name, tmp_path) for name in ("a.csv", "a.json", "a.py", "a.md", "a.npy", "empty.csv")
    }
    for html in shown.values():
        safe(html)
    assert shown["a.csv"].count("<tr>") == 9 and "100 rows" in shown["a.csv"]
    assert len(shown["a.py"]) < 200_000 and "The first 16,000 characters of 60.0 kB." in shown["a.py"]
    assert "<h1>Title</h1>" in shown["a.md"]
    assert "No preview" in shown["a.npy"]
    assert "not there" in preview(tmp_path / "gone.txt")


def test_large_pictures_are_made_smaller_and_broken_ones_harm_nothing(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.effect_noise((1600, 1200), 80).save(data, "PNG")
    (tmp_path / "large.png").write_bytes(data.getvalue())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not a picture" * 40_000)
    assert len(data.getvalue()) > 1_000_000 > len(preview(tmp_path / "large.png"))
    safe(preview(tmp_path / "broken.png"))


def test_a_file_that_is_open_stays_open_when_others_come(tmp_path: Path) -> None:
    panel = FilesPanel()
    first = {"file_path": "data/a.txt", "content_hash": "1", "file_type": "data", "created_at": 1.0}
    panel.update([first], 1, tmp_path)
    widget = panel.widget.children[0]
    second = {"file_path": "plots/b.png", "content_hash": "2", "file_type": "plot", "created_at": 2.0}
    panel.update([second, first], 2, tmp_path)
    assert panel.widget.children[1] is widget
    panel.update([{**first, "content_hash": "3"}, second], 2, tmp_path)
    assert widget not in panel.widget.children


def test_the_place_of_the_record_of_a_run_in_any_folder(tmp_path: Path) -> None:
    (tmp_path / "cmbagent.db").touch()
    assert recorded_in(str(tmp_path / "runs" / "mine")) == "cmbagent.db"
    for elsewhere in ("/data", "/", "here", str(tmp_path), "", None):
        assert recorded_in(elsewhere) == "the database"


GATE = {
    "id": "0" * 36,
    "approval_type": "plan_approval",
    "context": {
        "title": MARKUP,
        "body": MARKUP,
        "plan": {"goal": "g", "steps": [{"title": MARKUP, "agent": "engineer"}]},
        "options": [
            {"id": "approved", "label": "Approve", "needs_comment": False},
            {"id": "modified", "label": "Ask for changes", "needs_comment": True},
        ],
    },
}


def sent() -> None:
    """Wait until an answer that was clicked has been given."""
    for thread in threading.enumerate():
        if thread.name == "cmbagent-answer":
            thread.join(30)


def test_a_gate_asks_for_the_comment_that_it_needs() -> None:
    answers: list[tuple[str, str, str, str]] = []
    card = GateCard(GATE, lambda *answer: answers.append(answer))
    comment, approve, change = card.interactive
    safe(card.widget.children[0].value)
    change.click()
    assert answers == [] and "Say what to change." in card.widget.children[-1].value
    comment.value = "  shorter "
    change.click()
    sent()
    assert answers == [("0" * 36, "modified", "shorter", "")]
    assert approve.disabled and change.disabled and comment.disabled


def test_an_answer_that_is_refused_is_said_and_can_be_given_again() -> None:
    def refuse(*_: str) -> None:
        raise GateError("this gate was answered already", "Nothing is to be done.")

    card = GateCard(GATE, refuse)
    card.interactive[1].click()
    sent()
    assert "answered already" in card.widget.children[-1].value
    assert not card.interactive[1].disabled
