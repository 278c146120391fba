"""After a run: the skill that was asked for when it was started is made when it has succeeded, and its result says so.

| invariant | how |
|---|---|
| wrong use is told before the run starts | the skill's name is checked when the run is asked for |
| the run's own end is not changed | whatever goes wrong here is a line of its result |
| another process that goes on with the run makes the skill, too | what was asked for is kept with the run |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, UsageError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

LOG = get_logger(__name__)


def wanted_skill(
    db: Database, create_skill: bool, name: str | None, tags: Iterable[str] = (), *, task: str = ""
) -> dict[str, Any]:
    """Return what is kept with a run of which a skill is to be made; empty when none is.

    Raises
    ------
    SkillError
        The name cannot be a skill's, or is that of a skill which was made of another task.
    UsageError
        A name is given, and no skill is asked for.
    """
    from cmbagent_nb.skills import naming

    if name is not None:
        naming.claim(db, name, same_origin=naming.of_task(task))
        if not create_skill:
            raise UsageError("a skill has a name and is not asked for", "Add create_skill=True (--create-skill).")
    return {"name": name, "tags": sorted(tags)} if create_skill else {}


def make_after(db: Database, writer: Writer, home: Path, wanted: Mapping[str, Any]) -> Callable[[str], None]:
    """Return what is called with a run's id when it has ended: it makes the skill, and never raises."""

    def make(run_id: str) -> None:
        try:
            _make(db, writer, home, wanted, run_id)
        except Exception:
            LOG.exception("no skill was made of run %s", run_id)

    return make


def _make(db: Database, writer: Writer, home: Path, wanted: Mapping[str, Any], run_id: str) -> None:
    from cmbagent_nb.skills.extracting.extract import extract

    writer.barrier().result()
    row = db.rows("SELECT name, status, result FROM workflow_runs WHERE id = :id", id=run_id)[0]
    if row["status"] != "completed":
        return
    name = wanted.get("name") or re.sub(r"\W+", "_", str(row["name"])).strip("_")[:64] or "skill"
    try:
        skill = extract(db, writer, home, run_id, name=name, tags=wanted.get("tags") or ())
        made = {"skill_id": skill.id, "name": skill.name, "version": skill.version, "status": skill.status}
        made |= {"summary": skill.summary(), "error": None}
    except CMBAgentError as error:
        made = {"skill_id": None, "name": name, "version": None, "status": None, "summary": "", "error": str(error)}
    result = from_json(row["result"]) if row["result"] else {}
    writer.update("workflow_runs", run_id, {"result": {**result, "skill": made}})
    writer.barrier().result()
