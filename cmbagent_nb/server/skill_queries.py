"""Reads skills for the server: plain rows with the names of the tables' columns, times in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cmbagent_nb.server.queries import plain
from cmbagent_nb.verbs.skill import SORTS

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.workspace import Workspace

_LISTED = (
    "id, name, version, status, trusted, visibility, description, tags, task_pattern, parameters, verification,"
    " source_run_id, usage_count, success_count, failure_count, avg_execution_time_s, avg_cost_usd, created_at,"
    " last_used_at"
)


def skills(workspace: Workspace, *, search: str = "", tags: tuple[str, ...] = (), status: str = "") -> list[Any]:
    """The skills, each as the version that its name means; with words or tags, the best fit first."""
    workspace.skills._open()
    if search or tags:
        found = workspace.skills.search(search, tags=tags, status=status or None)["skill_id"].tolist()
        rows = {row["id"]: row for row in _rows(workspace._core.db)}
        return [_listed(rows[skill_id]) for skill_id in found if skill_id in rows]
    chosen: dict[str, dict[str, Any]] = {}
    for row in _rows(workspace._core.db):  # active ones first, the newest of them first
        if status in ("", row["status"]):
            chosen.setdefault(row["name"], row)
    return [_listed(row) for _, row in sorted(chosen.items())]


def _rows(db: Database) -> list[dict[str, Any]]:
    order = "CASE WHEN status = 'active' THEN 0 ELSE 1 END, version DESC"
    return db.rows(f"SELECT {_LISTED} FROM skills ORDER BY {order}")


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    shown = plain(row)
    verification = shown.pop("verification") or {}
    ended = (shown["success_count"] or 0) + (shown["failure_count"] or 0)
    rate = (shown["success_count"] or 0) / ended if ended else None
    return {**shown, "verified": bool(verification.get("verified")), "success_rate": rate}


def ordered(rows: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """Sort rows of skills; those without a value come last."""
    column, descending = SORTS[sort]
    known = [row for row in rows if row[column] is not None]
    known.sort(key=lambda row: row[column], reverse=descending)
    return [*known, *(row for row in rows if row[column] is None)]


def about(workspace: Workspace, skill: Skill) -> dict[str, Any]:
    """One skill: what ``skill show --json`` gives, with the rest of its row."""
    (row,) = workspace._core.db.rows("SELECT * FROM skills WHERE id = :id", id=skill.id)
    shown = plain({name: value for name, value in row.items() if name not in ("task_embedding", "notebook")})
    return {**shown, **plain(skill.info.as_dict()), "workspace": str(workspace.home)}


def executions(workspace: Workspace, name: str, *, limit: int, after: int = 0) -> list[dict[str, Any]]:
    """The executions of all versions of a skill, the newest first."""
    from cmbagent_nb.skills.rows import interrupt_executions

    interrupt_executions(workspace._core.db, workspace._core.writer)
    query = (
        "SELECT e.*, s.name AS skill, s.version FROM skill_executions AS e JOIN skills AS s ON s.id = e.skill_id"
        " WHERE s.name = :name ORDER BY e.started_at DESC, e.id DESC LIMIT :limit OFFSET :after"
    )
    return [plain(row) for row in workspace._core.db.rows(query, name=name, limit=limit, after=after)]


def artifacts(db: Database, skill_id: str) -> list[dict[str, Any]]:
    """Return the files and metadata of a skill."""
    query = "SELECT * FROM skill_artifacts WHERE skill_id = :id ORDER BY artifact_type, name"
    return [plain(row) for row in db.rows(query, id=skill_id)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame: times in seconds, what is missing as None."""
    columns = {str(name): [_value(item) for item in frame[name].tolist()] for name in frame.columns}
    return [plain({name: values[place] for name, values in columns.items()}) for place in range(len(frame))]


def _value(item: Any) -> Any:
    if type(item).__name__ in ("NaTType", "NAType"):
        return None
    return item.timestamp() if hasattr(item, "timestamp") else item


def dashboard(workspace: Workspace, skill: Skill) -> dict[str, Any]:
    """All that the executions of a skill say: figures by version, value, cell and error, what follows."""
    figures = {
        by: records(workspace.skills.performance(skill, by)) for by in ("version", "parameters", "cells", "errors")
    }
    return {
        "versions": figures["version"],
        "parameters": figures["parameters"],
        "cells": figures["cells"],
        "errors": figures["errors"],
        "recommendations": [item.as_dict() for item in workspace.skills.recommendations(skill)],
    }
