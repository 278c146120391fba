"""Classifies the changes that agents made to a skill: a parameter, the code, the agent, the graph; with each reason.

Everything is read from the record of the run, so that it is the same whether the run was interrupted or not.

| kind | ``before`` and ``after`` |
|---|---|
| ``parameter`` | ``{name: value}`` |
| ``code`` | the code of the step, without its imports and parameters |
| ``agent`` | the name of the agent |
| ``graph`` | what became of the step: ``done`` and its status |
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database


@dataclass(frozen=True)
class Changed:
    """Change that an agent made to a step's code."""

    node_id: str
    code: str
    reason: str
    agent: str


def changes_of_code(node_id: str, before: str, after: str, names: set[str], reason: str) -> list[dict[str, Any]]:
    """Return what differs between two scripts of a step: values of parameters, and code.

    >>> found = changes_of_code("step_1", "n = 3\\nfit(n)", "n = 5\\nfit(n)", {"n"}, "too few")
    >>> found[0]["kind"], found[0]["before"], found[0]["after"], len(found)
    ('parameter', {'n': 3}, {'n': 5}, 1)
    """
    old, old_values = take_apart(before, names)
    new, new_values = take_apart(after, names)
    found = []
    values = {
        name: value for name, value in new_values.items() if name in old_values and not _same(old_values[name], value)
    }
    if values:
        earlier = {name: old_values[name] for name in values}
        found.append(_item("parameter", node_id, earlier, values, reason))
    if _dump(old) != _dump(new):
        found.append(_item("code", node_id, old, new, reason))
    return found


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _item(kind: str, node_id: str, before: Any, after: Any, reason: str) -> dict[str, Any]:
    return {"kind": kind, "node_id": node_id, "before": before, "after": after, "reason": reason}


def take_apart(code: str, names: set[str]) -> tuple[str, dict[str, Any]]:
    """Return a script without the imports and parameters at its top, and the values of these parameters."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return code, {}
    values: dict[str, Any] = {}
    start = 0
    for statement in tree.body:
        target = _plain_target(statement)
        if target in names:
            try:
                values[target] = _value(statement)
            except ValueError:
                break
        elif not (isinstance(statement, (ast.Import, ast.ImportFrom)) or _is_text(statement)):
            break
        start = statement.end_lineno or 0
    return "\n".join(code.splitlines()[start:]).strip("\n"), values


def _plain_target(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return ""


def _value(statement: ast.stmt) -> Any:
    node = statement.value if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "float" and len(node.args) == 1:
        return float(ast.literal_eval(node.args[0]))
    if node is None:
        raise ValueError("no value")
    return ast.literal_eval(node)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _dump(code: str) -> str:
    try:
        return ast.dump(ast.parse(code))
    except SyntaxError:
        return code


def changed_steps(db: Database, run_id: str) -> dict[str, Changed]:
    """Return the steps of a run that an agent's code did, by node: the last code that succeeded."""
    events = db.rows(
        "SELECT node_id, attempt, status, inputs FROM execution_events WHERE run_id = :run"
        " AND event_type = 'code_exec' ORDER BY execution_order",
        run=run_id,
    )
    attempts = db.rows(
        "SELECT node_id, attempt, status, error FROM step_attempts WHERE run_id = :run ORDER BY attempt, started_at",
        run=run_id,
    )
    done = {(row["node_id"], row["attempt"]) for row in attempts if row["status"] == "completed"}
    found: dict[str, Changed] = {}
    for event in events:
        inputs = from_json(event["inputs"]) if event["inputs"] else {}
        if (event["node_id"], event["attempt"]) not in done or "ready" in inputs:
            found.pop(event["node_id"], None) if "ready" in inputs else None
            continue
        errors = [row["error"] for row in attempts if row["node_id"] == event["node_id"] and row["error"]]
        said = str(inputs.get("reason") or inputs.get("explanation") or "")
        reason = "; ".join([*(str(error) for error in errors[:1]), *([said] if said else [])])
        agent = str(inputs.get("written_by") or "")
        found[event["node_id"]] = Changed(event["node_id"], str(inputs.get("code") or ""), reason, agent)
    return found


def tailored_steps(db: Database, run_id: str) -> dict[str, Changed]:
    """Return the steps whose code an agent changed before the run had begun with them, by node."""
    events = db.rows(
        "SELECT node_id, status, inputs FROM execution_events WHERE run_id = :run AND event_type = 'code_exec'"
        " ORDER BY execution_order",
        run=run_id,
    )
    found: dict[str, Changed] = {}
    for event in events:
        inputs = from_json(event["inputs"]) if event["inputs"] else {}
        ready = inputs.get("ready") or {}
        if ready.get("tailored") and event["status"] == "completed":
            found[event["node_id"]] = Changed(
                event["node_id"], str(inputs["code"]), str(ready.get("reason") or ""), str(inputs.get("written_by"))
            )
    return found


def skipped_steps(db: Database, run_id: str) -> dict[str, tuple[str, str]]:
    """Return the steps of a run that a person left out, by node, with their status and why."""
    rows = db.rows(
        "SELECT s.node_id AS node_id, s.status AS status, s.error AS error, h.transition_reason AS reason"
        " FROM workflow_steps s JOIN state_history h ON h.run_id = s.run_id AND h.entity_id = s.node_id"
        " WHERE s.run_id = :run AND s.status = 'skipped' AND h.to_state = 'skipped' ORDER BY h.id",
        run=run_id,
    )
    last = {row["node_id"]: row for row in rows}
    return {
        node: (str(row["status"]), "; ".join(part for part in (row["reason"], row["error"]) if part))
        for node, row in last.items()
        if str(row["reason"]).startswith("skipped")
    }


def context_diff(
    before: Mapping[str, str], after: Mapping[str, str], given: Mapping[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """Return how a run differed from its skill: the code of each step as a diff, and the values that were given."""
    diffs = {}
    for node_id, code in after.items():
        old = before.get(node_id, "")
        if old != code:
            lines = difflib.unified_diff(
                old.splitlines(), code.splitlines(), f"skill/{node_id}.py", f"run/{node_id}.py", lineterm=""
            )
            diffs[node_id] = "\n".join(lines)
    values = {name: {"default": default, "given": value} for name, (default, value) in given.items()}
    return {"code": diffs, "parameters": values}
