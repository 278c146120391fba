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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Folders and files that are never among a notebook's data.
PASSED_OVER = frozenset(
    {".git", ".hg", ".svn", ".ipynb_checkpoints", "__pycache__", ".venv", "venv", "node_modules", ".mypy_cache",
     ".pytest_cache", ".ruff_cache", ".tox", ".DS_Store", ".virtual_documents", ".cache", ".Trash"}
)  # fmt: skip
#: Bytes and files that are copied before anything runs.
_MOST_BYTES, _MOST_FILES = 512 * 2**20, 20_000
#: The same for a folder above the notebook's.
_MOST_BYTES_ABOVE, _MOST_FILES_ABOVE = 256 * 2**20, 5_000
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


def _below(place: Path, top: Path) -> str | None:
    for folder in (top, top.resolve()):
        if place.is_relative_to(folder):
            return place.relative_to(folder).as_posix()
    return None


def copy_surroundings(beside: Path, scratch: Path, codes: Iterable[str], home: Path) -> Surroundings:
    """Copy a notebook's folder, and as many of the folders above it as its code may go up to; never the workspace."""
    top = beside
    texts = [*codes, *(_text(path) for path in beside.glob("*.py"))]
    if any(_GOES_UP.search(text) for text in texts):
        for _ in range(_HIGHEST):
            if not _may_hold(top.parent):
                break
            top = top.parent
    target = scratch / "copy"
    here = beside.relative_to(top)
    (target / here).mkdir(parents=True)
    _copy_tree(beside, target / here, _MOST_BYTES, _MOST_FILES, home)
    # The nearest folder first: what it takes is not left for those further up.
    for folder in (item for item in beside.parents if item.is_relative_to(top)):
        _copy_tree(folder, target / folder.relative_to(top), _MOST_BYTES_ABOVE, _MOST_FILES_ABOVE, home)
    return Surroundings(target, "" if here == Path() else here.as_posix(), top)


def _may_hold(folder: Path) -> bool:
    """Tell whether a folder can be part of a project: not the whole disk, nor the user's or the system's folders."""
    real = folder.resolve()
    return (
        len(real.parts) > 2
        and real != Path.home().resolve()
        and real != Path(tempfile.gettempdir()).resolve()
        and not Path.home().resolve().is_relative_to(real)
        and os.access(real, os.R_OK | os.X_OK)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size < 2**20 else ""
    except OSError:
        return ""


def _copy_tree(source: Path, target: Path, most_bytes: int, most_files: int, home: Path) -> None:
    """Copy what is not there yet, small files first, up to a number of bytes and files."""
    found: list[tuple[int, Path]] = []
    for path in walk(source, most_files, folders=target, without=home):
        try:
            found.append((path.stat().st_size, path))
        except OSError:
            continue
    left = most_bytes
    for size, path in sorted(found, key=lambda item: item[0]):
        copied = target / path.relative_to(source)
        if copied.exists():
            continue
        left -= size
        if left < 0:
            return
        copy_file(path, copied)


def walk(folder: Path, most: int, folders: Path | None = None, without: Path | None = None) -> Iterator[Path]:
    """Go through the files below a folder, the nearest first, links followed once; make the folders in another."""
    waiting, seen, count = [folder], {folder.resolve(), *([without.resolve()] if without is not None else [])}, 0
    while waiting:
        current = waiting.pop(0)
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError:
            continue
        if folders is not None:
            (folders / current.relative_to(folder)).mkdir(parents=True, exist_ok=True)
        for entry in entries:
            path = Path(entry.path)
            if entry.name in PASSED_OVER or count >= most:
                continue
            if entry.is_dir():
                if path.resolve() not in seen and not (path / "pyvenv.cfg").exists():
                    seen.add(path.resolve())
                    waiting.append(path)
            elif entry.is_file():
                count += 1
                yield path


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its times, but for the last access; one that cannot be read is left out."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy2(source, target)
        target.chmod(target.stat().st_mode | 0o600)
        os.utime(target, (_LONG_AGO, source.stat().st_mtime))
    except OSError:
        target.unlink(missing_ok=True)


def listing(top: Path) -> dict[str, tuple[int, ...]]:
    """Return the state of each file below a folder: size, times of change, inode."""
    found: dict[str, tuple[int, ...]] = {}
    for path in walk(top, 100_000):
        state = path.lstat()
        found[path.relative_to(top).as_posix()] = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    return found


def accessed(top: Path) -> set[str]:
    """Return the files of a copy that were read since it was made, where the file system keeps the time."""
    return {
        path.relative_to(top).as_posix() for path in walk(top, 100_000) if path.stat().st_atime > _LONG_AGO + 86_400
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
