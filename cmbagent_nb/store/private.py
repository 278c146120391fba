"""Restricts the files and folders of runs to their owner: 700 for folders, 600 for files.

Folders above a workspace, links, and a folder of the user's in which there is more than a workspace stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDER, FILE = 0o700, 0o600

#: What a workspace consists of: a folder that holds nothing else is the workspace's own.
PARTS = ("runs", "skills", "agents", "archive", "config.toml", "faults.jsonl", "migrate.lock", "cmbagent.db")
_BEGINNINGS = ("unwritten-", "cmbagent.db", ".cmbagent.db", ".backup-", ".restore-", ".skills", "skills")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing; one that is there stays as it is."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=FOLDER)
    if missing and not missing[0].is_dir():
        raise NotADirectoryError(20, "Not a directory", str(missing[0]))


def open_private(path: str, flags: int) -> int:
    """Open a file for its owner only; for ``open(…, opener=open_private)``."""
    return os.open(path, flags, FILE)


def tighten_workspace(home: Path) -> None:
    """Take from others what an older version, or a program that knows nothing of this, let them read."""
    if os.name == "nt":
        return
    entries = [home / name for name in _names(home)]
    own = [path for path in entries if is_own(path.name)]
    if len(own) == len(entries) and not _is_loose(home):
        return  # nobody else comes this far
    for path in own:
        tighten(path)
    if len(own) == len(entries):
        _restrict(home)


def is_own(name: str) -> bool:
    """Tell whether a file or folder of this name in a workspace's folder belongs to the workspace, not to its user."""
    return name in PARTS or name.startswith(_BEGINNINGS)


def tighten(place: Path) -> None:
    """Restrict a file, or a folder and all that is in it, to its owner; what belongs to others is left alone."""
    if os.name == "nt":
        return
    if not place.is_symlink() and place.is_dir():
        for folder, _, files in os.walk(place, topdown=True):
            _restrict(Path(folder))
            for name in files:
                _restrict(Path(folder, name))
    else:
        _restrict(place)


#: The folders that a run makes in a folder of the user's.
_OF_A_RUN = ("planning", "steps", "codebase", "data", "plots", "cost", "time", "chats", "input", "context")


def tighten_run(home: Path, work_dir: Path) -> None:
    """Restrict the files of a run; of a folder of the user's, what the run has made in it."""
    if work_dir.parent == home / "runs":
        tighten(work_dir)
        return
    for name in _OF_A_RUN:
        tighten(work_dir / name)


def loose(place: Path) -> Iterator[Path]:
    """Yield what others may read of a folder: itself, and all that is in it."""
    for path in (place, *sorted(place.rglob("*"))):
        if _is_loose(path):
            yield path


def _names(home: Path) -> list[str]:
    try:
        return os.listdir(home)  # noqa: PTH208
    except OSError:
        return []


def _is_loose(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & 0o077)


def _restrict(path: Path) -> None:
    with contextlib.suppress(OSError):
        found = path.lstat()
        if found.st_mode & 0o077 and not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
