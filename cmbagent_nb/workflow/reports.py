"""Writes the plan, chats, costs and times into a run's work dir, in the form that CMBAgent uses."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.store.database import rows
from cmbagent_nb.store.json import to_json
from cmbagent_nb.workflow.disk_full import retry_while_disk_full
from cmbagent_nb.workflow.file_registry import MadeFile
from cmbagent_nb.workflow.plan import Plan
from cmbagent_nb.workflow.states import STEP, UNFINISHED
from cmbagent_nb.workflow.versions import Order

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.workflow.context import Context

PLAN_FILE = "planning/final_plan.json"


async def write_plan(context: Context, plan: Plan) -> None:
    """Write the plan that the run follows to ``planning/final_plan.json``."""
    if context.options.mode == "one_shot":
        return
    text = context.writer.scrub(to_json(plan.to_cmbagent()))
    await retry_while_disk_full(context, _write, context.work_dir / PLAN_FILE, text)
    data = text.encode()
    made = MadeFile(PLAN_FILE, len(data), hashlib.sha256(data).hexdigest(), "application/json", "plan")
    with context.recorder.located_at("planning", agent="planner"):
        context.file_registry.register(made, agent="planner", parent=context.plan_event, phase="planning")


async def close_nodes(context: Context, status: str) -> None:
    """Give every node that the end of the run leaves open its last status."""

    def unfinished(connection: Connection) -> list[tuple[str, str]]:
        rows = connection.execute(
            "SELECT node_id, status FROM dag_nodes WHERE run_id = :run ORDER BY order_index",
            {"run": context.run_id},
        )
        return [(row[0], row[1]) for row in rows if row[1] == "pending" or row[1] in UNFINISHED]

    open_nodes = await asyncio.wrap_future(context.writer.call(unfinished))
    for node_id, current in open_nodes:
        if status == "completed":
            await context.states.node(node_id, "running")
            await context.states.node(node_id, "completed")
            continue
        if status == "interrupted":
            if current != "pending":
                await context.states.node(node_id, status, reason="its process ends")
            continue
        target = "cancelled" if status == "cancelled" else "failed"
        await context.states.node(node_id, target if target in STEP[current] else "skipped", reason=f"run {status}")


async def write_all(context: Context, status: str, error: str, started: float) -> dict[str, Any]:
    """Write the reports of a run that has ended; returns its result."""
    ended = time.time()
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(ended))
    await context.writer.settled()

    def read(connection: Connection) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
        return _costs(connection, context.run_id), _chats(connection, context.run_id)

    costs, conversations = await asyncio.wrap_future(context.writer.call(read))
    timing = {
        "initialization_time": max(0.0, started - context.created_at),
        "execution_time": max(0.0, ended - started),
        "total_time": max(0.0, ended - context.created_at),
    }
    texts = {f"cost/cost_report_{stamp}.json": to_json(costs), f"time/timing_report_{stamp}.json": to_json(timing)}
    for node_id, messages in conversations.items():
        texts[f"chats/chat_history_{node_id}.json"] = to_json(messages)
    for name, text in texts.items():
        await retry_while_disk_full(context, _write, context.work_dir / name, context.writer.scrub(text))
    result = _result(context)
    return result


def _result(context: Context) -> dict[str, Any]:
    """The run's result: its last report, or what its last code printed."""
    steps = context.plan.steps if context.plan else ()
    done = [context.done[step.node_id] for step in steps if step.node_id in context.done]
    reports = [(item, name) for item in done for name in item.files if name.endswith(".md")]
    text, report = "", None
    if reports:
        item, report = reports[-1]
        text = item.summary
    elif done:
        text = done[-1].output.strip() or done[-1].summary
    result = {"text": text, "report": report, "files": context.file_registry.of([item.node_id for item in done])}
    conflicts = context.file_registry.all_conflicts(Order(context.plan)) if context.plan else []
    return result | ({"conflicts": conflicts} if conflicts else {})


def _costs(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """The costs by agent and model, with the column names of CMBAgent's cost report and its last row."""
    found = rows(
        connection,
        'SELECT agent_name AS "Agent", SUM(cost_usd) AS "Cost ($)", SUM(prompt_tokens) AS "Prompt Tokens",'
        ' SUM(completion_tokens) AS "Completion Tokens", SUM(total_tokens) AS "Total Tokens", model AS "Model"'
        " FROM cost_records WHERE run_id = :run GROUP BY agent_name, model ORDER BY MIN(id)",
        {"run": run_id},
    )
    total: dict[str, Any] = {"Agent": "Total", "Model": ""}
    for name in ("Cost ($)", "Prompt Tokens", "Completion Tokens", "Total Tokens"):
        total[name] = sum(row[name] or 0 for row in found)
    return [*found, total]


def _chats(connection: Connection, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """The messages of each node, in order, as CMBAgent's chat histories hold them."""
    conversations: dict[str, list[dict[str, Any]]] = {}
    for row in rows(
        connection,
        "SELECT node_id, sender, recipient, content, created_at FROM messages WHERE run_id = :run ORDER BY id",
        {"run": run_id},
    ):
        node_id = str(row.pop("node_id") or "run").replace("/", "_")
        conversations.setdefault(node_id, []).append({"name": row["sender"], "role": "assistant", **row})
    return conversations


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
