"""Makes the short labels of events and errors for graph, timeline and lists.

>>> event_label({"event_type": "agent_call", "agent_name": "planner"})
'agent_call planner'
>>> event_label({"event_type": "code_exec", "inputs": {"script": "codebase/step_3.py"}})
'code_exec step_3.py'
>>> event_label({"event_type": "approval", "inputs": {"approval_type": "plan_approval"}})
'gate · plan'
>>> error_word("Traceback …\\nKeyError: 'x'\\n")
"KeyError: 'x'"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = 60
_FILE_KEYS = ("file_path", "path", "file", "filename", "script")
_TOOL_KEYS = ("tool", "name", "tool_name", "function")


def event_label(event: Mapping[str, Any]) -> str:
    """Return a short label of an event from its row with parsed JSON."""
    kind = str(event.get("event_type") or "event")
    detail = _DETAILS.get(kind, _agent)(event)
    if kind == "approval":
        return bounded(f"gate · {detail}" if detail else "gate")
    return bounded(f"{kind} {detail}".strip())


def error_word(error: str | None) -> str | None:
    """Return the last line of an error, shortened; None where there is none."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return bounded(lines[-1]) if lines else None


def bounded(text: str, longest: int = _LONGEST) -> str:
    """Return ``text`` on one line and not longer than ``longest``."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def first_of(event: Mapping[str, Any], *keys: str) -> str:
    """Return the first of ``keys`` that the event's inputs, outputs or meta hold as a text or number."""
    for part in ("inputs", "outputs", "meta"):
        held = event.get(part)
        if isinstance(held, Mapping):
            for key in keys:
                if isinstance(held.get(key), str | int) and held[key] != "":
                    return str(held[key])
    return ""


def _agent(event: Mapping[str, Any]) -> str:
    return str(event.get("agent_name") or event.get("event_subtype") or "")


def _tool(event: Mapping[str, Any]) -> str:
    return first_of(event, *_TOOL_KEYS) or _agent(event)


def _script(event: Mapping[str, Any]) -> str:
    return first_of(event, "script", "filename", *_FILE_KEYS).rpartition("/")[2] or _agent(event)


def _file(event: Mapping[str, Any]) -> str:
    return first_of(event, *_FILE_KEYS) or _agent(event)


def _gate(event: Mapping[str, Any]) -> str:
    kind = first_of(event, "approval_type", "kind", "gate") or str(event.get("node_id") or "")
    return kind.removesuffix("_approval").replace("_", " ")


def _change(event: Mapping[str, Any]) -> str:
    before, after = first_of(event, "from", "from_state", "from_agent"), first_of(event, "to", "to_state", "to_agent")
    arrow = f"{before} → {after}" if before and after else after
    if event.get("event_type") == "handoff":
        return arrow or _agent(event)
    entity = first_of(event, "entity", "entity_id", "node") or str(event.get("node_id") or "")
    return f"{'run' if entity == event.get('run_id') else entity} {arrow}".strip()


def _retry(event: Mapping[str, Any]) -> str:
    return " ".join(part for part in (str(event.get("node_id") or ""), str(event.get("event_subtype") or "")) if part)


def _error(event: Mapping[str, Any]) -> str:
    return error_word(event.get("error")) or first_of(event, "message", "error") or _agent(event)


def _said(event: Mapping[str, Any]) -> str:
    return first_of(event, "message", "text", "title") or _agent(event)


_DETAILS = {
    "tool_call": _tool,
    "code_exec": _script,
    "file_gen": _file,
    "approval": _gate,
    "handoff": _change,
    "state_transition": _change,
    "retry": _retry,
    "error": _error,
    "info": _said,
    "skill": _said,
}
