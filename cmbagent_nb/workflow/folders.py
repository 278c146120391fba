"""The folders of runs: where a run's files are, and its name with them.

The name of a run is that of its folder below ``runs``: making the folder reserves the name, for all processes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError, WorkDirError
from cmbagent_nb.settings import user_path
from cmbagent_nb.store.journal import FILE_NAME
from cmbagent_nb.store.private import FOLDER, make_folder
from cmbagent_nb.workflow.history import rows_of_journal
from cmbagent_nb.workflow.states import ENDED

#: What systems and editors leave in any folder.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", "__pycache__", ".gitkeep"})

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
            make_folder(runs)
            folder.mkdir(mode=FOLDER)
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
    """Make a folder of the user's ready for a new run, which holds it from then on.

    Raises
    ------
    WorkDirError
        It cannot be made or written, holds files that no run made, or another run: one that has ended is removed with
        ``clear``. Nothing in it was changed.
    """
    folder = user_path(given, "--work-dir")
    if ".." in folder.parts:  # a part before it may be made only now, or be a link: one folder, one name
        folder = _real(folder)
    try:
        _refuse_nested(folder, db)
        if folder.exists() and not folder.is_dir():
            raise WorkDirError(f"{folder} is a file", "Choose a folder with --work-dir.", path=str(folder))
        if (folder / FILE_NAME).is_file() and _runs_in(folder, db):
            if not clear:
                raise WorkDirError(
                    f"{folder} holds another run", f"Choose an empty folder: {_way_out(folder)}.", path=str(folder)
                )
            _clear(folder, db)
        elif others := _foreign(folder):
            raise WorkDirError(
                f"{folder} is not empty: it holds {_some(others)}",
                f"Choose a folder of its own for the run: {_way_out(folder)}.",
                path=str(folder),
            )
        make_folder(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
        # Of two runs that take the folder at once, one is refused.
        (folder / FILE_NAME).touch(mode=0o600, exist_ok=False)
    except OSError as error:
        if isinstance(error, FileExistsError) and (folder / FILE_NAME).exists():
            raise WorkDirError(
                f"{folder} holds another run", f"Choose an empty folder: {_way_out(folder)}.", path=str(folder)
            ) from error
        raise WorkDirError(
            f"the work dir {folder} cannot be used ({error.strerror})",
            "Choose another with --work-dir.",
            path=str(folder),
        ) from error
    return folder


def give_back(folder: Path) -> None:
    """Undo :func:`take` for a run that was not started after all."""
    journal = folder / FILE_NAME
    if journal.is_file() and journal.stat().st_size == 0:
        journal.unlink()


def _way_out(folder: Path) -> str:
    """Return the option that names a folder below this one which is not there yet."""
    number = next(number for number in range(1, 100_000) if not os.path.lexists(folder / f"run{number}"))
    return f"--work-dir {shlex.quote(str(folder / f'run{number}'))}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _foreign(folder: Path) -> list[str]:
    """Return what is in a folder, without what systems and editors put anywhere."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name not in _LITTER)


def _refuse_nested(folder: Path, db: Database) -> None:
    """Refuse a folder inside the workspace, or inside the folder of a run: two writers would share it."""
    real, home = _real(folder), _real(db.home)
    if real == home or home / "runs" in (real, *real.parents):
        raise WorkDirError(
            f"{folder} lies in the workspace {db.home}",
            "Choose a folder outside of it, or leave --work-dir out: the run gets a folder of its own there.",
            path=str(folder),
        )
    outer = next((parent for parent in real.parents if (parent / FILE_NAME).is_file() and _runs_in(parent, db)), None)
    if outer is not None:
        raise WorkDirError(
            f"{folder} lies in {outer}, which holds another run",
            f"Choose a folder outside of it: {_way_out(outer.parent)}.",
            path=str(folder),
        )


def _runs_in(folder: Path, db: Database) -> list[dict[str, Any]]:
    """Return the runs whose folder this is: their rows, or those that its journal tells.

    A ``journal.jsonl`` that tells of no run is a file of the user's, except one that is empty: its run has just begun.
    """
    real = _real(folder)
    rows = db.rows("SELECT id, name, status, work_dir FROM workflow_runs WHERE work_dir IS NOT NULL")
    found = [row for row in rows if row["work_dir"] in (str(folder), str(real)) or _same(row["work_dir"], real)]
    journal = folder / FILE_NAME
    if found or not journal.is_file():
        return found
    if journal.stat().st_size == 0:
        return [{"id": "", "name": folder.name, "status": "planning"}]
    return [dict(row) for row in rows_of_journal(journal)["workflow_runs"]]


def _real(path: Path) -> Path:
    """Return a path with its links followed, as far as they lead anywhere: a link to itself is no error here."""
    return Path(os.path.realpath(path))


def _same(work_dir: str, real: Path) -> bool:
    """Tell whether a run's folder is this one by another name."""
    return Path(work_dir).name == real.name and _real(Path(work_dir)) == real


def _clear(folder: Path, db: Database) -> None:
    """Remove what a run that has ended left in its folder; what a user put there besides stays."""
    from cmbagent_nb.execution.attempt_folder import FOLDERS, RESERVED

    made: set[str] = set()
    for row in _runs_in(folder, db):
        if row["status"] not in ENDED:
            raise WorkDirError(f"run {row['name']} is going on in {folder}", "Choose another.", path=str(folder))
        made |= {item["file_path"] for item in db.rows("SELECT file_path FROM files WHERE run_id = :id", id=row["id"])}
    made |= {str(row.get("file_path")) for row in rows_of_journal(folder / FILE_NAME)["files"]}
    kept = sorted(
        path.relative_to(folder).as_posix()
        for name in set(FOLDERS) - RESERVED
        if not (folder / name).is_symlink()
        for path in (folder / name).rglob("*")
        if not path.is_dir() and path.relative_to(folder).as_posix() not in made and not _is_litter(path)
    )
    if kept:
        raise WorkDirError(
            f"{folder} holds files that no run made: {_some(kept)}",
            f"Move them away, or choose an empty folder: {_way_out(folder)}.",
            path=str(folder),
        )
    inside = {name for name in made if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts}
    for name in sorted({*FOLDERS, *RESERVED, *inside}):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_litter(path: Path) -> bool:
    return path.suffix == ".pyc" or bool(_LITTER & {path.name, path.parent.name})
