"""Archives, imports, backs up and deletes the runs of a workspace: ``ws.admin``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.run import Run, open_run
from cmbagent_nb.settings import default_home, user_path
from cmbagent_nb.workflow.workspace_core import WorkspaceCore

if TYPE_CHECKING:
    from cmbagent_nb.workflow.backup import Backup
    from cmbagent_nb.workflow.repair import Repaired


class WorkspaceAdmin:
    """The upkeep of a workspace: ``ws.admin``."""

    def __init__(self, core: WorkspaceCore) -> None:
        self._core = core

    def archive(self, older_than: str | float | None = None, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Move the rows of runs that ended long ago out of the database, into Parquet files; they read as before.

        Parameters
        ----------
        older_than
            A span such as ``90d``; the setting ``archive_days`` when not given.
        dry_run
            Only report which runs that would be.

        Returns
        -------
        list of dict
            The runs, with ``rows``, ``size_bytes`` and ``folder`` when they were archived.
        """
        from dataclasses import asdict

        from cmbagent_nb.workflow.retention import archive, due, span

        seconds = span(self._core.settings.archive_days if older_than is None else older_than)
        if dry_run:
            return [
                {name: run[name] for name in ("id", "name", "status", "ended_at")}
                for run in due(self._core.db, seconds)
            ]
        return [asdict(item) for item in archive(self._core.db, self._core.writer, seconds)]

    def unarchive(self, reference: str) -> Run:
        """Bring the rows of an archived run back into the database; returns the run.

        Raises
        ------
        StateError
            The run is not archived.
        StoreError
            Its archive is not there or damaged.
        """
        from cmbagent_nb.store.archive import unarchive_run

        found = open_run(self._core.host, reference)
        unarchive_run(self._core.db, self._core.writer, found.id)
        return found

    def compact(self) -> int:
        """Give the space of deleted and archived rows back to the disk; returns how many bytes that were."""
        from cmbagent_nb.workflow.retention import compact

        self._core.writer.barrier().result()
        return compact(self._core.db)

    def delete(self, reference: str) -> str:
        """Delete a run for good: its rows, its archive, and its folder when that is the workspace's own.

        Skills that were made of it stay. Returns what was done, in words.

        Raises
        ------
        StateError
            The run goes on.
        """
        from cmbagent_nb.workflow.retention import delete_run

        return delete_run(self._core.db, self._core.writer, open_run(self._core.host, reference).id)

    def import_dir(self, folder: str | Path, *, name: str | None = None, task: str = "", again: bool = False) -> Run:
        """Take the work dir of a CMBAgent run into the record, as a run that has ended; its files are copied.

        Raises
        ------
        InputError
            It is not a work dir of CMBAgent.
        StateError
            It was imported before, and ``again`` is not set.
        """
        from cmbagent_nb.workflow import folders
        from cmbagent_nb.workflow.cmbagent_dir import read_work_dir
        from cmbagent_nb.workflow.cmbagent_import import import_run, refuse_again

        found = read_work_dir(Path(folder))
        if not again:
            refuse_again(self._core.db, found)
        chosen = name or folders.slug(task or found.task or found.folder.name)
        work_dir = folders.reserve(self._core.home / "runs", chosen, named=name is not None)
        session_id = self._core.session_id()
        return open_run(
            self._core.host, import_run(self._core.writer, session_id, found, work_dir, work_dir.name, task=task)
        )

    def backup(self, path: str | Path) -> Backup:
        """Write the whole workspace into one file, while runs go on; see :func:`restore_workspace`.

        Raises
        ------
        UsageError
            The file is there already, or cannot be written.
        """
        from cmbagent_nb.workflow.backup import backup

        self._core.writer.barrier().result()
        return backup(self._core.db, Path(path))


def restore_workspace(file: str | Path, path: str | Path | None = None) -> Backup:
    """Put a backup into an empty workspace: the one in ``path``, else the default one.

    Raises
    ------
    UsageError
        The workspace is not empty, or the file is not a backup.
    StoreError
        The file is damaged; nothing has been put back.
    """
    from cmbagent_nb.workflow.backup import is_empty, restore

    home = user_path(path) if path is not None else default_home()
    if is_empty(home):
        WorkspaceCore(home, {}).close()  # an empty database may be open in this process
    return restore(Path(file), home)


def repair_workspace(path: str | Path | None = None) -> list[str]:
    """Repair a workspace's database and journals; returns the names of the runs taken from their journals.

    See :func:`mend_workspace`, which reports what was done run by run.
    """
    return mend_workspace(path).names


def mend_workspace(path: str | Path | None = None) -> Repaired:
    """Compare a workspace's database with the journals of its runs, and let each give what the other has lost.

    A database that is damaged or gone is made again; what is damaged is moved aside and not deleted.

    Raises
    ------
    StoreError
        The workspace cannot be written.
    """
    from cmbagent_nb.store.database import FILE_NAME
    from cmbagent_nb.store.health import damage
    from cmbagent_nb.store.sqlite import kind_of
    from cmbagent_nb.workflow.repair import Repaired, lost_skills, repair, salvage, set_aside

    home = user_path(path) if path is not None else default_home()
    workspace, done = WorkspaceCore(home, {}), Repaired()
    if not workspace.settings.database_url:
        database = home / FILE_NAME
        done.damage = damage(database)
        workspace.close()
        if done.damage:
            done.aside = set_aside(database)
    try:
        db, writer = workspace.db, workspace.writer
        writer.check()
        if done.aside is not None and not kind_of(done.aside):
            done.salvaged = salvage(done.aside, writer)
        done.runs = repair(db, writer)
        if lost := lost_skills(db):
            done.notes.append(
                f"{lost} skill{'s' if lost != 1 else ''} in {home / 'skills'} are not in the database: make them again"
                " with `cmbagent skill create NOTEBOOK`."
            )
    finally:
        workspace.close()
    return done
