"""Skills in the library: versions, wrong use, what an execution leaves, and what a kernel is given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil
import pytest

from cmbagent_nb.errors import SkillError, SkillNotFound
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills import library, rows
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.running.engine import execute
from tests import held as holding
from tests.held import extract
from tests.skill_runs import Home, Step, make_run

CODE = '''"""Count the rows of a table above a limit."""
import json
import pandas as pd
import matplotlib.pyplot as plt

LIMIT = 2.5  # smallest value that counts
MODE_COUNT = 3

df = pd.read_csv("input/table.csv")
chosen = df[df["value"] > LIMIT]
with open("data/count.json", "w") as file:
    json.dump({"count": len(chosen), "mean": float(chosen["value"].mean()), "modes": MODE_COUNT}, file)
plt.figure(figsize=(2, 2))
plt.plot(chosen["value"])
plt.savefig("plots/value.png")
print("counted", len(chosen))
'''
TABLE = "value,extra\n1.0,a\n2.0,b\n3.0,c\n4.0,d\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("skills") / "home")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def run_id(home: Home) -> str:
    return make_run(home, "Count the rows.", [Step(CODE, title="Count")], {"table.csv": TABLE})


@pytest.fixture(scope="module")
def skill(home: Home, run_id: str) -> Skill:
    return extract(home.db, home.writer, home.path, run_id, name="count", tags=["rows", "table"])


def executions(home: Home) -> list[dict[str, Any]]:
    home.writer.barrier().result()
    return home.db.rows("SELECT * FROM skill_executions ORDER BY started_at")


def test_a_skill_says_what_it_is(home: Home, skill: Skill, run_id: str) -> None:
    """Its line, its JSON, its row, its folder, its notebook, and an event in the run's record."""
    assert skill.info.summary() == (
        "verified: 2 of 2 files reproduced; 2 parameters: LIMIT (float, 2.5), MODE_COUNT (int, 3); "
        "1 input file: table_file (input/table.csv); "
        "2 output files: count_file (data/count.json), value_file (plots/value.png)"
    )
    assert {"skill_id", "name", "version", "status", "parameters", "notebook", "verification"} == set(
        skill.info.as_dict()
    )
    assert "smallest value that counts" in skill._repr_html_()
    assert (skill.info.folder / "verification.json").is_file()
    assert (skill.info.assets / "input" / "table.csv").read_text() == TABLE
    notebook = nbformat.read(skill.notebook, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [
        "about", "outputs", "parameters", "imports", "setup", "step_1-about", "step_1", "step_1-shows",
    ]  # fmt: skip
    assert notebook.cells[2].source.splitlines()[0] == "LIMIT: float = 2.5  # smallest value that counts"
    provenance = notebook.metadata["cmbagent_nb"]
    assert provenance["run"]["id"] == run_id
    assert provenance["steps"][0]["node_id"] == "step_1"
    assert {"python", "pandas", "matplotlib"} <= set(provenance["versions"])
    row = home.db.rows("SELECT * FROM skills WHERE id = :id", id=skill.id)[0]
    assert (row["status"], row["source_run_id"], row["visibility"]) == ("active", run_id, "private")
    assert {"rows", "table", "pandas", "json"} <= set(json.loads(row["tags"]))
    assert json.loads(row["input_schema"])["input/table.csv"]["columns"] == {"value": "float64", "extra": "str"} or (
        json.loads(row["input_schema"])["input/table.csv"]["columns"] == {"value": "float64", "extra": "object"}
    )
    event = home.db.rows("SELECT * FROM execution_events WHERE event_type = 'skill' ORDER BY execution_order")[0]
    assert (event["run_id"], event["node_id"], event["status"]) == (run_id, "step_1", "completed")


def test_papermill_reads_the_parameters(skill: Skill) -> None:
    """The parameters cell is as papermill wants it: names, types, defaults, help."""
    from papermill import inspect_notebook

    found = inspect_notebook(str(skill.notebook))
    assert found["LIMIT"]["inferred_type_name"] == "float"
    assert found["LIMIT"]["help"] == "smallest value that counts"
    assert found["table_file"]["default"] == "'input/table.csv'"


def test_a_run_with_other_values(home: Home, skill: Skill) -> None:
    """Names in any case, outputs, metrics, the executed notebook, the record and the counters."""
    before = holding.find(home.db, home.writer, home.path, "count")
    progress: list[tuple[int, int, str]] = []
    threads: set[int] = set()

    def on_progress(done: int, total: int, label: str) -> None:
        progress.append((done, total, label))
        threads.add(threading.get_ident())

    execution = skill._library.execute(skill, {"limit": "1.5"}, on_progress=on_progress)
    assert (execution.status, execution.outputs) == ("completed", ["data/count.json", "plots/value.png"])
    assert execution.metrics == {"count": 3, "mean": 3.0, "modes": 3}
    assert execution.parameters == {"LIMIT": 1.5}
    html = execution._repr_html_()
    assert "data:image/png;base64," in html
    assert "completed" in html
    executed = nbformat.read(execution.notebook, as_version=4)
    assert any("injected-parameters" in cell.metadata.get("tags", []) for cell in executed.cells)
    outputs = {cell.id: str(cell.outputs) for cell in executed.cells if cell.cell_type == "code"}
    assert "counted 3" in outputs["step_1"] and "image/png" in outputs["step_1-shows"]
    assert "widgets" not in executed.metadata
    assert (progress[0], progress[-1]) == ((0, 7, "starting the kernel"), (7, 7, "done"))
    assert (5, 7, "1. Count") in progress
    assert threads == {threading.get_ident()}
    row = executions(home)[-1]
    assert (row["id"], row["status"], row["success"], row["cost_usd"]) == (execution.id, "completed", 1, 0.0)
    assert json.loads(row["parameters"]) == {"LIMIT": 1.5}
    assert json.loads(row["outputs"]) == execution.outputs
    assert row["ended_at"] >= row["started_at"]
    after = holding.find(home.db, home.writer, home.path, "count")
    assert (after.info.usage_count, after.info.success_count) == (
        before.info.usage_count + 1,
        before.info.success_count + 1,
    )
    assert after.info.avg_execution_time_s


def test_another_file_and_a_frame_for_an_input(skill: Skill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input may be a path, relative to where the caller is, or a DataFrame; the name may do without ``_file``."""
    (tmp_path / "mine.csv").write_text("value\n10\n20\n30\n")
    monkeypatch.chdir(tmp_path)
    assert skill.run(table_file="mine.csv").metrics["count"] == 3
    assert Path.cwd() == tmp_path
    frame = pd.DataFrame({"value": [5.0, 6.0]})
    execution = skill.run(table=frame)
    assert execution.metrics["count"] == 2
    assert execution.parameters == {"table_file": "input/table_file.csv"}


def test_wrong_use_starts_nothing(home: Home, skill: Skill, tmp_path: Path) -> None:
    """Unknown names, wrong types, missing files and columns are told before a folder or a row is made."""
    (tmp_path / "other.csv").write_text("x\n1\n")
    count = len(executions(home))
    folders = sorted((home.path / "skills" / "count").rglob("*"))
    for given, text in [
        ({"limits": 1}, "no parameter 'limits'. Did you mean LIMIT?"),
        ({"LIMIT": "high"}, "Parameter LIMIT of skill count is a number, not 'high'"),
        ({"MODE_COUNT": 2.5}, "is a whole number, not 2.5"),
        ({"LIMIT": 1, "limit": 2}, "given twice"),
        ({"table_file": "nowhere.csv"}, "The file nowhere.csv for parameter table_file is not there"),
        ({"table_file": str(tmp_path / "other.csv")}, "has no column value"),
        ({"table_file": pd.DataFrame({"x": [1]})}, "has no column value"),
        ({"table_file": 3}, "cannot be written as"),
    ]:
        with pytest.raises(SkillError) as caught:
            skill.run(**given)
        assert text in str(caught.value)
    assert len(executions(home)) == count
    assert sorted((home.path / "skills" / "count").rglob("*")) == folders


def test_a_cell_that_fails_is_an_execution_that_failed(home: Home, skill: Skill, tmp_path: Path) -> None:
    """It is told and kept, with the notebook up to there; nothing is raised."""
    (tmp_path / "text.csv").write_text("value\nabc\n")
    execution = skill.run(table_file=str(tmp_path / "text.csv"))
    assert execution.status == "failed"
    assert "TypeError" in execution.error
    assert "TypeError" in execution.notebook.read_text()
    assert "TypeError" in execution._repr_html_()
    row = executions(home)[-1]
    assert (row["status"], row["success"]) == ("failed", 0)
    assert holding.find(home.db, home.writer, home.path, "count").info.failure_count == 1


def test_the_same_name_again_is_the_next_version(home: Home, skill: Skill, run_id: str) -> None:
    """Both stay; the name means the newest that is active; nothing half-made is left."""
    second = extract(home.db, home.writer, home.path, run_id, name="count", steps="1")
    assert (second.version, second.info.folder.name) == (2, "v2")
    row = home.db.rows("SELECT parent_skill_id FROM skills WHERE id = :id", id=second.id)[0]
    assert row["parent_skill_id"] == skill.id
    assert holding.find(home.db, home.writer, home.path, "count").id == second.id
    assert holding.find(home.db, home.writer, home.path, "count@1").id == skill.id
    names = [item.version for item in library.list_skills(home.db, home.writer, home.path, name="count")]
    assert names == [2, 1]
    first, again = (nbformat.read(item.notebook, as_version=4) for item in (skill, second))
    assert first == again
    assert list((home.path / "skills" / ".making").iterdir()) == []


def test_what_is_not_there_or_was_changed(home: Home, run_id: str) -> None:
    """An unknown skill or step, a bad name, a changed notebook: told with the way out."""
    with pytest.raises(SkillNotFound):
        holding.find(home.db, home.writer, home.path, "nothing")
    for options, text in [
        ({"name": "../evil"}, "cannot be the name"),
        ({"name": "x", "steps": "7"}, "has no step_7"),
        ({"name": "x", "steps": "a-b"}, "not a choice of steps"),
        ({"name": "x", "steps": ""}, "No step is chosen"),
    ]:
        with pytest.raises(SkillError, match=text):
            extract(home.db, home.writer, home.path, run_id, **options)
    copy = extract(home.db, home.writer, home.path, run_id, name="changed")
    copy.notebook.write_text(copy.notebook.read_text().replace("counted", "discounted"))
    with pytest.raises(SkillError, match="was changed"):
        copy.run()
    with pytest.raises(SkillError, match="was changed"):
        holding.load(home.db, home.writer, home.path, "changed")


def test_code_that_cannot_be_reproduced_stays_a_draft(home: Home) -> None:
    """Random numbers without a seed: the reason is kept, and the skill can be looked at and run."""
    code = "import numpy as np\nSCALE = 2.0\nnp.save('data/x.npy', np.random.default_rng().normal(0, SCALE, 3))\n"
    run_id = make_run(home, "Numbers.", [Step(code)])
    draft = extract(home.db, home.writer, home.path, run_id, name="unseeded")
    assert (draft.status, draft.verified) == ("draft", False)
    assert "data/x.npy: the array" in draft.info.verification["reason"]
    assert "draft, not verified" in str(draft)
    assert [item.name for item in draft.parameters] == ["SCALE", "x_file"]
    assert library.list_skills(home.db, home.writer, home.path, name="unseeded", status="active") == []
    assert draft.run(scale=1).status == "completed"


def test_a_run_without_code_makes_no_skill(home: Home) -> None:
    """It is told, and nothing is left."""
    run_id = make_run(home, "Nothing.", [])
    with pytest.raises(SkillError, match="no step whose code succeeded"):
        extract(home.db, home.writer, home.path, run_id, name="nothing")


def test_an_untrusted_skill_is_not_run(home: Home, run_id: str) -> None:
    """Not before its user says so."""
    foreign = extract(home.db, home.writer, home.path, run_id, name="foreign")
    home.writer.update("skills", foreign.id, {"trusted": False})
    home.writer.barrier().result()
    with pytest.raises(SkillError, match="not trusted"):
        holding.find(home.db, home.writer, home.path, "foreign").run()


# -- the kernel --------------------------------------------------------------------------------


def notebook(*sources: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def printed(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_kernel_is_this_interpreter_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no start-up file, the folder it was given; the caller's folder stays."""
    import sys

    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-key-0123456789")
    monkeypatch.setenv("SOME_TOKEN", "planted-token-0123456789")
    here = Path.cwd()
    code = "import os, sys\nprint(sys.executable)\nprint(os.getcwd())\nprint('planted' in str(os.environ))"
    executed = execute(notebook(code), tmp_path)
    assert printed(executed.notebook.cells[0]).splitlines() == [sys.executable, str(tmp_path), "False"]
    assert Path.cwd() == here


def kernels() -> set[int]:
    """Return the forks of the processes that start kernels."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "warm_child" in " ".join(child.cmdline()) and child.ppid() != os.getpid():
                found.add(child.pid)
    return found


def test_a_kernel_that_runs_too_long_or_dies_is_gone(tmp_path: Path) -> None:
    """The reason is told, and no process is left."""
    before = kernels()
    late = execute(notebook("import time\ntime.sleep(60)"), tmp_path, timeout_s=2)
    assert (late.status, late.duration_s < 30) == ("timeout", True)
    dead = execute(notebook("import os\nos._exit(3)"), tmp_path)
    assert (dead.status, "died" in dead.error) == ("failed", True)
    assert kernels() <= before


def test_an_execution_can_be_stopped(tmp_path: Path) -> None:
    """From another thread, in the middle of a cell, with what the cell started."""
    before = kernels()
    stop = threading.Event()
    started = tmp_path / "started"
    code = "import time\nopen('started', 'w').close()\nwhile True:\n    time.sleep(0.05)"

    def watch() -> None:
        while not started.exists():
            stop.wait(0.02)
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    executed = execute(notebook(code), tmp_path, save_to=tmp_path / "out.ipynb", timeout_s=60, stop=stop)
    watcher.join()
    assert executed.status == "cancelled"
    assert kernels() <= before
    assert (tmp_path / "out.ipynb").is_file()


def test_it_can_be_called_where_a_loop_runs_and_its_callback_may_fail(tmp_path: Path) -> None:
    """As in a notebook's cell; what the callback raises stops the kernel and reaches the caller."""
    before = kernels()

    async def in_a_cell() -> str:
        return execute(notebook("1 + 1"), tmp_path).status

    def interrupt(done: int, total: int, label: str) -> None:
        raise KeyboardInterrupt

    assert asyncio.run(in_a_cell()) == "completed"
    with pytest.raises(KeyboardInterrupt):
        execute(notebook("import time\ntime.sleep(30)"), tmp_path, on_progress=interrupt)
    assert kernels() <= before
    assert os.getpid() not in kernels()


DIES = """
import os, signal, sys
from pathlib import Path
from tests.held import find
from tests.skill_runs import Home

def die(done, total, label):
    if done:
        home.writer.barrier().result()
        os.kill(os.getpid(), signal.SIGKILL)

home = Home.open(Path(sys.argv[1]))
find(home.db, home.writer, home.path, "count@1").execute({}, on_progress=die)
"""


def test_an_execution_whose_process_died_becomes_interrupted(home: Home, skill: Skill) -> None:
    """By whoever looks at the skills next; one that runs in a living process stays as it is."""
    root = str(Path(__file__).resolve().parents[1])
    dead = subprocess.run([sys.executable, "-c", DIES, str(home.path)], cwd=root, timeout=60, check=False)
    assert dead.returncode == -signal.SIGKILL
    row = executions(home)[-1]
    assert row["status"] == "running"
    own: list[str] = []

    def look(done: int, total: int, label: str) -> None:
        if done and not own:
            library.list_skills(home.db, home.writer, home.path)
            own.extend(item["status"] for item in executions(home) if item["id"] != row["id"])

    library.list_skills(home.db, home.writer, home.path)
    found = executions(home)[-1]
    assert (found["id"], found["status"], found["success"]) == (row["id"], "interrupted", 0)
    assert found["ended_at"] >= found["started_at"]
    assert "process ended" in found["error"]
    assert skill._library.execute(skill, {}, on_progress=look).status == "completed"
    assert own[-1] == "running"
    assert executions(home)[-1]["status"] == "completed"


def test_an_execution_of_another_machine_is_given_the_time_that_it_may_take(home: Home, skill: Skill) -> None:
    now, ids = time.time(), [new_id(), new_id(), new_id()]
    elsewhere = {"host": "elsewhere.example", "pid": 1, "started": now}
    for id, age, meta in (
        (ids[0], 1000.0, {"owner": elsewhere, "timeout_s": 3600.0}),
        (ids[1], 9000.0, {"owner": elsewhere, "timeout_s": 3600.0}),
        (ids[2], 9000.0, {"owner": elsewhere, "timeout_s": None}),
    ):
        row = {"id": id, "skill_id": skill.id, "status": "running", "started_at": now - age, "meta": meta}
        home.writer.insert("skill_executions", row)
    home.writer.barrier().result()
    assert rows.interrupt_executions(home.db, home.writer) == [ids[1]]
    assert rows.interrupt_executions(home.db, home.writer) == []
