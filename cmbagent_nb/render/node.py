"""One node of a run as HTML: its instructions, and by attempt the prompt, the code, the output, errors and files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cmbagent_nb.render.gate import code_html
from cmbagent_nb.render.labels import agents_of, main_nodes, step_number
from cmbagent_nb.render.parts import content_html, file_table, glyph, items, pill, plan_table, shortened
from cmbagent_nb.render.text import cut, esc, plural, seconds, size, usd
from cmbagent_nb.store.node_record import AttemptDetail, NodeDetail
from cmbagent_nb.store.snapshot import Snapshot

_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def node_panel(snapshot: Snapshot, node_id: str, detail: NodeDetail | None = None) -> str:
    """Everything about one node; its attempts as far as ``detail`` has them."""
    node = next((item for item in snapshot.nodes if item.get("node_id") == node_id), None)
    if node is None:
        return (
            '<div class="cmbv-meta">Click a node of the graph to see its prompt, code, output, errors and files.</div>'
        )
    number = step_number(node)
    title = str(node.get("title") or node.get("agent") or node_id)
    facts = [
        str(node.get("agent") or ""),
        _attempts(node),
        seconds(node.get("duration_s")),
        usd(node.get("cost_usd")) if node.get("cost_usd") else "",
        plural(node.get("n_events"), "event") if node.get("n_events") else "",
    ]
    out = [
        f'<div class="cmbv-head"><span class="cmbv-name">{esc(f"{number} {title}" if number else title)}</span>'
        f"{pill(node.get('status'))}"
        f'<span class="cmbv-meta">{esc(" · ".join(fact for fact in facts if fact))}</span></div>'
    ]
    step = _step_of(snapshot, node)
    if step:
        points = "".join(f"<li>{esc(point)}</li>" for point in items(step.get("bullet_points")))
        makes = ", ".join(str(item) for item in items(step.get("expected_outputs")))
        out.append(f'<h4>Instructions</h4><div class="cmbv-text">{esc(step.get("instructions"))}</div>')
        out.append(f"<ul>{points}</ul>" if points else "")
        out.append(f'<div class="cmbv-meta">expected: <code>{esc(makes)}</code></div>' if makes else "")
    elif node.get("node_type") == "planning":
        out.append(plan_table(snapshot.plan or snapshot.proposed))
    out.append(_agents(snapshot, node_id))
    if detail is not None:
        shown = [attempt for attempt in detail.attempts if attempt.row or attempt.events or attempt.messages]
        out += [_attempt(attempt, last=attempt is shown[-1]) for attempt in shown]
        if detail.left_out:
            left = plural(detail.left_out, "earlier event")
            out.append(f'<div class="cmbv-meta">{left} of this step not shown: <code>run.events()</code></div>')
    return "".join(out)


def _attempts(node: Mapping[str, Any]) -> str:
    attempt, most = int(node.get("attempt") or 0), int(node.get("max_attempts") or 0)
    if not attempt or not most:
        return ""
    return f"attempt {attempt} of {most}" if attempt <= most else f"attempt {attempt} ({attempt - most} by you)"


def _step_of(snapshot: Snapshot, node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    number = step_number(node)
    steps = (snapshot.plan or {}).get("steps") or []
    if number.isdigit() and 0 < int(number) <= len(steps):
        found: Mapping[str, Any] = steps[int(number) - 1]
        return found
    return None


def _agents(snapshot: Snapshot, node_id: str) -> str:
    inner = agents_of(snapshot.nodes, node_id)
    if not inner or not any(node.get("node_id") == node_id for node in main_nodes(snapshot.nodes)):
        return ""
    names = " · ".join(f"{glyph(node.get('status'))} {esc(node.get('agent'))}" for node in inner)
    return f'<div class="cmbv-meta">{names}</div>'


def _attempt(attempt: AttemptDetail, *, last: bool) -> str:
    row = attempt.row
    took = seconds(row["ended_at"] - row["started_at"]) if row.get("ended_at") and row.get("started_at") else ""
    status = str(row.get("status") or "")
    error = _last_line(row.get("error"))
    facts = [status, took, cut(error, 160)]
    head = f"Attempt {attempt.number}" if attempt.number else "Before the attempts"
    body = _happened(attempt)
    if row.get("folder"):
        body += f'<div class="cmbv-meta">all of it: <code>{esc(row["folder"])}</code></div>'
    known = {_last_line(event.get("error")) for event in attempt.events if event.get("error")}
    if error and error not in known:
        body += _output("Error", row.get("error"), unfolded=True, style="cmbv-error")
    if attempt.files:
        body += f"<h5>Files</h5>{file_table(attempt.files)}"
    facts_said = esc(" · ".join(fact for fact in facts if fact))
    mark = f"{glyph(status)} " if status else ""
    return (
        f'<details class="cmbv-attempt"{" open" if last or status == "failed" else ""}><summary>{mark}<b>{head}</b> '
        f'<span class="cmbv-meta">{facts_said}</span></summary><div class="cmbv-in">{body}</div></details>'
    )


def _last_line(text: Any) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[-1] if lines else ""


def _happened(attempt: AttemptDetail) -> str:
    """Show what was asked, answered, decided and run, in the order in which it happened."""
    ran = any(event.get("event_type") == "code_exec" for event in attempt.events)
    told = [(float(event.get("started_at") or 0.0), _event(event)) for event in attempt.events]
    told += [(float(item.get("created_at") or 0.0), _message(item, ran)) for item in attempt.messages]
    return "".join(text for _, text in sorted(told, key=lambda pair: pair[0]))


def _message(message: Mapping[str, Any], ran: bool) -> str:
    """Show a prompt or a reply; code that was not run stands open, as it waits at a gate or was not allowed."""
    sender, text, code = message.get("sender"), str(message.get("content") or ""), message.get("code_generated")
    if sender in ("workflow", "you"):
        return _output(f"Prompt to {message.get('recipient')}", text)
    if sender == "executor":
        return ""  # its output stands with the code
    unrun = code_html(str(code), "Code, not run", copy=True) if code and not ran else ""
    reply = content_html(text, coded=bool(code))
    return f"<details><summary>Reply of {esc(sender)}</summary>{reply}</details>{unrun}" if text else unrun


def _event(event: Mapping[str, Any]) -> str:
    inputs = event.get("inputs") if isinstance(event.get("inputs"), Mapping) else {}
    outputs = event.get("outputs") if isinstance(event.get("outputs"), Mapping) else {}
    assert isinstance(inputs, Mapping) and isinstance(outputs, Mapping)
    note = '<div class="cmbv-meta">A payload is too long to be shown: <code>run.events()</code></div>'
    more = note if event.get("too_long") else ""
    kind, error = event.get("event_type"), event.get("error")
    if kind == "code_exec":
        return more + _execution(event, inputs, outputs)
    if kind == "tool_call":
        return (
            more + _output(str(event.get("label") or "tool"), f"{_text(inputs)}\n→ {_text(outputs)}") + _failed(error)
        )
    if kind == "approval":
        said = [str(outputs.get("resolution") or "waiting"), f"by {outputs['by']}" if outputs.get("by") else ""]
        comment = f": “{outputs['feedback']}”" if outputs.get("feedback") else ""
        what = f"{inputs.get('title') or 'Gate'} · {' '.join(part for part in said if part)}{comment}"
        return f'<div class="cmbv-meta cmbv-whole">◆ {esc(what)}</div>'
    return more + _failed(error)


def _execution(event: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> str:
    name = str(inputs.get("path") or "Code")
    took = seconds(event["duration_ms"] / 1000) if event.get("duration_ms") is not None else ""
    facts = " · ".join(part for part in (name, str(event.get("status") or ""), took) if part)
    code = str(inputs.get("code") or "")
    out, err = str(outputs.get("stdout") or ""), str(outputs.get("stderr") or "")
    failed = bool(event.get("error"))
    return (
        (code_html(code, facts, copy=True) if code else f'<div class="cmbv-meta">{esc(facts)}</div>')
        + _output("Output", out, unfolded=True)
        + _output("Errors and warnings", err, unfolded=failed)
        + ("" if failed and _last_line(event.get("error")).partition(" (")[0] in err else _failed(event.get("error")))
    )


def _failed(error: Any) -> str:
    return _output("Error", error, unfolded=True, style="cmbv-error") if error else ""


def _text(value: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {item}" for name, item in value.items() if item not in (None, "", [], {}))


def _output(title: str, value: Any, *, unfolded: bool = False, style: str = "") -> str:
    """Show a text whole, folded unless it is wanted at once; of a very long one, how much is left out."""
    text = terminal(str(value or ""))
    if not text.strip():
        return ""
    said = esc(title) + (f' <span class="cmbv-meta">{size(len(text.encode()))}</span>' if len(text) > 2000 else "")
    text = shortened(text)
    shown = f'<pre class="{style}">{esc(text)}</pre>' if style else f"<pre>{esc(text)}</pre>"
    return f"<details{' open' if unfolded else ''}><summary>{said}</summary>{shown}</details>"


def terminal(text: str) -> str:
    r"""Return what a terminal shows in the end: lines that were drawn over are gone, colours are left out.

    >>> terminal("10 %\r50 %\rdone\nnext")
    'done\nnext'
    """
    if "\r" in text:
        lines = (line.removesuffix("\r") for line in text.split("\n"))
        text = "\n".join(line.rpartition("\r")[2] for line in lines)
    return _COLOURS.sub("", text)
