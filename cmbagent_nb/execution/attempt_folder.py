"""Manages the folder of one attempt: seeded, run in, and published when it succeeded.

| invariant | how |
|---|---|
| attempts cannot disturb each other | each works in ``steps/NODE/attempt_N`` on copies |
| a published file is whole | it is copied beside its place and renamed into it |
| the run's own files are safe | what code writes under a reserved name is published below ``data/`` |
| a failed attempt publishes nothing | its files stay in its folder |
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
import stat
import threading
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from cmbagent_nb.capture.file_scan import Entry
from cmbagent_nb.errors import InputError, WorkDirError
from cmbagent_nb.execution.kinds import file_type, mime
from cmbagent_nb.execution.records import record_folder
from cmbagent_nb.execution.trees import make_folders, remove_tree

#: Folders that an attempt always has.
FOLDERS = ("input", "data", "plots", "codebase")
#: Files larger than this are linked where the file system cannot share their blocks; the child makes
#: a copy of one that the code opens for writing.
LINK_ABOVE = 64 * 2**20
#: Names in a work dir that belong to the run, not to the code that it runs.
RESERVED = frozenset({"journal.jsonl", "steps", "planning", "cost", "time", "chats", "context", "input", "skills"})

_FICLONE = 0x40049409
#: What a file is called until it is whole: the process and the thread (earlier versions put its own name before them).
_PART = re.compile(r"\.(.+\.\d+\.\d+|cmbagent-\d+-\d+)\.part", re.DOTALL)


@dataclass(frozen=True)
class Published:
    """A file that an attempt made, in its place in the run's work dir."""

    path: str  #: in the work dir
    source: str  #: where the attempt made it, relative to the work dir
    size: int
    sha256: str
    mime: str
    file_type: str
    replaced: bool  #: whether there was a file of this name before


def attempt_folder(work_dir: Path, node_id: str, attempt: int) -> Path:
    """Return the folder of an attempt: ``steps/step_2/attempt_1``."""
    return work_dir / "steps" / node_id / f"attempt_{attempt}"


def prepare(work_dir: Path, node_id: str, attempt: int, seeds: Iterable[str] | Mapping[str, str] = ()) -> Path:
    """Make the folder of an attempt and put copies of ``seeds`` and of the run's ``input`` in it.

    Parameters
    ----------
    seeds
        Files or folders in the work dir, by their paths in it; they have the same paths in the new folder. A mapping
        gives each path in the new folder with the place in the work dir that it is copied from.

    Raises
    ------
    InputError
        A seed is not there or lies outside the work dir; nothing is left behind.
    WorkDirError
        The folder cannot be made.
    """
    folder = attempt_folder(work_dir, node_id, attempt)
    try:
        for old in (folder, record_folder(folder)):
            remove_tree(old)
        for name in FOLDERS:
            (folder / name).mkdir(parents=True)
        record_folder(folder).mkdir()
        for name, source in _seed_files(work_dir, seeds):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                place(source, target)
    except OSError as error:
        _discard(folder)
        raise WorkDirError(
            f"the folder {folder} cannot be prepared ({error})",
            "Check the disk's space and permissions.",
            path=str(folder),
        ) from error
    except InputError:
        _discard(folder)
        raise
    return folder


def _discard(folder: Path) -> None:
    for path in (folder, record_folder(folder)):
        shutil.rmtree(path, ignore_errors=True)


def _seed_files(work_dir: Path, seeds: Iterable[str] | Mapping[str, str]) -> list[tuple[str, Path]]:
    places = seeds if isinstance(seeds, Mapping) else {name: name for name in seeds}
    found: list[tuple[str, Path]] = []
    for name, place in {"input": "input", **places}.items():
        path = work_dir / place
        inside = not any(
            PurePosixPath(item).is_absolute() or ".." in PurePosixPath(item).parts for item in (name, place)
        )
        if inside and path.is_dir():
            for item in sorted(path.rglob("*")):
                if item.is_file() and "__pycache__" not in item.parts:
                    found.append((f"{name}/{item.relative_to(path).as_posix()}", item))
        elif inside and path.is_file():
            found.append((name, path))
        elif name != "input":
            raise InputError(
                f"the file {name!r}, which the next step builds on, is not in the work dir {work_dir}",
                "Put it back, or run the step that made it again.",
                path=name,
            )
    return found


def place(source: Path, target: Path, *, shared: bool = True) -> None:
    """Put ``source`` at ``target`` in the cheapest way that is safe: shared blocks, a copy, a link if it is large.

    A file that has other names already is copied: a write through one of them would change ours.
    """
    source = source.resolve()
    if _clone(source, target):
        return
    status = source.stat()
    if status.st_size > LINK_ABOVE and (status.st_nlink == 1 or shared):
        try:
            os.link(source, target)
            return
        except OSError:
            target.unlink(missing_ok=True)  # another file system: copy after all
    shutil.copy2(source, target)


def _clone(source: Path, target: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        shutil.copystat(source, target)
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def publish(folder: Path, work_dir: Path, made: Iterable[Entry], beside: Collection[str] = ()) -> list[Published]:
    """Put the files that an attempt made into the run's work dir, each at once and whole.

    A file whose place belongs to the run (``planning/``, ``journal.jsonl``, ``input/`` …) goes
    below ``data/``. A link to a file of the attempt is published as a copy of it. What leads out of the folder, or is a
    cache, is left where it is; so is a file for one of the paths ``beside``, where the version of another step counts.
    """
    published = []
    for entry in made:
        source = folder / entry.path
        path = destination(entry.path)
        if path is None or not _inside(source, folder):
            continue
        replaced = (work_dir / path).is_file()
        if path not in beside:
            put(source, work_dir, path)
        published.append(
            Published(
                path=path,
                source=source.relative_to(work_dir).as_posix() if source.is_relative_to(work_dir) else str(source),
                size=entry.size,
                sha256=entry.sha256,
                mime=mime(path),
                file_type=file_type(path),
                replaced=replaced,
            )
        )
    return published


def put(source: Path, work_dir: Path, path: str) -> None:
    """Put a file at its path in the work dir, at once and whole.

    Raises
    ------
    WorkDirError
        A folder has this name.
    """
    target = work_dir / path
    temporary = target.with_name(f".cmbagent-{os.getpid()}-{threading.get_ident()}.part")
    try:
        make_folders(target.parent)
        temporary.unlink(missing_ok=True)
        place(source, temporary, shared=False)
        temporary.replace(target)
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        kind = "folder" if target.is_dir() else "file"
        raise WorkDirError(
            f"the file {path} cannot be published: there is a {kind} in its place",
            f"Remove the {kind}, or have the step use another name.",
            path=path,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(work_dir: Path) -> None:
    """Remove what a process that was killed while it published has left beside the files of a run."""
    for path in work_dir.rglob(".*.part"):
        if _PART.fullmatch(path.name) and "steps" not in path.relative_to(work_dir).parts[:1]:
            path.unlink(missing_ok=True)


def destination(path: str) -> str | None:
    """Return the place in the work dir for a file made at ``path``, or None if it is not published.

    >>> destination("plots/tt.png"), destination("planning/notes.txt"), destination("codebase/__pycache__/x.pyc")
    ('plots/tt.png', 'data/planning/notes.txt', None)
    """
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or ignored(path):
        return None
    return f"data/{path}" if parts[0].lower() in RESERVED else path


def ignored(path: str) -> str:
    """Return why a file is not published because of its name, as the end of a sentence; an empty string if it is.

    >>> ignored("data/a.csv"), ignored("data/.a.csv")
    ('', 'has a name, or lies in a folder, that begins with a dot')
    """
    parts = PurePosixPath(path).parts
    if path.endswith(".pyc") or "__pycache__" in parts:
        return "is a compiled module"
    if any(part.startswith(".") for part in parts):
        return "has a name, or lies in a folder, that begins with a dot"
    return ""


def _inside(path: Path, folder: Path) -> bool:
    """Tell whether a path leads to an ordinary file in the folder."""
    try:
        real = os.path.realpath(path)
        return stat.S_ISREG(os.stat(real).st_mode) and Path(real).is_relative_to(folder.resolve())  # noqa: PTH116
    except OSError:
        return False


def matches(path: str, pattern: str) -> bool:
    """Tell whether a file that was made is one that was expected: by its name, its folder's name, or a pattern.

    A name that is there is that name before it is a pattern; a pattern without a folder fits anywhere.

    >>> matches("data/tt.json", "*.json"), matches("data/tt.json", "plots/*"), matches("data/tt.json", "./data/*.json")
    (True, False, True)
    >>> matches("data/cl_[TT].txt", "data/cl_[TT].txt"), matches("data/maps/a.fits", "data/maps/")
    (True, True)
    """
    path = unicodedata.normalize("NFC", path)
    pattern = posixpath.normpath(unicodedata.normalize("NFC", pattern.strip()))
    if path == pattern or path.startswith(pattern + "/") or fnmatchcase(path, pattern):
        return True
    name = PurePosixPath(path).name
    return "/" not in pattern and (name == pattern or fnmatchcase(name, pattern))


def obstacle(folder: Path, pattern: str, skipped: Mapping[str, str]) -> str:
    """Return why what was expected under a name is not published although it is there; an empty string otherwise."""
    for name, why in skipped.items():
        if matches(name, pattern):
            return f"{name} {why}"
    plain = posixpath.normpath(pattern.strip())
    path = folder / plain
    if PurePosixPath(plain).is_absolute() or ".." in PurePosixPath(plain).parts:
        return f"{pattern} lies outside of the working directory"
    if path.is_file() and ignored(plain):
        return f"{plain} {ignored(plain)}"
    if path.is_dir() and not any(path.iterdir()):
        return f"{plain} is an empty folder"
    return ""
