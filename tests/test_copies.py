"""A workspace that is copied, moved, on a read-only medium, or on a full disk; its files are of their owner only."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cmbagent_nb.errors import CMBAgentError, StoreError
from cmbagent_nb.store.files import from_record, to_record
from cmbagent_nb.store.private import loose
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code

#: A process that starts a run whose code waits, and then lives on, or dies, or ends.
WAITING = """
import os, signal, sys, threading
from pathlib import Path
from cmbagent_nb.workspace import Workspace

home, then, work_dir = sys.argv[1:4]
workspace = Workspace(home)
run = workspace.one_shot("Print one.", model="openai:m", name="waits", work_dir=work_dir or None, max_attempts=1)
begun = threading.Event()
run.on("step_progress", lambda event: begun.set())
assert begun.wait(120)
workspace._core.writer.barrier().result()
print("begun", flush=True)
if then == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.readline()
"""
CODE = (
    "import pathlib, time\npathlib.Path('data/one.txt').write_text('1')\nprint('begun', flush=True)\n"
    "while not pathlib.Path({go!r}).exists(): time.sleep(0.01)\nprint('done')\n"
)


class Original:
    """A workspace in which the code of a run waits for a file."""

    def __init__(self, place: Path, then: str, environ: dict[str, str], work_dir: str = "") -> None:
        self.home = place / "home"
        command = [sys.executable, "-c", WAITING, str(self.home), then, work_dir]
        self.process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begun\n"
        if then == "die":
            self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(lambda request: code(CODE.format(go=str(tmp_path / "go")))) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        yield server
    (tmp_path / "go").touch()


def lines(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(home.glob("runs/*/journal.jsonl")))


def test_a_copy_goes_on_with_its_run_and_leaves_the_original_alone(tmp_path: Path, server: OpenAIServer) -> None:
    """The process of the original died; the copy is resumed, then the original."""
    original = Original(tmp_path, "die", dict(os.environ))
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(original.home), str(copy)], check=True)
    before = lines(original.home)
    (tmp_path / "go").touch()
    workspace = Workspace(copy)
    run = workspace.resume("waits").wait(120)
    assert run.status == "completed", run.error
    assert run.work_dir == copy / "runs/waits"
    assert (copy / "runs/waits/data/one.txt").read_text() == "1"
    workspace.close()
    assert lines(original.home) == before
    assert not (original.home / "runs/waits/data/one.txt").exists()
    workspace = Workspace(original.home)
    run = workspace.resume("waits").wait(120)
    assert run.status == "completed", run.error
    workspace.close()
    original.close()


def test_a_copy_of_a_live_workspace_owns_nothing_and_kills_nothing(tmp_path: Path, server: OpenAIServer) -> None:
    """The run goes on in the original; in the copy, made within it, it is interrupted and can be resumed there."""
    original = Original(tmp_path, "live", dict(os.environ))
    copy = tmp_path / "copy"
    shutil.copytree(original.home, copy)
    workspace = Workspace(copy)
    assert workspace.run("waits").status == "interrupted"
    assert workspace.runs()["status"].tolist() == ["interrupted"]
    run = workspace.resume("waits")
    (tmp_path / "go").touch()
    assert run.wait(120).status == "completed", run.error
    workspace.close()
    workspace = Workspace(original.home)
    run = workspace.run("waits").wait(120)
    assert run.status == "completed", run.error
    assert "interrupted" not in run.history()["to_state"].tolist()
    workspace.close()
    original.close()


def test_a_moved_workspace_is_gone_on_with(tmp_path: Path, server: OpenAIServer) -> None:
    """Also where the record has the old place, as an older version wrote it."""
    original = Original(tmp_path, "die", dict(os.environ))
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    with closing(sqlite3.connect(original.home / "cmbagent.db", isolation_level=None)) as connection:
        assert connection.execute("SELECT work_dir FROM workflow_runs").fetchall() == [("runs/waits",)]
        connection.execute("UPDATE workflow_runs SET work_dir = ?", (str(original.home / "runs/waits"),))
        connection.execute("UPDATE alembic_version SET version_num = '0005'")
    original.home.rename(moved)
    (tmp_path / "go").touch()
    workspace = Workspace(moved)
    run = workspace.resume("waits").wait(120)
    assert run.status == "completed", run.error
    assert run.work_dir == moved / "runs/waits"
    assert not original.home.exists()
    assert not list(moved.glob("faults.jsonl"))
    workspace.close()
    original.close()


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_outside_is_written_by_one_workspace(tmp_path: Path, server: OpenAIServer, linked: bool) -> None:
    """A copy refuses in a line while the original is there; a workspace that was moved goes on in it."""
    outside = tmp_path / "outside"
    original = Original(tmp_path, "die", dict(os.environ), "" if linked else str(outside))
    if linked:  # a run's folder that was moved to another disk
        (original.home / "runs/waits").rename(outside)
        (original.home / "runs/waits").symlink_to(outside)
        workspace = Workspace(original.home)
        (tmp_path / "go").touch()
        assert workspace.resume("waits").wait(120).status == "completed"
        workspace.close()
    copy = tmp_path / "copy"
    shutil.copytree(original.home, copy, symlinks=True)
    before = (outside / "journal.jsonl").read_bytes()
    workspace = Workspace(copy)
    run = workspace.run("waits")
    assert run.status in ("interrupted", "completed")
    with pytest.raises(CMBAgentError, match=r"belongs to the workspace .*home|cannot be resumed"):
        workspace.resume("waits")
    with pytest.raises(CMBAgentError, match=r"belongs to the workspace .*home"):
        run.checkpoint("mine")
    workspace.close()
    assert (outside / "journal.jsonl").read_bytes() == before
    if linked:
        original.close()
        return
    shutil.rmtree(original.home)
    (tmp_path / "go").touch()
    workspace = Workspace(copy)
    assert workspace.resume("waits").wait(120).status == "completed"
    workspace.close()
    original.close()


@pytest.mark.parametrize("path", ["runs/a", "runs/ä b", ".", "deep/er/x"])
def test_paths_come_back_wherever_the_workspace_lies(tmp_path: Path, path: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    stored = to_record(here, here / path)
    assert not Path(stored).is_absolute()
    assert Path(from_record(there, stored)) == there / path
    assert to_record(here, stored) == stored
    assert to_record(here, str(tmp_path / "hereafter" / path)) == str(tmp_path / "hereafter" / path)


# ---- media that cannot be written


@pytest.fixture
def killed(tmp_path: Path, server: OpenAIServer) -> Iterator[Path]:
    original = Original(tmp_path, "die", dict(os.environ))
    yield original.home
    original.close()


def read_only(home: Path) -> Iterator[None]:
    made = subprocess.run(["mount", "--bind", str(home), str(home)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a folder cannot be mounted read-only here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


@pytest.mark.parametrize("state", ["with_log", "log_without_index", "without_log", "older_schema"])
def test_a_workspace_on_a_read_only_medium_is_read(killed: Path, state: str) -> None:
    """With and without the log of a killed process, and of an older version; writing is refused in a line."""
    database = killed / "cmbagent.db"
    if state == "log_without_index":
        (killed / "cmbagent.db-shm").unlink()
    if state in ("without_log", "older_schema"):
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            if state == "older_schema":
                connection.execute("UPDATE alembic_version SET version_num = '0005'")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for path in killed.glob("cmbagent.db-*"):
            path.unlink()
    else:
        assert (killed / "cmbagent.db-wal").stat().st_size > 0
    names = {path.name: path.stat().st_mtime_ns for path in killed.iterdir()}
    for _ in read_only(killed):
        began = time.monotonic()
        workspace = Workspace(killed)
        assert workspace.runs()["status"].tolist() == ["interrupted"]
        run = workspace.run("waits")
        assert run.status == "interrupted"
        assert len(run.events()) > 0
        assert workspace.approvals() == []
        assert not run.costs().empty
        assert not run.history().empty
        assert workspace._core.db.data_version() >= 0
        all_refused(workspace)
        for command in (["runs"], ["status", "waits"], ["events", "waits"], ["approvals"], ["doctor"], ["skills"]):
            done = cli(killed, *command)
            assert "Internal error" not in done.stdout + done.stderr, done
            assert "Traceback" not in done.stderr
        workspace.close()
        assert time.monotonic() - began < 200
    assert {path.name: path.stat().st_mtime_ns for path in killed.iterdir()} == names


def all_refused(workspace: Workspace) -> None:
    """Writing is refused in one line each."""
    run = workspace.run("waits")
    for work in (
        lambda: workspace.resume("waits"),
        lambda: workspace.one_shot("Print one.", model="openai:m"),
        run.checkpoint,
        lambda: workspace.admin.delete("waits"),
    ):
        with pytest.raises(CMBAgentError) as caught:
            work()
        assert "\n" not in str(caught.value)


def cli(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "cmbagent_nb.cli", *command]
    environ = {**os.environ, "CMBAGENT_HOME": str(home)}
    return subprocess.run(arguments, env=environ, capture_output=True, text=True, check=False, timeout=100)


def test_reading_on_a_full_disk_does_not_wait_for_writing(killed: Path, tmp_path: Path) -> None:
    """A run was killed, and the disk is full: it is shown as interrupted at once; writing is refused in a line."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        home = disk / "home"
        shutil.copytree(killed, home)
        with (disk / "ballast").open("ab", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        began = time.monotonic()
        workspace = Workspace(home)
        assert workspace.runs()["status"].tolist() == ["interrupted"]
        assert workspace.run("waits").status == "interrupted"
        assert len(workspace.run("waits").events()) > 0
        with pytest.raises(StoreError):
            workspace.resume("waits")
        with pytest.raises(CMBAgentError):
            workspace.one_shot("Print one.", model="openai:m")
        assert time.monotonic() - began < 60  # not the two minutes for which a run waits
        (disk / "ballast").unlink()
        deadline = time.monotonic() + 60
        while workspace._core.writer.trouble and time.monotonic() < deadline:
            workspace.runs()
        (tmp_path / "go").touch()
        workspace.close()
        workspace = Workspace(home)
        assert workspace.resume("waits").wait(120).status == "completed"
        workspace.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# ---- files of their owner only


def test_all_files_of_a_workspace_are_their_owner_s_only(
    tmp_path: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders 700, files 600, whatever the umask; a workspace of an older version is tightened when it is opened."""
    before = os.umask(0o022)
    try:
        (tmp_path / "go").touch()
        workspace = Workspace(tmp_path / "home")
        given = tmp_path / "given"
        given.mkdir(mode=0o755)
        run = workspace.one_shot("Print one.", model="openai:m", inputs={"x": [1, 2]}, name="own").wait(120)
        assert run.status == "completed", run.error
        assert workspace.one_shot("Print one.", model="openai:m", name="there", work_dir=given).wait(120)
        workspace.admin.backup(tmp_path / "saved.tar.gz")
        assert (tmp_path / "saved.tar.gz").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "workspaces.json").stat().st_mode & 0o777 == 0o600
        assert given.stat().st_mode & 0o777 == 0o755
        assert (given / "journal.jsonl").stat().st_mode & 0o777 == 0o600
        assert list(loose(tmp_path / "home")) == []
        workspace.close()
        for path in (tmp_path / "home", *(tmp_path / "home").rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        Workspace(tmp_path / "home").runs()
        assert list(loose(tmp_path / "home")) == []
        Workspace(tmp_path / "home").close()
        # A folder in which there is more than a workspace is the user's.
        mixed = tmp_path / "mixed"
        mixed.mkdir(mode=0o755)
        (mixed / "thesis.tex").write_text("x")
        opened = Workspace(mixed)
        assert opened.runs().empty
        opened.close()
        assert mixed.stat().st_mode & 0o777 == 0o755
        assert (mixed / "thesis.tex").stat().st_mode & 0o777 == 0o644
        assert (mixed / "cmbagent.db").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
