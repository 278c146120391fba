"""Writes and reads the journal: one append-only ``journal.jsonl`` per run, the second copy of its record.

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
from typing import Any, BinaryIO, Literal, cast

import orjson

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store.json import from_json
from cmbagent_nb.store.private import make_folder, open_private
from cmbagent_nb.store.sqlite import kind_of
from cmbagent_nb.store.transient_errors import is_full

#: The version of the lines that this code writes; it reads this one and older ones.
VERSION = 1

#: The name of a run's journal in its work directory.
FILE_NAME = "journal.jsonl"

#: The most bytes of a line that is read.
LONGEST = 1 << 27

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


def read_journal(path: Path, faults: list[str] | None = None, *, without: bytes = b"") -> Iterator[Entry]:
    """Read the lines of a journal; torn and damaged lines, and lines of a newer version, are left out.

    ``faults`` takes what was left out, in words; lines of the kind ``without`` are not looked at.

    Raises
    ------
    StoreError
        It is not a file, or cannot be read.
    """
    path = Path(path)
    skipped = b'"kind":"' + without + b'"' if without else b""
    try:
        file = open_journal(path)
    except FileNotFoundError:
        return
    with file:
        number = 0
        try:
            while line := file.readline(LONGEST):
                number += 1
                if skipped and skipped in line[:120]:
                    continue
                if len(line) == LONGEST:
                    while (more := file.readline(LONGEST)) and not more.endswith(b"\n"):
                        pass
                    fault = f"line {number} is longer than {LONGEST // 2**20} MB"
                else:
                    entry = _parsed(line)
                    if isinstance(entry, Entry):
                        yield entry
                        continue
                    fault = f"line {number} {entry}" if line.strip() else ""
                if fault and faults is not None:
                    faults.append(fault)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error


def names_run(path: Path, run_id: str) -> bool:
    """Tell whether a journal is that of a run: its first lines name it."""
    try:
        entries = read_journal(path)
        return any(run_id in str(entry.data) for entry, _ in zip(entries, range(20), strict=False))
    except StoreError:
        return False


def open_journal(path: Path, mode: Literal["rb", "ab+"] = "rb") -> BinaryIO:
    """Open a journal, which is a file: a link may lead to another workspace, and a device has no end.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    StoreError
        It is not a file, or cannot be opened.
    """
    if kind := kind_of(path):
        raise _unreadable(path, f"it is {kind}")
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if mode == "rb":
            return open(path, "rb", opener=lambda name, given: os.open(name, given | flags))
        writing = open(path, "ab+", buffering=0, opener=lambda name, given: open_private(name, given | flags))  # noqa: SIM115
        return cast(BinaryIO, writing)
    except FileNotFoundError:
        raise
    except OSError as error:
        if is_full(error):
            raise
        raise _unreadable(path, error.strerror or str(error)) from error


def _unreadable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the journal {path} cannot be used ({why})",
        "Run `cmbagent doctor --repair`: it moves it aside and writes it again from the database.",
        path=path,
        journal=True,
    )


def is_good(line: bytes) -> bool:
    """Tell whether a line of a journal can be read."""
    return isinstance(_parsed(line), Entry)


def _parsed(line: bytes) -> Entry | str:
    """Return a line's entry, or what is wrong with it."""
    try:
        fields = from_json(line)
        entry = Entry(fields["seq"], fields["at"], fields["kind"], fields["data"], fields["v"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "cannot be read"
    if type(entry.v) is not int or type(entry.seq) is not int or not isinstance(entry.kind, str):
        return "cannot be read"
    if isinstance(entry.at, bool) or not isinstance(entry.at, int | float):
        return "cannot be read"
    return entry if entry.v <= VERSION else f"is of the version {entry.v}, which is newer than this one knows"


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
                seq = _last_seq(file, path)  # another process has resumed the run meanwhile
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
    make_folder(path.parent)
    file = open_journal(path, "ab+")
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
    """Terminate an incomplete last line, left by a process that died, so that the next line is whole."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _last_seq(file: BinaryIO, path: Path) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    for line in reversed(file.read().splitlines(keepends=True)):
        entry = _parsed(line)
        if isinstance(entry, Entry):
            return entry.seq
    return max((entry.seq for entry in read_journal(path)), default=0)
