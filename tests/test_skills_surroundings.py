"""What is copied of a notebook's folder and of what lies around it: never the workspace, and nothing ends it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import nbformat
import pytest

from cmbagent_nb.skills.extracting import surroundings
from cmbagent_nb.skills.extracting.surroundings import Surroundings, copy_surroundings
from tests.held import create
from tests.skill_runs import Home

GOES_UP = ["open('../data/a.csv')"]


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def copied(around: Surroundings) -> set[str]:
    return {path.relative_to(around.top).as_posix() for path in around.top.rglob("*") if path.is_file()}


def workspace(home: Path) -> Path:
    """Write what is in a workspace; return a folder to try a notebook in."""
    files(
        home, "cmbagent.db", "cmbagent.db-wal", "config.toml", "runs/one/data/fit.csv", "skills/line/v1/notebook.ipynb"
    )
    scratch = home / "skills" / ".making" / "first-1" / "run-1"
    files(home, "skills/.making/other-1/assets/a.csv")
    scratch.mkdir(parents=True)
    return scratch


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder from which code does not go up to the folders of other tests."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("home", "beside", "expected"),
    [
        ("home", "home", {"home/mine.csv"}),
        ("home", "home/data", {"home/data/mine.csv"}),
        ("home", "home/runs/one", {"home/runs/one/mine.csv", "home/runs/one/data/fit.csv"}),
        ("home", "home/skills", {"home/skills/mine.csv", "home/skills/line/v1/notebook.ipynb"}),
        ("project/home", "project", {"project/mine.csv"}),
        ("project/home", "project/steps", {"project/steps/mine.csv"}),
        ("project/deep/down/home", "project", {"project/mine.csv"}),
        ("project/home", "project/home/data", {"project/home/data/mine.csv"}),
        ("home", "project", {"project/mine.csv"}),
    ],
)
def test_the_workspace_is_never_copied(disk: Path, home: str, beside: str, expected: set[str]) -> None:
    """Neither it nor the folder in which the notebook is tried, wherever the notebook lies."""
    scratch = workspace(disk / home)
    files(disk / beside, "mine.csv")
    around = copy_surroundings(disk / beside, scratch, GOES_UP, disk / home)
    assert {(around.original / path).relative_to(disk).as_posix() for path in copied(around)} == expected
    assert not list(around.top.rglob(".making"))
    (disk / "link").symlink_to(disk / home / "skills", target_is_directory=True)
    (scratch / "copy").rename(scratch / "first")
    again = copy_surroundings(disk / beside, scratch, GOES_UP, disk / home)
    assert not list(again.top.rglob(".making"))


def test_links_and_what_cannot_be_read_end_nothing(disk: Path) -> None:
    """Links to themselves, upwards, out and nowhere, pipes, sockets and other workspaces are beside the notebook."""
    project, other = disk / "top" / "project", disk / "top" / "other"
    files(project, "mine.csv", "results/a.csv")
    files(other, "other.csv", "closed/b.csv", "workspace/cmbagent.db", "workspace/runs/x/c.csv")
    files(disk / "far", "far.csv")
    for folder in (project, other):
        (folder / "self").symlink_to("self")
        (folder / "one").symlink_to("two")
        (folder / "two").symlink_to("one")
        (folder / "up").symlink_to("..")
        (folder / "root").symlink_to("/")
        (folder / "nowhere").symlink_to("not/there")
        (folder / "far").symlink_to(disk / "far")
        os.mkfifo(folder / "pipe.py")
    (project / "latest").symlink_to("results")
    here = Path.cwd()
    os.chdir(other)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("socket")
    finally:
        os.chdir(here)
    (other / "closed").chmod(0)
    scratch = disk / "home" / "skills" / ".making" / "first"
    scratch.mkdir(parents=True)
    try:
        around = copy_surroundings(project, scratch, GOES_UP, disk / "home")
    finally:
        (other / "closed").chmod(0o700)
    found = {path.partition("top/")[2] or path for path in copied(around)}
    assert {"project/mine.csv", "project/results/a.csv", "project/far/far.csv", "other/other.csv"} <= found
    assert not [path for path in found if "root/" in path or "/up/" in path or "workspace" in path]


def test_a_long_path_ends_nothing(disk: Path) -> None:
    """A folder whose path is too long in the copy is left out."""
    project = disk / "project"
    files(project, "mine.csv")
    here, name = Path.cwd(), "n" * 200
    os.chdir(project)
    try:
        for _ in range(18):
            os.mkdir(name)  # noqa: PTH102 (a relative path, as the whole one is nearly too long)
            os.chdir(name)
    finally:
        os.chdir(here)
    scratch = disk / ("s" * 200) / ("s" * 200)
    scratch.mkdir(parents=True)
    assert copied(copy_surroundings(project, scratch, [], disk / "home")) == {"mine.csv"}


@pytest.mark.parametrize("limit", ["_MOST_FILES_ABOVE", "_MOST_S_ABOVE", "_MOST_BYTES_ABOVE"])
def test_how_much_is_copied_is_limited_and_said(disk: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Of the folders above; the notebook's own folder is copied first."""
    files(disk / "top", "project/mine.csv", *(f"other/{number}.csv" for number in range(30)))
    monkeypatch.setattr(surroundings, limit, 8 if limit != "_MOST_S_ABOVE" else -1.0)
    scratch = disk / "home" / "first"
    scratch.mkdir(parents=True)
    around = copy_surroundings(disk / "top" / "project", scratch, GOES_UP, disk / "home")
    assert any(path.endswith("project/mine.csv") for path in copied(around))
    assert len(copied(around)) < 10
    assert any(f"{disk / 'top'} holds more than" in note and "--bring" in note for note in around.notes)


def test_a_notebook_in_the_workspace_that_lists_all_of_it(disk: Path) -> None:
    """It sees the user's files only, while it is tried; a file of a run that it opens is an input."""
    home = Home.open(disk / "home")
    files(home.path, "mine.csv", "runs/one/data/fit.csv")
    source = (
        "import os\nfound = sorted(name for _, _, names in os.walk('.') for name in names)\n"
        "open('found.json', 'w').write(repr((found, n, open('runs/one/data/fit.csv').read())))"
    )
    cells = [nbformat.v4.new_code_cell("n = 3"), nbformat.v4.new_code_cell(source)]  # type: ignore[no-untyped-call]
    cells[0].metadata["tags"] = ["parameters"]
    book = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    (home.path / "book.ipynb").write_text(nbformat.writes(book))  # type: ignore[no-untyped-call]
    try:
        skill = create(home.db, home.writer, home.path, home.path / "book.ipynb", name="lists", liveness_s=0)
        brought = {
            path.relative_to(skill.info.assets).as_posix() for path in skill.info.assets.rglob("*") if path.is_file()
        }
    finally:
        home.close()
    assert brought == {"mine.csv", "runs/one/data/fit.csv"}
