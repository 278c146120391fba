"""The executions of skills, to look back at: all of them, one by a part of its id, some beside each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import AmbiguousReference, SkillNotFound

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: How many executions are put beside each other where none are named.
_NEWEST = 10
_PART_OF_ID = re.compile(r"[0-9a-f-]{4,36}")


def executions(db: Database, writer: Writer, name: str | None = None) -> pd.DataFrame:
    """Return the executions of all versions of a name, or of all skills, oldest first.

    They are the rows of the table, with the skill's name and version.
    """
    from cmbagent_nb.skills.rows import interrupt_executions
    from cmbagent_nb.store import frames

    writer.caught_up()
    interrupt_executions(db, writer)
    skills = {row["id"]: row for row in db.rows("SELECT id, name, version FROM skills")}
    frame = frames.skill_executions(db, name=name)
    names = [skills[skill]["name"] for skill in frame["skill_id"]]
    versions = [skills[skill]["version"] for skill in frame["skill_id"]]
    frame.insert(1, "skill", names)
    frame.insert(2, "version", versions)
    return frame


def find_execution(db: Database, writer: Writer, reference: str) -> dict[str, Any]:
    """Return the row of an execution by its id or a unique part of it; JSON columns are values.

    Raises
    ------
    SkillNotFound
        There is no such execution.
    AmbiguousReference
        More than one fits.
    """
    from cmbagent_nb.skills.rows import interrupt_executions
    from cmbagent_nb.store.lookup import parsed

    writer.caught_up()
    interrupt_executions(db, writer)
    text = str(reference).strip().lower()
    found = db.rows("SELECT * FROM skill_executions WHERE id = :id", id=text)
    if not found and _PART_OF_ID.fullmatch(text):
        query = "SELECT * FROM skill_executions WHERE id LIKE :beginning OR id LIKE :end ORDER BY started_at DESC"
        found = db.rows(query, beginning=f"{text}%", end=f"%{text}")
    if not found:
        raise SkillNotFound(
            f"no execution matches {reference!r}", "List them with %cmbagent skill executions.", reference=reference
        )
    if len(found) > 1:
        shown = ", ".join(row["id"] for row in found[:5])
        raise AmbiguousReference(
            f"{reference!r} fits {len(found)} executions: {shown}{' …' if len(found) > 5 else ''}",
            "Use more of the id.",
            reference=reference,
            candidates=[row["id"] for row in found],
        )
    return parsed(found[0])


def compare(db: Database, writer: Writer, name: str, references: Iterable[str] = ()) -> pd.DataFrame:
    """Put executions of a skill beside each other: a row each, with a column for every parameter and every metric.

    Those that are named, in this order; else the newest ten, the newest first. Parameters that were not given have
    their default of the version that ran.
    """
    import pandas as pd

    wanted = [find_execution(db, writer, reference)["id"] for reference in references]
    frame = executions(db, writer, name)
    if wanted:
        other = [item for item in wanted if item not in set(frame["id"])]
        if other:
            raise SkillNotFound(
                f"execution {other[0]} is not one of skill {name}",
                f"List its own with %cmbagent skill executions {name}.",
                reference=other[0],
            )
        frame = frame.set_index("id", drop=False).loc[wanted]
    else:
        frame = frame[frame["mode"] != "verification"].iloc[::-1].head(_NEWEST)
    defaults = _defaults(db, name)
    table: list[dict[str, Any]] = []
    for row in frame.to_dict("records"):
        given = row["parameters"] if isinstance(row["parameters"], Mapping) else {}
        metrics = row["metrics"] if isinstance(row["metrics"], Mapping) else {}
        facts = ("version", "status", "mode", "duration_s", "cost_usd", "adapted")
        table.append(
            {
                "execution_id": row["id"],
                **{name: row[name] for name in facts},
                **{f"parameter {key}": value for key, value in {**defaults[row["version"]], **given}.items()},
                **{f"metric {key}": value for key, value in metrics.items()},
                "error": row["error"],
            }
        )
    made = pd.DataFrame(table)
    first = [
        column for column in made.columns if not column.startswith(("parameter ", "metric ")) and column != "error"
    ]
    numbers = [column for column in made.columns if column.startswith("metric ")]
    values = [column for column in made.columns if column.startswith("parameter ")]
    return made[[*first, *values, *numbers, *(["error"] if len(made) else [])]]


def _defaults(db: Database, name: str) -> dict[int, dict[str, Any]]:
    from cmbagent_nb.store.json import from_json

    rows = db.rows("SELECT version, parameters FROM skills WHERE name = :name", name=name)
    return {
        row["version"]: {item["name"]: item["default"] for item in from_json(row["parameters"] or "[]") or []}
        for row in rows
    }
