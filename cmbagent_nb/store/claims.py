"""Records which workspace writes to a work directory outside of all workspaces.

A workspace that was copied has rows of the same runs, and the same folder outside for them. The folder says in a file
to which workspace it belongs, so that a copy reads it and does not write to it.

| the folder | may be written |
|---|---|
| lies within the workspace, not through a link | yes |
| says that it belongs to this workspace, or says nothing | yes |
| belongs to another that still has the run | no |
| belongs to a place where the run is not any more: the workspace was moved | yes |
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import StoreError, WorkDirError
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.private import open_private
from cmbagent_nb.store.sqlite import connect, kind_of

#: The file in a work dir outside of its workspace.
FILE_NAME = ".cmbagent-workspace.json"

_DATABASE = "cmbagent.db"
_LONGEST = 1 << 16


def claim(home: Path, folder: Path, run_id: str) -> None:
    """Say in a work dir outside of the workspace that it belongs to this workspace."""
    if not _is_inside(home, folder):
        path = folder / FILE_NAME
        with open(path, "w", encoding="utf-8", opener=open_private) as file:
            file.write(to_json({"workspace": str(home.resolve()), "run_id": run_id}))


def may_write(home: Path, folder: Path, run_id: str) -> bool:
    """Tell whether a workspace may write to the work dir of one of its runs."""
    return not _owner(home, folder, run_id)


def check(home: Path, folder: Path, run_id: str, name: str) -> None:
    """Refuse to write to a work dir that belongs to another workspace; claim one that is left.

    Raises
    ------
    WorkDirError
        It belongs to a workspace that still has the run.
    """
    other = _owner(home, folder, run_id)
    if other:
        raise WorkDirError(
            f"the folder {folder} of run {name} belongs to the workspace {other}, of which this one is a copy",
            f"Resume the run there (CMBAGENT_HOME={other}), or start it again here.",
            path=str(folder),
            workspace=other,
        )
    if folder.is_dir():
        try:
            claim(home, folder, run_id)
        except OSError as error:
            raise WorkDirError(
                f"the folder {folder} of run {name} cannot be written ({error.strerror})",
                "Make it writable.",
                path=str(folder),
            ) from error


def _owner(home: Path, folder: Path, run_id: str) -> str:
    """Return the other workspace that a work dir belongs to; empty where there is none."""
    if _is_inside(home, folder):
        return ""
    said = _said(folder)
    other = said.get("workspace")
    if not isinstance(other, str) or said.get("run_id", run_id) != run_id or Path(other) == home.resolve():
        return ""
    return other if _has_run(Path(other), run_id) else ""


def _is_inside(home: Path, folder: Path) -> bool:
    return folder.resolve().is_relative_to(home.resolve())


def _said(folder: Path) -> dict[str, Any]:
    path = folder / FILE_NAME
    if kind_of(path):
        return {}
    try:
        with path.open("rb") as file:
            found = from_json(file.read(_LONGEST))
    except (OSError, ValueError, StoreError):
        return {}
    return found if isinstance(found, dict) else {}


def _has_run(home: Path, run_id: str) -> bool:
    """Tell whether a workspace has a run; one that is there and cannot be read is taken to have it."""
    path = home / _DATABASE
    if not os.path.lexists(path):
        return False
    try:
        with closing(connect(path, "ro", timeout=1.0)) as connection:
            query = "SELECT 1 FROM workflow_runs WHERE id = ?"
            return connection.execute(query, (run_id,)).fetchone() is not None
    except sqlite3.Error:
        return True
