"""Composing skills: what fits is found, what does not is told before, and the result is verified and run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.composing.when import parse
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.workspace import Workspace
from tests import held as holding
from tests.held import compose, plan
from tests.made_skills import make_skill
from tests.skill_runs import Home

TABLE = """\
import csv
import math

rows = [(x, slope * x + math.sin(x)) for x in range(n)]
with open(table_name, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["x", "y"])
    writer.writerows(rows)
with open("data/summary.json", "w") as file:
    json.dump({"rows": len(rows), "largest": max(y for _, y in rows)}, file)
"""
FIT = """\
import csv

with open(table_file) as file:
    rows = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
xs, ys = zip(*rows)
mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
slope_found = sum((x - mean_x) * (y - mean_y) for x, y in rows) / sum((x - mean_x) ** 2 for x in xs)
with open("data/fit.json", "w") as file:
    json.dump({"slope": slope_found, "n": n, "from": table_file}, file)
"""
NOTE = """\
with open("data/note.txt", "w") as file:
    file.write(f"n is {n}: {text}\\n")
"""
SCHEMA = {"kind": "table", "columns": {"x": "int64", "y": "float64"}, "rows": 5}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("compose") / "home")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def parts(home: Home) -> dict[str, Skill]:
    """A table, a fit of a table, and a note, each with a parameter n."""
    return three(home, table="table", fit="fit", note="note")


def three(home: Home, **tasks: str) -> dict[str, Skill]:
    """Put three skills into the library, for these tasks."""
    table = make_skill(
        home,
        "table",
        [TABLE],
        [
            Parameter("n", "int", 5),
            Parameter("slope", "float", 2.0),
            Parameter("table_name", "str", "data/points.csv", kind="output"),
        ],
        made={"data/points.csv": SCHEMA, "data/summary.json": {"kind": "json", "type": "dict", "keys": ["rows"]}},
        task=tasks["table"],
    )
    fit = make_skill(
        home,
        "fit",
        [FIT],
        [Parameter("n", "int", 7), Parameter("table_file", "str", "input/points.csv", kind="input")],
        assets={"input/points.csv": "x,y\n0,0\n1,1\n2,2\n"},
        made={"data/fit.json": {"kind": "json", "type": "dict", "keys": ["slope", "n"]}},
        task=tasks["fit"],
    )
    note = make_skill(
        home,
        "note",
        [NOTE],
        [Parameter("n", "int", 1), Parameter("text", "str", "fine")],
        made={"data/note.txt": {"kind": "other"}},
        task=tasks["note"],
    )
    return {"table": table, "fit": fit, "note": note}


@pytest.fixture(scope="module")
def study(parts: dict[str, Skill]) -> Skill:
    return compose("study", [parts["table"], parts["fit"]])


def test_one_after_the_other(home: Home, study: Skill) -> None:
    """The fit reads what the table made; parameters that clash have names of their own; the result runs with others."""
    skill = study
    assert skill.status == "active", skill.info.verification["reason"]
    assert [item.name for item in skill.parameters] == ["table_n", "slope", "table_name", "fit_n"]
    about = skill.info.meta["composition"]
    assert about["components"][1]["links"] == [
        {
            "from": "table:data/points.csv",
            "to": "fit:input/points.csv",
            "parameter": "table_file",
            "how": "the same name and content",
        }
    ]
    assert skill.info.dag_template["edges"] == [["step_1", "step_2"]]
    compared = {(item["path"], item["against"]) for item in skill.info.verification["files"]}
    assert ("fit/data/fit.json", "fit alone") in compared
    assert ("fit/data/fit.json", "first") in compared
    done = holding.find(home.db, home.writer, home.path, "study").run(
        slope=3.0, table_n=50, table_name="data/other.csv"
    )
    assert done.success, done.error
    assert set(done.outputs) == {"table/data/other.csv", "table/data/summary.json", "fit/data/fit.json"}
    found = json.loads(done.path("fit/data/fit.json").read_text())
    assert abs(found["slope"] - 3.0) < 0.1
    assert (found["n"], done.metrics["rows"]) == (7, 50)


def test_side_by_side(parts: dict[str, Skill]) -> None:
    """Three skills in one form; n is one parameter where that is wanted; inputs stay the skills' own."""
    skill = compose("both", [parts["fit"], parts["note"]], "parallel", share=["n"])
    assert skill.status == "active", skill.info.verification["reason"]
    assert {item.name: item.default for item in skill.parameters} == {
        "n": 7,
        "table_file": "fit/input/points.csv",
        "text": "fine",
    }
    assert skill.info.input_schema.keys() == {"fit/input/points.csv"}
    assert skill.info.dag_template["edges"] == []
    done = skill.run(n=9)
    assert json.loads(done.path("fit/data/fit.json").read_text())["from"] == "input/points.csv"
    assert done.path("note/data/note.txt").read_text() == "n is 9: fine\n"


def test_where_a_condition_holds(parts: dict[str, Skill]) -> None:
    """The fit runs for many rows, the note for few; both ways are verified, and only one runs."""
    when = 'rows > 4 and "data/points.csv" in outputs'
    skill = compose("choice", [parts["table"], parts["fit"], parts["note"]], "conditional", when=when)
    assert skill.status == "active", skill.info.verification["reason"]
    assert "the other way of the condition was run, too" in skill.info.verification["notes"]
    assert any(item["path"] == "note/data/note.txt" for item in skill.info.verification["files"])
    many, few = skill.run(), skill.run(table_n=3)
    assert {name.partition("/")[0] for name in many.outputs} == {"table", "fit"}
    assert {name.partition("/")[0] for name in few.outputs} == {"table", "note"}
    assert not [item for item in few.deviations if item["kind"] == "output"]


def test_a_composition_of_compositions(parts: dict[str, Skill], study: Skill) -> None:
    """A composition is a skill like any other, so it can be a part; inner folders and kernels stay apart."""
    skill = compose("outer", [study, parts["note"]], "parallel")
    assert skill.status == "active", skill.info.verification["reason"]
    done = skill.run(slope=5.0)
    assert set(done.outputs) >= {"study/fit/data/fit.json", "note/data/note.txt"}
    assert json.loads(done.path("study/fit/data/fit.json").read_text())["slope"] > 4.5


@pytest.mark.parametrize(
    ("names", "pattern", "options", "said"),
    [
        (["note", "fit"], "sequential", {}, "nothing that fit reads (input/points.csv) is made before it"),
        (["fit"], "sequential", {}, "two skills or more"),
        (["fit", "note"], "circular", {}, "'circular' is no pattern"),
        (["fit", "note"], "conditional", {}, "needs a condition"),
        (["fit", "note"], "parallel", {"when": "n > 1"}, "no meaning in a parallel"),
        (["table", "note"], "conditional", {"when": '"data/gone.csv" in outputs'}, "names data/gone.csv"),
        (["table", "fit"], "sequential", {"connect": {"fit.table_file": "table:data/summary.json"}}, "it holds json"),
        (["table", "fit"], "sequential", {"connect": {"fit.other": "table:data/points.csv"}}, "does not read other"),
        (["table", "fit"], "sequential", {"connect": {"table.x": "fit:y"}}, "write it as in"),
        (
            ["table", "fit"],
            "conditional",
            {"when": "__import__('os').system('ls') > 1"},
            "cannot be part of a condition",
        ),
    ],
)
def test_what_does_not_fit_is_told_before(
    home: Home, parts: dict[str, Skill], names: list[str], pattern: str, options: dict[str, object], said: str
) -> None:
    """Each mismatch in words, and nothing is made."""
    before = sorted(home.path.rglob("*.ipynb"))
    with pytest.raises(SkillError) as error:
        compose("wrong", [parts[name] for name in names], pattern, **options)  # type: ignore[arg-type]
    assert said in str(error.value)
    assert sorted(home.path.rglob("*.ipynb")) == before


def test_a_missing_column_is_a_mismatch(home: Home, parts: dict[str, Skill]) -> None:
    """A table of the right name without the columns that the code names is refused with the columns."""
    made = {"data/points.csv": {"kind": "table", "columns": {"x": "int64", "z": "float64"}, "rows": 5}}
    other = make_skill(home, "other_table", [TABLE.replace('"y"', '"z"')], parts["table"].parameters, made=made)
    with pytest.raises(SkillError, match=r"has the name of fit:input/points\.csv, but it has no column y"):
        plan("wrong", [other, parts["fit"]])
    draft = make_skill(home, "unsure", [NOTE], parts["note"].parameters, status="draft", verification={})
    with pytest.raises(SkillError, match="unsure v1 is not verified"):
        plan("wrong", [draft, parts["fit"]], "parallel")


def test_conditions_are_read_and_never_run() -> None:
    """Chains, and, or, not, names with dots and quotes; anything that is code is refused."""
    condition = parse('0 < fit.chi2 <= 1.5 and not (metrics["a b"] == -1 or "x.csv" in outputs)')
    assert condition.metrics == ("fit.chi2", "a b")
    assert condition.files == ("x.csv",)
    values = {"fit.chi2": 1.5, "a b": 0.0}
    assert condition.holds(values, []) is True
    assert condition.holds({**values, "a b": -1.0}, []) is False
    assert condition.holds(values, ["x.csv"]) is False
    metric = values.__getitem__
    assert eval(condition.code(), {"__builtins__": {}}, {"metric": metric, "outputs": set()}) is True
    for wrong in ("", "1 < 2", "x", "f(x) > 1", "x > y.z()", "x if y else z", "(lambda: 1) > x", "x > 'a'", "x := 1",
                  "x > 1; y", "[x][0] > 1", "x + 1 > 2", "x > " + "1" * 600):  # fmt: skip
        with pytest.raises(SkillError):
            parse(wrong)


def test_a_task_of_several_parts_finds_its_skills(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a task is matched, what feeds one another is put first, and the call composes them."""
    monkeypatch.setenv("CMBAGENT_EMBEDDINGS", "tfidf")
    home = Home(workspace.home, workspace._core.db, workspace._core.writer)
    _ = three(home, table="simulate a table of points on a noisy line", fit="fit a straight line to points", note="n")
    task = "Simulate a table of points on a noisy line, then fit a straight line to points."
    found = workspace.skills.composable(task, min_similarity=0.2)
    assert found, workspace.skills.explain("fit a straight line to points")
    best = found[0]
    assert ([skill.name for skill in best.skills], best.pattern) == (["table", "fit"], "sequential")
    assert best.links[0]["from"] == "table:data/points.csv"
    assert best.call == "ws.skills.compose(NAME, skills=['table', 'fit'], pattern='sequential')"
    assert workspace.skills.composable("fit a straight line to points") == []
    with pytest.raises(SkillError, match="nothing that fit reads"):
        workspace.skills.compose("wrong", ["note", "fit"])
    assert workspace.skills.suggest() == []
    assert set(workspace.skills.analytics().usage(7)["executions"]) == {0}


def test_as_one_script(parts: dict[str, Skill], tmp_path: Path) -> None:
    """As the code of a run, a composition is one script, in which a condition decides, too; texts stay whole."""
    from cmbagent_nb.skills.composing.composed import build
    from cmbagent_nb.skills.running.script import scripts
    from cmbagent_nb.skills.verifying.verify import fill

    chosen = [parts["table"], parts["fit"], parts["note"]]
    planned = plan("script", chosen, "conditional", when="rows > 4")
    (one,) = scripts(build(planned), planned.parameters, {"table_n": 3, "text": "a\n  b"})
    for path, expected in ((tmp_path / "few", "note"), (tmp_path / "many", "fit")):
        fill(path, tmp_path / "none")
        code = one.code if expected == "note" else one.code.replace("table_n = 3", "table_n = 30")
        (path / "script.py").write_text(code)
        subprocess.run([sys.executable, "script.py"], cwd=path, check=True, timeout=60)
        made = {item.parent.parent.name for item in path.glob("*/data/*") if item.parent.parent.name != "table"}
        assert made == {expected}
    assert (tmp_path / "few/note/data/note.txt").read_text() == "n is 1: a\n  b\n"
