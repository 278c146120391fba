"""Keeps rows that could not be written in files beside the database, so that nothing is lost.

``faults.jsonl`` holds rows that the database refused, with the reason: a fault of ours, to look at.
``unwritten-*.jsonl`` holds good rows from a time when the database could not be reached, to be stored later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from cmbagent_nb.ids import new_id
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.private import open_private

#: The file of refused rows in a workspace.
FAULTS = "faults.jsonl"

Entry = tuple[str, str, Mapping[str, Any]]


def note_fault(home: Path, entry: tuple[str, str, Any], error: str, scrub: Callable[[str], str]) -> None:
    """Add a refused row to ``faults.jsonl``."""
    operation, table, row = entry
    line = {"at": time.time(), "operation": operation, "table": table, "row": row, "error": error}
    _append(home / FAULTS, [scrub(to_json(line))])


class SpillFiles:
    """The rows of one writer that wait in a file for the database to come back."""

    def __init__(self, home: Path, scrub: Callable[[str], str]) -> None:
        self._home = home
        self._scrub = scrub
        self._path = home / f"unwritten-{new_id()}.jsonl"  # names sort by time, and so do their rows
        self._recover_acquired()
        #: Whether there may be rows to take in, of this writer or of one that died.
        self.waiting = any(home.glob("unwritten-*.jsonl"))

    def keep(self, entries: Iterable[Entry]) -> None:
        """Put rows into the file; raises OSError when even that cannot be done."""
        _append(self._path, [self._scrub(to_json(list(entry))) for entry in entries])
        self.waiting = True

    def acquire(self) -> Iterator[tuple[Path, list[Entry]]]:
        """Take hold of the waiting files, the oldest first, so that no other process does; yield their rows."""
        self.waiting = False
        for path in sorted(self._home.glob("unwritten-*.jsonl")):
            held = path.with_name(f"{path.name}.{os.getpid()}.taken")
            try:
                path.rename(held)
            except OSError:
                continue  # another process was faster
            try:
                os.utime(held)  # when it was claimed
                entries = list(_read(held))
            except OSError:  # it cannot be read: it stays for whoever can
                self._put_back(held)
                continue
            yield held, entries

    def delete(self, held: Path) -> None:
        """Remove a claimed file, whose rows are stored; one that cannot be removed is known by its rows."""
        with contextlib.suppress(OSError):
            held.unlink()

    def release(self, held: Path) -> None:
        """Put a claimed file back in its place: its rows could not be written yet."""
        self._put_back(held)
        self.waiting = True

    def _put_back(self, held: Path) -> None:
        with contextlib.suppress(OSError):  # then it is put back when this process has ended
            held.rename(held.with_name(_original(held)))

    def _recover_acquired(self) -> None:
        """Put the files back that a process had claimed before it died."""
        for held in self._home.glob("unwritten-*.taken"):
            import psutil

            try:
                # Ids are used again, in containers at once: who began after the claim did not make it.
                began = psutil.Process(int(held.name.split(".")[-2])).create_time()
                gone = began > held.stat().st_mtime + 1.0
            except psutil.Error:
                gone = True
            except (OSError, ValueError):  # another process was faster; no file of ours
                continue
            if gone:
                self._put_back(held)


def _original(held: Path) -> str:
    """Return the name that a claimed file had.

    >>> _original(Path("unwritten-1.jsonl.4711.taken"))
    'unwritten-1.jsonl'
    """
    return held.name.rsplit(".", 2)[0]


def _append(path: Path, lines: list[str]) -> None:
    with open(path, "ab", buffering=0, opener=open_private) as file:
        size = file.seek(0, os.SEEK_END)
        text = "".join(line + "\n" for line in lines).encode("utf-8", "replace")
        try:
            if file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)  # these rows are somewhere else still, and come again
            raise


def _read(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for line in file:
            try:
                operation, table, row = from_json(line)
            except (orjson.JSONDecodeError, TypeError, ValueError):
                continue  # the torn last line of a process that died
            yield operation, table, row
