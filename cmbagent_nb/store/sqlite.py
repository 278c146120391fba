"""Opens SQLite files: the file is checked before SQLite sees it, and each wait has a limit.

| what is there | what is done |
|---|---|
| a folder, a device, a named pipe, a link | refused before it is opened: reading one may never end |
| a file in use by others that open it | tried again until :data:`PATIENCE` is over |
| a file that was replaced since it was opened | the connection is replaced as well |
| a file that this user cannot write | read as it lies, else by a copy outside (:func:`readable`) |
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store import forks
from cmbagent_nb.store.transient_errors import is_damage

T = TypeVar("T")

#: Seconds that a writer waits for another process's lock before the database says that it is locked.
BUSY_TIMEOUT = 5.0

#: Seconds for which the opening of a database is tried again while other processes open it.
PATIENCE = 60.0

#: The files that SQLite keeps beside a database.
SUFFIXES = ("-wal", "-shm")

_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def kind_of(path: Path) -> str:
    """Return what stands in the place of a file, in words; empty for a file, and where there is nothing.

    >>> kind_of(Path("/")), kind_of(Path("/dev/zero")), kind_of(Path("/no/such/file"))
    ('a folder', 'a device', '')
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISREG(mode):
        return ""
    return next((name for holds, name in _KINDS if holds(mode)), "no file")


def odd_part(path: Path) -> tuple[Path, str] | None:
    """Return the part of a database that is not a file, and its kind."""
    for suffix in ("", *SUFFIXES):
        part = path.with_name(path.name + suffix)
        if kind := kind_of(part):
            return part, kind
    return None


def identity(path: Path) -> str:
    """Return what tells a file from a copy of it, and from one that takes its place; empty where it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 (this is asked before each transaction)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def connect(path: Path, mode: str = "rw", timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Connect to a database that is there: ``rw``, ``ro``, or ``immutable`` for a read-only one."""
    how = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    with forks.opening():
        return sqlite3.connect(
            f"{path.as_uri()}?{how}", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
        )


def patiently(work: Callable[[], T]) -> T:
    """Do ``work``, again while the database is busy: SQLite itself does not wait where a lock could be a deadlock."""
    until, pause = time.monotonic() + PATIENCE, 0.005
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not busy or time.monotonic() > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def writable(path: Path) -> bool:
    """Tell whether this user can write a database: SQLite writes beside it as well."""
    return os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)


def readable(path: Path) -> tuple[Path, str, Path | None]:
    """Return how a database that cannot be written is read: its path, the mode, and the folder of a copy.

    What the write-ahead log holds counts: where SQLite cannot read it in place, both are copied.

    Raises
    ------
    StoreError
        It cannot be read, or there is no space for a copy.
    """
    for mode in ("ro",) if _holds(path.with_name(path.name + "-wal")) else ("ro", "immutable"):
        try:
            with closing(connect(path, mode, timeout=1.0)) as connection:
                connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if is_damage(error):
                raise
        else:
            return path, mode, None
    folder = copy_of(path)
    return folder / path.name, "rw", folder


def copy_of(path: Path) -> Path:
    """Copy a database with its log into a folder of its own; the caller removes it."""
    parts = [part for suffix in ("", "-wal") if (part := path.with_name(path.name + suffix)).is_file()]
    needed = 2 * sum(part.stat().st_size for part in parts)
    folder: Path | None = None
    try:
        if shutil.disk_usage(tempfile.gettempdir()).free < needed:
            raise OSError(28, "No space left for a copy")
        folder = Path(tempfile.mkdtemp(prefix="cmbagent-read-"))
        for part in parts:
            shutil.copyfile(part, folder / part.name)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise StoreError(
            f"the database {path} cannot be written, and a copy to read cannot be made ({error.strerror})",
            "Make its folder writable, or set TMPDIR to a folder with more space.",
            path=path,
        ) from error
    return folder


def _holds(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
