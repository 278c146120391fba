"""The versions of a skill: which there are, and going back to one that was better.

A rollback deletes nothing: the version becomes active, the newer ones deprecated with the reason; so the
name means the older version from the next call on, and a newer one can be brought back the same way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError, SkillNotFound

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.model import Parameter
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


def versions(skill: SkillRecord) -> pd.DataFrame:
    """Return the versions of a skill's name, oldest first: what each is, comes from, and has done."""
    import pandas as pd

    from cmbagent_nb.skills.learning.performance import by_version
    from cmbagent_nb.store.lookup import parsed

    found = [
        parsed(row) for row in skill.db.rows("SELECT * FROM skills WHERE name = :n ORDER BY version", n=skill.name)
    ]
    numbers = {row["id"]: row["version"] for row in found}
    current = _current(found)
    figures = {row["version"]: row for row in by_version(skill.db, skill.name)}
    table = []
    for row in found:
        meta, own = row["meta"] or {}, figures.get(row["version"], {})
        table.append(
            {
                "version": row["version"],
                "status": row["status"],
                "current": row["version"] == current,
                "verified": bool((row["verification"] or {}).get("verified")),
                "parent": numbers.get(row["parent_skill_id"]),
                "reason": (meta.get("deprecated") or {}).get("reason") or meta.get("reason") or "",
                "parameters": len(row["parameters"] or []),
                "executions": own.get("executions", 0),
                "success_rate": own.get("success_rate"),
                "median_s": own.get("median_s"),
                "created_at": pd.to_datetime(row["created_at"], unit="s", utc=True),
                "skill_id": row["id"],
            }
        )
    frame = pd.DataFrame(table)
    frame["parent"] = frame["parent"].astype("Int64")
    return frame


def version_of(skill: SkillRecord, version: int | str) -> SkillRecord:
    """Return another version of a skill, by its number (``2``, ``"v2"``), ``name@2`` or its id.

    Raises
    ------
    SkillNotFound
        There is no such version of this skill.
    """
    from cmbagent_nb.skills.library import find

    text = str(version).strip()
    number = text.lower().removeprefix("v")
    reference = f"{skill.name}@{number}" if number.isdecimal() and len(number) < 6 else text
    try:
        found = find(skill.db, skill.writer, skill.home, reference)
    except SkillNotFound:
        found = None
    if found is None or found.name != skill.name:
        known = skill.db.rows("SELECT version FROM skills WHERE name = :name ORDER BY version", name=skill.name)
        raise SkillNotFound(
            f"skill {skill.name} has no version {text}",
            f"It has: {', '.join(str(row['version']) for row in known)}.",
            reference=text,
        )
    return found


def rollback(skill: SkillRecord, version: int | str, reason: str = "") -> SkillRecord:
    """Let a skill's name mean an older version again; returns that version, ready to run.

    Newer versions are deprecated with the reason.

    Raises
    ------
    SkillNotFound
        There is no such version.
    SkillError
        It was never verified, is not trusted, or its notebook is gone or was changed.
    """
    from cmbagent_nb.skills import rows
    from cmbagent_nb.skills.library import find
    from cmbagent_nb.skills.source_hash import check_notebook

    target = version_of(skill, version)
    if not target.trusted or not target.verified:
        raise SkillError(
            f"skill {target.name} v{target.version} {'was never verified' if target.trusted else 'is not trusted'}",
            "Go back to another version.",
            skill=target.name,
            version=target.version,
        )
    check_notebook(target)
    why = reason or f"rolled back to v{target.version}"
    mark = rows.mark(skill.db)

    def store(connection: Connection) -> None:
        query = f"SELECT id FROM skills WHERE name = {mark} AND version > {mark} AND status = 'active'"
        for (skill_id,) in connection.exec_driver_sql(query, (target.name, target.version)).fetchall():
            deprecate(connection, skill.db, skill.writer, skill_id, why, rolled_back_to=target.version)
        change_meta(connection, skill.db, skill.writer, target.id, {"deprecated": None})
        connection.exec_driver_sql(f"UPDATE skills SET status = 'active' WHERE id = {mark}", (target.id,))

    skill.writer.call(store).result()
    return find(skill.db, skill.writer, skill.home, target.id)


def deprecate(connection: Connection, db: Database, writer: Writer, skill_id: str, reason: str, **more: Any) -> None:
    """Mark a version as deprecated and keep why, within a transaction of the writer."""
    from cmbagent_nb.skills import rows

    change_meta(connection, db, writer, skill_id, {"deprecated": {"reason": reason, "at": time.time(), **more}})
    connection.exec_driver_sql(f"UPDATE skills SET status = 'deprecated' WHERE id = {rows.mark(db)}", (skill_id,))


def change_meta(connection: Connection, db: Database, writer: Writer, skill_id: str, changes: dict[str, Any]) -> None:
    """Change entries of a skill's ``meta`` within a transaction; None takes one away."""
    from cmbagent_nb.skills import rows
    from cmbagent_nb.store.json import from_json, to_json

    mark = rows.mark(db)
    held = connection.exec_driver_sql(f"SELECT meta FROM skills WHERE id = {mark}", (skill_id,)).scalar()
    meta = {**((from_json(held) if held else None) or {}), **changes}
    text = writer.scrub(to_json({key: value for key, value in meta.items() if value is not None}))
    connection.exec_driver_sql(f"UPDATE skills SET meta = {mark} WHERE id = {mark}", (text, skill_id))


def _current(found: list[dict[str, Any]]) -> int | None:
    """Return the version that the name means: the newest active one, or the newest where none is."""
    active = [row["version"] for row in found if row["status"] == "active"]
    return max(active or [row["version"] for row in found], default=None)


def artifacts_of(
    notebook: NotebookNode, parameters: list[Parameter], schemas: dict[str, Any], assets: Path, made: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the artifacts of a version that was made of other notebooks: its code by node, schemas and assets."""
    from cmbagent_nb.skills.artifacts import artifact_rows
    from cmbagent_nb.skills.model import StepCode

    codes: dict[str, str] = {}
    for cell in notebook.cells:
        node = cell.metadata.get("cmbagent_nb", {}).get("node_id")
        if cell.cell_type == "code" and node:
            codes[node] = f"{codes[node]}\n{cell.source}" if node in codes else cell.source
    last = next(reversed(codes), None)
    steps = [
        StepCode(
            node, node, "", "", code, f"codebase/{node}.py", "", made=dict.fromkeys(made if node == last else (), "")
        )
        for node, code in codes.items()
    ]
    return artifact_rows(steps, list(codes.values()), parameters, schemas, assets)
