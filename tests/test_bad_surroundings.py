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
from cmbagent_nb.workflow.history import rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.stored import Record
from tests.team import code

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
        with pytest.raises(StoreError, match=r"No space|disk is full"):
            told.result(30)
        with pytest.raises(StoreError, match=r"No space|disk is full"):
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


class FullDuring:
    """A run whose disk becomes full while its code runs: the code has made its file, and waits to be let go."""

    CODE = (
        "import pathlib, time\n"
        "with open('starts.txt', 'a') as log: log.write('started\\n')\n"
        "pathlib.Path('data/big.bin').write_bytes(b'x' * 2**20)\nprint('made', flush=True)\n"
        "while not pathlib.Path('../../../../../../go').exists(): time.sleep(0.01)\n"
    )

    def __init__(self, disk: SmallDisk, server: OpenAIServer) -> None:
        self.disk, self.server = disk, server
        self.workspace = Workspace(disk.folder / "home")
        self.run = self.workspace.one_shot("Make it.", model="openai:m", max_attempts=1)
        made = threading.Event()
        self.run.on("step_progress", lambda event: made.set())
        assert made.wait(30)
        disk.fill()
        (disk.folder / "go").touch()

    def check(self) -> None:
        """The run has ended as if nothing had been: one call, one start, one file, nothing lost."""
        run = self.run
        assert run.status == "completed", run.error
        assert self.server.count == 1
        assert (run.work_dir / "data/big.bin").stat().st_size == MB
        assert (run.work_dir / "starts.txt").read_text() == "started\n"
        events = run.events()
        assert events.execution_order.tolist() == list(range(1, len(events) + 1))
        assert not set(events.status) & {"running"}
        stored = state_of(rows_of_database(self.workspace.db, run.id))
        assert state_of(rows_of_journal(run.work_dir / "journal.jsonl")).differences(stored) == []
        assert self.workspace.writer.faults == 0
        assert run.trouble == ""


@pytest.fixture
def full(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[FullDuring]:
    with OpenAIServer(lambda request: code(FullDuring.CODE, "make.py")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        found = FullDuring(disk, server)
        yield found
        if disk.ballast.exists():
            disk.free()
        found.workspace.close()


def test_a_run_waits_for_space_and_goes_on(full: FullDuring) -> None:
    until(lambda: full.run.trouble)
    assert "full" in full.run.trouble or "No space" in full.run.trouble
    assert not full.run._host.live[full.run.id].ended.done()
    full.disk.free()
    full.run.wait(60)
    full.check()


def test_a_run_that_waited_in_vain_is_gone_on_with_and_pays_nothing_again(
    full: FullDuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmbagent_nb.workflow.space.PATIENCE", 0.2)
    monkeypatch.setattr("cmbagent_nb.execution.launcher.SPACE_PATIENCE", 0.2)
    full.workspace.writer._patience = 0.2
    until(lambda: full.run.trouble)
    threading.Event().wait(1.5)  # every patience is at its end by now
    assert full.run.trouble
    full.disk.free()
    full.run.wait(60)
    assert full.run.status == "failed"
    assert "full" in str(full.run.error) or "cannot be written" in str(full.run.error)
    full.run = full.run.resume().wait(60)
    full.check()
