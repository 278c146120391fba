"""Shows the timeline: a list of events, and the agents' activity as a plotly figure.

The figure is made as plain data in plotly's own form and shown by its mimetype: plotly is never
imported in the kernel (a FigureWidget costs 1.8 s and 5 MB of messages; this costs a millisecond
and a few kilobytes), and the page draws it with the plotly that JupyterLab already has.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cmbagent_nb.render.labels import main_nodes
from cmbagent_nb.render.status import FAIL, IDLE, OK, RUN, WAIT, Tone
from cmbagent_nb.render.text import cut, esc, seconds
from cmbagent_nb.store.snapshot import Snapshot

MIMETYPE = "application/vnd.plotly.v1+json"
_YOU = "you"
_LANE = 34
#: The least widths of the list and of the figure; below their sum the figure stands under the list.
_EVENTS, _FIGURE = 340, 400

Event = Mapping[str, Any]


def figure(snapshot: Snapshot, *, theme: str = "", width: int = 0, now: float | None = None) -> dict[str, Any] | None:
    """Make the figure of who was busy when, or nothing when nothing has happened.

    Parameters
    ----------
    theme
        ``light`` or ``dark``; else colours that read on both are taken.
    width
        Pixels of width; 0 lets plotly choose.
    now
        Until when running bars are drawn; the time of the call by default.
    """
    now = time.time() if now is None else now
    bars = [event for event in snapshot.bars if _lane(event) and event.get("started_at")]
    if not bars:
        return None
    zero = float(snapshot.run.get("started_at") or min(float(event["started_at"]) for event in bars))
    until = float(snapshot.run.get("ended_at") or now)
    lanes = list(dict.fromkeys(_lane(event) for event in bars))
    if _YOU in lanes:
        lanes = [lane for lane in lanes if lane != _YOU] + [_YOU]
    traces = []
    for number, lane in enumerate(lanes):
        own = [event for event in bars if _lane(event) == lane]
        traces.append(_trace(snapshot, own, -number, zero, until, theme))
    longest = max(
        (start + length for trace in traces for start, length in zip(trace["base"], trace["x"], strict=True)),
        default=1.0,
    )
    layout = _layout(lanes, longest, theme)
    total = int(snapshot.run.get("n_bars") or 0)
    if total > len(snapshot.bars):
        first = min(float(bar["started_at"]) for bar in bars) - zero
        text = f"the newest {len(snapshot.bars):,} of {total:,}: what was before {seconds(first)} is not shown"
        layout["xaxis"]["range"] = [first, longest * 1.02]
        layout["xaxis"]["title"] = {"text": text, "font": {"size": 10}}
    return {
        "data": traces,
        "layout": layout,
        "config": {"displayModeBar": False, "responsive": True},
    }


def _lane(event: Event) -> str:
    kind = event.get("event_type")
    if kind == "agent_call":
        return str(event.get("agent_name") or "")
    return {"code_exec": "executor", "approval": _YOU}.get(str(kind), "")


def _trace(
    snapshot: Snapshot, events: Sequence[Event], place: int, zero: float, until: float, theme: str
) -> dict[str, Any]:
    rows = _rows((float(event["started_at"]), float(event.get("ended_at") or until)) for event in events)
    deep = max(rows, default=0) + 1
    thick = 0.56 if deep == 1 else 0.72 / deep
    titles = {str(node["node_id"]): str(node.get("title") or "") for node in main_nodes(snapshot.nodes)}
    starts = [float(event["started_at"]) - zero for event in events]
    lengths = [max(float(event.get("ended_at") or until) - float(event["started_at"]), 0.02) for event in events]
    return {
        "type": "bar",
        "orientation": "h",
        "base": [round(start, 3) for start in starts],
        "x": [round(length, 3) for length in lengths],
        "y": [round(place + 0.36 - thick / 2 - row * thick, 4) if deep > 1 else place for row in rows],
        "width": [thick * 0.9] * len(events),
        "marker": {
            "color": [_colour(_tone(event), theme) for event in events],
            "opacity": [1.0 if event.get("ended_at") else 0.55 for event in events],
            "line": {"width": 0},
            "cornerradius": 3,
        },
        "text": [_hover(event, titles, length) for event, length in zip(events, lengths, strict=True)],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }


def _rows(spans: Iterable[tuple[float, float]]) -> list[int]:
    """Put spans that overlap into rows of their own."""
    ends: list[float] = []
    rows = []
    for start, end in spans:
        row = next((index for index, last in enumerate(ends) if last <= start + 1e-6), len(ends))
        if row == len(ends):
            ends.append(end)
        else:
            ends[row] = end
        rows.append(row)
    return rows


def _hover(event: Event, titles: Mapping[str, str], length: float) -> str:
    """Texts of plotly know some tags, so that these are escaped as well."""
    where = str(event.get("node_id") or "")
    title = titles.get(where.split(".", maxsplit=1)[0], "")
    attempt = f" · attempt {event['attempt']}" if event.get("attempt") else ""
    lines = [
        f"<b>{esc(event.get('label') or event.get('event_type'))}</b>",
        f"{esc(where)} {esc(cut(title, 40))}{attempt}",
        f"{esc(event.get('status'))} · {seconds(length)}",
    ]
    if event.get("error"):
        lines.append(esc(cut(str(event["error"]).strip().splitlines()[-1], 90)))
    return "<br>".join(lines)


def _tone(event: Event) -> Tone:
    if event.get("event_type") == "approval":
        return WAIT
    if event.get("status") in {"failed", "interrupted"}:
        return FAIL
    if event.get("status") == "cancelled":
        return IDLE
    return OK if event.get("event_type") == "code_exec" else RUN


def _colour(tone: Tone, theme: str) -> str:
    return {"light": tone.light, "dark": tone.dark}.get(theme, tone.ink)


def _layout(lanes: Sequence[str], longest: float, theme: str) -> dict[str, Any]:
    ink = {"light": "#1b1f24", "dark": "#e6e9ed"}.get(theme, "#808790")
    soft = {"light": "#5b6570", "dark": "#98a2ad"}.get(theme, "#808790")
    line = {"light": "#d9dee4", "dark": "#2b323a"}.get(theme, "rgba(128,135,144,0.3)")
    return {
        "height": max(56 + _LANE * len(lanes), 236),
        "autosize": True,
        "barmode": "overlay",
        "bargap": 0,
        "margin": {"l": 12, "r": 16, "t": 14, "b": 30},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 11, "color": ink},
        "hoverlabel": {"font": {"size": 11}},
        "dragmode": False,
        "xaxis": {
            "range": [0, longest * 1.02],
            "ticksuffix": " s",
            "nticks": 6,
            "gridcolor": line,
            "zeroline": False,
            "tickfont": {"size": 10, "color": soft},
            "fixedrange": True,
        },
        "yaxis": {
            "tickvals": [-number for number in range(len(lanes))],
            "ticktext": [esc(cut(lane, 18)) + "  " for lane in lanes],
            "range": [-len(lanes) + 0.4 if len(lanes) > 4 else -4.6, 0.6],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        },
    }


def _share(width: int) -> int:
    """The part of the view's width that the figure has; the style sheet shares it out in the same way."""
    if not width:
        return 0
    return width if width < _EVENTS + _FIGURE else int(_FIGURE + (width - _EVENTS - _FIGURE) * 0.6) - 2


class Gantt:
    """The figure in its place; drawn again only when bars have changed, and not more than once in two seconds."""

    def __init__(self) -> None:
        import ipywidgets

        self.widget = ipywidgets.Output()
        self.widget.add_class("cmbv-gantt")
        self._drawn: Any = None
        self._last = 0.0

    def update(self, snapshot: Snapshot, theme: str, width: int) -> None:
        """Draw this state if it is time to; ``width`` is that of the whole view."""
        state = (
            theme,
            width,
            snapshot.finished,
            tuple((event.get("id"), event.get("status")) for event in snapshot.bars if _lane(event)),
        )
        running = not snapshot.finished and any(event.get("status") == "running" for event in snapshot.bars)
        since = time.monotonic() - self._last
        moved = self._drawn is None or state[:2] != self._drawn[:2]
        if state == self._drawn and not (running and since >= 5.0):
            return
        if not snapshot.finished and not moved and since < 2.0:
            return
        drawing = figure(snapshot, theme=theme, width=_share(width))
        if drawing is None:
            return
        self._drawn, self._last = state, time.monotonic()
        text = f"{len(snapshot.bars)} turns, runs and gates"
        self.widget.outputs = (
            {"output_type": "display_data", "metadata": {}, "data": {MIMETYPE: drawing, "text/plain": text}},
        )
