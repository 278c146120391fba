"""Detects the file system of a folder: SQLite's write-ahead log is not safe on a shared one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

#: File systems that several machines may write at once.
NETWORK = frozenset(
    {
        "nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afpfs", "webdav", "afs", "ceph", "lustre", "gpfs",
        "beegfs", "glusterfs", "pvfs2", "orangefs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs",
        "fuse.rclone", "fuse.davfs2", "macfuse", "osxfuse", "ncpfs", "panfs",
    }
)  # fmt: skip


def network_file_system(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> str:
    """Return the type of the network file system that ``path`` is on, or an empty string.

    >>> network_file_system(Path("/home/me/w"), [("/", "ext4"), ("/home", "nfs4")])
    'nfs4'
    >>> network_file_system(Path("/homes/w"), [("/", "ext4"), ("/home", "nfs4")])
    ''
    """
    path = path.resolve() if mounts is None else path
    best, kind = -1, ""
    for point, name in _mounts() if mounts is None else mounts:
        place = Path(point)
        depth = len(place.parts)
        if depth > best and (path == place or place in path.parents):
            best, kind = depth, name
    return kind if kind.lower() in NETWORK else ""


def _mounts() -> list[tuple[str, str]]:
    if sys.platform.startswith("linux"):
        try:
            text = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        fields = (line.split(" ") for line in text.splitlines())
        return [(_plain(item[1]), item[2]) for item in fields if len(item) > 2]
    import psutil

    return [(item.mountpoint, item.fstype) for item in psutil.disk_partitions(all=True)]


def _plain(point: str) -> str:
    """Undo the kernel's way of writing blanks in a mount point."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
