"""Running skills: told before it starts, gone on with after a kill, over a grid, and what deviates."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cmbagent_nb.errors import SkillError, UsageError
from cmbagent_nb.skills.conditions import check_conditions
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.running.deviation import Happened
from cmbagent_nb.skills.running.deviation import find as deviations
from cmbagent_nb.skills.running.engine import execute
from cmbagent_nb.skills.running.finished_steps import FinishedSteps
from cmbagent_nb.skills.running.run import run_skill
from cmbagent_nb.skills.running.seen import ENOUGH, observe, ranges
from tests.held import extract, find
from tests.made_skills import make_skill
from tests.skill_runs import Home, Step, make_run

COUNT = """
import json
import pandas as pd

N_BINS = 4  # number of bins

df = pd.read_csv("input/table.csv")
with open("data/log.txt", "a") as file:
    file.write("counted\\n")
if N_BINS > 100:
    raise ValueError(f"cannot make {N_BINS} bins")
json.dump({"total": float(df["x"].sum()), "per_bin": float(df["x"].sum()) / N_BINS}, open("data/count.json", "w"))
"""
REPORT = """
import json
import os
import time
from pathlib import Path

PAUSE_S = 0.01  # seconds to rest

with open("data/log.txt", "a") as file:
    file.write("half a line")
if Path("WAIT").exists():
    Path("waiting").touch()
    time.sleep(600)
if Path("WAIT.die").exists():
    os.kill(os.getpid(), 9)
time.sleep(PAUSE_S)
with open("data/log.txt", "a") as file:
    file.write(", reported\\n")
found = json.load(open("data/count.json"))
json.dump({"twice": 2 * found["total"]}, open("data/report.json", "w"))
"""


#: While this file is there, the second step waits.
WAIT = Path(tempfile.gettempdir()) / f"cmbagent-test-wait-{os.getpid()}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("home"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def skill(home: Home) -> Skill:
    steps = [Step(COUNT, "Count"), Step(REPORT.replace("WAIT", str(WAIT)), "Report", depends_on=(1,))]
    run_id = make_run(home, "Count the table in 4 bins.", steps, {"table.csv": "x,y\n1,2\n2,3\n3,5\n"})
    made = extract(home.db, home.writer, home.path, run_id, name="count")
    assert made.status == "active", made.info.verification
    return made


def changed(skill: Skill, **columns: Any) -> Skill:
    """Return a skill after columns of its row were changed."""
    skill.info.writer.update("skills", skill.id, columns)
    skill.info.writer.barrier().result()
    return find(skill.info.db, skill.info.writer, skill.info.home, skill.id)


# ---- told before


@pytest.mark.parametrize(
    ("preconditions", "said"),
    [
        ({"packages": {"no_such_package": "1.0"}}, "pip install no_such_package"),
        ({"packages": {"pandas": ">=99"}}, "pip install 'pandas>=99'"),
        ({"files": ["/no/such/file.fits"]}, "/no/such/file.fits"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_made(skill: Skill, preconditions: Any, said: str) -> None:
    """A package, its version, a file outside: refused, and there is no folder and no row."""
    before = skill.info.db.rows("SELECT COUNT(*) AS n FROM skill_executions")[0]["n"]
    original = skill.info.preconditions
    try:
        with pytest.raises(SkillError, match=said.replace("(", ".").replace("+", ".")):
            changed(skill, preconditions=preconditions).run()
    finally:
        changed(skill, preconditions=original)
    assert skill.info.db.rows("SELECT COUNT(*) AS n FROM skill_executions")[0]["n"] == before


def test_another_version_of_a_package_is_a_note(skill: Skill) -> None:
    """What was made with an older major version runs, and says so."""
    original = skill.info.preconditions
    try:
        found = changed(skill, preconditions={"packages": {"pandas": "0.1"}})
        assert check_conditions(found.info) == [f"It was made with pandas 0.1; {pd.__version__} is installed."]
    finally:
        changed(skill, preconditions=original)


# ---- going on


CHILD = """
import sys
from pathlib import Path
from tests.held import find
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer

home = Path(sys.argv[1])
db = Database.open(home)
skill = find(db, Writer(db), home, sys.argv[2])
skill.execute({"N_BINS": 2})
"""


def test_a_killed_execution_goes_on_after_its_last_cell(home: Home, skill: Skill) -> None:
    """SIGKILL while the second of two steps runs: the first is not run again, what the second began is undone."""
    WAIT.touch()
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(home.path), skill.id], stderr=subprocess.PIPE, text=True)
    try:
        runs = home.path / "skills" / "count" / "runs"
        until = time.monotonic() + 60
        while not (waiting := list(runs.glob("*/waiting"))):
            assert time.monotonic() < until and child.poll() is None, child.communicate()[1]
            time.sleep(0.05)
    finally:
        kernels = children(child.pid)
        child.kill()
        child.wait()
        for pid in kernels:
            os.kill(pid, signal.SIGKILL)
        WAIT.unlink()
    assert child.stderr is not None
    child.stderr.close()
    folder = waiting[0].parent
    assert (folder / "data/log.txt").read_text() == "counted\nhalf a line"
    seen: list[str] = []
    done = skill.resume(folder.name, on_progress=lambda done, total, label: seen.append(label))
    assert (done.status, done.id, done.parameters) == ("completed", folder.name, {"N_BINS": 2}), done.error
    assert (folder / "data/log.txt").read_text() == "counted\nhalf a line, reported\n"
    assert done.metrics == {"total": 6.0, "per_bin": 3.0, "twice": 12.0}
    assert done.outputs == ["data/count.json", "data/log.txt", "data/report.json"]
    assert "1. Count" not in seen and "2. Report" in seen
    assert done.notes == ["It resumed after 1 finished step."]
    row = home.db.rows("SELECT * FROM skill_executions WHERE id = :id", id=done.id)[0]
    meta = json.loads(row["meta"])
    assert (row["status"], len(meta["resumed"]), sorted(meta["cells"])[-2:]) == ("completed", 1, ["step_1", "step_2"])
    with pytest.raises(SkillError, match="complete"):
        skill.resume(folder.name)


def test_an_execution_whose_kernel_died_goes_on(skill: Skill) -> None:
    """The kernel is shot in the second step: the execution failed, and goes on after the first."""
    die = WAIT.with_suffix(".die") if WAIT.suffix else Path(f"{WAIT}.die")
    die.touch()
    try:
        failed = skill.run(N_BINS=3)
    finally:
        die.unlink()
    assert (failed.status, failed.deviations[0]["kind"]) == ("failed", "error")
    assert "kernel died" in failed.error
    seen: list[str] = []
    done = skill.resume(failed.id, on_progress=lambda done, total, label: seen.append(label))
    assert done.status == "completed" and done.metrics["per_bin"] == 2.0
    assert "1. Count" not in seen and (done.work_dir / "data/log.txt").read_text() == "counted\nhalf a line, reported\n"


def children(pid: int) -> list[int]:
    import psutil

    return [item.pid for item in psutil.Process(pid).children(recursive=True)]


def test_a_notebook_whose_cells_share_names_starts_again(tmp_path: Path) -> None:
    """From its inputs as they were: what the interrupted attempt wrote is removed."""
    import nbformat

    folder, go, seen = tmp_path / "folder", tmp_path / "go", list[str]()
    folder.mkdir()
    (folder / "log.txt").write_text("an input, ")
    cells = [
        "from pathlib import Path\nx = 20\nlog = Path('log.txt')\nlog.write_text(log.read_text() + 'one')",
        f"if not Path({str(go)!r}).exists():\n    raise ValueError('not yet')\nPath('made.txt').write_text(str(2 * x))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    assert execute(notebook, folder, steps=FinishedSteps.begin(folder)).error == "ValueError: not yet"
    assert (folder / "log.txt").read_text() == "an input, one"
    go.touch()
    steps = FinishedSteps.read(folder)
    done = execute(notebook, folder, steps=steps, on_progress=lambda done, total, label: seen.append(label))
    assert (done.status, steps.kept, seen) == ("completed", 0, ["starting the kernel", "cell 1", "cell 2", "done"])
    assert ((folder / "log.txt").read_text(), (folder / "made.txt").read_text()) == ("an input, one", "40")


def test_an_execution_counts_once_as_it_ended_last(home: Home, tmp_path: Path) -> None:
    """A failure that is gone on with is one execution; one that was cancelled says nothing of the skill."""
    code = f"if not Path({str(tmp_path / 'go')!r}).exists():\n    raise ValueError('not yet')"
    skill = make_skill(home, "counted_once", [code])
    failed = skill.run()
    assert failed.status == "failed" and counts(skill) == (1, 0, 1)
    assert skill.resume(failed.id).status == "failed" and counts(skill) == (1, 0, 1)
    (tmp_path / "go").touch()
    assert skill.resume(failed.id).status == "completed" and counts(skill) == (1, 1, 0)
    stop = threading.Event()
    stop.set()
    assert skill._library.execute(skill, stop=stop).status == "cancelled" and counts(skill) == (1, 1, 0)


def counts(skill: Skill) -> tuple[int, int, int]:
    found = find(skill.info.db, skill.info.writer, skill.info.home, skill.id)
    return found.info.usage_count, found.info.success_count, found.info.failure_count


def test_a_file_of_the_skill_is_told_from_one_in_the_folder(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default means the skill's own file, and a note says how to mean the other one of that name."""
    table = Parameter("table_file", "str", "table.csv", kind="input")
    code = "json.dump({'lines': len(open(table_file).readlines())}, open('data/n.json', 'w'))"
    skill = make_skill(home, "own_file", [code], [table], assets={"table.csv": "x\n1\n"})
    monkeypatch.chdir(tmp_path)
    assert skill.run(table_file="table.csv").notes == []
    Path("table.csv").write_text("x\n1\n2\n3\n")
    own = skill.run(table_file="table.csv")
    assert own.metrics == {"lines": 2} and own.notes == [
        "table.csv for table_file is the skill's own file; write ./table.csv for the one in this folder."
    ]
    other = skill.run(table_file="./table.csv")
    assert other.metrics == {"lines": 4} and other.notes == [] == skill.run().notes


# ---- over a grid


def test_a_grid_is_one_table(skill: Skill) -> None:
    """Every combination is a row, also one that fails; they share a sweep; progress counts them."""
    seen: list[tuple[int, int, str]] = []
    frame = skill.sweep(n_bins=[200, 1, 2], on_progress=lambda *event: seen.append(event), parallel=2)
    assert frame["status"].tolist() == ["failed", "completed", "completed"]
    assert frame["N_BINS"].tolist() == [200, 1, 2]
    assert frame["per_bin"].tolist()[1:] == [6.0, 3.0] and pd.isna(frame["per_bin"][0])
    assert frame["error"][0] == "ValueError: cannot make 200 bins"
    names = ["status", "total", "per_bin", "twice", "duration_s", "error", "outputs", "work_dir", "execution_id"]
    assert list(frame.columns) == ["N_BINS", *names], "the numbers stand before the rest whichever failed"
    assert seen[0][:2] == (0, 3) and seen[-1][:2] == (3, 3) and seen[-1][2] == "1 failed"
    rows = skill.info.db.rows("SELECT id FROM skill_executions WHERE sweep_id = :id", id=frame.attrs["sweep_id"])
    assert {row["id"] for row in rows} == set(frame["execution_id"])


def test_a_grid_is_checked_before_it_starts(skill: Skill) -> None:
    """One value of the wrong type, a name that is none, no values: nothing runs."""
    before = skill.info.db.rows("SELECT COUNT(*) AS n FROM skill_executions")[0]["n"]
    for grid, said in (({"n_bins": [1, "many"]}, "whole number"), ({"bins": [1]}, "no parameter"), ({}, "vary")):
        with pytest.raises(SkillError, match=said):
            skill.sweep(grid)
    with pytest.raises(UsageError, match="Scheduler"):
        skill.sweep(n_bins=[1], scheduler="slurm")
    assert skill.info.db.rows("SELECT COUNT(*) AS n FROM skill_executions")[0]["n"] == before


def test_a_sweep_can_be_stopped(skill: Skill) -> None:
    """What runs is cancelled, what had not begun is a row that says so."""
    stop = threading.Event()

    def report(done: int, total: int, label: str) -> None:
        if done == 1:
            stop.set()

    frame = skill.sweep(n_bins=[1, 2, 3, 4], parallel=1, on_progress=report, stop=stop)
    assert frame["status"][0] == "completed"
    assert set(frame["status"][1:]) == {"cancelled"}
    assert frame["execution_id"].isna().sum() >= 2


@pytest.mark.full
def test_a_sweep_runs_on_dask(skill: Skill) -> None:
    """A worker of a local cluster, with its own writer on the same workspace; what fails there is a row here."""
    pytest.importorskip("distributed")
    frame = skill.sweep(n_bins=[3, 200], scheduler="dask", parallel=1)
    assert frame["status"].tolist() == ["completed", "failed"], frame["error"].tolist()
    assert frame["per_bin"][0] == 2.0 and frame["error"][1] == "ValueError: cannot make 200 bins"
    rows = skill.info.db.rows(
        "SELECT status FROM skill_executions WHERE sweep_id = :id ORDER BY status", id=frame.attrs["sweep_id"]
    )
    assert [row["status"] for row in rows] == ["completed", "failed"]


# ---- deviations


def test_a_range_is_held_against_what_lies_in_it(home: Home, skill: Skill) -> None:
    """Ranges widen with what succeeds; the same parameters must give the same; others are judged after enough."""
    first = skill.run(N_BINS=4)
    assert first.deviations == []
    for bins in (2, 4, 5, 8, 10):
        found = {"total": 6.0, "per_bin": 6.0 / bins, "twice": 12.0}
        files = {"total": "data/count.json", "per_bin": "data/count.json", "twice": "data/report.json"}
        observe(
            skill.info,
            {"N_BINS": bins},
            {name: (files[name], value) for name, value in found.items()},
            skill.info.folder,
        )
    state = ranges(skill.info)
    low, high = state["parameters"]["N_BINS"]
    assert state["n"] >= ENOUGH and (low <= 2, high) == (True, 10)
    note = skill.run(N_BINS=50)
    assert note.deviations == []
    assert f"N_BINS = 50 is outside of what has been run so far ({low} to 10)." in note.notes

    def result(**metrics: float) -> list[str]:
        own = {"total": 6.0, "per_bin": 1.0, "twice": 12.0, **metrics}
        names = ["data/count.json", "data/log.txt", "data/report.json"]
        happened = Happened("completed", "", {"N_BINS": 6}, names, own, note.work_dir)
        return [item.reason for item in deviations(skill.info, happened)]

    assert result() == []
    (said,) = result(per_bin=900.0)
    assert said.startswith("per_bin is 900, and was expected between -")
    happened = Happened("completed", "", {"N_BINS": 4}, [], {"total": 6.0}, note.work_dir)
    kinds = [(item.kind, item.details.get("metric")) for item in deviations(skill.info, happened)]
    assert kinds == [("result", "per_bin"), ("result", "twice")]


def test_what_deviates_is_kept_with_the_execution(skill: Skill) -> None:
    """A failing cell is an error with its step and its category; a second one is not new any more."""
    failed = run_skill(skill.info, {"N_BINS": 101})
    assert failed.deviations[0] | {"details": {}} == {
        "kind": "error",
        "reason": "ValueError: cannot make 101 bins",
        "node_id": "step_1",
        "details": {},
    }
    again = run_skill(skill.info, {"N_BINS": 102})
    assert again.deviations[0]["details"]["new"] is False
    kept = skill.info.db.rows("SELECT meta FROM skill_executions WHERE id = :id", id=again.id)[0]["meta"]
    assert json.loads(kept)["deviations"] == again.deviations
