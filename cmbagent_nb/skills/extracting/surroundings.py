"""Copies a notebook's folder, so that it can be run where it lies, among its files, and none of them is changed.

The folder is copied with what lies in it, and the folders above it as far as its code goes up. What is too much is
copied when it is asked for (:mod:`~cmbagent_nb.skills.extracting.observer`). Every copy gets an old time of last
access: a later one says that the file was read, whoever did it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cmbagent_nb.store.database import FILE_NAME
from cmbagent_nb.store.private import is_own

#: Folders and files that are never among a notebook's data.
PASSED_OVER = frozenset(
    {".git", ".hg", ".svn", ".ipynb_checkpoints", "__pycache__", ".venv", "venv", "node_modules", ".mypy_cache",
     ".pytest_cache", ".ruff_cache", ".tox", ".DS_Store", ".virtual_documents", ".cache", ".Trash"}
)  # fmt: skip
#: Bytes, and files and folders, that are copied before anything runs, and the seconds that it may take.
_MOST_BYTES, _MOST_FILES, _MOST_S = 512 * 2**20, 20_000, 120.0
#: The same for a folder above the notebook's; the seconds are for all of them.
_MOST_BYTES_ABOVE, _MOST_FILES_ABOVE, _MOST_S_ABOVE = 256 * 2**20, 5_000, 10.0
#: Files of a copy that are listed.
_MOST_LISTED = 100_000
_HIGHEST = 3
#: Bytes of a file that is put back as it was.
_LARGEST_KEPT = 256 * 2**20
#: Seconds since 1970 that a copy says it was read last.
_LONG_AGO = 86_400.0
_GOES_UP = re.compile(r"\.\.|\bparents?\b|\bpardir\b|\bdirname\b|\bgetcwd\b|\bcwd\b")


@dataclass(frozen=True)
class Surroundings:
    """A copy of a notebook's folder and of what lies around it."""

    #: The copy's top, and where the notebook's folder is below it.
    top: Path
    here: str
    #: The original of the top.
    original: Path
    #: Folders and files of the workspace, and where notebooks are tried: they are never copied.
    without: frozenset[Path] = frozenset()
    #: Where not everything was copied, and what follows from that.
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The copy of the notebook's folder."""
        return self.top / self.here

    def path_of(self, place: Path) -> str | None:
        """Return a path below the top, for a file of the copy; None for one that lies elsewhere."""
        return _below(place, self.top)

    def path_of_original(self, place: Path) -> str | None:
        """Return a path below the top, for a file of the user's; None for one that lies elsewhere."""
        return _below(place, self.original)

    def is_left_out(self, place: Path) -> bool:
        """Tell whether a file of the user's is one that is never copied."""
        real = _real(place)
        return any(real.is_relative_to(item) for item in self.without)


def _below(place: Path, top: Path) -> str | None:
    for folder in (top, top.resolve()):
        if place.is_relative_to(folder):
            return place.relative_to(folder).as_posix()
    return None


@dataclass
class Limit:
    """Limit of what is looked at and copied; ``reached`` names the part that was too much."""

    files: int
    bytes: int = 0
    #: When it must be done, by the monotonic clock.
    until: float | None = None
    reached: str = ""

    def is_reached(self, files: int) -> bool:
        """Tell whether so many files and folders, or the time, are all that is allowed."""
        if files >= self.files:
            self.reached = f"{self.files} files and folders"
        elif self.until is not None and time.monotonic() > self.until:
            self.reached = "what could be read in the time for it"
        return bool(self.reached)


def copy_surroundings(beside: Path, scratch: Path, codes: Iterable[str], home: Path) -> Surroundings:
    """Copy a notebook's folder, and as many of the folders above it as its code may go up to; never the workspace."""
    top = beside
    texts = [*codes, *(_text(path) for path in beside.glob("*.py"))]
    if any(_GOES_UP.search(text) for text in texts):
        for _ in range(_HIGHEST):
            if not _may_hold(top.parent, home):
                break
            top = top.parent
    target, without = scratch / "copy", _left_out(beside, scratch, home)
    here = beside.relative_to(top)
    (target / here).mkdir(parents=True)
    notes = _copy_tree(beside, target / here, Limit(_MOST_FILES, _MOST_BYTES, time.monotonic() + _MOST_S), without)
    until = time.monotonic() + _MOST_S_ABOVE
    # The nearest folder first: what it takes is not left for those further up.
    for folder in (item for item in beside.parents if item.is_relative_to(top)):
        limit = Limit(_MOST_FILES_ABOVE, _MOST_BYTES_ABOVE, until)
        notes += _copy_tree(folder, target / folder.relative_to(top), limit, without)
    return Surroundings(target, "" if here == Path() else here.as_posix(), top, without, tuple(notes))


def _left_out(beside: Path, scratch: Path, home: Path) -> frozenset[Path]:
    """Return what is never copied: the workspace, or its own files and folders where the notebook lies in it."""
    own, place = _real(home), _real(beside)
    parts = {own / name for name in (os.listdir(own) if own.is_dir() else ()) if is_own(name)}  # noqa: PTH208
    parts |= {own, _real(scratch), own / "skills" / ".making"}
    return frozenset(part for part in parts if not place.is_relative_to(part))


def _may_hold(folder: Path, home: Path) -> bool:
    """Tell whether a folder can be part of a project: not the whole disk, nor the user's or the system's folders."""
    real, own = _real(folder), _real(home)
    return (
        len(real.parts) > 2
        and real != _real(Path.home())
        and real != _real(Path(tempfile.gettempdir()))
        and not _real(Path.home()).is_relative_to(real)
        and not (real.parent == own and is_own(real.name))
        and os.access(real, os.R_OK | os.X_OK)
    )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _text(path: Path) -> str:
    try:
        is_short = path.is_file() and path.stat().st_size < 2**20
        return path.read_text(encoding="utf-8", errors="replace") if is_short else ""
    except OSError:
        return ""


def _copy_tree(source: Path, target: Path, limit: Limit, without: frozenset[Path]) -> list[str]:
    """Copy what is not there yet, small files first, up to a limit; return a note where that was reached."""
    found: list[tuple[int, Path]] = []
    for path in walk(source, limit, folders=target, without=without):
        with suppress(OSError):
            found.append((path.stat().st_size, path))
    left = limit.bytes
    for count, (size, path) in enumerate(sorted(found, key=lambda item: item[0])):
        copied = target / path.relative_to(source)
        if os.path.lexists(copied):
            continue
        left -= size
        if left < 0:
            limit.reached = f"{limit.bytes // 2**20} MiB"
        if left < 0 or (count and limit.is_reached(0)):
            break
        copy_file(path, copied)
    if not limit.reached:
        return []
    return [
        f"{source} holds more than {limit.reached}: not all of it was copied before the first run; the rest was copied "
        "when Python opened or listed it; name what other programs and libraries read with --bring"
    ]


def walk(
    folder: Path, limit: Limit, folders: Path | None = None, without: frozenset[Path] | None = None
) -> Iterator[Path]:
    """Go through the files below a folder, the nearest first; make the folders in another.

    Links to folders are followed last, once, and not upwards. What cannot be read is passed over. With ``without``, so
    are these folders and files, and all workspaces below the folder.
    """
    waiting, links, count = [folder], list[Path](), 0
    seen = {_real(folder), *(without or ())}
    above = set(_real(folder).parents)
    while waiting or links:
        is_link = not waiting
        current = links.pop(0) if is_link else waiting.pop(0)
        if is_link and _real(current) in seen:
            continue
        seen.add(_real(current))
        try:
            entries = _entries(current, limit)
            if current != folder and without is not None and any(entry.name == FILE_NAME for entry in entries):
                continue
            if folders is not None:
                (folders / current.relative_to(folder)).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        for entry in entries:
            path = Path(entry.path)
            kind = "" if entry.name in PASSED_OVER else _kind(entry)
            if not kind or (without and _real(path) in without):
                continue
            if limit.is_reached(count):
                return
            count += 1
            if kind == "file":
                yield path
            elif entry.is_symlink():
                links += [path] if _real(path) not in above else []
            elif _real(path) not in seen and not os.path.lexists(path / "pyvenv.cfg"):
                waiting.append(path)


def _entries(folder: Path, limit: Limit) -> list[os.DirEntry[str]]:
    """Return what is in a folder by name, not many more than a limit allows."""
    with os.scandir(folder) as entries:
        return sorted(islice(entries, limit.files + len(PASSED_OVER) + 1), key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str]) -> str:
    """Return ``file`` or ``folder``, or nothing for a link that leads nowhere, or for what cannot be looked at."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:
        return ""


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its times, but for the last access; one that cannot be read is left out."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        target.chmod(target.stat().st_mode | 0o600)
        os.utime(target, (_LONG_AGO, source.stat().st_mtime))
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)


def listing(top: Path) -> dict[str, tuple[int, ...]]:
    """Return the state of each file below a folder: size, times of change, inode."""
    found: dict[str, tuple[int, ...]] = {}
    for path in walk(top, Limit(_MOST_LISTED)):
        state = path.lstat()
        found[path.relative_to(top).as_posix()] = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return found


def accessed(top: Path) -> set[str]:
    """Return the files of a copy that were read since it was made, where the file system keeps the time."""
    return {
        path.relative_to(top).as_posix()
        for path in walk(top, Limit(_MOST_LISTED))
        if path.stat().st_atime > _LONG_AGO + 86_400
    }


@contextmanager
def kept_as_they_are(places: Iterable[Path]) -> Iterator[None]:
    """Put files back as they were, whatever happened to them meanwhile."""
    before: dict[Path, tuple[bytes, os.stat_result]] = {}
    for place in places:
        try:
            if place.is_file() and place.stat().st_size <= _LARGEST_KEPT:
                before[place] = (place.read_bytes(), place.stat())
        except OSError:
            continue
    try:
        yield
    finally:
        for place, (content, state) in before.items():
            now = place.stat() if place.is_file() else None
            if now is None or (now.st_mtime_ns, now.st_size) != (state.st_mtime_ns, state.st_size):
                place.write_bytes(content)
                os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
