"""Scans a folder by content, and compares two scans.

| what lies there | in the manifest |
|---|---|
| a file | by its path |
| a link to a file or folder inside | as the files that it leads to, by the link's path |
| a link out of the folder, to nothing, to itself, to a folder around it | not; the reason is in ``skipped`` |
| a pipe, a socket, a file that cannot be read, what lies too deep | not; the reason is in ``skipped`` |

A manifest never reaches outside of its folder. This file is also run by its path: it uses the standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Folders within each other that are gone into. Deeper ones cannot be copied, moved and removed by ordinary means.
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: its POSIX path relative to the folder, and its content by hash."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a folder's files between two scans."""

    created: tuple[Entry, ...]
    updated: tuple[Entry, ...]
    deleted: tuple[Entry, ...]

    def __bool__(self) -> bool:
        return bool(self.created or self.updated or self.deleted)

    @property
    def made(self) -> tuple[Entry, ...]:
        """The files that are new or have new content."""
        return tuple(sorted(self.created + self.updated, key=lambda entry: entry.path))


def scan(folder: Path | str, skipped: dict[str, str] | None = None) -> dict[str, Entry]:
    """List all files below ``folder`` with their hashes; a file that vanishes meanwhile is left out.

    Parameters
    ----------
    skipped
        Takes what lies in the folder and is not listed: its path and why, as the end of a sentence about it.
    """
    notes = {} if skipped is None else skipped
    entries: dict[str, Entry] = {}
    for name, path in _walk(os.path.abspath(folder), notes):  # noqa: PTH100 - it is run where pathlib costs too much
        try:
            status = os.stat(path)  # noqa: PTH116
            if stat.S_ISREG(status.st_mode):
                digest = sha256(Path(path))
                entries[name] = Entry(name, status.st_size, status.st_mtime_ns, digest, stat.S_IMODE(status.st_mode))
            else:
                notes[name] = "is not an ordinary file"
        except OSError as error:
            if error.errno != errno.ENOENT:
                notes[name] = f"cannot be read ({error.strerror})"
    return entries


def skipped(folder: Path | str) -> dict[str, str]:
    """Return what lies in a folder and is in no manifest of it, and why, without reading any file."""
    notes: dict[str, str] = {}
    for name, path in _walk(os.path.abspath(folder), notes):  # noqa: PTH100
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                notes[name] = "is not an ordinary file"
        except OSError as error:
            notes[name] = f"cannot be read ({error.strerror})"
    return notes


def changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Changes:
    """Tell which files came, changed their content, or went between two manifests."""
    return Changes(
        created=tuple(entry for name, entry in sorted(after.items()) if name not in before),
        updated=tuple(
            entry for name, entry in sorted(after.items()) if name in before and before[name].sha256 != entry.sha256
        ),
        deleted=tuple(entry for name, entry in sorted(before.items()) if name not in after),
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(root: str, notes: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the relative and the absolute path of each file; without recursion, however deep the folders are."""
    inside = os.path.realpath(root)
    waiting: list[tuple[str, str, bool]] = [("", root, False)]  # name, path, whether it was come to through a link
    while waiting:
        prefix, folder, linked = waiting.pop()
        folders = []
        try:
            with os.scandir(folder) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                notes[prefix.rstrip("/") or "."] = f"cannot be read ({error.strerror})"
            continue
        for item in items:
            name = prefix + item.name
            through = linked
            if not _is_text(name):
                notes[ascii(name)[1:-1]] = "has a name that is not valid text"
                continue
            if item.is_symlink():
                why = _leads_out(item.path, inside, linked)
                if why:
                    notes[name] = why
                    continue
                through = True
            try:
                is_folder = item.is_dir()
            except OSError as error:
                notes[name] = f"cannot be read ({error.strerror})"
                continue
            if not is_folder:
                yield name, item.path
            elif name.count("/") + 1 >= DEEPEST:
                notes[name] = f"lies within more than {DEEPEST} folders, as does all that is in it"
            else:
                folders.append((f"{name}/", item.path, through))
        waiting += reversed(folders)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leads_out(link: str, inside: str, linked: bool) -> str:
    """Return why a link is not followed, or an empty string."""
    target = os.path.realpath(link)
    try:
        kind = os.stat(link).st_mode  # noqa: PTH116
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads to itself"
        if error.errno == errno.ENOENT:
            return f"is a link to {os.readlink(link)}, which is not there"  # noqa: PTH115
        return f"is a link that cannot be followed ({error.strerror})"
    if target != inside and not target.startswith(inside + os.sep):
        return f"is a link to {target}, outside of the folder"
    if stat.S_ISDIR(kind):
        place = os.path.realpath(os.path.dirname(link))  # noqa: PTH120
        if place == target or place.startswith(target + os.sep):
            return "is a link to a folder that it lies in"
        if linked:
            return "is a link to a folder within a folder that is a link itself"
    return ""
