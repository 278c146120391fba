"""A folder that a user gives for a run: never one that holds something of theirs, and nothing in it is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import CMBAgentError, InputError, UsageError, WorkDirError
from cmbagent_nb.settings import check_number, default_home, load_settings, user_path
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import Team, code, plan

WRITES = code("for name in ('data/a.csv', 'report.md', 'plots/p.png'): open(name, 'w').write('theirs')")


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """Agents that write files of usual names."""
    with OpenAIServer(Team(steps={"Write": WRITES, "": WRITES}, code=WRITES)) as found:
        monkeypatch.setenv("CMBAGENT_BASE_URL", found.url)
        yield found


def start(workspace: Workspace, folder: str | Path, **options: Any) -> Any:
    return workspace.run_plan("Write.", plan=plan({"title": "Write"}), model="openai:m", work_dir=folder, **options)


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what is in a folder, with the time of each file."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


HOLDS = {
    "data": {"data/a.csv": "mine"},
    "report": {"report.md": "mine"},
    "hidden": {".env": "mine"},
    "deep": {"x/y/z/notes.txt": "mine"},
    "a journal of the user's": {"journal.jsonl": '{"day": 1}\n', "data/a.csv": "mine"},
    "a torn journal": {"journal.jsonl": "[[[", "data/a.csv": "mine"},
    "an empty file": {"empty": ""},
}


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize("holds", HOLDS)
def test_a_folder_that_is_not_empty_is_refused_with_the_way_out(
    workspace: Workspace, tmp_path: Path, holds: str, clear: bool
) -> None:
    folder = tmp_path / "mine"
    for name, text in HOLDS[holds].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = state(folder)
    with pytest.raises(WorkDirError, match=r"--work-dir .*mine/run1") as refused:
        start(workspace, folder, clear_work_dir=clear)
    assert "Internal" not in str(refused.value)
    assert state(folder) == before
    assert list((workspace.home / "runs").iterdir()) == []


def test_the_way_out_is_one(workspace: Workspace, tmp_path: Path, server: OpenAIServer) -> None:
    folder = tmp_path / "mine"
    (folder / "run1").mkdir(parents=True)
    (folder / "data.csv").write_text("mine")
    with pytest.raises(WorkDirError, match=r"mine/run2"):
        start(workspace, folder)
    run = start(workspace, folder / "run2").wait(300)
    assert run.status == "completed", run.error
    assert (run.work_dir / "data/a.csv").read_text() == "theirs"
    assert (folder / "data.csv").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "../mine", "link", "./../mine/../mine", "link/../mine", "new/.."])
def test_other_ways_to_name_it(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.csv").write_text("mine")
    (folder / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    before = state(folder)
    with pytest.raises(WorkDirError, match="is not empty"):
        start(workspace, name)
    assert state(folder) == before


def test_a_folder_of_its_own_is_called_by_one_name(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.csv").write_text("mine")
    monkeypatch.chdir(folder)
    run = start(workspace, "./mine/../mine").wait(300)
    assert run.status == "completed", run.error
    assert run.work_dir == (folder / "mine").resolve()
    assert (folder / "a.csv").read_text() == "mine"
    with pytest.raises(WorkDirError, match="holds another run"):
        start(workspace, "mine")


def test_a_file_a_broken_link_and_what_cannot_be_a_path(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere" / "at all")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "file/below", "broken", "loop", "x" * 300, "null\0"):
        with pytest.raises(CMBAgentError) as refused:
            start(workspace, tmp_path / name)
        assert "Internal" not in str(refused.value)
    with pytest.raises(UsageError, match="no home folder is known for ~nouser"):
        start(workspace, "~nouser_of_this_machine/x")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_a_run_or_of_the_workspace_is_no_place_for_another(
    workspace: Workspace, tmp_path: Path, server: OpenAIServer
) -> None:
    run = start(workspace, tmp_path / "first").wait(300)
    assert run.status == "completed", run.error
    other = Workspace(tmp_path / "other home")
    try:
        for place in (workspace, other):
            for inner in ("first/data", "first/steps/new", "first/new"):
                with pytest.raises(WorkDirError, match="holds another run"):
                    start(place, tmp_path / inner)
            with pytest.raises(WorkDirError, match="holds another run"):
                start(place, tmp_path / "first")
        with pytest.raises(WorkDirError, match="lies in the workspace"):
            start(workspace, workspace.home / "runs" / "mine")
    finally:
        other.close()


def test_clearing_keeps_what_a_user_put_among_the_files_of_a_run(
    workspace: Workspace, tmp_path: Path, server: OpenAIServer
) -> None:
    folder = tmp_path / "first"
    start(workspace, folder).wait(300)
    (folder / "data" / "mine.csv").write_text("mine")
    before = state(folder)
    with pytest.raises(WorkDirError, match=r"files that no run made: data/mine\.csv"):
        start(workspace, folder, clear_work_dir=True)
    assert state(folder) == before
    (folder / "data" / "mine.csv").unlink()
    (folder / "notes.txt").write_text("mine")
    run = start(workspace, folder, clear_work_dir=True).wait(300)
    assert run.status == "completed", run.error
    assert (folder / "notes.txt").read_text() == "mine"


def test_of_two_runs_that_take_a_folder_at_once_one_is_refused(
    workspace: Workspace, tmp_path: Path, server: OpenAIServer
) -> None:
    def one(_: int) -> Any:
        try:
            return start(workspace, tmp_path / "shared").wait(300).status
        except WorkDirError as error:
            return error.what

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(one, range(4)))
    assert ends.count("completed") == 1
    assert sum("holds another run" in end for end in ends) == 3


def test_a_folder_is_given_back_when_the_run_cannot_start(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(InputError):
        start(workspace, folder, inputs={"x": object()})
    assert list(folder.iterdir()) == []


# ---- paths and numbers that users give


@pytest.mark.parametrize("text", ["~nouser_of_this_machine", "~nouser_of_this_machine/x", "a\0b", "\ud83d"])
def test_a_path_that_cannot_be_one_is_told_in_a_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as refused:
        user_path(text, "the folder")
    assert "\n" not in str(refused.value)
    if "\0" not in text and "\ud83d" not in text:
        with pytest.raises(UsageError):
            default_home({"CMBAGENT_HOME": text})


NUMBERS = ["nan", "inf", "-inf", "-1", "1e400", "1" * 5000, "1_000_000_000_000_000", "", " ", "x", "0x10", "٣", "1,5"]


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("kind", [int, float])
def test_odd_numbers_are_numbers_of_0_or_more_or_none(text: str, kind: Any) -> None:
    try:
        number = check_number(text, kind)
    except ValueError:
        return
    assert 0 <= number < 1e13
    assert isinstance(number, kind)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", '"nan"', '"x"', "[]", "true", "{a = 1}", "2024-01-01"])
def test_settings_that_make_no_sense_are_told_with_their_place(tmp_path: Path, value: str) -> None:
    for name in ("step_timeout", "max_attempts", "call_timeout", "max_cost_usd", "parallel_steps", "archive_days"):
        (tmp_path / "config.toml").write_text(f"{name} = {value}\n")
        with pytest.raises(UsageError, match=name) as refused:
            load_settings(tmp_path, {})
        assert "config.toml" in str(refused.value)
        if value.startswith(("[", "{", "2", "t", '"')):
            continue
        (tmp_path / "config.toml").unlink()
        with pytest.raises(UsageError, match=f"CMBAGENT_{name.upper()}"):
            load_settings(tmp_path, {f"CMBAGENT_{name.upper()}": value})
