"""Renders the lineage of a file as HTML: one line a link, with code, prompt and files read to open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cmbagent_nb.render.text import cut, esc

#: What each kind of link is called.
WORDS = {
    "file": "file",
    "file_gen": "written",
    "code_exec": "code run",
    "agent_call": "agent",
    "model_call": "model call",
    "step": "step",
    "task": "task",
}
#: Characters of a prompt or of code that are shown when it is opened.
SHOWN = 4_000


def lineage_html(links: Iterable[Mapping[str, Any]]) -> str:
    """Render the links of a lineage, the file first; everything is escaped."""
    return "<ol style='list-style:none;padding-left:0;margin:0'>" + "".join(map(_link, links)) + "</ol>"


def _link(link: Mapping[str, Any]) -> str:
    kind = WORDS.get(str(link["kind"]), str(link["kind"]))
    agent = f" · {esc(link['agent'])}" if link.get("agent") else ""
    node = f" · {esc(link['node_id'])}" if link.get("node_id") else ""
    head = (
        f"<span style='display:inline-block;min-width:7em;opacity:.7'>← {esc(kind)}</span>"
        f"<b>{esc(cut(link['label'], 100))}</b><span style='opacity:.7'>{agent}{node}</span>"
    )
    parts = [
        _fold(title, link.get(key))
        for key, title in (("code", "code"), ("prompt", "prompt"), ("reply", "reply"), ("instructions", "instructions"))
    ]
    reads = [item["path"] for item in link.get("reads") or ()]
    if reads:
        parts.append(f"<div style='margin-left:7em;opacity:.8'>read {esc(', '.join(reads))}</div>")
    return f"<li style='margin:2px 0'>{head}{''.join(parts)}</li>"


def _fold(title: str, value: Any) -> str:
    if not value:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, default=str)
    shown = text[:SHOWN] + ("…" if len(text) > SHOWN else "")
    return (
        f"<details style='margin-left:7em'><summary>{title}</summary>"
        f"<pre style='white-space:pre-wrap;max-height:24em;overflow:auto'>{esc(shown)}</pre></details>"
    )
