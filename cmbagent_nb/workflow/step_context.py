"""Summarizes all earlier steps for each step of a deep_research run.

| rule | how |
|---|---|
| a step knows all that was done when it began | not only what the steps that it depends on left |
| the budget of tokens is kept | setting ``context_tokens``; what fits is told as it is, and then no model is asked |
| what does not fit | the newest ``context_keep`` steps as they are, a summary of those before |
| the summary | one call of the agent ``summarizer``; without a model, or if its reply is of no use, an extract |
| what must not be lost | numbers, files and decisions that a model's summary lacks are put below it |
| nothing is summarized twice | a summary is found by the hash of what it summarizes, also by a step side by side |
| a resumed step is told the same again | ``context/context_step_N.json`` holds what it was told, while that is true |
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import ModelCallFailed, ReplyInvalid
from cmbagent_nb.logs import get_logger
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.workflow.condense import Item, extract, join, split, tokens
from cmbagent_nb.workflow.file_registry import MadeFile
from cmbagent_nb.workflow.plan import PLAN_APPROVAL, PLANNING
from cmbagent_nb.workflow.prompts import Done, left_by

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.plan import Step

LOG = get_logger(__name__)

#: The mode in which context is carried.
MODE = "deep_research"

SUMMARIZER = "summarizer"
#: How much of its room a model's summary may take; the rest is for what it lacks.
SUMMARY_SHARE = 0.8
#: Characters of one step that a model is given to summarize.
LONGEST_PART = 24_000
#: Bytes of a JSON file whose numbers are told, numbers told of one file, of one line, and the longest list told.
LARGEST_JSON = 65_536
MOST_NUMBERS = 60
LONGEST_LINE = 200
LONGEST_LIST = 8


@dataclass(frozen=True)
class CarriedContext:
    """Summary of earlier steps that a step is given."""

    text: str
    #: The steps that it is told of; it is given their files.
    steps: tuple[str, ...]


async def carry(context: Context, step: Step, attempt: int) -> CarriedContext:
    """Bring what was done so far into the budget, for one step; write it down, and return it."""
    async with context.carrying:
        return await _carry(context, step, attempt)


async def _carry(context: Context, step: Step, attempt: int) -> CarriedContext:
    await context.writer.settled()
    decided = await in_thread(_decisions, context)
    path = context.work_dir / "context" / f"context_{step.node_id}.json"
    before = await in_thread(_read, path)
    given = before.get("steps", ())
    if given and set(given) <= set(context.done):
        items = await in_thread(_items, context, given, decided)
        if before.get("hash") == _hash(context, items):
            return CarriedContext(before["text"], tuple(given))
    assert context.plan is not None
    given = [item.node_id for item in context.plan.steps if item.node_id in context.done]
    items = await in_thread(_items, context, given, decided)
    options = context.options
    kept = split(items, options.context_tokens, options.context_keep)
    newest = [item.whole() for item in items[len(items) - kept :]]
    summary = {"text": "", "by": "", "hash": ""}
    if kept < len(items):
        room = options.context_tokens - tokens(join(newest)) - 1
        summary = await _summary(context, step, items[: len(items) - kept], room, attempt)
    text = context.writer.scrub(join([summary["text"], *newest]))
    told = {
        "step": step.number,
        "node_id": step.node_id,
        "steps": given,
        "as_they_are": given[len(given) - kept :] if kept else [],
        "summarized_by": summary["by"],
        "summary": summary["text"],
        "summary_hash": summary["hash"],
        "tokens": tokens(text),
        "budget": options.context_tokens,
        "hash": _hash(context, items),
        "text": text,
    }
    await _write(context, step, path, context.writer.scrub(to_json(told)))
    return CarriedContext(text, tuple(given))


async def _summary(context: Context, step: Step, items: Sequence[Item], room: int, attempt: int) -> dict[str, str]:
    """Return a summary of the older steps: one that was made before, a model's, or an extract."""
    asked = context.gateway.source == "live"
    key = hashlib.sha256(to_json([[item.whole() for item in items], room, asked]).encode()).hexdigest()
    known = await in_thread(_known, context.work_dir / "context", key)
    if known is not None:
        return known
    said = await _ask(context, step, items, room, attempt) if asked else ""
    left = room - tokens(said) - 2 if said else room
    rest, _ = extract(items, max(0, left), known=said)
    return {"text": join([said, rest]), "by": SUMMARIZER if said else "extract", "hash": key}


async def _ask(context: Context, step: Step, items: Sequence[Item], room: int, attempt: int) -> str:
    """Ask the summarizer, once; an empty text when its reply is of no use."""
    from cmbagent_nb.agents.ask import ask

    limit = int(room * SUMMARY_SHARE)
    parts = [item.whole() for item in items]
    prompt = join(
        [
            f"# The whole task, for orientation\n{context.task}",
            "# What the earlier steps left, to be summarized",
            *(part if len(part) <= LONGEST_PART else f"{part[:LONGEST_PART]}\n[…]" for part in parts),
            f"Summarize it in at most {limit // 2} words.",
        ]
    )

    def check(text: str) -> str | None:
        return f"The summary has more than {limit} tokens." if tokens(text) > limit else None

    handed = {"steps": [item.title for item in items]}
    context.hand_over(step.agent, SUMMARIZER, "more was done than fits", handed)
    context.stream.emit("agent_start", agent=SUMMARIZER, node_id=step.node_id, attempt=attempt)
    try:
        with context.recorder.located_at(step.node_id, attempt=attempt, agent=step.agent):
            answer = await ask(
                context.registry[SUMMARIZER],
                prompt,
                reply=None,
                gateway=context.gateway,
                recorder=context.recorder,
                tools=context.tools(context.work_dir),
                check=check,
                retries=0,
            )
    except (ReplyInvalid, ModelCallFailed) as error:
        LOG.warning("run %s: no summary by a model, an extract is used: %s", context.name, error)
        return ""
    return answer.text.strip()


# ---- what was done


def _items(context: Context, given: Sequence[str], decided: dict[str, list[str]]) -> list[Item]:
    """Return the steps as parts of a story, with the plan before them where a person decided on it."""
    items = []
    about_plan = [*decided.get(PLAN_APPROVAL, ()), *decided.get(PLANNING, ())]
    if about_plan and context.plan is not None:
        items.append(Item("The plan", context.plan.goal, decisions=about_plan))
    for node_id in given:
        items.append(_item(context, context.done[node_id], decided.get(node_id, [])))
    return items


def _item(context: Context, done: Done, decided: Sequence[str]) -> Item:
    def find(node_id: str, name: str) -> Path:
        return context.work_dir / context.file_registry.source(node_id, name)

    heading, _, text = left_by(done, find).partition("\n")
    numbers = [number for name in done.files for number in _numbers(find(done.node_id, name))]
    prose = f"{done.summary}\n{done.output}"
    return Item(heading.removeprefix("## "), text, decided, numbers, done.files, prose)


def _numbers(path: Path) -> list[str]:
    """Return the numbers of a JSON file, in lines with its stem: ``fit: chi2 = 12.5, dof = 8``."""
    if path.suffix != ".json":
        return []
    try:
        if path.stat().st_size > LARGEST_JSON:
            return []
        content = from_json(path.read_bytes())
    except (OSError, ValueError):
        return []
    found: list[str] = []
    _walk(content, "", found)
    lines: list[str] = []
    for number in found[:MOST_NUMBERS]:
        if lines and len(lines[-1]) + len(number) < LONGEST_LINE:
            lines[-1] += f", {number}"
        else:
            lines.append(f"{path.stem}: {number}")
    return lines


def _walk(value: Any, key: str, found: list[str]) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _walk(item, f"{key}.{name}" if key else str(name), found)
    elif isinstance(value, list):
        if len(value) <= LONGEST_LIST and all(isinstance(item, int | float) for item in value):
            found.append(f"{key} = {value}")
        else:
            for place, item in enumerate(value[:LONGEST_LIST]):
                if isinstance(item, dict):
                    _walk(item, f"{key}[{place}]", found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found.append(f"{key} = {value!r}")


def _decisions(context: Context) -> dict[str, list[str]]:
    """Return what people decided, by node, in words."""
    decided: dict[str, list[str]] = {}
    for row in context.writer.db.rows(
        "SELECT node_id, context, resolution, user_feedback, resolved_by FROM approval_requests"
        " WHERE run_id = :run AND status = 'resolved' ORDER BY created_at, id",
        run=context.run_id,
    ):
        title = (from_json(row["context"]) if row["context"] else {}).get("title", "")
        comment = f": {row['user_feedback']}" if row["user_feedback"] else ""
        said = f"{title} {row['resolution']} by {row['resolved_by'] or 'you'}{comment}".strip()
        decided.setdefault(str(row["node_id"]), []).append(said)
    return decided


# ---- what was told before


def _hash(context: Context, items: Sequence[Item]) -> str:
    options = context.options
    told = [[item.whole(), list(item.numbers)] for item in items]
    return hashlib.sha256(to_json([told, options.context_tokens, options.context_keep]).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = from_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _known(folder: Path, key: str) -> dict[str, str] | None:
    for path in sorted(folder.glob("context_step_*.json")):
        found = _read(path)
        if found.get("summary_hash") == key:
            return {"text": found["summary"], "by": found["summarized_by"], "hash": key}
    return None


async def _write(context: Context, step: Step, path: Path, text: str) -> None:
    data = text.encode()
    await in_thread(_replace, path, data)
    made = MadeFile(f"context/{path.name}", len(data), hashlib.sha256(data).hexdigest(), "application/json", "context")
    with context.recorder.located_at(step.node_id, agent=step.agent):
        context.file_registry.register(made, agent=SUMMARIZER, parent=None, phase="control")


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)
