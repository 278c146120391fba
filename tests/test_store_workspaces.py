"""The list of the user's workspaces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cmbagent_nb.store import workspaces


def test_opened_workspaces_are_listed(tmp_path: Path) -> None:
    """The last one first, each once, those that are gone left out."""
    one, two, gone = tmp_path / "one", tmp_path / "two", tmp_path / "gone"
    for folder in (one, two, gone):
        folder.mkdir()
        workspaces.opened(folder)
    workspaces.opened(one)
    gone.rmdir()
    assert workspaces.listed() == [two, one]
    assert workspaces.list_file() == tmp_path / "workspaces.json"


def test_an_old_entry_is_refreshed(tmp_path: Path) -> None:
    """Opening a workspace again brings it to the front, but not at every opening."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    items = [{"path": str(one), "opened_at": 1.0}, {"path": str(two), "opened_at": 2.0}]
    workspaces.list_file().write_text(json.dumps({"workspaces": items}))
    assert workspaces.listed() == [two, one]
    workspaces.opened(one)
    assert workspaces.listed() == [one, two]
    before = workspaces.list_file().stat().st_mtime_ns
    workspaces.opened(one)
    assert workspaces.list_file().stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["not json", "[]", '{"workspaces": [1]}', '{"workspaces": [{"path": "x"}]}'])
def test_a_broken_list_does_no_harm(tmp_path: Path, content: str) -> None:
    """It is read as empty and written anew."""
    workspaces.list_file().write_text(content)
    assert workspaces.listed() == []
    workspaces.opened(tmp_path)
    assert workspaces.listed() == [tmp_path]


def test_a_list_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is read-only must not keep anyone from working."""
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv(workspaces.VARIABLE, str(tmp_path / "file" / "workspaces.json"))
    workspaces.opened(tmp_path)
    assert workspaces.listed() == []


def test_many_processes_at_once(tmp_path: Path) -> None:
    """No entry of another process is lost."""
    code = "import pathlib, sys; from cmbagent_nb.store.workspaces import opened; opened(pathlib.Path(sys.argv[1]))"
    folders = [tmp_path / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir()
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder)]) for folder in folders]
    assert [process.wait(60) for process in running] == [0] * 6
    assert set(workspaces.listed()) == set(folders)
