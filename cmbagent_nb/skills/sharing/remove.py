"""Deleting a version of a skill.

| what | becomes |
|---|---|
| the version's row, its artifacts, comparisons with it | deleted |
| the record of its executions | deleted: it is of no use without the version |
| the folders of its executions | stay, since they hold results; deleted with ``results=True`` |
| notebook, inputs, report | deleted |
| the run that it was made of, other versions | stay |
| a starter skill | does not come back |
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord


def delete(skill: SkillRecord, *, results: bool = False) -> str:
    """Delete a version for good and return what was done, in words; see :meth:`Skill.delete`."""
    from cmbagent_nb.skills import rows

    db, mark = skill.db, rows.mark(skill.db)
    rows.interrupt_executions(db, skill.writer)
    query = "SELECT id, status, work_dir FROM skill_executions WHERE skill_id = :skill"
    executions = db.rows(query, skill=skill.id)

    def remove(connection: Any) -> None:
        running = f"SELECT COUNT(*) FROM skill_executions WHERE skill_id = {mark} AND status = 'running'"
        if connection.exec_driver_sql(running, (skill.id,)).scalar():
            raise StateError(
                f"skill {skill.name} v{skill.version} is running", "Wait for its end, or stop it.", skill=skill.name
            )
        # What the database's own rules would take along, said here: not every connection enforces them.
        for table, column in (
            ("skill_executions", "skill_id"),
            ("skill_artifacts", "skill_id"),
            ("skill_trials", "skill_id"),
            ("skill_trials", "other_skill_id"),
        ):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE {column} = {mark}", (skill.id,))
        for table, column in (
            ("skill_matches", "skill_id"),
            ("skills", "parent_skill_id"),
            ("workflow_runs", "skill_id"),
        ):
            connection.exec_driver_sql(f"UPDATE {table} SET {column} = NULL WHERE {column} = {mark}", (skill.id,))
        connection.exec_driver_sql(f"DELETE FROM skills WHERE id = {mark}", (skill.id,))

    skill.writer.call(remove).result()
    _remove_folder(skill.folder, skill.home)
    said = f"Deleted skill {skill.name} v{skill.version}"
    folders = [Path(row["work_dir"]) for row in executions if row["work_dir"] and Path(row["work_dir"]).is_dir()]
    if folders and results:
        for folder in folders:
            _remove_folder(folder, skill.home)
        said += f" and the results of {_count(folders)}"
    elif folders:
        said += f"; the results of {_count(folders)} stay in {folders[0].parent}"
    own = skill.home / "skills" / skill.name
    for folder in (own / "runs", own):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return said + "."


def _count(folders: list[Path]) -> str:
    return f"{len(folders)} execution{'s' if len(folders) != 1 else ''}"


def _remove_folder(folder: Path, home: Path) -> None:
    """Remove a folder of the workspace's skills, and never another one."""
    if folder.is_dir() and folder.resolve().is_relative_to((home / "skills").resolve()):
        shutil.rmtree(folder)
