"""The parts of which the live view and the static page are made, as HTML.

Each takes a snapshot, or a piece of one, and returns markup in which every text is escaped.
None needs the style sheet to be understood: tables are tables.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmbagent_nb.ids import short
from cmbagent_nb.render.gate import code_html
from cmbagent_nb.render.labels import label, main_nodes
from cmbagent_nb.render.markdown import markdown_html
from cmbagent_nb.render.status import look
from cmbagent_nb.render.text import clock, count, cut, esc, plural, seconds, size, usd
from cmbagent_nb.store.snapshot import Snapshot
from cmbagent_nb.store.waiting import waiting_text

_MODES = {"planning_and_control": "plan", "deep_research": "deep", "one_shot": "one_shot"}
_HIDDEN = {"state_transition", "message", "info"}
#: Characters of a text that is shown at most; what is left out is said.
_LONG = 200_000
_SHORT = 320


def pill(status: str | None) -> str:
    """The status of a run in its frame, with its shape."""
    shown = look(status)
    return f'<span class="cmbv-pill cmbv-{shown.tone.name}">{esc(shown.glyph)} {esc(shown.label)}</span>'


def glyph(status: str | None) -> str:
    """The shape of a status in its colour."""
    shown = look(status)
    return f'<span class="cmbv-{shown.tone.name}" title="{esc(shown.label)}">{esc(shown.glyph)}</span>'


def spent(run: Mapping[str, Any]) -> str:
    """Return the cost of a run so far, as far as it is known."""
    if run.get("model_source") == "playbook":
        return "recorded replies, no cost"
    meta = run.get("meta")
    limit = meta.get("max_cost_usd") if isinstance(meta, Mapping) else None
    of = f" of {usd(limit)}" if limit else ""
    if run.get("cost_usd") is not None:
        return usd(run["cost_usd"]) + of
    known = run.get("cost_known") or 0.0
    return (f"{usd(known)} + unknown cost" if known else "cost unknown") + of


#: Seconds without a heartbeat, which comes every ten, after which a run is said to give no sign of life.
SILENCE = 35.0


def status_line(snapshot: Snapshot, *, elapsed: float | None = None) -> str:
    """The first line of every view: the name, the status, and what it has taken so far."""
    run = snapshot.run
    calls = int(run.get("calls") or 0)
    lost = int(run.get("failed_calls") or 0)
    facts = [
        _MODES.get(str(run.get("mode")), str(run.get("mode") or "")),
        clock(run.get("elapsed_s") if elapsed is None else elapsed),
        plural(calls, "call") + (f" ({lost} failed)" if lost else ""),
        f"{count(run['tokens'])} tokens" if run.get("tokens") else "",
        spent(run),
        f"no sign of life for {seconds(run['silent_s'])}" if (run.get("silent_s") or 0.0) > SILENCE else "",
        waiting_text(run.get("waiting") or (), time.time()),
        f"its folder {run.get('work_dir')} is not there" if run.get("work_dir_missing") else "",
    ]
    model = run.get("model") or ""
    error = f'<div class="cmbv-error">{esc(cut(run["error"], 400))}</div>' if run.get("error") else ""
    if run.get("trouble"):
        error += f'<div class="cmbv-error">waiting: {esc(cut(run["trouble"], 400))}</div>'
    for line in run.get("conflicts") or ():
        error += f'<div class="cmbv-error">conflict: {esc(cut(line, 400))}</div>'
    return (
        f'<div class="cmbv-head"><span class="cmbv-name">{esc(run.get("name") or short(str(run["id"])))}</span> '
        f"{pill(run.get('status'))} "
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span>'
        f'<span class="cmbv-sp"></span> <span class="cmbv-meta">{esc(model)}</span></div>{error}'
    )


def footer(snapshot: Snapshot, *, place: str = "") -> str:
    """The last line: the ids, and how to ask for more."""
    run = snapshot.run
    hint = "run.events() · run.files() · run.lineage(path)" if snapshot.finished else "run.cancel() · run.events()"
    return (
        f'<div class="cmbv-foot"><span>run {esc(short(str(run["id"])))} · session {esc(_session(run))}</span>'
        f"<span>{plural(run.get('n_events'), 'event')}</span>"
        f"<span>recorded in {esc(place or 'the workspace')}</span>"
        f'<span class="cmbv-sp"></span><code>{hint}</code></div>'
    )


def _session(run: Mapping[str, Any]) -> str:
    return str(run.get("session") or run.get("session_name") or "default")


def plan_table(plan: Mapping[str, Any] | None, *, said: str = "") -> str:
    """A plan: one row a step. The goal is left out where it has been ``said``."""
    steps = (plan or {}).get("steps") or []
    rows = []
    for index, step in enumerate(steps, start=1):
        after = ", ".join(str(item).removeprefix("step_") for item in items(step.get("depends_on")))
        number = step.get("number") or step.get("step_number") or index
        makes = ", ".join(str(item) for item in items(step.get("expected_outputs")))
        points = "".join(f"<li>{esc(point)}</li>" for point in items(step.get("bullet_points")))
        more = (
            f"<details><summary>{esc(step.get('title'))}</summary>"
            f'<div class="cmbv-meta">{esc(step.get("instructions"))}</div>'
            f"{f'<ul>{points}</ul>' if points else ''}"
            f"{f'<div>makes <code>{esc(makes)}</code></div>' if makes else ''}</details>"
        )
        rows.append(
            f'<tr><td class="cmbv-n">{esc(number)}</td><td>{more}</td><td class="cmbv-w">{esc(step.get("agent"))}</td>'
            f'<td class="cmbv-w">{esc(after) or "–"}</td></tr>'
        )
    goal = (plan or {}).get("goal")
    first = f'<div class="cmbv-meta">{esc(goal)}</div>' if goal and str(goal) not in said else ""
    return f"{first}{_table(('#', 'Step', 'Agent', 'After'), rows, numbers=(0,))}" if rows else first


def items(value: Any) -> list[Any]:
    """Return a list that a model may have written as one value: replies are shown as they came."""
    return list(value) if isinstance(value, list | tuple) else [] if value in (None, "") else [value]


def _table(heads: Sequence[str], rows: Iterable[str], *, numbers: Sequence[int] = ()) -> str:
    cells = "".join(
        f"<th{' class=cmbv-n' if index in numbers else ''}>{esc(head)}</th>" for index, head in enumerate(heads)
    )
    return f'<table class="cmbv-t"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def event_list(snapshot: Snapshot) -> str:
    """Return the events in order, the newest last; the first row of each step names it."""
    events = [event for event in snapshot.events if event.get("event_type") not in _HIDDEN]
    if not events:
        return '<div class="cmbv-meta">Nothing has happened yet.</div>'
    least = min(int(event.get("depth") or 0) for event in events)
    names = {str(node["node_id"]): label(node).title for node in main_nodes(snapshot.nodes)}
    places = [str(event.get("node_id") or "").partition(".")[0] for event in events]
    before = ["", *places] if len(set(places)) > 1 else places
    rows = zip(events, places, before, strict=False)
    left = int(snapshot.run.get("n_events") or 0) - len(snapshot.events)
    first = (
        f'<div class="cmbv-meta">The newest {len(snapshot.events):,} of {len(snapshot.events) + left:,} events. A step '
        "has its own when it is opened; all: <code>run.events()</code></div>"
        if left > 0
        else ""
    )
    return first + "".join(
        _event(event, int(event.get("depth") or 0) - least, names.get(place, "") if place != last else "")
        for event, place, last in rows
    )


def _event(event: Mapping[str, Any], depth: int, step: str) -> str:
    status = "waiting_approval" if _waits(event) else str(event.get("status") or "")
    cost, tokens = event.get("cost_usd"), event.get("tokens")
    side = usd(cost) if cost else f"{count(tokens)} tok" if tokens else ""
    taken = seconds(event["duration_ms"] / 1000) if event.get("duration_ms") is not None else ""
    if event.get("status") == "running" and event.get("started_at"):
        taken = clock(max(time.time() - float(event["started_at"]), 0.0)) + "…"
    text = esc(event.get("label") or event.get("event_type"))
    indent = f' style="padding-left:{min(depth, 4) * 14}px"' if depth else ""
    title = cut(event.get("error") or "", 300)
    name = f'<span class="cmbv-at">{esc(step)}</span> ' if step else ""
    return (
        f'<div class="cmbv-ev"{f" title={chr(34)}{esc(title)}{chr(34)}" if title else ""}>{glyph(status)}'
        f"<span{indent}>{name}{f'<b>{text}</b>' if event.get('event_type') == 'approval' else text}</span>"
        f'<span class="cmbv-v">{esc(side)}</span>'
        f'<span class="cmbv-v">{taken}</span></div>'
    )


def _waits(event: Mapping[str, Any]) -> bool:
    return event.get("event_type") == "approval" and event.get("status") == "running"


#: Says of a file that it is not there any more.
MISSING = ' <span class="cmbv-meta">missing</span>'


def file_table(files: Sequence[Mapping[str, Any]]) -> str:
    """Files with their type, size and maker."""
    rows = [
        f"<tr><td><code>{esc(item.get('file_path'))}</code>{MISSING if item.get('missing') else ''}</td>"
        f'<td class="cmbv-w">{esc(item.get("file_type"))}</td>'
        f'<td class="cmbv-n">{size(item.get("size_bytes"))}</td><td class="cmbv-w">{esc(_maker(item))}</td></tr>'
        for item in files
    ]
    return _table(("File", "Type", "Size", "Made by"), rows, numbers=(2,))


def _maker(item: Mapping[str, Any]) -> str:
    return " · ".join(str(part) for part in (item.get("node_id"), item.get("created_by_agent")) if part)


def message_list(snapshot: Snapshot) -> str:
    """Return the messages of the agents to each other, in order."""
    found = sorted(snapshot.messages, key=lambda message: (message.get("created_at") or 0.0, message.get("id") or 0))
    if not found:
        return '<div class="cmbv-meta">No messages yet.</div>'
    total = int(snapshot.run.get("n_messages") or len(found))
    first = f'<div class="cmbv-meta">The newest {len(found)} of {total}; all: <code>run.messages()</code></div>'
    return (first if total > len(found) else "") + "".join(map(_message, found))


def _message(message: Mapping[str, Any]) -> str:
    facts = [
        str(message.get("node_id") or ""),
        f"{count(message['tokens'])} tokens" if message.get("tokens") else "",
        seconds(message["duration_ms"] / 1000) if message.get("duration_ms") else "",
    ]
    why = _folded("Reasoning", message.get("reasoning"))
    code = str(message.get("code_generated") or "")
    made = f"<details><summary>Code</summary>{code_html(code, copy=True)}</details>" if code else ""
    return (
        f'<div class="cmbv-msg"><b>{esc(message.get("sender"))}</b> → {esc(message.get("recipient"))} '
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span>'
        f"{content_html(_whole(message), reasoned=bool(why), coded=bool(made))}{why}{made}</div>"
    )


def _whole(message: Mapping[str, Any]) -> str:
    """Return a message's text, with a word on what the snapshot left out of it."""
    text = str(message.get("content") or "")
    left = int(message.get("length") or 0) - len(text)
    return f"{text}\n[… {left:,} more characters: run.messages() …]" if left > 0 else text


def content_html(text: str, *, reasoned: bool = False, coded: bool = False) -> str:
    """A message: a structured reply field by field, a long text folded under its beginning.

    ``reasoned`` and ``coded`` tell that the reasoning, or the code, is shown beside it.
    """
    fields = _fields(text)
    if fields:
        left_out = {*(["reasoning"] if reasoned else []), *(["python_code"] if coded else [])}
        return "".join(
            _field(name, value)
            for name, value in fields.items()
            if value not in (None, "", []) and name not in left_out
        )
    if len(text) <= _SHORT:
        return f'<div class="cmbv-text">{esc(text)}</div>'
    return (
        f"<details><summary>{esc(cut(text, 150))}</summary>"
        f'<div class="cmbv-text">{esc(shortened(text))}</div></details>'
    )


def _fields(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _field(name: str, value: Any) -> str:
    if name == "steps" and isinstance(value, list) and all(isinstance(step, dict) for step in value):
        return plan_table({"steps": value})
    if name == "python_code" and isinstance(value, str):
        return code_html(value, copy=True)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "; ".join(value)
    if isinstance(value, str) and ("\n" in value or len(value) > _SHORT):
        return _folded(name, value)
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f'<div class="cmbv-text"><span class="cmbv-meta">{esc(name)}</span> {esc(shortened(shown))}</div>'


def result(snapshot: Snapshot) -> str:
    """Return the result of the run: its report, rendered, or the output of its code."""
    found = snapshot.run.get("result")
    text = str(found.get("text") or "") if isinstance(found, Mapping) else ""
    if not text:
        return ""
    if not (isinstance(found, Mapping) and found.get("report")):
        return f"<pre>{esc(shortened(text))}</pre>"
    folder = snapshot.run.get("work_dir")
    return f'<div class="cmbv-md">{markdown_html(text, Path(str(folder)) if folder else None)}</div>'


def _folded(title: str, text: Any) -> str:
    return f"<details><summary>{esc(title)}</summary><pre>{esc(shortened(str(text)))}</pre></details>" if text else ""


def shortened(text: str) -> str:
    """Return a text; of a very long one its beginning and its end, with how much is left out between them."""
    if len(text) <= _LONG:
        return text
    half = _LONG // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out here …]\n{text[-half:]}"


def cost_table(snapshot: Snapshot) -> str:
    """Tokens and money by agent and model."""
    if not snapshot.costs:
        return '<div class="cmbv-meta">No model has been called yet.</div>'
    rows = [
        f"<tr><td>{esc(item.get('agent_name'))}</td><td>{esc(_model(item))}</td>"
        f'<td class="cmbv-n">{esc(item.get("calls"))}</td>'
        f'<td class="cmbv-n">{count(item.get("prompt_tokens"))}</td>'
        f'<td class="cmbv-n">{count(item.get("completion_tokens"))}</td>'
        f'<td class="cmbv-n">{esc(_price(snapshot.run, item))}</td></tr>'
        for item in snapshot.costs
    ]
    run = snapshot.run
    rows.append(
        f'<tr><td><b>All</b></td><td></td><td class="cmbv-n">{esc(run.get("calls"))}</td>'
        f'<td class="cmbv-n" colspan="2">{count(run.get("tokens"))}</td><td class="cmbv-n">{esc(spent(run))}</td></tr>'
    )
    return _table(("Agent", "Model", "Calls", "Tokens in", "Tokens out", "Cost"), rows, numbers=(2, 3, 4, 5))


def _model(item: Mapping[str, Any]) -> str:
    return ":".join(str(part) for part in (item.get("provider"), item.get("model")) if part)


def _price(run: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    return "recorded" if run.get("model_source") == "playbook" else usd(item.get("cost_usd"))
