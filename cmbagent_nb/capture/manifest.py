"""Manifests: what is in a folder, by content, and what changed between two looks.

Links are listed as what they point to only when that is a file inside the folder; other links,
sockets and devices are left out, so that a manifest never reaches outside of its folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


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
    """What happened to a folder's files between two manifests."""

    created: tuple[Entry, ...]
    updated: tuple[Entry, ...]
    deleted: tuple[Entry, ...]

    def __bool__(self) -> bool:
        return bool(self.created or self.updated or self.deleted)

    @property
    def made(self) -> tuple[Entry, ...]:
        """The files that are new or have new content."""
        return tuple(sorted(self.created + self.updated, key=lambda entry: entry.path))


def scan(folder: Path | str) -> dict[str, Entry]:
    """List all files below ``folder`` with their hashes; a file that vanishes meanwhile is left out."""
    root = Path(folder)
    inside = root.resolve()
    entries: dict[str, Entry] = {}
    for path in _walk(root):
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                continue
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                continue
            digest = sha256(path)
        except OSError:
            continue
        name = path.relative_to(root).as_posix()
        entries[name] = Entry(name, status.st_size, status.st_mtime_ns, digest, stat.S_IMODE(status.st_mode))
    return entries


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


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root, followlinks=False):
        folders.sort()
        for name in sorted(files):
            yield Path(folder) / name
