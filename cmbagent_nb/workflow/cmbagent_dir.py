"""A CMBAgent work dir, read: its plan, chats, costs and times, as far as they are there.

| part | where CMBAgent leaves it |
|---|---|
| plan | ``planning/final_plan.json`` |
| chats | ``chats/``, ``control/chats/``, ``planning/chats/`` |
| costs | ``cost/cost_report*.json``, also below ``planning`` and ``control`` |
| times | ``time/timing_report*.json``, likewise |

Each may be missing or broken: what cannot be read is named in ``skipped``. Pickled contexts (``context/*.pkl``) are
never opened: reading a pickle runs what is in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb.capture.file_scan import Entry, scan
from cmbagent_nb.errors import InputError, PlanRefused
from cmbagent_nb.settings import user_path
from cmbagent_nb.workflow.plan import PLANNING, Plan

_PARTS = ("planning", "control", "chats", "codebase", "cost", "time", "data", "plots")
_STEP = re.compile(r"step_(\d+)")
_STAMP = re.compile(r"(\d{8}_\d{6})")
_PROVIDERS = {
    "gpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "claude": "anthropic", "gemini": "gemini",
}  # fmt: skip


@dataclass
class WorkDir:
    """Contents of a CMBAgent work dir."""

    folder: Path
    files: dict[str, Entry]
    plan: Plan | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    ended_at: float = 0.0
    skipped: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """A hash of all its files: the same for a copy elsewhere."""
        listed = "\n".join(f"{name} {entry.sha256}" for name, entry in sorted(self.files.items()))
        return hashlib.sha256(listed.encode("utf-8", "backslashreplace")).hexdigest()

    @property
    def task(self) -> str:
        """Task: the first message, else the goal of the plan."""
        first = next((item["content"] for item in self.messages if item["content"].strip()), "")
        return first.strip() or (self.plan.goal if self.plan else "")


def read_work_dir(folder: Path) -> WorkDir:
    """Read a CMBAgent work dir.

    Raises
    ------
    InputError
        It is no folder, or has none of CMBAgent's parts.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "Name the work dir of a CMBAgent run.", path=str(folder))
    if not any((folder / part).is_dir() for part in _PARTS):
        raise InputError(
            f"{folder} is no work dir of CMBAgent: it has none of {', '.join(_PARTS)}",
            "Name the folder that was given to CMBAgent as work_dir.",
            path=str(folder),
        )
    if (folder / "journal.jsonl").exists():
        raise InputError(
            f"{folder} is the work dir of a run of cmbagent_nb",
            "See `cmbagent runs`; `cmbagent doctor --repair` brings back runs that are not listed.",
            path=str(folder),
        )
    found = WorkDir(folder, scan(folder))
    found.plan = _plan(found)
    for name in sorted(found.files, key=_natural):
        path = PurePosixPath(name)
        if path.suffix != ".json":
            continue
        kind = path.parent.name
        if kind == "chats":
            found.messages += _messages(found, path)
        elif kind == "cost":
            found.costs += _costs(found, path)
        elif kind == "time":
            found.seconds += _seconds(found, path)
    reports = [name for name in found.files if PurePosixPath(name).parent.name in ("time", "cost", "chats")]
    found.ended_at = max((_moment(found, name) for name in reports or found.files), default=time.time())
    return found


def _plan(found: WorkDir) -> Plan | None:
    name = "planning/final_plan.json"
    if name not in found.files:
        return None
    content = _load(found, PurePosixPath(name))
    entries = content.get("sub_tasks") or content.get("steps") if isinstance(content, Mapping) else content
    steps: list[dict[str, Any]] = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping):
            continue
        text = str(entry.get("sub_task") or entry.get("instructions") or entry.get("title") or "").strip()
        number = len(steps) + 1
        own = [str(item) for item in entry.get("depends_on") or ()]
        steps.append(
            {
                "title": str(entry.get("title") or _short(text)),
                "agent": str(entry.get("sub_task_agent") or entry.get("agent") or "engineer"),
                "instructions": text,
                "bullet_points": entry.get("bullet_points") or [],
                # CMBAgent does its steps one after another.
                "depends_on": own or ([str(number - 1)] if number > 1 and "depends_on" not in entry else []),
            }
        )
    goal = str(content.get("goal") or "") if isinstance(content, Mapping) else ""
    try:
        return Plan.from_reply({"goal": goal, "steps": steps})
    except (PlanRefused, TypeError) as error:
        if content is not None:
            found.skipped.append(f"{name}: {error}")
        return None


def _short(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= 80 else first[:79].rstrip() + "…"


def _messages(found: WorkDir, path: PurePosixPath) -> list[dict[str, Any]]:
    content = _load(found, path)
    if isinstance(content, Mapping):
        content = content.get("chat_history")
    if not isinstance(content, list):
        if content is not None:
            found.skipped.append(f"{path}: it holds no list of messages")
        return []
    node, at = _node(found, path), found.files[str(path)].mtime_ns / 1e9
    messages = []
    for item in content:
        if not isinstance(item, Mapping):
            continue
        text = item.get("content")
        calls = item.get("tool_calls") or item.get("tool_responses")
        messages.append(
            {
                "node_id": node,
                "sender": str(item.get("name") or item.get("role") or ""),
                "recipient": None,
                "content": text if isinstance(text, str) else "" if text is None else json.dumps(text, default=str),
                "tool_calls": calls,
                "created_at": at,
                "meta": {"role": item.get("role"), "file": str(path)},
            }
        )
    return messages


def _costs(found: WorkDir, path: PurePosixPath) -> list[dict[str, Any]]:
    content = _load(found, path)
    rows = _records(content)
    if not rows and content is not None:
        found.skipped.append(f"{path}: it holds no costs")
    node, at = _node(found, path), _moment(found, str(path))
    costs = []
    for row in rows:
        agent = str(row.get("Agent") or "").strip()
        if not agent or agent.lower() == "total":
            continue
        prompt, completion = (_amount(row.get(f"{kind} Tokens")) or 0 for kind in ("Prompt", "Completion"))
        model = str(row.get("Model") or "")
        costs.append(
            {
                "node_id": node,
                "provider": _provider(model),
                "model": model or None,
                "agent_name": agent,
                "prompt_tokens": int(prompt),
                "completion_tokens": int(completion),
                "total_tokens": int(_amount(row.get("Total Tokens")) or prompt + completion),
                "cached_tokens": 0,
                "cost_usd": _amount(row.get("Cost ($)")),
                "created_at": at,
            }
        )
    return costs


def _records(content: Any) -> list[Mapping[str, Any]]:
    """Read a table as pandas writes it: a list of rows, or a mapping of columns."""
    if isinstance(content, list):
        return [row for row in content if isinstance(row, Mapping)]
    columns = content if isinstance(content, Mapping) else {}
    agents = columns.get("Agent")
    if isinstance(agents, list):
        return [
            {
                name: values[place]
                for name, values in columns.items()
                if isinstance(values, list) and place < len(values)
            }
            for place in range(len(agents))
        ]
    if isinstance(agents, Mapping):
        return [
            {name: values.get(key) for name, values in columns.items() if isinstance(values, Mapping)} for key in agents
        ]
    return []


def _amount(value: Any) -> float | None:
    """Read a number, also one that is written as ``$0.0125`` or ``1,234``."""
    with suppress(TypeError, ValueError):
        number = float(value.replace("$", "").replace(",", "").strip() if isinstance(value, str) else value)
        return number if math.isfinite(number) and number >= 0 else None
    return None


def _provider(model: str) -> str | None:
    return next((provider for beginning, provider in _PROVIDERS.items() if model.startswith(beginning)), None)


def _seconds(found: WorkDir, path: PurePosixPath) -> float:
    content = _load(found, path)
    if not isinstance(content, Mapping):
        return 0.0
    total = _amount(content.get("total_time"))
    if total is None:
        total = sum(_amount(content.get(name)) or 0.0 for name in ("initialization_time", "execution_time"))
    return total


def _load(found: WorkDir, path: PurePosixPath) -> Any:
    try:
        return json.loads((found.folder / path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found.skipped.append(f"{path}: it cannot be read ({error})")
        return None


def _node(found: WorkDir, path: PurePosixPath) -> str | None:
    """Return the node that a report belongs to, by its folder and its name."""
    if path.parts[0] == "planning":
        return PLANNING
    number = _STEP.search(path.name)
    node = f"step_{number[1]}" if number else "step_1"
    known = {step.node_id for step in found.plan.steps} if found.plan else {"step_1"}
    return node if node in known else None


def _moment(found: WorkDir, name: str) -> float:
    """Return when a report was written: by the time in its name, else by that of its file."""
    stamp = _STAMP.search(PurePosixPath(name).name)
    if stamp:
        with suppress(ValueError, OverflowError):
            return time.mktime(time.strptime(stamp[1], "%Y%m%d_%H%M%S"))
    return found.files[name].mtime_ns / 1e9


def _natural(name: str) -> list[Any]:
    """Sort ``step_2`` before ``step_10``, and planning before control."""
    order = {"planning": 0, "control": 2}
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
    return [order.get(name.partition("/")[0], 1), parts]
