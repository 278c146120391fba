"""The journal: one append-only ``journal.jsonl`` a run, the second copy of its record.

Each line is ``{"v": 1, "seq": 7, "at": seconds, "kind": "model_reply", "data": …}``. A process that
dies while it writes leaves at most one torn line: it is skipped by the reader and stands alone,
since the next writer begins a new line.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from cmbagent_nb.store.json import from_json

#: The version of the lines that this code writes; it reads this one and older ones.
VERSION = 1

#: The name of a run's journal in its work directory.
FILE_NAME = "journal.jsonl"

_MOST_OPEN = 16
_TAIL = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One line of a journal."""

    seq: int
    at: float
    kind: str
    data: Any
    v: int = VERSION


def read_journal(path: Path) -> Iterator[Entry]:
    """Read the lines of a journal; torn lines, and lines of a newer version, are left out."""
    if not Path(path).exists():
        return
    with Path(path).open("rb") as file:
        for line in file:
            entry = _parsed(line)
            if entry is not None:
                yield entry


def _parsed(line: bytes) -> Entry | None:
    try:
        fields = from_json(line)
        entry = Entry(fields["seq"], fields["at"], fields["kind"], fields["data"], fields["v"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return entry if entry.v <= VERSION else None


class JournalFiles:
    """The journals that the writer appends to; for one thread."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[BinaryIO, int, int]] = OrderedDict()

    def append(self, path: Path, at: float, kind: str, data: str) -> int:
        """Append one line, ``data`` being JSON text, and return its number."""
        file, seq, size = self._open.pop(path) if path in self._open else (*_opened(path), -1)
        if not os.fstat(file.fileno()).st_nlink:  # the file was removed: the folder was cleared
            file.close()
            file, seq, size = (*_opened(path), -1)
        try:
            if size not in (-1, file.seek(0, os.SEEK_END)):
                _stand_alone(file)
                seq = _last_seq(file, path)  # another process has gone on with the run meanwhile
            seq += 1
            head = orjson.dumps({"v": VERSION, "seq": seq, "at": at, "kind": kind})
            line = head[:-1] + b',"data":' + data.encode() + b"}\n"
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            size = file.seek(0, os.SEEK_END)
        except BaseException:
            file.close()  # half a line may stand in the file: the next line starts anew
            raise
        self._open[path] = (file, seq, size)
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)[1][0].close()
        return seq

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1][0].close()


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """Open a journal for appending, with the number of its last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab+", buffering=0)
    try:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return file, 0
        _stand_alone(file)
        return file, _last_seq(file, path)
    except BaseException:
        file.close()
        raise


def _stand_alone(file: BinaryIO) -> None:
    """See to it that the next line begins anew, though a process died within the last one."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _last_seq(file: BinaryIO, path: Path) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    for line in reversed(file.read().splitlines(keepends=True)):
        entry = _parsed(line)
        if entry is not None:
            return entry.seq
    return max((entry.seq for entry in read_journal(path)), default=0)
