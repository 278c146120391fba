"""The verbs of skills, on real skills: what each gives as JSON, what it says, and how it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cmbagent_nb import cli
from cmbagent_nb.errors import AmbiguousReference, SkillError, SkillNotFound, SkillUntrusted, UsageError
from cmbagent_nb.run import Run
from cmbagent_nb.skills.api import SkillLibrary
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.verbs import Output, execute
from cmbagent_nb.workspace import Workspace
from tests.made_skills import again, executed, make_skill
from tests.openai_server import OpenAIServer
from tests.shared_skill import package, put
from tests.skill_runs import Home, Step, make_run
from tests.team import code

LINE = """
import csv
import json
import statistics

X_MIN = 1.0  # smallest x used in the fit

rows = [row for row in csv.DictReader(open("input/points.csv")) if float(row["x"]) >= X_MIN]
x, y = [float(row["x"]) for row in rows], [float(row["y"]) for row in rows]
slope = statistics.linear_regression(x, y).slope
json.dump({"slope": slope, "points": len(rows)}, open("data/line.json", "w"))
"""
DOUBLED = """
import json

slope = json.load(open("data/line.json"))["slope"]
json.dump({"doubled": 2 * slope}, open("data/doubled.json", "w"))
"""
POINTS = "x,y\n" + "".join(f"{x},{2 * x + 1}\n" for x in range(1, 9))
TASK = "Fit a straight line to the points in points.csv, for x of at least 1."

#: A parameter and a notebook that need little time.
POWER = [
    "N = 3",
    "import json; json.dump({'power': 2 ** N}, open('data/power.json', 'w'))",
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a run, and a skill that was made of it by the verb; every test works on a copy."""
    home = tmp_path_factory.mktemp("shelf") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMBAGENT_STARTER_SKILLS", "off")
        opened = Home.open(home)
        run_id = make_run(opened, TASK, [Step(LINE), Step(DOUBLED, depends_on=(1,))], {"points.csv": POINTS})
        opened.close()
        workspace = Workspace(home)
        try:
            output = execute(
                workspace,
                f"skill extract {run_id[-8:]} --steps 1-2 --name line --tags fit,demo --public"
                " --description 'A line' --json",
            )
        finally:
            workspace.close()
    made = json.loads(output.text)
    assert (output.exit_status, made["status"]) == (0, "active"), made["verification"]
    assert {"skill_id", "name", "version", "status", "parameters", "notebook", "verification"} <= set(made)
    assert all({"name", "type", "default", "help"} <= set(item) for item in made["parameters"])
    assert {item["name"]: item["default"] for item in made["parameters"]}["X_MIN"] == 1.0
    assert Path(made["notebook"]).is_file()
    return home


@pytest.fixture
def ws(shelf: Path, tmp_path: Path) -> Iterator[Workspace]:
    home = tmp_path / "home"
    shutil.copytree(shelf, home)
    opened = Workspace(home)
    yield opened
    faults = opened._core.writer.faults
    opened.close()
    assert faults == 0


def as_json(ws: Workspace, line: str) -> Any:
    return json.loads(execute(ws, f"{line} --json").text)


def magic(ws: Workspace, line: str, **namespace: Any) -> Output:
    return execute(ws, line, front="magic", namespace=namespace)


def home_of(ws: Workspace) -> Home:
    return Home(ws.home, ws._core.db, ws._core.writer)


# ---- looking


def test_skills_are_listed_searched_and_sorted(ws: Workspace) -> None:
    home = home_of(ws)
    often = make_skill(home, "often", ["x = 1"], tags=["demo"], success_count=3, failure_count=1, usage_count=4)
    make_skill(home, "never", ["x = 2"], status="draft")
    rows = as_json(ws, "skills")
    assert [row["name"] for row in rows] == ["line", "never", "often"]
    assert "task_embedding" not in rows[0] and rows[0]["visibility"] == "public"
    assert {row["name"]: row["success_rate"] for row in rows} == {"line": None, "never": None, "often": 0.75}
    assert as_json(ws, "skills --sort success_rate")[0]["name"] == "often"
    assert [row["name"] for row in as_json(ws, "skills --status draft")] == ["never"]
    assert [row["name"] for row in as_json(ws, "skills --tags demo,fit")] == ["line"]
    assert [row["name"] for row in as_json(ws, "list-skills --search straight")] == ["line"]
    assert as_json(ws, "skills --search nowhere") == []
    assert "See all of them with cmbagent skills" in execute(ws, "skills --search nowhere").text
    assert often.id[-8:] in execute(ws, "skills --sort name --limit 3").text
    shown = magic(ws, "skills --search straight").display
    assert isinstance(shown, SkillLibrary) and shown._words == "straight"
    for line in ("skills --status perfect", "skills --sort beauty"):
        with pytest.raises(UsageError, match="invalid choice"):
            execute(ws, line)


def test_a_skill_is_shown_with_its_code(ws: Workspace) -> None:
    shown = magic(ws, "skill show line")
    assert isinstance(shown.display, Skill)
    assert ({"demo", "fit"} <= set(shown.data["tags"]), shown.data["description"]) == (True, "A line")
    assert "X_MIN" in shown.text
    assert "linear_regression" in as_json(ws, "skill code line")["code"]
    with pytest.raises(SkillNotFound, match="List the skills with"):
        execute(ws, "skill show nothing")


# ---- making


def test_a_notebook_becomes_a_skill_and_its_copy_the_next_version(ws: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "power.ipynb"
    new = nbformat.v4
    cells = [new.new_code_cell(POWER[0], metadata={"tags": ["parameters"]}), new.new_code_cell(POWER[1])]
    cells.insert(1, new.new_code_cell("import os; os.makedirs('data', exist_ok=True)"))
    notebook = new.new_notebook(cells=cells)
    nbformat.write(notebook, path)
    made = as_json(ws, f"skill create {path} --tags numbers")
    assert (made["name"], made["version"], made["status"]) == ("power", 1, "active"), made["verification"]
    notebook.cells[-1].source = POWER[1].replace("2 ** N", "3 ** N")
    nbformat.write(notebook, path)
    edited = as_json(ws, f"skill edit power {path} --reason 'threes'")
    assert (edited["version"], edited["status"]) == (2, "active"), edited["verification"]
    changed = as_json(ws, "skill diff power")
    assert (changed["old"], changed["new"]) in ((1, 2), (2, 1))
    assert any("3 ** N" in line for cell in changed["cells"] for line in cell["diff"])
    assert [row["version"] for row in as_json(ws, "skill-versions power")] == [1, 2]
    back = as_json(ws, "rollback-skill power --version 1 --reason 'twos were right'")
    assert (back["version"], back["status"], ws.skills.get("power").version) == (1, "active", 1)
    assert "twos were right" in execute(ws, "skill versions power").text
    with pytest.raises(UsageError, match="no version of power before v1"):
        execute(ws, "skill diff power")


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("skill extract RUN --name ../up", UsageError, "cannot be the name of a skill"),
        ("skill extract RUN 1 --steps 1 --name x", UsageError, "given twice"),
        ("skill extract RUN --steps 7 --name x", SkillError, "7"),
        ("skill extract RUN", UsageError, "--name"),
        ("skill create nothing.ipynb", SkillError, "nothing.ipynb"),
        ("skill edit line nothing.ipynb", SkillError, "nothing.ipynb"),
        ("skill run line X_MIN=many", UsageError, "is a number"),
        ("skill run line X_MAX=3", UsageError, "Did you mean X_MIN"),
        ("skill run line points=none.csv", UsageError, "is not there"),
        ("skill run line X_MIN=1 X_MIN=2", UsageError, "given twice"),
        ("skill run line X_MIN", UsageError, "Write NAME=VALUE"),
        ("skill run line --strict --adapt", UsageError, "exclude each other"),
        ("skill sweep line X_MIN=1,many", UsageError, "is a number"),
        ("skill sweep line X_MIN=[1,", UsageError, "no list in JSON"),
        ("skill sweep line nothing=1,2", UsageError, "no parameter 'nothing'"),
        ("skill match '  '", UsageError, "there is no task"),
        ("skill match x --min-similarity 7", UsageError, "not a number from 0 to 1"),
        ("skill resume 0000000000", SkillNotFound, "no execution matches"),
        ("skill compare-runs line 0000000000", SkillNotFound, "no execution matches"),
        ("skill compose --skills line", SkillError, "two skills or more"),
        ("skill compose x --skills line,line --connect a=b", UsageError, "--connect cannot be"),
        ("skill optimize line", SkillError, "It takes 10"),
        ("skill rollback line --version 7", SkillNotFound, "no version 7"),
        ("skill ab line 7", SkillNotFound, "no version 7"),
        ("skill ab line --last 0", UsageError, "whole number of 1 or more"),
        ("skill import nothing", UsageError, "nothing at nothing"),
        ("skill delete line", UsageError, "skill delete line --yes"),
        ("skill source add team", UsageError, "add NAME LOCATION"),
        ("skill usage --days 0", UsageError, "whole number of 1 or more"),
        ("run x --guided", UsageError, "Name it: --skill NAME"),
        ("run x --skill line --create-skill", UsageError, "Leave out"),
        ("run x --skill-name y", UsageError, "Add --create-skill"),
        ("run x --skill nothing", SkillNotFound, "no skill matches"),
    ],
)
def test_what_cannot_be_done_says_what_can(ws: Workspace, line: str, error: type[Exception], text: str) -> None:
    run = ws._core.db.rows("SELECT name FROM workflow_runs")[0]["name"]
    with pytest.raises(error) as caught:
        execute(ws, line.replace("RUN", run))
    said = str(caught.value)
    assert text.casefold() in said.casefold() and "\n" not in said
    assert ws._core.db.rows("SELECT COUNT(*) AS n FROM skill_executions WHERE mode <> 'verification'")[0]["n"] == 0
    assert [row["name"] for row in ws._core.db.rows("SELECT name FROM skills")] == ["line"]
    assert len(ws._core.db.rows("SELECT id FROM workflow_runs")) == 1


# ---- running


def test_a_skill_runs_with_other_values_and_inputs(ws: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "other points.csv"
    table.write_text("x,y\n1,9\n2,8\n3,7\n4,6\n")
    done = as_json(ws, f"skill run line x_min=2 points='{table}'")
    assert list(done)[:1] == ["execution_id"]
    assert {"execution_id", "status", "work_dir", "outputs", "duration_s", "adapted", "error"} <= set(done)
    assert (done["status"], done["adapted"], done["error"]) == ("completed", False, None)
    assert {"data/line.json", "data/doubled.json"} <= set(done["outputs"])
    line = json.loads(Path(done["work_dir"], "data/line.json").read_text())
    assert (round(line["slope"], 6), line["points"]) == (-1.0, 3)
    rows = as_json(ws, "skill executions line")
    assert [row["id"] for row in rows] == [done["execution_id"]]
    assert (rows[0]["skill"], rows[0]["version"], rows[0]["status"]) == ("line", 1, "completed")
    assert as_json(ws, "skill executions") == rows
    beside = as_json(ws, f"compare-skill-runs line {done['execution_id'][-8:]}")
    assert beside[0]["parameter X_MIN"] == 2.0
    assert beside[0]["execution_id"] == done["execution_id"]
    assert next(value for name, value in beside[0].items() if name.startswith("metric ") and "points" in name) == 3
    with pytest.raises(SkillError, match="complete"):
        execute(ws, f"skill resume {done['execution_id']}")


def test_in_a_notebook_a_variable_is_an_input(ws: Workspace) -> None:
    import pandas as pd

    mine = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [5.0, 4.0, 3.0]})
    done = magic(ws, "skill run line points=mine", mine=mine)
    assert done.display.status == "completed", done.display.error
    assert round(json.loads(done.display.path("data/line.json").read_text())["slope"], 6) == -1.0


def test_a_failing_execution_is_exit_status_1(ws: Workspace) -> None:
    output = execute(ws, "skill run line X_MIN=100")
    assert (output.exit_status, output.data["status"]) == (1, "failed")
    assert output.data["error"] and output.data["error"].splitlines()[0] in output.text
    row = as_json(ws, "skill executions line")[0]
    assert row["status"] == "failed"
    stats = as_json(ws, "skill-stats line")
    assert (stats[0]["executions"], stats[0]["failures"], stats[0]["success_rate"]) == (1, 1, 0.0)
    assert as_json(ws, "skill stats line --by errors")[0]["executions"] == 1


def test_a_sweep_is_a_row_for_each_combination(ws: Workspace) -> None:
    rows = as_json(ws, "skill sweep line X_MIN=1,3 --parallel 2")
    assert [row["X_MIN"] for row in rows] == [1.0, 3.0]
    assert {row["status"] for row in rows} == {"completed"}
    assert len({row["execution_id"] for row in rows}) == 2
    assert len({row["sweep_id"] for row in as_json(ws, "skill executions line")}) == 1
    beside = execute(ws, "skill compare-runs line").text.splitlines()
    assert [sorted(line.split()[-2:]) for line in beside if line.startswith("parameter X_MIN")] == [["1", "3"]]
    assert not any(line.startswith("parameter points_file") for line in beside)


def test_a_skill_as_a_run(ws: Workspace) -> None:
    output = execute(ws, "skill run line x_min=2 --strict --name again")
    assert (output.exit_status, output.data["name"], output.data["status"]) == (0, "again", "completed"), output.text
    assert output.data["mode"] == "skill"
    assert output.data["model_calls"] == 0
    assert output.data["execution_id"] == as_json(ws, "skill executions line")[0]["id"]
    assert "data/line.json" in output.data["outputs"]
    named = as_json(ws, f"run '{TASK}' --skill line --strict --set x_min=3")
    assert (named["status"], named["mode"]) == ("completed", "skill"), named["error"]
    assert as_json(ws, "skill executions line")[-1]["parameters"]["X_MIN"] == 3.0
    started = magic(ws, "skill run line --strict")
    assert isinstance(started.display, Run)
    assert started.display.wait(60).status == "completed"


def test_a_run_makes_a_skill_when_it_is_asked_to(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = code("import json\nTOP = 4\njson.dump([n * n for n in range(TOP)], open('data/s.json', 'w'))\n", "s.py")
    with OpenAIServer(lambda request: squares) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        output = execute(ws, "run 'Compute the squares.' --create-skill --skill-name squares")
    assert output.exit_status == 0
    assert (output.data["skill"]["name"], output.data["skill"]["status"]) == ("squares", "active")
    assert "skill     squares v1: verified" in output.text


# ---- matching


def test_a_task_finds_its_skill_and_another_none(ws: Workspace) -> None:
    found = as_json(ws, f"skill match '{TASK}' --tags fit")
    assert [row["name"] for row in found] == ["line"]
    assert list(found[0])[:7] == ["name", "version", "score", "semantic", "lexical", "tags", "reason"]
    assert 0.7 <= found[0]["score"] <= 1
    assert as_json(ws, f"skill match '{TASK}' --tags other") == []
    nothing = execute(ws, "skill match 'Bake a cake with apples' --json")
    assert (nothing.text, nothing.exit_status) == ("[]", 0)
    assert "--explain" in execute(ws, "skill match 'Bake a cake with apples'").text
    explained = as_json(ws, "skill match 'Bake a cake with apples' --explain")
    assert [(row["name"], row["fits"]) for row in explained] == [("line", False)]


def test_skills_that_do_a_task_together(ws: Workspace) -> None:
    make_skill(home_of(ws), "mean", ["x = 1"], task="Compute the mean and the median of the heights of the trees.")
    asked = f"'{TASK.rstrip('.')}; compute the mean and the median of the heights of the trees'"
    found = as_json(ws, f"skill composable {asked}")
    assert [item["name"] for item in found[0]["skills"]] == ["line", "mean"]
    assert "--skills line,mean --pattern" in execute(ws, f"skill composable {asked}").text
    assert as_json(ws, "skill composable 'Bake a cake with apples'") == []


def test_what_was_done_three_times_is_suggested(ws: Workspace) -> None:
    home = home_of(ws)
    assert as_json(ws, "skill suggest") == []
    other = """
import json
import statistics

numbers = [float(line) for line in open("input/numbers.txt")]
middle = statistics.median(numbers)
spread = statistics.pstdev(numbers)
json.dump({"median": middle, "spread": spread}, open("data/numbers.json", "w"))
print(middle, spread)
"""
    for _ in range(3):
        make_run(home, "Summarize the numbers.", [Step(other, title="Summarize")], {"numbers.txt": "1\n2\n5\n"})
    found = as_json(ws, "suggest-skills")
    assert [row["runs"] for row in found] == [3]
    text = execute(ws, "skill suggest").text
    call = next(row for row in text.splitlines() if "skill extract" in row).strip().removeprefix("cmbagent ")
    assert execute(ws, call).data["status"] == "active"


# ---- learning


def test_figures_of_all_skills(ws: Workspace) -> None:
    home = home_of(ws)
    skill = ws.skills.get("line")
    for number in range(4):
        executed(home, skill, duration_s=1.0 + number, status="failed" if number == 0 else "completed")
    ws._core.writer.barrier().result()
    found = as_json(ws, "skill analytics --top 3 --metric success_rate")
    assert set(found) == {"top", "usage", "cost", "adaptations", "consolidation"}
    assert (found["top"][0]["name"], found["top"][0]["success_rate"]) == ("line", 0.75)
    usage = as_json(ws, "skill-usage --days 7")
    assert len(usage) == 7
    assert (usage[-1]["executions"], usage[-1]["failures"]) == (4, 1)
    assert usage[-1]["day"] == as_json(ws, "skill usage --days 1")[0]["day"]
    assert "Skills by success_rate" in execute(ws, "skill-analytics --metric success_rate").text
    assert "v1" in str(ws.skills.get("line")) and "0.75" in execute(ws, "skill stats line").text


def test_ten_executions_are_enough_to_learn_from(ws: Workspace) -> None:
    home = home_of(ws)
    again(home, executed(home, ws.skills.get("line"), parameters={"X_MIN": 2.0}), 10)
    found = as_json(ws, "optimize-skill line")
    assert (found["executions"], found["new_version"]) == (11, None)
    assert any(item["kind"] == "default" and item["target"] == "X_MIN" for item in found["recommendations"])
    assert "skill optimize line --apply" in execute(ws, "skill optimize line").text


def test_versions_are_tried_beside_each_other(ws: Workspace) -> None:
    make_skill(home_of(ws), "line", ["X = 1"])
    found = as_json(ws, "skill ab line --last 1")
    assert found["versions"] == {"a": 2, "b": 1} and len(found["executions"]) == 1
    assert found["executions"][0]["status_b"] == "completed"
    assert "v1: 1 of 1 succeeded" in execute(ws, "skill-ab line 1 --last 1").text
    with pytest.raises(UsageError, match="no version of line before v1"):
        execute(ws, "skill ab line@1")


def test_skills_are_composed(ws: Workspace) -> None:
    made = as_json(ws, "skill compose --skills line,line --pattern parallel --name twice")
    assert (made["name"], made["status"]) == ("twice", "active"), made["verification"]


# ---- sharing


def test_export_import_trust_run_delete(ws: Workspace, tmp_path: Path) -> None:
    for kind in ("folder", "json"):
        made = as_json(ws, f"skill export line {tmp_path / kind} --format {kind} --licence MIT")
        assert (made["format"], Path(made["path"]).exists()) == (kind, True)
        taken = as_json(ws, f"import-skill {made['path']} --name from_{kind}")
        assert (taken["name"], taken["trusted"]) == (f"from_{kind}", False)
        assert "linear_regression" in taken["code"]
    with pytest.raises(SkillUntrusted, match="skill trust from_json"):
        execute(ws, "skill run from_json")
    trusted = as_json(ws, "skill trust from_json")
    assert (trusted["trusted"], trusted["status"]) == (True, "active")
    assert as_json(ws, "skill verify from_json")["verification"]["verified"] is True
    gone = as_json(ws, "delete-skill from_json --all --yes")
    assert (gone["versions"], gone["deleted"]) == ([1], True)
    assert [row["name"] for row in as_json(ws, "skills")] == ["from_folder", "line"]


def test_the_skills_of_a_team(ws: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "team"
    put(package("power_sum"), folder / "power-sum")
    assert "no sources" in execute(ws, "skill source").text
    assert [row["name"] for row in as_json(ws, f"skill source add team {folder}")] == ["team"]
    assert [(row["skill"], row["change"]) for row in as_json(ws, "skill sync")] == [("power_sum", "new")]
    assert "cmbagent skill trust" in execute(ws, f"skill import {folder / 'power-sum'}").text
    shown = as_json(ws, "skill publish line --to team")
    assert (shown["visibility"], any(folder.glob("line*/SKILL.md"))) == ("public", True)
    assert as_json(ws, "skill publish line --private")["visibility"] == "private"
    assert as_json(ws, "skill source remove team") == []


# ---- the command line


def test_exit_statuses_and_one_line(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CMBAGENT_HOME", str(ws.home))
    for words, status in (
        (["skills", "--json"], 0),
        (["skill", "match", "Bake a cake", "--json"], 0),
        (["skill", "show", "nothing"], 2),
        (["skill", "run", "line", "X_MIN=many"], 2),
        (["skill", "optimize", "line"], 1),
    ):
        assert cli.main(words) == status
        out, err = capsys.readouterr()
        if status == 0:
            assert isinstance(json.loads(out), list)
        else:
            assert out == ""
            assert len(err.splitlines()) == 1 and err.startswith("cmbagent: ")


def test_an_execution_is_named_by_part_of_its_id(ws: Workspace) -> None:
    home = home_of(ws)
    ids = [f"0190{number}000-0000-7000-8000-00000000000{number}" for number in (1, 2)]
    for execution_id in ids:
        executed(home, ws.skills.get("line"), id=execution_id)
    ws._core.writer.barrier().result()
    assert [row["execution_id"] for row in as_json(ws, f"skill compare-runs line {ids[1][-8:]} {ids[0]}")] == ids[::-1]
    with pytest.raises(AmbiguousReference, match="fits 2 executions"):
        execute(ws, "skill resume 0190")
