"""The folders of runs: where a run's files are, and its name with them.

The name of a run is that of its folder below ``runs``: making the folder reserves the name, for all processes.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import UsageError, WorkDirError
from cmbagent_nb.store.journal import FILE_NAME
from cmbagent_nb.workflow.states import ENDED

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database


def title(task: str, words: int = 9) -> str:
    """Return the beginning of a task.

    >>> title("Fit the data and plot the residuals", 3)
    'Fit the data …'
    """
    parts = task.strip().splitlines()[0].split()
    return " ".join(parts[:words]) + (" …" if len(parts) > words else "")


def slug(task: str) -> str:
    """Return a name for a run, made of its task.

    >>> slug("Fit the data in df, please now")
    'fit-the-data-in-df'
    """
    text = title(task, 5).replace(" ", "-").lower()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "run"


def reserve(runs: Path, name: str, *, named: bool = False) -> Path:
    """Make a folder below ``runs`` for a new run; a name that is taken gets a number.

    Raises
    ------
    UsageError
        A name that somebody gave (``named``) cannot be one.
    WorkDirError
        The folder cannot be made.
    """
    if named and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise UsageError(f"a run cannot be named {name!r}", "Use letters, digits, '.', '_' and '-'.", name=name)
    for number in range(1, 100_000):
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise WorkDirError(
                f"the folder {folder} cannot be made ({error.strerror})",
                "Choose another workspace with CMBAGENT_HOME or Workspace(path).",
                path=str(folder),
            ) from error
        return folder
    raise WorkDirError(f"there are too many runs called {name}", "Give the run another name.", name=name)


def release(folder: Path) -> None:
    """Give a name back that no run came to have; a folder that holds something is kept."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def take(given: str | Path, db: Database, *, clear: bool) -> Path:
    """Make a folder of the user's ready for a new run.

    Raises
    ------
    WorkDirError
        It cannot be made or written, or holds another run: one that has ended is removed with ``clear``.
    """
    folder = Path(given).expanduser().absolute()
    try:
        if (folder / FILE_NAME).exists():
            if not clear:
                raise WorkDirError(f"{folder} holds another run", "Choose an empty folder.", path=str(folder))
            _clear(folder, db)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise WorkDirError(
            f"the work dir {folder} cannot be used ({error.strerror})",
            "Choose another with --work-dir.",
            path=str(folder),
        ) from error
    return folder


def _clear(folder: Path, db: Database) -> None:
    """Remove what a run that has ended left in its folder; what a user put there besides stays."""
    from cmbagent_nb.execution.attempt import FOLDERS, RESERVED

    for row in db.rows("SELECT name, status FROM workflow_runs WHERE work_dir = :dir", dir=str(folder)):
        if row["status"] not in ENDED:
            raise WorkDirError(f"run {row['name']} is going on in {folder}", "Choose another.", path=str(folder))
    for name in {*FOLDERS, *RESERVED, "report.md"}:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
