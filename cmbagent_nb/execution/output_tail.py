"""Follows a file that another process writes, in bounded memory."""

from __future__ import annotations

import codecs
import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from cmbagent_nb.execution.terminal import as_shown, shorten
from cmbagent_nb.redaction import scrub

#: Characters of an output, as a terminal shows it, that are kept in memory and in the record: beginning and end.
SHOWN = 64 * 2**10
#: Bytes that are read of the beginning and of the end of an output for that: progress bars become much shorter.
READ_HEAD = 2 * 2**20
READ_END = 14 * 2**20
#: Bytes that are passed on at once; of what came in between, the start is left out.
PIECE = 64 * 2**10
#: A file of more bytes is cut, when the process has ended, to its beginning and its end.
KEEP = 8 * 2**20
KEEP_HEAD = 2**20


class Follower:
    """An output file: what the process writes to it, and what we have read of it so far.

    The file is held open, so that its text is still there when the code deletes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._reader: BinaryIO = path.open("rb", buffering=0)
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.writer)
        self._reader.close()

    def size(self) -> int:
        """Return how many bytes are in the file now."""
        return os.fstat(self.writer).st_size

    def more(self, *, last: bool = False) -> str:
        """Return the text that came since the last call; of a flood, only the end."""
        size = self.size()
        if size < self._offset:  # the code truncated it
            self._offset = 0
        left_out = ""
        if size - self._offset > PIECE:
            skipped = size - self._offset - PIECE
            left_out = self._decoder.decode(b"", final=True) + f"\n[… {skipped:,} bytes left out …]\n"
            self._decoder.reset()
            self._offset += skipped
        data = self._read(self._offset, size - self._offset)
        self._offset += len(data)
        return left_out + self._decoder.decode(data, final=last)

    def shown(self) -> str:
        """Return the text as a terminal shows it, its middle left out where it is long."""
        size = self.size()
        if size <= READ_HEAD + READ_END:
            return _shown(self.head(size))
        return _shown(self.head(READ_HEAD), size - READ_HEAD - READ_END, self.end(READ_END))

    def head(self, length: int) -> bytes:
        """Return the first bytes."""
        return self._read(0, min(length, self.size()))

    def end(self, length: int) -> bytes:
        """Return the last bytes."""
        start = max(0, self.size() - length)
        return self._read(start, self.size() - start)

    def _read(self, start: int, length: int) -> bytes:
        self._reader.seek(start)
        return self._reader.read(length) or b""


def shown(path: Path) -> str:
    """Return the text of an output file as a terminal shows it, its middle left out where it is long."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= READ_HEAD + READ_END:
                return _shown(file.read())
            head = file.read(READ_HEAD)
            file.seek(-READ_END, os.SEEK_END)
            return _shown(head, size - READ_HEAD - READ_END, file.read())
    except OSError:
        return ""


def _shown(head: bytes, left_out: int = 0, end: bytes = b"") -> str:
    text = as_shown(head.decode("utf-8", errors="replace"))
    if end:
        text += f"\n[… {left_out:,} bytes left out …]\n{as_shown(end.decode('utf-8', errors='replace'))}"
    return shorten(scrub(text), SHOWN)  # first masked: half a secret is not known as one


def trim(follower: Follower) -> None:
    """Cut the file of a process that has ended to a size worth keeping; put it back if it was deleted."""
    size = follower.size()
    if size <= KEEP and follower.path.exists():
        return
    if size <= KEEP:
        text = follower.head(size)
    else:
        middle = f"\n[… {size - 2 * KEEP_HEAD:,} bytes left out …]\n".encode()
        text = follower.head(KEEP_HEAD) + middle + follower.end(KEEP_HEAD)
    temporary = follower.path.with_name(f".{follower.path.name}.part")
    with contextlib.suppress(IsADirectoryError):
        temporary.write_bytes(text)
        temporary.replace(follower.path)
