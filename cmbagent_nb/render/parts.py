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
from cmbagent_nb.render.labels import agents_of, label, main_nodes, step_number
from cmbagent_nb.render.markdown import markdown_html
from cmbagent_nb.render.status import look
from cmbagent_nb.render.text import clock, count, cut, esc, plural, seconds, size, usd
from cmbagent_nb.store.snapshot import Snapshot

_MODES = {"planning_and_control": "plan", "deep_research": "deep", "one_shot": "one_shot"}
_HIDDEN = {"state_transition", "message", "info"}
_LONG = 4000
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
    """What a run has cost so far, as far as it is known."""
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
        after = ", ".join(str(item).removeprefix("step_") for item in _items(step.get("depends_on")))
        number = step.get("number") or step.get("step_number") or index
        makes = ", ".join(str(item) for item in _items(step.get("expected_outputs")))
        points = "".join(f"<li>{esc(point)}</li>" for point in _items(step.get("bullet_points")))
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


def _items(value: Any) -> list[Any]:
    """Return a list that a model may have written as one value: replies are shown as they came."""
    return list(value) if isinstance(value, list | tuple) else [] if value in (None, "") else [value]


def _table(heads: Sequence[str], rows: Iterable[str], *, numbers: Sequence[int] = ()) -> str:
    cells = "".join(
        f"<th{' class=cmbv-n' if index in numbers else ''}>{esc(head)}</th>" for index, head in enumerate(heads)
    )
    return f'<table class="cmbv-t"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def event_list(snapshot: Snapshot) -> str:
    """What happened, in order, the newest last; where it goes over to another step, the row names that."""
    events = [event for event in snapshot.events if event.get("event_type") not in _HIDDEN]
    if not events:
        return '<div class="cmbv-meta">Nothing has happened yet.</div>'
    least = min(int(event.get("depth") or 0) for event in events)
    names = {str(node["node_id"]): label(node).title for node in main_nodes(snapshot.nodes)}
    places = [str(event.get("node_id") or "").partition(".")[0] for event in events]
    before = ["", *places] if len(set(places)) > 1 else places
    rows = zip(events, places, before, strict=False)
    return "".join(
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


def node_panel(snapshot: Snapshot, node_id: str) -> str:
    """Everything about one node: what it was told, its attempts, its errors, its agents, its files."""
    node = next((item for item in snapshot.nodes if item.get("node_id") == node_id), None)
    if node is None:
        return (
            '<div class="cmbv-meta">Click a node of the graph to see its instructions, agents, errors and files.</div>'
        )
    text = label(node)
    events = [event for event in snapshot.events if _within(event.get("node_id"), node_id)]
    facts = [
        str(node.get("agent") or ""),
        _attempts(node),
        seconds(node.get("duration_s")),
        usd(node.get("cost_usd")) if node.get("cost_usd") else "",
        plural(node.get("n_events"), "event") if node.get("n_events") else "",
    ]
    out = [
        f'<div class="cmbv-head"><span class="cmbv-name">{esc(text.title)}</span>{pill(node.get("status"))}'
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span></div>'
    ]
    step = _step_of(snapshot, node)
    if step:
        points = "".join(f"<li>{esc(point)}</li>" for point in _items(step.get("bullet_points")))
        makes = ", ".join(str(item) for item in _items(step.get("expected_outputs")))
        out.append(f'<h4>Instructions</h4><div class="cmbv-text">{esc(step.get("instructions"))}</div>')
        out.append(f"<ul>{points}</ul>" if points else "")
        out.append(f'<div class="cmbv-meta">makes <code>{esc(makes)}</code></div>' if makes else "")
    elif node.get("node_type") == "planning":
        out.append(plan_table(snapshot.plan))
    failed = [event for event in events if event.get("status") == "failed" and event.get("error")]
    if failed:
        out.append("<h4>Errors</h4>")
        out.extend(_failure(event) for event in _distinct(failed))
    out.append(_agents(snapshot, node_id, events))
    out.append(_codes(snapshot, node_id))
    files = [item for item in snapshot.files if _within(item.get("node_id"), node_id)]
    if files:
        out.append(f"<h4>Files</h4>{file_table(files)}")
    return "".join(out)


def _within(name: Any, node_id: str) -> bool:
    return name == node_id or str(name).startswith(f"{node_id}.")


def _attempts(node: Mapping[str, Any]) -> str:
    attempt, most = int(node.get("attempt") or 0), int(node.get("max_attempts") or 0)
    return f"attempt {attempt} of {most}" if attempt and most else ""


def _step_of(snapshot: Snapshot, node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    number = step_number(node)
    steps = (snapshot.plan or {}).get("steps") or []
    if number.isdigit() and 0 < int(number) <= len(steps):
        found: Mapping[str, Any] = steps[int(number) - 1]
        return found
    return None


def _distinct(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep one event of those that passed the same error up."""
    seen: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for event in events:
        seen.setdefault((event.get("attempt"), _last_line(event.get("error"))), event)
    return list(seen.values())[-6:]


def _last_line(text: Any) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[-1] if lines else ""


def _failure(event: Mapping[str, Any]) -> str:
    attempt = f"attempt {event['attempt']} · " if event.get("attempt") else ""
    text = str(event.get("error") or "")
    return (
        f'<details><summary><span class="cmbv-fail">✕</span> {esc(attempt)}{esc(cut(_last_line(text), 160))}</summary>'
        f"<pre>{esc(text[-_LONG:])}</pre></details>"
    )


def _agents(snapshot: Snapshot, node_id: str, events: Sequence[Mapping[str, Any]]) -> str:
    calls: dict[str, int] = {}
    for event in events:
        if event.get("event_type") == "agent_call" and event.get("agent_name"):
            calls[str(event["agent_name"])] = calls.get(str(event["agent_name"]), 0) + 1
    inner = {str(node.get("agent")): node for node in agents_of(snapshot.nodes, node_id)}
    names = list(dict.fromkeys([*calls, *inner]))
    if not names:
        return ""
    rows = [
        f"<li>{glyph(inner[name].get('status')) + ' ' if name in inner else ''}{esc(name)}"
        f' <span class="cmbv-meta">{plural(calls.get(name, 0), "call")}</span></li>'
        for name in names
    ]
    return f"<h4>Agents</h4><ul>{''.join(rows)}</ul>"


def _codes(snapshot: Snapshot, node_id: str) -> str:
    found = [
        message
        for message in snapshot.messages
        if _within(message.get("node_id"), node_id) and message.get("code_generated")
    ]
    newest = sorted(found, key=lambda message: message.get("created_at") or 0.0)[-3:]
    return "".join(
        f"<details><summary>Code by {esc(message.get('sender'))}</summary>"
        f"<pre>{esc(str(message['code_generated'])[:_LONG])}</pre></details>"
        for message in newest
    )


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
    """What the agents said to each other, in order."""
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
    made = _folded("Code", message.get("code_generated"))
    return (
        f'<div class="cmbv-msg"><b>{esc(message.get("sender"))}</b> → {esc(message.get("recipient"))} '
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span>'
        f"{_content(str(message.get('content') or ''), bool(why))}{why}{made}</div>"
    )


def _content(text: str, reasoned: bool) -> str:
    """A message: a structured reply field by field, a long text folded under its beginning."""
    fields = _fields(text)
    if fields:
        left_out = {"reasoning"} if reasoned else set()
        return "".join(
            _field(name, value)
            for name, value in fields.items()
            if value not in (None, "", []) and name not in left_out
        )
    if len(text) <= _SHORT:
        return f'<div class="cmbv-text">{esc(text)}</div>'
    return (
        f"<details><summary>{esc(cut(text, 150))}</summary>"
        f'<div class="cmbv-text">{esc(text[:_LONG])}{"…" if len(text) > _LONG else ""}</div></details>'
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
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "; ".join(value)
    if isinstance(value, str) and ("\n" in value or len(value) > _SHORT):
        return _folded(name, value)
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f'<div class="cmbv-text"><span class="cmbv-meta">{esc(name)}</span> {esc(shown[:_LONG])}</div>'


def result(snapshot: Snapshot) -> str:
    """What the run came to: its report, rendered, or what its code printed."""
    found = snapshot.run.get("result")
    text = str(found.get("text") or "") if isinstance(found, Mapping) else ""
    if not text:
        return ""
    if not (isinstance(found, Mapping) and found.get("report")):
        return f"<pre>{esc(text[-_LONG * 4 :])}</pre>"
    folder = snapshot.run.get("work_dir")
    return f'<div class="cmbv-md">{markdown_html(text, Path(str(folder)) if folder else None)}</div>'


def _folded(title: str, text: Any) -> str:
    return f"<details><summary>{esc(title)}</summary><pre>{esc(str(text)[:_LONG])}</pre></details>" if text else ""


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
