"""Backup and restore: the whole workspace in one file, also while a run goes on, and nothing but that."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.admin import restore_workspace
from cmbagent_nb.errors import StoreError, UsageError
from cmbagent_nb.run import Run
from cmbagent_nb.store.archive import archive_run
from cmbagent_nb.verbs import execute
from cmbagent_nb.workflow import backup as module
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, in_turn
from tests.team import code

WRITE = code(
    "import json\njson.dump({'width': 1.5}, open('data/width.json', 'w'))\nprint('the width is 1.5')\n", "width.py"
)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], OpenAIServer]:
    """Make a model server with a handler the one that is used."""

    def start(handler: Any) -> OpenAIServer:
        server = OpenAIServer(handler)
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        return server

    return start


@pytest.fixture
def finished(workspace: Workspace, serve: Callable[[Any], OpenAIServer]) -> Run:
    """A run that has ended."""
    with serve(in_turn(WRITE)):
        return workspace.one_shot("Measure the width.", name="width").wait(60)


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.gz", "backup.tar.xz"])
def test_a_workspace_comes_back_elsewhere(workspace: Workspace, finished: Run, tmp_path: Path, name: str) -> None:
    (workspace.home / "config.toml").write_text("max_attempts = 2\n")
    (workspace.home / "skills" / "empty").mkdir(parents=True)
    (finished.work_dir / "data" / "latest.json").symlink_to("width.json")
    (finished.work_dir / "data" / "outside").symlink_to("/etc")
    file = tmp_path / name
    made = workspace.admin.backup(file)
    assert made.runs == 1
    assert made.notes == [
        f"runs/{finished.name}/data/outside is a link to somewhere outside of the workspace and was left out."
    ]
    assert not list(workspace.home.glob(".*"))
    back = restore_workspace(file, tmp_path / "elsewhere")
    assert back.files == made.files
    with closing(Workspace(tmp_path / "elsewhere")) as other:
        run = other.run("width")
        assert run.work_dir == tmp_path / "elsewhere" / "runs" / "width"
        assert (run.work_dir / "data" / "latest.json").read_text() == (
            finished.work_dir / "data/width.json"
        ).read_text()
        assert run.status == "completed"
        assert run.events().id.tolist() == finished.events().id.tolist()
        assert run.lineage("data/width.json")[-1]["task"] == "Measure the width."
        assert run.result.text.strip() == "the width is 1.5"
        assert other.settings.max_attempts == 2
        assert (other.home / "skills" / "empty").is_dir()
        assert not list(other.home.glob(".*"))


def test_a_backup_while_a_run_goes_on_is_whole_and_the_run_can_be_resumed(
    workspace: Workspace, serve: Callable[[Any], OpenAIServer], tmp_path: Path
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(request: dict[str, Any]) -> Any:
        asked.set()
        go_on.wait(30)
        return WRITE

    file = tmp_path / "backup.tar"
    with serve(slow):
        run = workspace.one_shot("Measure the width.", name="width")
        assert asked.wait(30)
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                for _ in range(200):
                    workspace._core.writer.insert("sessions", {"id": new_id(), "name": "busy", "created_at": 0.0})
                workspace._core.writer.barrier().result(30)

        from cmbagent_nb.ids import new_id

        busy = threading.Thread(target=write)
        busy.start()
        try:
            workspace.admin.backup(file)
        finally:
            stop.set()
            busy.join()
            go_on.set()
        assert run.wait(60).status == "completed"
        restore_workspace(file, tmp_path / "elsewhere")
        with closing(Workspace(tmp_path / "elsewhere")) as other:
            again = other.run("width")
            assert again.status == "interrupted"
            assert again.resume().wait(60).status == "completed"
            assert (other.home / "runs/width/data/width.json").exists()


def test_an_archive_is_in_the_backup(workspace: Workspace, finished: Run, tmp_path: Path) -> None:
    events = finished.events().id.tolist()
    archive_run(workspace._core.db, workspace._core.writer, finished.id)
    workspace.admin.backup(tmp_path / "b.tar")
    restore_workspace(tmp_path / "b.tar", tmp_path / "elsewhere")
    with closing(Workspace(tmp_path / "elsewhere")) as other:
        assert other.run("width").events().id.tolist() == events


def test_nothing_is_overwritten(workspace: Workspace, finished: Run, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    workspace.admin.backup(file)
    with pytest.raises(UsageError, match="is there already"):
        workspace.admin.backup(file)
    with pytest.raises(UsageError, match="is not empty"):
        restore_workspace(file, workspace.home)
    assert finished.status == "completed"
    with pytest.raises(UsageError, match="cannot be written"):
        workspace.admin.backup(tmp_path / "missing" / "b.tar")
    elsewhere = tmp_path / "elsewhere"
    with closing(Workspace(elsewhere)) as empty:
        assert len(empty.runs()) == 0  # its database is open, and empty
        (elsewhere / "config.toml").write_text("max_attempts = 5\n")
        restore_workspace(file, elsewhere)
        assert empty.runs().name.tolist() == ["width"]
        assert empty.settings.max_attempts == 5


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text", "text")
    newer = {"form": 99, "version": "9.0", "home": "/x", "database": "sqlite", "runs": 0}
    _tar(tmp_path / "newer.tar", [], newer)
    for name, message in (
        ("missing", "no file"),
        ("text", "no backup"),
        ("other.tar", "no backup"),
        ("newer.tar", "newer"),
    ):
        with pytest.raises(UsageError, match=message):
            restore_workspace(tmp_path / name, tmp_path / "elsewhere")
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.name != "cmbagent.db" and path.suffix]


def _tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], about: dict[str, Any] | None = None) -> Path:
    about = about or {"form": 1, "version": "0.1.0", "home": "/x", "database": "sqlite", "runs": 0}
    with tarfile.open(path, "w") as tar:
        for info, data in [(tarfile.TarInfo("backup.json"), json.dumps(about).encode()), *members]:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        [_member("../evil")],
        [_member("/tmp/evil")],
        [_member("runs/../../evil")],
        [_member("runs\\..\\..\\evil")],
        [_member("elsewhere/evil")],
        [_member("cmbagent.db-wal")],
        [_member("runs/a", tarfile.SYMTYPE, "/etc")],
        [_member("runs/a", tarfile.SYMTYPE, "../../evil")],
        [_member("runs/a", tarfile.SYMTYPE, "."), _member("runs/a/evil")],
        [_member("runs/a", tarfile.LNKTYPE, "../../../etc/passwd")],
        [_member("runs/a", tarfile.CHRTYPE)],
        [_member("runs/a", tarfile.FIFOTYPE)],
        [_member("cmbagent.db", tarfile.SYMTYPE, "runs/x")],
        [_member("runs/a"), _member("runs/a")],
    ],
    ids=lambda members: f"{members[-1].name} {members[-1].linkname}".strip(),
)
def test_nothing_is_written_outside(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    file = _tar(tmp_path / "evil.tar", [(member, b"x" if member.isreg() else b"") for member in members])
    home = tmp_path / "a" / "b" / "home"
    with pytest.raises(StoreError, match="damaged or cannot be put back"):
        module.restore(file, home)
    assert list(home.iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


def test_a_backup_that_is_cut_or_changed_is_refused(workspace: Workspace, finished: Run, tmp_path: Path) -> None:
    whole = tmp_path / "b.tar.gz"
    workspace.admin.backup(whole)
    data = whole.read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) * 2 // 3])
    home = tmp_path / "elsewhere"
    with pytest.raises(StoreError, match="damaged"):
        module.restore(tmp_path / "cut.tar.gz", home)
    assert list(home.iterdir()) == []


def test_the_verbs(workspace: Workspace, finished: Run, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    assert "1 run and" in execute(workspace, ["backup", str(file)]).text
    other = Workspace(tmp_path / "elsewhere")
    data = json.loads(execute(other, ["restore", str(file), "--json"]).text)
    assert data["runs"] == 1
    other.close()


def test_archive_and_delete_by_verb(workspace: Workspace, finished: Run) -> None:
    listed = execute(workspace, "archive --older-than 0d --dry-run --json").data
    assert [run["name"] for run in listed["runs"]] == ["width"]
    assert execute(workspace, "archive").text == "No run ended that long ago."
    assert "width" in execute(workspace, "archive --older-than 0d --compact").text
    assert execute(workspace, "events width --json").data
    assert "in the database again" in execute(workspace, "unarchive width").text
    with pytest.raises(UsageError, match="gone for good"):
        execute(workspace, "delete width")
    with pytest.raises(UsageError, match="no span of time"):
        execute(workspace, "archive --older-than long")
    assert execute(workspace, "delete width --yes").text == "Deleted width."
    assert not finished.work_dir.exists()
    assert len(workspace.runs()) == 0


def test_a_failed_run_that_was_archived_can_be_resumed(
    workspace: Workspace, serve: Callable[[Any], OpenAIServer]
) -> None:
    broken = code("raise ValueError('no')", "width.py")
    with serve(in_turn(broken, WRITE)):
        run = workspace.one_shot("Measure the width.", name="width", max_attempts=1).wait(60)
        assert run.status == "failed"
        workspace.admin.archive("0d")
        assert len(run.events().query("event_type == 'code_exec'")) == 1
        again = run.resume().wait(60)
        assert again.status == "completed", again.error
    assert again.events().query("event_type == 'code_exec'").status.tolist() == ["failed", "completed"]


def test_checkpoints_and_the_state_of_an_archived_run_are_read(workspace: Workspace, finished: Run) -> None:
    from cmbagent_nb.workflow.history import rows_of_database, state_of

    finished.checkpoint("the end of it")
    before, points = state_of(rows_of_database(workspace._core.db, finished.id)), finished.checkpoints()
    workspace.admin.archive("0d")
    assert state_of(rows_of_database(workspace._core.db, finished.id)).differences(before) == []
    assert finished.checkpoints().id.tolist() == points.id.tolist()
    assert finished.state_at("the end of it").status == "completed"
