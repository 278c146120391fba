"""Everything that a gate shows, once for all front ends: card, saved copy, panel, command line.

A gate is shown as parts, each of one of the :data:`KINDS`, whole and with every invisible character made visible. A
front end that meets a kind which it cannot show offers no approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cmbagent_nb.ids import short
from cmbagent_nb.render.text import esc, plural, visible

#: ``text`` is prose, ``code`` has numbered lines, ``output`` is what a program printed, ``plan`` has steps.
KINDS = ("text", "code", "output", "plan")
#: Answers that let nothing happen: they can be given without having seen everything.
REFUSALS = frozenset({"rejected", "abort", "plan", "modified", "fewer", "skip"})


@dataclass(frozen=True)
class PlannedStep:
    """A step as it is shown: whole."""

    number: str
    title: str
    agent: str
    after: str
    lines: list[str]


@dataclass(frozen=True)
class Part:
    """A part of what a gate shows."""

    kind: str
    title: str = ""
    text: str = ""
    steps: list[PlannedStep] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """A gate as people see it."""

    title: str
    hash: str
    parts: list[Part]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return asdict(self)


def shown(gate: Mapping[str, Any]) -> Shown:
    """Return what a gate shows, from its row with ``context`` parsed."""
    context = gate.get("context")
    context = context if isinstance(context, Mapping) else {}
    plan, step = context.get("plan"), context.get("step")
    body = str(context.get("body") or "")
    parts = [Part("text", "", visible(context.get("note"))), Part("text", "", visible(body))]
    if isinstance(plan, Mapping):
        goal = str(plan.get("goal") or "")
        parts.append(Part("text", "Goal", visible(goal) if goal and goal not in body else ""))
        parts.append(Part("plan", "", "", [_step(index, item) for index, item in enumerate(_items(plan, "steps"), 1)]))
    if isinstance(step, Mapping):
        parts.append(Part("plan", "", "", [_step(1, step)]))
    parameters = context.get("parameters")
    if isinstance(parameters, Mapping) and parameters:
        lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        parts.append(Part("code", "Parameters", visible(lines, code=True)))
    error = context.get("error")
    if error:
        message = error.get("message") if isinstance(error, Mapping) else None
        parts.append(Part("output", "Error", visible(message or error)))
    if context.get("code"):
        code = str(context["code"])
        parts.append(Part("code", _about(context, code), visible(code, code=True)))
    parts.append(Part("output", "Output", visible(context.get("output"))))
    files = context.get("files")
    names = list(files) if isinstance(files, Mapping | list) else []
    parts.append(Part("text", "Files", visible("\n".join(map(str, names)))))
    title = context.get("title") or str(gate.get("approval_type") or "A decision is needed").replace("_", " ")
    return Shown(
        visible(title), str(context.get("hash") or ""), [part for part in parts if part.text.strip() or part.steps]
    )


def _about(context: Mapping[str, Any], code: str) -> str:
    lines = code.count("\n") + (not code.endswith("\n"))
    return f"{visible(context.get('file') or 'Code')} · {plural(lines, 'line')}"


def _items(value: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list that a model may have written as one value: replies are shown as they came."""
    found = value.get(name)
    return list(found) if isinstance(found, list | tuple) else [] if found in (None, "") else [found]


def _step(index: int, step: Any) -> PlannedStep:
    if not isinstance(step, Mapping):
        return PlannedStep(str(index), visible(step), "", "", [])
    known = {"number", "title", "agent", "instructions", "bullet_points", "depends_on", "expected_outputs"}
    lines = [str(step.get("instructions") or "")]
    lines += [f"• {point}" for point in _items(step, "bullet_points")]
    made = _items(step, "expected_outputs")
    lines += [f"expected: {', '.join(map(str, made))}"] if made else []
    lines += ["asks before it starts"] if step.get("needs_approval") else []
    others = {name: value for name, value in step.items() if name not in {*known, "needs_approval", "step_number"}}
    lines += [f"{name}: {value}" for name, value in others.items() if value not in (None, "", [], {})]
    return PlannedStep(
        visible(step.get("number") or step.get("step_number") or index),
        visible(step.get("title")),
        visible(step.get("agent")),
        visible(", ".join(str(item).removeprefix("step_") for item in _items(step, "depends_on"))),
        [visible(line) for line in lines if line.strip()],
    )


# ---- as HTML


def gate_html(found: Shown, *, copy: bool = False) -> str:
    """Show a gate as HTML: the question and all its parts, nothing folded.

    ``copy`` adds buttons, which work where a script hears them.
    """
    return f'<div class="cmbv-q">◆ {esc(found.title)}</div>' + "".join(_part(part, copy) for part in found.parts)


def _part(part: Part, copy: bool) -> str:
    head = f'<div class="cmbv-meta cmbv-parthead">{esc(part.title)}</div>' if part.title else ""
    if part.kind == "code":
        return code_html(part.text, part.title, copy=copy)
    if part.kind == "output":
        return f"{head}<pre>{esc(part.text)}</pre>"
    if part.kind == "plan":
        return _plan(part.steps)
    return f'{head}<div class="cmbv-text cmbv-whole">{esc(part.text)}</div>'


def code_html(code: str, title: str = "Code", *, copy: bool = False) -> str:
    """Show code whole: numbered lines that scroll, in the order in which they are run.

    >>> 'data-n="2"' in code_html("a = 1\\nb = 2\\n")
    True
    """
    button = '<button type="button" class="cmbv-copy" data-cmbv-copy>Copy</button>' if copy else ""
    lines = visible(code, code=True).removesuffix("\n").split("\n")
    body = "\n".join(f'<span data-n="{number}">{esc(line)}</span>' for number, line in enumerate(lines, 1))
    head = f'<div class="cmbv-codehead"><span class="cmbv-meta">{esc(title)}</span>{button}</div>'
    return (
        f'<div class="cmbv-codebox">{head}'
        f'<pre class="cmbv-code" tabindex="0" style="--cmbv-digits:{len(str(len(lines)))}">{body}</pre></div>'
    )


def _plan(steps: list[PlannedStep]) -> str:
    rows = "".join(
        f'<tr><td class="cmbv-n">{esc(step.number)}</td><td><b>{esc(step.title)}</b>'
        f"{''.join(f'<div class={chr(34)}cmbv-whole{chr(34)}>{esc(line)}</div>' for line in step.lines)}</td>"
        f'<td class="cmbv-w">{esc(step.agent)}</td><td class="cmbv-w">{esc(step.after) or "–"}</td></tr>'
        for step in steps
    )
    head = '<tr><th class="cmbv-n">#</th><th>Step</th><th>Agent</th><th>After</th></tr>'
    return f'<table class="cmbv-t"><thead>{head}</thead><tbody>{rows}</tbody></table>'


# ---- as text


def gate_text(gate: Mapping[str, Any]) -> list[str]:
    """Write everything that a gate shows, line by line."""
    found = shown(gate)
    lines = [f"◆ {found.title}"]
    for part in found.parts:
        if part.kind == "plan":
            for step in part.steps:
                after = f", after {step.after}" if step.after else ""
                lines.append(f"    {step.number}. {step.title} ({step.agent}{after})")
                lines += [f"       {line}" for text in step.lines for line in text.split("\n")]
            continue
        lines += [f"  {part.title}:"] if part.title else []
        texts = part.text.removesuffix("\n").split("\n")
        width = len(str(len(texts)))
        numbered = part.kind == "code"
        lines += [f"  {n:>{width}} │ {text}" if numbered else f"    {text}" for n, text in enumerate(texts, 1)]
    if found.hash:
        lines.append(f"  gate {short(str(gate['id']))} · sha256 {found.hash[:12]}")
    return lines
