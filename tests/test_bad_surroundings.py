"""A full disk, a clock that jumps, a work dir that is gone or moved: the run waits or goes on, and says so."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.journal import read_journal
from cmbagent_nb.store.writer import Writer
from tests.stored import Record

MB = 2**20


class SmallDisk:
    """A file system of a few megabytes that can be filled up and given space again."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"
        folder.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("a small file system cannot be mounted here")

    def fill(self) -> None:
        with self.ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    def free(self) -> None:
        self.ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    small = SmallDisk(tmp_path / "disk", 12)
    yield small
    small.close()


def until(ready: object, timeout: float = 20.0) -> None:
    """Wait for something that nothing tells of."""
    latest = time.monotonic() + timeout
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < latest
        threading.Event().wait(0.02)


# ---- a full disk


def test_nothing_is_lost_while_the_disk_of_database_and_journal_is_full(disk: SmallDisk) -> None:
    """Neither rows nor lines nor calls, however long it takes; a call is told after a while."""
    db = Database.open(disk.folder / "home")
    writer = Writer(db, patience=0.5)
    record = Record(writer)
    journal = disk.folder / "run" / "journal.jsonl"
    journal.parent.mkdir()
    try:
        record.settle()
        disk.fill()
        began = time.perf_counter()
        for number in range(300):
            record.event("info", outputs={"text": "x" * 2000})
            writer.journal(journal, "note", {"number": number, "text": "x" * 2000})
        assert time.perf_counter() - began < 1.0  # whoever hands rows over does not wait
        until(lambda: writer.trouble)
        assert "cannot be written" in writer.trouble
        assert "full" in writer.trouble or "No space" in writer.trouble
        told = writer.call(lambda connection: None)
        done = writer.barrier()
        with pytest.raises(StoreError, match="No space|disk is full"):
            told.result(30)
        with pytest.raises(StoreError, match="No space|disk is full"):
            done.result(30)
        disk.free()
        writer.barrier().result(30)
        assert writer.trouble == ""
        assert writer.faults == 0
        numbers = db.rows("SELECT execution_order FROM execution_events ORDER BY execution_order")
        assert len(numbers) == 300
        assert [entry.data["number"] for entry in read_journal(journal)] == list(range(300))
    finally:
        writer.close()
        db.close()
