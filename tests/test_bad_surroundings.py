"""A full disk, a clock that jumps, a work dir that is gone or moved: the run waits or goes on, and says so."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import StoreError, WorkDirError
from cmbagent_nb.render.parts import file_table, status_line
from cmbagent_nb.run import Run
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.journal import read_journal
from cmbagent_nb.store.json import from_json, to_json
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.history import State, rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workflow.ownership import is_alive, owner
from cmbagent_nb.workflow.reconcile import reconcile
from cmbagent_nb.workspace import Workspace
from tests import clock_run
from tests.kernels import Kernels
from tests.openai_server import OpenAIServer
from tests.stored import Record
from tests.team import APPROVED, Team, code, plan

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


def until(ready: object, timeout: float = 120.0) -> None:
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
        assert time.perf_counter() - began < 60  # the caller does not wait for space
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


def test_a_full_disk_of_the_work_dir_holds_no_row_of_the_database_up(disk: SmallDisk, tmp_path: Path) -> None:
    """Its lines wait, in their order, and the places of checkpoints with them."""
    db = Database.open(tmp_path / "elsewhere")
    writer = Writer(db, patience=0.2)
    record = Record(writer)
    journal = disk.folder / "journal.jsonl"

    def mark(number: int) -> None:
        row = {"id": f"c{number}", "run_id": record.run, "session_id": record.session, "checkpoint_type": "manual"}
        writer.checkpoint(journal, {**row, "created_at": 1.0})

    try:
        writer.journal(journal, "note", {"number": -1})
        record.settle()
        disk.fill()
        for number in range(100):
            record.event("info")
            writer.journal(journal, "note", {"number": number, "text": "x" * 2000})
            mark(number)
        record.settle()
        assert len(db.rows("SELECT 1 FROM execution_events")) == 100
        assert "journal" in writer.trouble
        disk.free()
        until(lambda: not writer.trouble)
        record.settle()
        entries = list(read_journal(journal))
        assert [entry.seq for entry in entries] == list(range(1, 202))
        assert [entry.data["number"] for entry in entries if entry.kind == "note"] == list(range(-1, 100))
        rows = db.rows("SELECT id, journal_position FROM checkpoints ORDER BY journal_position")
        assert [row["id"] for row in rows] == [f"c{number}" for number in range(100)]
        assert writer.faults == 0
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
        stored = state_of(rows_of_database(self.workspace._core.db, run.id))
        assert state_of(rows_of_journal(run.work_dir / "journal.jsonl")).differences(stored) == []
        assert self.workspace._core.writer.faults == 0
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
    assert "waiting: " in status_line(full.run.snapshot())
    assert not full.run._host.live[full.run.id].ended.done()
    full.disk.free()
    full.run.wait(60)
    full.check()


def test_a_run_that_waited_in_vain_is_gone_on_with_and_pays_nothing_again(
    full: FullDuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmbagent_nb.workflow.disk_full.PATIENCE", 0.2)
    monkeypatch.setattr("cmbagent_nb.execution.launcher.SPACE_PATIENCE", 0.2)
    full.workspace._core.writer._patience = 0.2
    until(lambda: full.run.trouble)
    threading.Event().wait(1.5)  # every patience is at its end by now
    assert full.run.trouble
    full.disk.free()
    full.run.wait(60)
    assert full.run.status == "failed"
    assert "full" in str(full.run.error) or "cannot be written" in str(full.run.error)
    full.run = full.run.resume().wait(60)
    full.check()


# ---- a clock that is set back


def test_a_clock_that_is_set_back_turns_nothing_around(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hello, broken = code("import time; time.sleep(0.2)", "hello.py"), code("{}['a']", "hello.py")
    team = Team(
        plan=plan({"title": "One"}, {"title": "Two", "depends_on": [1]}),
        review=APPROVED,
        steps={"One": [broken, hello], "Two": hello},
    )
    with OpenAIServer(team) as server, Kernels() as kernels:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        ended = kernels.run("tests.clock_run", workspace.home)
    assert (ended.code, ended.output) == (0, "completed")
    run = workspace.run(clock_run.NAME)
    events = run.events()
    assert events.execution_order.tolist() == list(range(1, len(events) + 1))
    assert (events.started_at.diff().dropna().dt.total_seconds() < 0).any(), "the clock was not set back"
    assert (events.duration_ms >= 0).all()
    assert (events.ended_at >= events.started_at).all()
    for frame in (run.steps(), run.nodes()):
        assert (frame.ended_at >= frame.started_at).all()
    assert (run.nodes().duration_s.dropna() >= 0).all()
    assert run.snapshot().run["elapsed_s"] >= 0
    assert (workspace.runs().duration_s >= 0).all()
    history = run.history().query("entity_type == 'workflow_run'")
    assert history.to_state.tolist() == ["planning", "executing", "completed"]
    assert run.checkpoints().journal_position.is_monotonic_increasing
    stored = state_of(rows_of_database(workspace._core.db, run.id))
    assert state_of(rows_of_journal(run.work_dir / "journal.jsonl")).differences(stored) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the kernel tells no start time that no clock changes")
def test_a_lease_is_kept_when_the_clock_is_set(workspace: Workspace) -> None:
    """The same process seems to have begun at another time then; a process of another boot is another all the same."""
    mine = from_json(owner())
    assert is_alive(to_json({**mine, "started": mine["started"] + 3600.0}), time.time())
    assert is_alive(to_json({**mine, "started": mine["started"] - 3600.0}), time.time() + 3600.0)
    assert not is_alive(to_json({**mine, "since_boot": f"{mine['since_boot']}0"}), time.time())
    assert not is_alive(to_json({**mine, "started": mine["started"] + 3600.0, "since_boot": ""}), time.time())


# ---- a work dir that is gone


@pytest.fixture
def made(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run whose second step has failed, with a file and a report."""
    write = code("open('data/n.json', 'w').write('{\"n\": 3}')", "write.py")
    read = code("import json; print(json.load(open('data/n.json'))['n'])", "read.py")
    handler = Team(
        plan=plan({"title": "Write"}, {"title": "Read", "depends_on": [1]}),
        review=APPROVED,
        steps={"Write": write, "Read": code("{}['a']", "read.py")},
    )
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Write and read.", model="openai:m", max_attempts=1).wait(60)
        assert run.status == "failed"
        handler.steps["Read"] = read
        yield run


def missing(run: Run) -> set[str]:
    files = run.files()
    return set(files[files.missing].file_path)


#: Where a file of step 1 lies: published, and with the attempt that made it.
PUBLISHED, KEPT = "data/n.json", "steps/step_1/attempt_1/data/n.json"


def test_a_file_that_was_deleted_is_listed_as_missing_and_the_run_goes_on_when_it_is_back(made: Run) -> None:
    """Neither of its two copies is there: the step that builds on it fails, and says which file it is."""
    assert missing(made) == set()
    path = made.work_dir / PUBLISHED
    text = path.read_text()
    path.unlink()
    (made.work_dir / KEPT).unlink()
    assert missing(made) == {PUBLISHED}
    assert [item["file_path"] for item in made.snapshot().files if item["missing"]] == [PUBLISHED]
    assert "missing" in file_table(made.snapshot().files)
    assert repr(made.lineage(PUBLISHED)).startswith(f"{PUBLISHED} (missing)")
    run = made.resume().wait(60)
    assert run.status == "failed"
    assert f"'{PUBLISHED}'" in str(run.error)
    assert "Put it back" in str(run.error)
    path.write_text(text)
    assert missing(run) == set()
    assert run.resume().wait(60).status == "completed", run.error
    assert run.result.text == "3"


@pytest.mark.parametrize("gone", [PUBLISHED, KEPT])
def test_a_step_takes_a_file_from_the_copy_that_is_left(made: Run, gone: str) -> None:
    """A file that was published lies with the attempt that made it as well; that it is missing is said all the same."""
    (made.work_dir / gone).unlink()
    shown = {PUBLISHED} & {gone}
    assert missing(made) == shown
    run = made.resume().wait(60)
    assert run.status == "completed", run.error
    assert run.result.text == "3"
    assert missing(run) == shown
    assert (run.work_dir / "steps/step_2/attempt_2/data/n.json").read_text() == '{"n": 3}'


def test_a_work_dir_that_was_moved_is_said_to_be_gone_and_the_run_still_opens(
    made: Run, workspace: Workspace, tmp_path: Path
) -> None:
    point = made.checkpoint("before")
    folder = made.work_dir
    folder.rename(tmp_path / "elsewhere")
    run = workspace.run(made.name)
    assert run.status == "failed"
    assert missing(run) == set(run.files().file_path)
    assert len(run.events()) > 10
    shown = run.snapshot()
    assert shown.run["work_dir_missing"]
    assert "is not there" in status_line(shown)
    assert run.lineage("n.json")
    for ask in (run.resume, run.checkpoint):
        with pytest.raises(WorkDirError, match="is not there"):
            ask()
    with pytest.raises(StoreError, match="is not there"):
        run.state_at(point)
    assert not folder.exists()  # nothing has made it anew
    (tmp_path / "elsewhere").rename(folder)
    assert run.state_at(point).status == "failed"
    assert run.resume().wait(60).status == "completed", run.error


def test_a_journal_that_was_deleted_is_written_again(made: Run, workspace: Workspace) -> None:
    (made.work_dir / "journal.jsonl").unlink()
    run = made.resume().wait(60)
    assert run.status == "completed", run.error
    stored = state_of(rows_of_database(workspace._core.db, run.id))
    assert state_of(rows_of_journal(run.work_dir / "journal.jsonl")).differences(stored) == []


def test_each_copy_of_a_run_is_mended_by_the_other(made: Run, workspace: Workspace) -> None:
    """What a process that died, or a disk that was full, left in one of them alone."""

    def forget(connection: Any) -> int:
        connection.execute("DELETE FROM cost_records")
        return int(connection.execute("DELETE FROM model_replies WHERE node_id = 'planning'").rowcount)

    def states() -> tuple[State, State]:
        rows = rows_of_database(workspace._core.db, made.id), rows_of_journal(journal)
        return state_of(rows[0]), state_of(rows[1])

    journal = made.work_dir / "journal.jsonl"
    before = states()[0]
    assert workspace._core.writer.call(forget).result() == 2
    lines = [line for line in journal.read_text().splitlines() if '"attempt_ended"' not in line]
    journal.write_text("\n".join([*(line for line in lines if '"to":"failed"' not in line), '{"v": 1, "seq"']))
    assert states()[0] != before != states()[1]
    found = reconcile(workspace._core.db, workspace._core.writer, made.id, made.work_dir)
    assert sum("only in the journal" in item for item in found) == 2
    assert states() == (before, before)
    assert len(made.costs()) == 2
    assert reconcile(workspace._core.db, workspace._core.writer, made.id, made.work_dir) == []
