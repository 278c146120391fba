"""Finds a run or a skill by its id, its name, or a prefix or suffix of its id."""

from __future__ import annotations

import re
from typing import Any

from cmbagent_nb.errors import AmbiguousReference, RunNotFound, SkillNotFound
from cmbagent_nb.ids import short
from cmbagent_nb.store.columns import JSON
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.json import from_json

_PART_OF_ID = re.compile(r"[0-9a-f-]+")
_VERSIONED = re.compile(r"(?P<name>.+?)(?:@v?|:v?| v)(?P<version>\d{1,9})")
_MOST_SHOWN = 5


def find_run(db: Database, reference: str) -> dict[str, Any]:
    """Return the row of the run that ``reference`` names: its id, its name, or a part of its id.

    Raises
    ------
    RunNotFound
        No run fits.
    AmbiguousReference
        More than one does; ``candidates`` has them.
    """
    reference = str(reference).strip()
    found = _matches(db, "workflow_runs", reference)
    if not found:
        raise RunNotFound(f"no run matches {reference!r}", "List the runs with %cmbagent runs.", reference=reference)
    if len(found) > 1:
        raise _ambiguous(reference, "runs", found)
    return parsed(found[0])


def find_skill(db: Database, reference: str) -> dict[str, Any]:
    """Return the row of a skill by its id, a part of it, its name, or ``name@version``.

    A name means its newest version that is active, or its newest where none is.

    Raises
    ------
    SkillNotFound
        No skill fits.
    AmbiguousReference
        More than one does.
    """
    reference = str(reference).strip()
    versions = db.rows(
        "SELECT * FROM skills WHERE name = :name ORDER BY CASE WHEN status = 'active' THEN 0 ELSE 1 END, version DESC",
        name=reference,
    )
    if versions:
        return parsed(versions[0])
    match = _VERSIONED.fullmatch(reference)
    if match is not None:
        query = "SELECT * FROM skills WHERE name = :name AND version = :version"
        exact = db.rows(query, name=match["name"], version=int(match["version"]))
        if exact:
            return parsed(exact[0])
    found = _matches(db, "skills", reference)
    if not found:
        raise SkillNotFound(
            f"no skill matches {reference!r}", "List the skills with %cmbagent skills.", reference=reference
        )
    if len(found) > 1:
        raise _ambiguous(reference, "skills", found)
    return parsed(found[0])


def parsed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its JSON columns as values."""
    return {name: from_json(value) if name in JSON else value for name, value in row.items()}


def _matches(db: Database, table: str, reference: str) -> list[dict[str, Any]]:
    """Return the rows that fit best: by id, else by name, else by a part of the id."""
    if not reference:
        return []
    select = f"SELECT * FROM {table} WHERE "
    for condition in ("id = :reference", "name = :reference ORDER BY created_at DESC"):
        found = db.rows(select + condition, reference=reference)
        if found:
            return found
    part = reference.lower()
    if not _PART_OF_ID.fullmatch(part):
        return []
    condition = "id LIKE :beginning OR id LIKE :end ORDER BY created_at DESC"
    return db.rows(select + condition, beginning=part + "%", end="%" + part)


def _ambiguous(reference: str, kind: str, found: list[dict[str, Any]]) -> AmbiguousReference:
    shown = ", ".join(f"{short(row['id'])} ({row['name'] or 'no name'})" for row in found[:_MOST_SHOWN])
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return AmbiguousReference(
        f"{reference!r} fits {len(found)} {kind}: {shown}{more}",
        "Give more of the id.",
        reference=reference,
        candidates=[{"id": row["id"], "name": row["name"]} for row in found],
    )
