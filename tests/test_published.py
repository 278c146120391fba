"""What code left is published, or said not to be: links, folders, names that look like patterns, names that we use."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.execution.attempt_folder import matches, prepare, publish
from cmbagent_nb.execution.launcher import Limits, Outcome, launch
from cmbagent_nb.execution.records import record_folder
from cmbagent_nb.execution.trees import make_folders, remove_tree
from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import Team, code, plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "work", "step_1", 1)


def run(folder: Path, text: str) -> Outcome:
    script = folder / "codebase" / "script.py"
    script.write_text(textwrap.dedent(text), encoding="utf-8")
    return asyncio.run(launch(script, folder, limits=Limits(timeout_s=120)))


@pytest.fixture
def one_step(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return how a run of one step with expected outputs ends; a verdict is never asked for."""
    servers: list[OpenAIServer] = []

    def start(text: str, *expected: str, **options: Any) -> Run:
        team = Team(
            plan=plan({"title": "Make", "expected_outputs": list(expected)}),
            review={"approved": True, "recommendations": []},
            steps={"Make": code(textwrap.dedent(text))},
        )
        server = OpenAIServer(team)
        server.__enter__()
        servers.append(server)
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        return workspace.planning_and_control("Make.", model="openai:m", **options).wait(120)

    yield start
    for server in servers:
        server.__exit__(None, None, None)


LINKED = """
    import os
    open("data/run_001.csv", "w").write("a\\n1\\n")
    os.makedirs("data/maps/deep", exist_ok=True)
    open("data/maps/deep/m.txt", "w").write("map")
    os.symlink("run_001.csv", "data/latest.csv")
    os.symlink("latest.csv", "data/link_to_link.csv")
    os.symlink(os.path.abspath("data/run_001.csv"), "data/absolute.csv")
    os.symlink("maps", "data/current")
    os.link("data/run_001.csv", "data/hard.csv")
"""


def test_links_inside_are_published_as_copies(folder: Path) -> None:
    outcome = run(folder, LINKED)
    work_dir = folder.parents[2]
    published = {item.path for item in publish(folder, work_dir, outcome.made)}
    names = {"latest.csv", "link_to_link.csv", "absolute.csv", "hard.csv", "current/deep/m.txt", "maps/deep/m.txt"}
    assert {f"data/{name}" for name in names} <= published
    for name in names:
        path = work_dir / "data" / name
        assert path.is_file() and not path.is_symlink()
    assert (work_dir / "data" / "latest.csv").read_text() == "a\n1\n"
    (folder / "data" / "run_001.csv").write_text("changed later")
    assert (work_dir / "data" / "hard.csv").read_text() == (work_dir / "data" / "latest.csv").read_text() == "a\n1\n"
    assert outcome.skipped == {}


def test_what_cannot_be_published_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text("o")
    outcome = run(
        folder,
        f"""
        import os, socket
        os.symlink({str(tmp_path / "outside.csv")!r}, "data/outside.csv")
        os.symlink({str(tmp_path)!r}, "data/outside_folder")
        os.symlink("nothing.csv", "data/broken.csv")
        os.symlink("loop.csv", "data/loop.csv")
        os.symlink("b", "data/a"); os.symlink("a", "data/b")
        os.symlink("..", "data/up")
        os.symlink(".", "data/self")
        os.symlink("../../attempt_1.record", "data/records")
        os.mkfifo("data/pipe")
        socket.socket(socket.AF_UNIX).bind("data/socket")
        open(b"data/caf\\xe9.txt", "w").write("x")
        open("data/good.csv", "w").write("x")
        """,
    )
    assert outcome.status == "completed", outcome.stderr
    assert [entry.path for entry in outcome.made] == ["codebase/script.py", "data/good.csv"]
    told = {path: why for path, why in outcome.skipped.items() if path.isascii() and "\\" not in path}
    assert set(told) == {
        f"data/{name}"
        for name in "outside.csv outside_folder broken.csv loop.csv a b up self records pipe socket".split()  # noqa: SIM905
    }
    assert "outside" in told["data/outside.csv"] and "not there" in told["data/broken.csv"]
    assert "itself" in told["data/loop.csv"] and "itself" in told["data/a"]
    assert "it lies in" in told["data/up"] and "it lies in" in told["data/self"]
    assert len(outcome.skipped) == len(told) + 1, "the name that is no text"


@pytest.mark.parametrize("name", ["x" * 249, "y" * 255, "é" * 127, "a b*[c]?.txt", "-rf", "line\nbreak", "名前.csv"])
def test_every_name_is_published(folder: Path, name: str) -> None:
    outcome = run(folder, f"open({'data/' + name!r}, 'w').write('x')")
    assert outcome.status == "completed", outcome.stderr
    published = publish(folder, folder.parents[2], outcome.made)
    assert f"data/{name}" in {item.path for item in published}
    assert (folder.parents[2] / "data" / name).read_text() == "x"


def test_names_that_we_use_are_the_codes_own(folder: Path) -> None:
    """What code writes under the names of our records neither disturbs them nor is lost."""
    names = [
        "stdout.txt",
        "stderr.txt",
        "exit.json",
        "reads.jsonl",
        "reads",
        "error.json",
        "attempt_1.record/exit.json",
    ]
    outcome = run(
        folder,
        f"""
        import os
        os.makedirs("attempt_1.record")
        os.makedirs("data/stdout.txt.d")
        for name in {names!r}:
            open(name, "w").write("mine")
        print("printed")
        open("reads").read()
        """,
    )
    assert outcome.status == "completed", outcome.stderr
    assert outcome.stdout == "printed\n"
    work_dir = folder.parents[2]
    assert set(names) <= {item.path for item in publish(folder, work_dir, outcome.made)}
    assert {(work_dir / name).read_text() for name in names} == {"mine"}
    assert (record_folder(folder) / "stdout.txt").read_text() == "printed\n"


def test_folders_in_place_of_our_files_do_no_harm(folder: Path) -> None:
    outcome = run(
        folder,
        """
        import os, shutil
        for name in ("stdout.txt", "exit.json", "reads"):
            os.makedirs(name)
        shutil.rmtree("data")
        open("data", "w").write("a file now")
        """,
    )
    assert outcome.status == "completed", outcome.stderr


def test_very_deep_folders_are_told_and_removed(folder: Path) -> None:
    """1,500 folders within each other: said, not walked, and out of the way when the attempt begins anew."""
    outcome = run(
        folder,
        """
        import os
        open("data/top.txt", "w").write("t")
        os.chdir("data")
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        open("bottom.txt", "w").write("b")
        """,
    )
    assert outcome.status == "completed", outcome.stderr
    assert [entry.path for entry in outcome.made] == ["codebase/script.py", "data/top.txt"]
    assert len(outcome.skipped) == 1 and "folders" in next(iter(outcome.skipped.values()))
    prepare(folder.parents[2], "step_1", 1)
    assert not (folder / "data" / "d").exists()


def test_trees_are_made_and_removed_at_any_depth(tmp_path: Path) -> None:
    deep = tmp_path / "tree" / Path(*["d"] * 900)
    make_folders(deep)
    (deep / "f").write_text("x")
    (tmp_path / "kept").mkdir()
    (deep / "link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists() and (tmp_path / "kept").is_dir()
    remove_tree(tmp_path / "tree")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        make_folders(tmp_path / "file" / "a" / "b")


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("data/cl_[TT].txt", "data/cl_[TT].txt", True),
        ("data/cl_T.txt", "data/cl_[TT].txt", True),
        ("data/a*b.txt", "data/a*b.txt", True),
        ("data/what?.csv", "what?.csv", True),
        ("data/[1].csv", "[1].csv", True),
        ("data/my file.csv", "data/my file.csv", True),
        ("data/cafe\u0301.csv", "data/caf\u00e9.csv", True),
        ("data/x.csv", "./data//x.csv", True),
        ("data/x.csv", "data/../data/x.csv", True),
        ("data/chunks/0.npy", "data/chunks", True),
        ("data/chunks/0.npy", "data/chunks/", True),
        ("data/chunks/0.npy", "data/chunks/*.npy", True),
        ("data/chunks_2/0.npy", "data/chunks", False),
        ("data/X.csv", "data/x.csv", False),
        ("plots/x.csv", "data/x.csv", False),
    ],
)
def test_a_name_is_a_name_before_it_is_a_pattern(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, pattern) is fits


def test_a_step_that_links_its_result_is_done(one_step: Any) -> None:
    run = one_step(LINKED, "data/latest.csv", "data/current", "data/hard.csv")
    assert run.status == "completed", run.error
    assert (run.work_dir / "data/latest.csv").read_text() == "a\n1\n"
    assert "data/latest.csv" in set(run.files().file_path)


def test_a_step_whose_output_has_the_name_of_a_pattern_is_done(one_step: Any) -> None:
    names = ["data/cl_[TT].txt", "data/*.csv", "data/with space.txt"]
    run = one_step(f"for name in {names!r}: open(name, 'w').write('x')", *names)
    assert run.status == "completed", run.error
    assert set(names) <= set(run.files().file_path)


def test_a_step_whose_output_links_out_is_told_why_and_tries_again(one_step: Any, tmp_path: Path) -> None:
    """The failure names the link and says what to do; no verdict is asked for what is plain."""
    (tmp_path / "o.csv").write_text("o")
    run = one_step(f"import os; os.symlink({str(tmp_path / 'o.csv')!r}, 'data/x.csv')", "data/x.csv", max_attempts=1)
    assert run.status == "failed"
    assert "data/x.csv is a link to" in str(run.error) and "outside" in str(run.error)
    told = run.events().query("event_subtype == 'file_not_published'").error.tolist()
    assert len(told) == 1 and "data/x.csv" in told[0]


def test_a_step_whose_expected_folder_is_empty_is_told(one_step: Any) -> None:
    run = one_step("import os; os.makedirs('data/maps')", "data/maps/", max_attempts=1)
    assert run.status == "failed" and "data/maps is an empty folder" in str(run.error)


def test_a_link_to_a_shared_seed_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file of an earlier step, reached by a link, is made a copy like one that is opened by its name."""
    monkeypatch.setattr("cmbagent_nb.execution.attempt_folder.LINK_ABOVE", 0)
    monkeypatch.setattr("cmbagent_nb.execution.attempt_folder._clone", lambda source, target: False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("old")
    folder = prepare(tmp_path, "step_2", 1, ["data"])
    outcome = run(folder, "import os; os.symlink('a', 'data/link'); open('data/link', 'w').write('new')")
    assert outcome.status == "completed", outcome.stderr
    assert (tmp_path / "data" / "a").read_text() == "old"
    assert (folder / "data" / "a").read_text() == "new"


def test_a_hard_link_to_a_file_outside_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published does not change when the user goes on writing to the file that code had linked."""
    monkeypatch.setattr("cmbagent_nb.execution.attempt_folder.LINK_ABOVE", 0)
    monkeypatch.setattr("cmbagent_nb.execution.attempt_folder._clone", lambda source, target: False)
    folder = prepare(tmp_path / "work", "step_1", 1)
    outside = tmp_path / "user.csv"
    outside.write_text("before")
    outcome = run(folder, f"import os; os.link({str(outside)!r}, 'data/x.csv')")
    publish(folder, tmp_path / "work", outcome.made)
    outside.write_text("after")
    assert (tmp_path / "work" / "data" / "x.csv").read_text() == "before"


def test_a_run_of_an_earlier_version_is_read_where_its_records_are(tmp_path: Path) -> None:
    """An attempt of an earlier version has its records in its folder: they count, and are no products."""
    import json

    from cmbagent_nb.execution.recovery import load_trusted_exit, outcome_of

    folder = tmp_path / "steps" / "step_1" / "attempt_1"
    (folder / "codebase").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "codebase" / "s.py").write_text("print(1)")
    files = {"codebase/s.py": "print(1)", "data/a.json": "{}", "stdout.txt": "1\n", "stderr.txt": "", "reads.jsonl": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    record = {
        "v": 1,
        "status": "completed",
        "exit_code": 0,
        "error": None,
        "started_at": 1.0,
        "ended_at": 2.0,
        "pid": 1,
    }
    listed = [{"path": name, "size": len(text), "mtime_ns": 1, "sha256": name} for name, text in files.items()]
    (folder / "exit.json").write_text(json.dumps({**record, "reads": ["input/x"], "files": listed}))
    found = load_trusted_exit(folder)
    assert found is not None
    outcome = outcome_of(found, folder, folder / "codebase" / "s.py", {}, tmp_path)
    assert sorted(entry.path for entry in outcome.made) == ["codebase/s.py", "data/a.json"]
    assert (outcome.stdout, outcome.reads) == ("1\n", ["input/x"])
    prepare(tmp_path, "step_1", 1)
    assert load_trusted_exit(folder) is None and not (folder / "exit.json").exists()


def test_open_files_of_a_killed_process_are_not_waited_for(folder: Path) -> None:
    outcome = run(folder, "import os; open('data/a', 'w').write('x' * 10); os.kill(os.getpid(), 9)")
    assert outcome.status == "killed" and os.path.exists(folder / "data" / "a")  # noqa: PTH110
