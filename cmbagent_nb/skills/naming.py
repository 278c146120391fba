"""Names of skills: which can be used, and when a name that is taken may get a next version.

| asked for | allowed |
|---|---|
| a name that nobody has | yes |
| a name equal to another but for case | no: some file systems, and most readers, take them for one |
| a name that is taken | with ``version_of``; or of the same origin: the same run, task, notebook or package |

A notebook or run that merely has the same name never takes a skill's place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError, SkillNotFound

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: Names that Windows keeps for devices, with any ending; such a folder can be made nowhere that is shared.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
#: Whether a version of the name (its row, with ``meta`` read) has the same origin.
SameOrigin = Callable[[Mapping[str, Any]], bool]


def check_name(name: str) -> str:
    """Return a name that can be a folder's everywhere, or refuse it."""
    usable = isinstance(name, str) and _NAME.fullmatch(name) and not name.endswith(".")
    if not usable or _DEVICES.fullmatch(name):
        raise SkillError(
            f"{name!r} cannot be the name of a skill",
            "Use letters, digits, _ and - (at most 64), as in planck_tt_chi2.",
            name=name,
        )
    return name


def key(name: str) -> str:
    """Return what two names have in common that are taken for one: case, width and trailing dots do not count."""
    return unicodedata.normalize("NFKC", name).casefold().rstrip(". ")


@dataclass(frozen=True)
class Claim:
    """The wish for a name, held against the library when it is made and again when the skill enters it."""

    name: str
    #: The skill of which it is to be the next version, if that was said.
    version_of: str | None = None
    same_origin: SameOrigin = lambda _row: False
    #: How a next version is asked for.
    option: str = "--version-of"

    def check(self, found: list[Mapping[str, Any]]) -> None:
        """Refuse the name where it is taken; ``found`` are the rows of all skills with this :func:`key`.

        Raises
        ------
        SkillError
            The name is taken, or is equal to another but for case.
        """
        others = sorted({row["name"] for row in found} - {self.name})
        if others:
            raise SkillError(
                f"{self.name} differs from the skill {others[0]} only in its case",
                f"Choose another name, or make it the next version of that one with {self.option} {others[0]}.",
                name=self.name,
                taken=others[0],
            )
        if found and self.version_of is None and not any(self.same_origin(row) for row in found):
            newest = max(int(row["version"]) for row in found)
            raise SkillError(
                f"there is a skill {self.name} already (v{newest}), which was not made of this",
                f"Choose another name, or make this its next version with {self.option} {self.name}.",
                name=self.name,
                taken=self.name,
            )


def claim(
    db: Database,
    name: str | None,
    *,
    version_of: str | None = None,
    same_origin: SameOrigin = lambda _row: False,
    option: str = "--version-of",
) -> Claim:
    """Check the name of a skill that is to be made, before anything is done for it; returns the claim to it.

    Raises
    ------
    SkillError
        The name cannot be used, is taken, or is not that of the skill whose version it is to be.
    SkillNotFound
        There is no skill of which it could be a version.
    """
    if version_of is not None:
        if not taken(db, version_of, exact=True):
            raise SkillNotFound(
                f"there is no skill {version_of} of which this could be the next version",
                "List the skills with %cmbagent skills.",
                reference=version_of,
            )
        if name is not None and name != version_of:
            raise SkillError(
                f"the next version of {version_of} cannot be named {name}", "Give one of the two names.", name=name
            )
        name = version_of
    wanted = Claim(check_name(name or ""), version_of, same_origin, option)
    wanted.check(taken(db, wanted.name))
    return wanted


def taken(db: Database, name: str, *, exact: bool = False) -> list[Mapping[str, Any]]:
    """Return the rows of the skills that have a name, or one that is taken for it."""
    return _read(db.rows(f"SELECT {_COLUMNS} FROM skills"), name, exact=exact)


def taken_now(connection: Connection, name: str) -> list[Mapping[str, Any]]:
    """Return the same within a transaction of the writer."""
    found = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM skills").dicts()
    return _read([dict(row) for row in found], name, exact=False)


_COLUMNS = "id, name, version, source_run_id, task_pattern, meta"


def _read(rows: list[dict[str, Any]], name: str, *, exact: bool) -> list[Mapping[str, Any]]:
    from cmbagent_nb.store.json import from_json

    wanted = key(name)
    alike = [row for row in rows if row["name"] == name or (not exact and key(row["name"]) == wanted)]
    return [{**row, "meta": (from_json(row["meta"]) if row["meta"] else None) or {}} for row in alike]


def of_run(db: Database, run_id: str) -> SameOrigin:
    """Return whether a version was made of this run, of a branch of it, of another run of its task, or used by it."""
    run = db.rows("SELECT id, task_description, branch_parent_id FROM workflow_runs WHERE id = :id", id=run_id)
    related = {run_id}
    parent = run[0]["branch_parent_id"] if run else None
    while parent and parent not in related:
        related.add(parent)
        above = db.rows("SELECT branch_parent_id FROM workflow_runs WHERE id = :id", id=parent)
        parent = above[0]["branch_parent_id"] if above else None
    below = db.rows("SELECT id FROM workflow_runs WHERE branch_parent_id = :id", id=run_id)
    related |= {row["id"] for row in below}
    used = {row["skill_id"] for row in db.rows("SELECT skill_id FROM skill_executions WHERE run_id = :id", id=run_id)}
    of_its_task = of_task(str(run[0]["task_description"] or "") if run else "")

    def same(row: Mapping[str, Any]) -> bool:
        before = row["source_run_id"] or row["meta"].get("source_run_id")
        return before in related or row["id"] in used or of_its_task(row)

    return same


def of_task(task: str) -> SameOrigin:
    """Return whether a version was made of a run of this task."""
    wanted = " ".join(task.split())

    def same(row: Mapping[str, Any]) -> bool:
        elsewhere = {"made_from", "composition", "origin"} & row["meta"].keys()
        return bool(wanted) and " ".join(str(row["task_pattern"] or "").split()) == wanted and not elsewhere

    return same


def of_notebook(path: str) -> SameOrigin:
    """Return whether a version was made of the notebook that lies at this path."""
    return lambda row: bool(path) and row["meta"].get("made_from") == path


def of_package(name: str, came_from: str, source: str) -> SameOrigin:
    """Return whether a version was imported under this name from the same place."""

    def same(row: Mapping[str, Any]) -> bool:
        origin = row["meta"].get("origin") or {}
        if origin.get("name") != name:
            return False
        return bool(source and origin.get("source") == source) or bool(came_from and origin.get("from") == came_from)

    return same


def of_parts(parts: list[str]) -> SameOrigin:
    """Return whether a version was composed of the same skills."""

    def same(row: Mapping[str, Any]) -> bool:
        known = (row["meta"].get("composition") or {}).get("components") or []
        return bool(parts) and [str(item.get("name")) for item in known if isinstance(item, dict)] == parts

    return same
