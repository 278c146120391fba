"""A workspace as one file, made while runs go on, and put back.

| invariant | how |
|---|---|
| the database is of one moment | SQLite's own backup copies it beside the writer |
| every file that the database names is there | the folders are read after the database; files are only ever added |
| the backup is whole or not there | it is written beside its place, brought to the disk and renamed |
| nothing is written outside of the workspace | every name is checked before anything is taken out of a backup |
| nothing is overwritten | a workspace with a run or a skill in it is refused |
| it holds no password | those in ``config.toml`` are masked, and it says so; files of other names stay out |

A backup is a tar file (compressed when its name ends in ``.gz``, ``.bz2`` or ``.xz``) with ``backup.json`` first, then
``cmbagent.db`` and the folders. It can be put back elsewhere: paths within the workspace are relative to it.
A run that went on while the backup was made is interrupted in it, and can be resumed.

PostgreSQL is not in it: ``pg_dump`` does the database, and the backup says so.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cmbagent_nb._version import __version__
from cmbagent_nb.errors import StoreError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.redaction import scrub
from cmbagent_nb.settings import user_path
from cmbagent_nb.store.database import FILE_NAME, VERSIONS, Database
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.private import FILE, FOLDER, make_folder, open_private, tighten_workspace

MANIFEST = "backup.json"
#: The version of a backup's form; this code reads it and older ones.
FORM = 1

#: What belongs to a workspace, besides its database.
FOLDERS = ("runs", "skills", "agents", "archive")
FILES = ("config.toml", "faults.jsonl")

#: Files up to this size are read at once, so that one which grows meanwhile does no harm.
_AT_ONCE = 64 * 2**20
_FORMS = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}

#: Columns that may hold a path within the workspace.
_PATHS = (("workflow_runs", "work_dir"), ("skill_executions", "work_dir"), ("skill_executions", "notebook"))


@dataclass(frozen=True)
class Backup:
    """A backup that was made, or put back."""

    path: Path
    home: Path
    files: int
    size_bytes: int
    runs: int
    #: What the user has to know or to do.
    notes: list[str] = field(default_factory=list)


def backup(db: Database, path: Path) -> Backup:
    """Write the workspace of ``db`` into a file.

    Raises
    ------
    UsageError
        The file is there already, or cannot be written.
    """
    path = user_path(path)
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already", "Choose another name, or move it away.", path=str(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    mode: Any = f"w|{_FORMS.get(path.suffix.lower(), '')}"
    runs = int(db.rows("SELECT COUNT(*) AS n FROM workflow_runs")[0]["n"])
    about = {
        "form": FORM,
        "version": __version__,
        "schema": VERSIONS[-1],
        "made_at": time.time(),
        "home": str(db.home),
        "database": "sqlite" if db.path is not None else "postgresql",
        "runs": runs,
    }
    notes: list[str] = []
    if db.path is None:
        notes.append(
            "The database is on a PostgreSQL server and not in this file. Save it with"
            " `pg_dump --format=custom --file=cmbagent.dump` and the database's URL, and put it back with `pg_restore`."
        )
    count = 0
    try:
        with open(part, "xb", opener=open_private) as file:
            with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT, dereference=False) as tar:
                _add_bytes(tar, MANIFEST, to_json(about).encode())
                if db.path is not None:
                    with _copy_of(db.path) as copy:
                        _add_file(tar, copy, FILE_NAME, notes)
                for source in _sources(db.home, {path, part}):
                    name = source.relative_to(db.home).as_posix()
                    count += (_add_settings if name == "config.toml" else _add_file)(tar, source, name, notes)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except (OSError, sqlite3.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"the backup {path} cannot be written ({why})", "Choose another place.", path=str(path)
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return Backup(path, db.home, count, path.stat().st_size, runs, notes)


def restore(path: Path, home: Path) -> Backup:
    """Put a backup into an empty workspace.

    Raises
    ------
    UsageError
        The workspace is not empty, or the file is no backup or of a newer version.
    StoreError
        The file is damaged, or holds what a backup does not hold; nothing has been put back.
    """
    path, home = user_path(path), user_path(home)
    if not path.is_file():
        raise UsageError(f"there is no file {path}", "Name a file that `cmbagent backup` has made.", path=str(path))
    _refuse_if_used(home)
    try:
        make_folder(home)
        fresh = Path(tempfile.mkdtemp(prefix=".restore-", dir=home)).resolve()
    except OSError as error:
        raise UsageError(
            f"the workspace {home} cannot be written ({error.strerror})", "Choose another with CMBAGENT_HOME."
        ) from error
    try:
        about, count = _take_out(path, fresh)
        notes = []
        database = fresh / FILE_NAME
        if database.exists():
            _adapt(database, str(about["home"]))
        elif about["database"] == "postgresql":
            notes.append(
                "The database was on a PostgreSQL server: put it back with `pg_restore`, and set CMBAGENT_DATABASE_URL."
            )
        _put_in_place(fresh, home, notes)
        tighten_workspace(home)
    except (tarfile.TarError, sqlite3.Error, EOFError, OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"the backup {path} is damaged or cannot be put back ({error})", "Try another backup.", path=str(path)
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Backup(path, home, count, path.stat().st_size, int(about["runs"]), notes)


def is_empty(home: Path) -> bool:
    """Tell whether a workspace holds nothing that a backup could overwrite."""
    for name in FOLDERS:
        folder = home / name
        if folder.is_dir() and any(folder.iterdir()):
            return False
    database = home / FILE_NAME
    if not database.exists():
        return True
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return not any(
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                for table in ("workflow_runs", "skills")
                if table in tables
            )
    except sqlite3.Error:
        return False  # what cannot be read may hold something


# ---- writing


class _copy_of:  # noqa: N801 (used like a function)
    """A copy of the database as it is at one moment, which is gone afterwards."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._copy = database.with_name(f".backup-{new_id()}.db")

    def __enter__(self) -> Path:
        with (
            closing(sqlite3.connect(self._database, timeout=30.0)) as source,
            closing(sqlite3.connect(self._copy)) as copy,
        ):
            # All pages at once: writers wait for nothing, and the copy never begins anew because of them.
            source.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")
        return self._copy

    def __exit__(self, *_: object) -> None:
        for part in self._copy.parent.glob(f"{self._copy.name}*"):
            part.unlink(missing_ok=True)


def _sources(home: Path, without: set[Path]) -> Iterator[Path]:
    for name in FILES:
        if (home / name).is_file():
            yield home / name
    yield from sorted(home.glob("unwritten-*.jsonl"))
    for name in FOLDERS:
        for folder, folders, files in os.walk(home / name):
            folders.sort()
            place = Path(folder)
            if not folders and not files:
                yield place
            for file in sorted([*files, *(item for item in folders if (place / item).is_symlink())]):
                if place / file not in without:
                    yield place / file


def _add_file(tar: tarfile.TarFile, source: Path, name: str, notes: list[str]) -> int:
    """Add a file, a link or an empty folder; returns how many files that was."""
    try:
        info = tar.gettarinfo(source, arcname=name)
    except FileNotFoundError:
        return 0  # a file of a run that goes on: it is gone again
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.issym() and not _stays_inside(name, info.linkname):
        notes.append(f"{name} is a link to somewhere outside of the workspace and was left out.")
        return 0
    if not info.isreg():
        if info.isdir() or info.issym() or info.islnk():
            tar.addfile(info)
        return int(not info.isdir())
    try:
        opened = source.open("rb")
    except FileNotFoundError:
        return 0
    with opened as file:
        if info.size <= _AT_ONCE:
            data = file.read()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        else:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
    return 1


def _add_settings(tar: tarfile.TarFile, source: Path, name: str, notes: list[str]) -> int:
    text = source.read_text(encoding="utf-8", errors="surrogateescape")
    masked = scrub(text)
    if masked == text:
        return _add_file(tar, source, name, notes)
    notes.append(f"{name} holds passwords, which are masked in the backup: set them again where it is restored.")
    _add_bytes(tar, name, masked.encode("utf-8", "surrogateescape"))
    return 1


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), int(time.time())
    tar.addfile(info, io.BytesIO(data))


def _stays_inside(name: str, target: str) -> bool:
    """Tell whether a link in a backup leads to a place in the same backup."""
    if PurePosixPath(target).is_absolute():
        return False
    place: list[str] = list(PurePosixPath(name).parent.parts)
    for part in PurePosixPath(target).parts:
        if part == "..":
            if not place:
                return False
            place.pop()
        else:
            place.append(part)
    return bool(place) and place[0] in FOLDERS


# ---- putting back


def _refuse_if_used(home: Path) -> None:
    if not is_empty(home):
        raise UsageError(
            f"the workspace {home} is not empty",
            "Choose another folder: CMBAGENT_HOME=DIR cmbagent restore FILE.",
            path=str(home),
        )


def _take_out(path: Path, fresh: Path) -> tuple[dict[str, Any], int]:
    """Take the files of a backup out into a folder; every name is checked before its file is written."""
    count = 0
    about: dict[str, Any] | None = None
    try:
        with tarfile.open(path, mode="r|*") as tar:
            for member in tar:
                if about is None:
                    about = _about(tar, member, path)
                else:
                    _take(tar, member, fresh)
                    count += int(not member.isdir() and member.name != FILE_NAME)
    except tarfile.ReadError:
        if about is not None:
            raise
    if about is None:
        raise UsageError(f"{path} is no backup", "Name a file that `cmbagent backup` has made.", path=str(path))
    return about, count


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, fresh: Path) -> None:
    target = _target(member, fresh)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.resolve() != target.parent:
        raise tarfile.TarError(f"{member.name!r} lies behind a link")
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        os.link(_inside(member.linkname, fresh), target)
    else:
        source = tar.extractfile(member)
        assert source is not None
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 2**20)
        target.chmod(FOLDER if member.mode & 0o100 else FILE)
        os.utime(target, (member.mtime, member.mtime))


def _about(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> dict[str, Any]:
    source = tar.extractfile(member) if member.name == MANIFEST and member.isreg() and member.size < _AT_ONCE else None
    if source is None:
        raise UsageError(f"{path} is no backup", "Name a file that `cmbagent backup` has made.", path=str(path))
    about = dict(from_json(source.read()))
    if about["form"] > FORM:
        raise UsageError(
            f"{path} was made by a newer version of cmbagent_nb ({about['version']})", "Update cmbagent_nb."
        )
    return about


def _target(member: tarfile.TarInfo, fresh: Path) -> Path:
    name = PurePosixPath(member.name)
    own = len(name.parts) == 1 and (
        member.name in (FILE_NAME, *FILES) or (member.name.startswith("unwritten-") and name.suffix == ".jsonl")
    )
    if not (own and member.isreg()) and (not name.parts or name.parts[0] not in FOLDERS):
        raise tarfile.TarError(f"{member.name!r} does not belong to a workspace")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
    if member.issym() and not _stays_inside(member.name, member.linkname):
        raise tarfile.TarError(f"{member.name!r} is a link to somewhere else")
    return _inside(member.name, fresh)


def _inside(name: str, fresh: Path) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\x00" in name or ":" in pure.parts[0]:
        raise tarfile.TarError(f"{name!r} leads out of the workspace")
    return fresh / pure


def _adapt(database: Path, old: str) -> None:
    """Let the paths in the database of an older version be relative, and let no living process own its runs."""
    with closing(sqlite3.connect(database)) as connection:
        (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
        if whole != "ok":
            raise ValueError(f"its database is damaged: {whole}")
        for table, column in _PATHS:
            connection.execute(
                f"UPDATE {table} SET {column} = SUBSTR({column}, ?) WHERE SUBSTR({column}, 1, ?) = ?",
                (len(old) + 2, len(old) + 1, old + os.sep),
            )
        # The process that owned a run owns it in the old place; here nobody does, and the next look interrupts it.
        nobody = to_json({"host": "restored", "pid": 0, "started": 0.0})
        connection.execute("UPDATE leases SET owner = ?, heartbeat_at = 0", (nobody,))
        connection.commit()


def _put_in_place(fresh: Path, home: Path, notes: list[str]) -> None:
    """Move what was taken out to where it belongs, the database last."""
    for name in FILES:
        if (fresh / name).exists() and (home / name).exists():
            notes.append(f"{name} was there already and was left as it is.")
            (fresh / name).unlink()
    for name in FOLDERS:
        if (fresh / name).exists() and (home / name).is_dir():
            (home / name).rmdir()  # empty, or restoring would have been refused
    moved = sorted(fresh.iterdir(), key=lambda path: path.name == FILE_NAME)
    for part in moved:
        if part.name == FILE_NAME:
            for suffix in ("", "-wal", "-shm"):
                (home / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
        part.rename(home / part.name)
