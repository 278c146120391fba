"""Keeping runs for long: archive, import, backup, delete. A base of :class:`~cmbagent_nb.workspace.Workspace`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.settings import Settings
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.backup import Backup


class Kept(Protocol):
    """A workspace, as far as it is needed here."""

    home: Path

    @property
    def db(self) -> Database: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def settings(self) -> Settings: ...

    def run(self, reference: str) -> Run: ...

    def session_id(self) -> str: ...


class Keeping:
    """The methods of a workspace that keep its runs, or let them go."""

    def archive(self: Kept, older_than: str | float | None = None, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Move the rows of runs that ended long ago out of the database, into Parquet files; they read as before.

        Parameters
        ----------
        older_than
            A span such as ``90d``; the setting ``archive_days`` when not given.
        dry_run
            Only tell which runs that would be.

        Returns
        -------
        list of dict
            The runs, with ``rows``, ``size_bytes`` and ``folder`` when they were archived.
        """

        from dataclasses import asdict

        from cmbagent_nb.workflow.retention import archive, due, span

        seconds = span(self.settings.archive_days if older_than is None else older_than)
        if dry_run:
            return [{name: run[name] for name in ("id", "name", "status", "ended_at")} for run in due(self.db, seconds)]
        return [asdict(item) for item in archive(self.db, self.writer, seconds)]

    def unarchive(self: Kept, reference: str) -> Run:
        """Bring the rows of an archived run back into the database; returns the run.

        Raises
        ------
        StateError
            The run is not archived.
        StoreError
            Its archive is not there or damaged.
        """
        from cmbagent_nb.store.archive import unarchive_run

        found = self.run(reference)
        unarchive_run(self.db, self.writer, found.id)
        return found

    def compact(self: Kept) -> int:
        """Give the space of deleted and archived rows back to the disk; returns how many bytes that were."""
        from cmbagent_nb.workflow.retention import compact

        self.writer.barrier().result()
        return compact(self.db)

    def delete(self: Kept, reference: str) -> str:
        """Delete a run for good: its rows, its archive, and its folder when that is the workspace's own.

        Skills that were made of it stay. Returns what was done, in words.

        Raises
        ------
        StateError
            The run goes on.
        """
        from cmbagent_nb.workflow.retention import delete_run

        return delete_run(self.db, self.writer, self.run(reference).id)

    def import_dir(
        self: Kept, folder: str | Path, *, name: str | None = None, task: str = "", again: bool = False
    ) -> Run:
        """Take the work dir of a CMBAgent run into the record, as a run that has ended; its files are copied.

        Raises
        ------
        InputError
            It is no work dir of CMBAgent.
        StateError
            It was imported before, and ``again`` is not set.
        """
        from cmbagent_nb.workflow import folders
        from cmbagent_nb.workflow.cmbagent_dir import read_work_dir
        from cmbagent_nb.workflow.cmbagent_import import import_run, refuse_again

        found = read_work_dir(Path(folder))
        if not again:
            refuse_again(self.db, found)
        chosen = name or folders.slug(task or found.task or found.folder.name)
        work_dir = folders.reserve(self.home / "runs", chosen, named=name is not None)
        session_id = self.session_id()
        return self.run(import_run(self.writer, session_id, found, work_dir, work_dir.name, task=task))

    def backup(self: Kept, path: str | Path) -> Backup:
        """Write the whole workspace into one file, while runs go on; see :func:`restore_workspace`.

        Raises
        ------
        UsageError
            The file is there already, or cannot be written.
        """
        from cmbagent_nb.workflow.backup import backup

        self.writer.barrier().result()
        return backup(self.db, Path(path))
