"""What executions say of skills: figures held against pandas, comparisons, rollback, suggestions, analytics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmbagent_nb.errors import SkillError, SkillNotFound
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.learning.analytics import SkillAnalytics
from cmbagent_nb.skills.learning.suggest import suggest
from cmbagent_nb.skills.model import Parameter
from tests import held as holding
from tests.made_skills import executed, make_skill
from tests.skill_runs import Home, Step, make_run

NUMBER = [Parameter("n", "int", 5), Parameter("mode", "str", "fast")]
DAY = 1_790_000_000.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("learning") / "home")
    yield opened
    opened.close()


# ---- figures ------------------------------------------------------------------------------------

EXECUTION = st.fixed_dictionaries(
    {
        "version": st.integers(1, 3),
        "status": st.sampled_from(["completed", "completed", "failed", "timeout", "cancelled", "running"]),
        "duration_s": st.one_of(st.none(), st.floats(0, 1e4, allow_nan=False)),
        "cost_usd": st.one_of(st.none(), st.floats(0, 10, allow_nan=False)),
        "adaptations": st.lists(
            st.fixed_dictionaries({"kind": st.sampled_from(["parameter", "code"]), "node_id": st.just("step_1")}),
            max_size=2,
        ),
        "n": st.one_of(st.none(), st.integers(-3, 30)),
        "day": st.integers(0, 5),
        "mode": st.sampled_from(["direct", "guided", "verification"]),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EXECUTION, max_size=40))
def test_figures_are_those_of_pandas(home: Home, made: list[dict[str, Any]]) -> None:
    """By version, by parameter, by day and by kind of adaptation: exactly what pandas computes from the rows."""
    home.writer.call(lambda connection: [connection.exec_driver_sql(f"DELETE FROM {t}") for t in TABLES]).result()
    versions = [make_skill_row(home, "counted", number) for number in (1, 2, 3)]
    for number, row in enumerate(made):
        started = DAY - row["day"] * 86_400 + number
        executed(
            home,
            versions[row["version"] - 1],
            status=row["status"],
            duration_s=row["duration_s"],
            cost_usd=row["cost_usd"],
            adapted=bool(row["adaptations"]),
            adaptations=row["adaptations"] or None,
            parameters={} if row["n"] is None else {"n": row["n"]},
            started_at=started,
            ended_at=started + 1,
            mode=row["mode"],
        )
    home.writer.barrier().result()
    frame = pd.DataFrame(made, columns=[*EXECUTION_COLUMNS])
    frame = frame[frame["mode"] != "verification"]
    over = frame[frame["status"].isin(["completed", "failed", "timeout"])]
    table = versions[0]._library.performance(versions[0])
    assert list(table["version"]) == [1, 2, 3]
    for _, row in table.iterrows():
        _agrees(row, over[over["version"] == row["version"]])
        assert row["cancelled"] == sum(frame[frame["version"] == row["version"]]["status"] == "cancelled")
    for _, row in versions[0]._library.performance(versions[0], "parameters").iterrows():
        if row["parameter"] == "n" and not isinstance(row["value"], str):
            own = over[(over["version"] == 1) & (over["n"].fillna(5) == row["value"])]
            _agrees(row, own)
            assert row["given"] == own["n"].notna().sum()
    by_value = versions[0]._library.performance(versions[0], "parameters")
    assert by_value[by_value["parameter"] == "mode"]["executions"].sum() == len(over[over["version"] == 1])
    assert by_value[by_value["parameter"] == "n"]["executions"].sum() == len(over[over["version"] == 1])
    looked = SkillAnalytics(home.db, home.writer, home.path)
    usage = looked.usage(6, datetime.fromtimestamp(DAY, UTC).date())
    assert list(usage["executions"])[::-1] == [int((over["day"] == day).sum()) for day in range(6)]
    assert list(usage["successes"])[::-1] == [int(_good(over[over["day"] == day]).sum()) for day in range(6)]
    heat = looked.adaptations()
    kinds = [item["kind"] for items in over["adaptations"] for item in items]
    assert int(heat.to_numpy().sum()) == len(kinds)
    if kinds:
        assert heat.loc["counted", "code"] == kinds.count("code")
    top = looked.top()
    assert ([int(value) for value in top["executions"]] or [0]) == [len(over) if len(frame) else 0]


EXECUTION_COLUMNS = ("version", "status", "duration_s", "cost_usd", "adaptations", "n", "day", "mode")
TABLES = ("skill_executions", "skills")


def _good(frame: pd.DataFrame) -> Any:
    return frame["status"] == "completed"


def _agrees(row: Any, own: pd.DataFrame) -> None:
    times = own[_good(own)]["duration_s"].dropna().astype(float)
    costs = own["cost_usd"].dropna().astype(float)
    assert (row["executions"], row["successes"]) == (len(own), int(_good(own).sum()))
    assert row["adapted"] == sum(bool(item) for item in own["adaptations"])
    expected = {
        "success_rate": _good(own).mean() if len(own) else math.nan,
        "median_s": times.quantile(0.5),
        "p90_s": times.quantile(0.9),
        "mean_s": times.mean(),
        "mean_cost_usd": costs.mean(),
    }
    for name, value in expected.items():
        got = math.nan if row[name] is None else float(row[name])
        assert math.isclose(got, value, rel_tol=1e-12) or (math.isnan(got) and math.isnan(value)), name


def make_skill_row(home: Home, name: str, version: int) -> Skill:
    """Put a version into the table without a notebook: figures need none."""
    from cmbagent_nb.ids import new_id

    skill_id = new_id()
    home.writer.insert(
        "skills",
        {
            "id": skill_id,
            "name": name,
            "version": version,
            "status": "active",
            "trusted": True,
            "parameters": [item.as_dict() for item in NUMBER],
            "verification": {"verified": True},
            "created_at": DAY,
        },
    )
    home.writer.barrier().result()
    return holding.find(home.db, home.writer, home.path, skill_id)


# ---- two versions -------------------------------------------------------------------------------


def test_two_versions_run_the_inputs_of_the_past(home: Home) -> None:
    """Both versions run what the last executions were given: successes, seconds, results."""
    write = 'with open("data/out.json", "w") as file:\n    json.dump({"twice": n * 2}, file)'
    first = make_skill(home, "tried", [write], NUMBER)
    second = make_skill(home, "tried", [f"if n > 6:\n    raise ValueError(n)\n{write}"], NUMBER)
    third = make_skill(home, "tried", [write.replace("* 2", "* 2 + (n == 6)")], NUMBER)
    for number, status in enumerate(("completed", "failed", "cancelled", "completed")):
        executed(home, first, parameters={"n": 5 + number}, status=status, started_at=DAY + number)
    found = first._library.ab(first, 2)
    table = found.frame()
    assert list(table["parameters"]) == [{"n": n, "mode": "fast"} for n in (5, 6, 8)]
    assert list(table["status_a"]) == ["completed"] * 3
    assert list(table["status_b"]) == ["completed", "completed", "failed"]
    assert list(table["equal"]) == [True, True, False]
    assert "ValueError: 8" in table["difference"].iloc[2]
    summary = found.summary()
    assert (summary["successes_a"], summary["successes_b"], summary["equal"]) == (3, 2, 2)
    assert summary["p_success"] == 1.0 and 0 < summary["p_time"] <= 1
    assert "v2: 2 of 3 succeeded" in str(found) and found.as_dict()["versions"] == {"a": 1, "b": 2}
    assert "twice: 12 became 13" in first._library.ab(first, third.id, last=2).frame()["difference"].iloc[0]
    with pytest.raises(SkillError, match="two versions of one skill"):
        second._library.ab(second, 2)


# ---- versions -----------------------------------------------------------------------------------


def test_back_to_an_older_version(home: Home) -> None:
    """The name means the older version at once, the newer ones are deprecated with the reason, and one can go forth."""
    versions = [make_skill(home, "rolled", [f"print({number}, n)"], NUMBER) for number in (1, 2, 3)]
    make_skill(home, "rolled", ["print(n)"], NUMBER, status="draft", verification={})
    back = versions[2].rollback(1, "v2 was wrong")
    assert (back.version, back.status) == (1, "active")
    found = holding.find(home.db, home.writer, home.path, "rolled")
    assert found.version == 1
    assert found.run(n=1).success
    table = found.versions()
    assert list(table["status"]) == ["active", "deprecated", "deprecated", "draft"]
    assert list(table["reason"]) == ["", "v2 was wrong", "v2 was wrong", ""]
    assert list(table[table["current"]]["version"]) == [1]
    assert table["executions"].iloc[0] == 1
    assert found.rollback("v3").version == 3
    assert holding.find(home.db, home.writer, home.path, "rolled").version == 3
    with pytest.raises(SkillError, match="never verified"):
        found.rollback(4)
    with pytest.raises(SkillNotFound, match=r"has no version 9\. It has: 1, 2, 3, 4"):
        found.rollback(9)
    (versions[0].info.folder / "notebook.ipynb").write_text("{}")
    with pytest.raises(SkillError, match="was changed"):
        found.rollback(1)
    assert holding.find(home.db, home.writer, home.path, "rolled").version == 3


# ---- suggestions and analytics ------------------------------------------------------------------

LOAD = """\
import csv
rows = list(csv.DictReader(open("{file}")))
{name} = [float(row["{column}"]) for row in rows]
mean_{name} = sum({name}) / len({name})
with open("data/mean.txt", "w") as file:
    file.write(str(mean_{name}))
"""
FIT = """\
text = open("data/mean.txt").read()
value = float(text) * {factor}
{extra}with open("data/fit.txt", "w") as out:
    out.write(str(value ** 2))
"""
OTHER = "total = 0\nfor i in range({n}):\n    total += i\nopen('data/total.txt', 'w').write(str(total))\n"


def test_what_succeeded_three_times_is_suggested(home: Home) -> None:
    """The same two steps in three runs, with other names and values, are one suggestion; other steps are none."""
    inputs = {"a.csv": "x,y\n1,2\n3,4\n"}
    names = []
    for number, column in enumerate("xyx"):
        steps = [
            Step(LOAD.format(file="input/a.csv", name=f"v{number}", column=column), title="Load the supernova table"),
            Step(
                FIT.format(factor=number, extra=f"print({number})\n"), title="Fit the supernova mean", depends_on=(1,)
            ),
        ]
        if number == 1:
            steps.insert(0, Step(OTHER.format(n=3), title="Something else"))
            steps[2].depends_on = (2,)
        names.append(make_run(home, f"Fit the supernova table, column {column}.", steps, inputs))
    make_run(home, "Count.", [Step(OTHER.format(n=9), title="Something else")])
    found = suggest(home.db)
    assert len(found) == 1
    only = found[0]
    assert (only.runs, only.agents) == (3, ["engineer", "engineer"])
    assert only.titles == ["Load the supernova table", "Fit the supernova mean"]
    assert {item["run_id"]: item["steps"] for item in only.evidence}[names[1]] == ["step_2", "step_3"]
    assert "supernova" in only.name
    assert only.call.startswith("ws.run('run-")
    assert only.call.endswith("steps='1,2')")
    assert suggest(home.db, min_runs=4) == []
    make_skill(home, "made_of_it", ["print(1)"], source_run_id=names[0], source_step_range=["step_1", "step_2"])
    assert suggest(home.db) == []


def test_skills_that_do_the_same_are_found(home: Home) -> None:
    """Two skills with the same code under other names are candidates for consolidation, a third is not."""
    made = {"data/mean.txt": {"kind": "other"}}
    make_skill(home, "mean_x", [LOAD.format(file="a.csv", name="x", column="x")], made=made)
    make_skill(home, "mean_of_y", [LOAD.format(file="b.csv", name="values", column="y")], made=made)
    make_skill(home, "sums", [OTHER.format(n=4)], made={"data/total.json": {"kind": "json", "keys": ["a"]}})
    looked = SkillAnalytics(home.db, home.writer, home.path)
    table = looked.consolidation(0.9)
    pairs = {(row["skill"], row["other"]) for row in table.to_dict("records")}
    assert ("mean_of_y", "mean_x") in pairs
    assert not any("sums" in pair for pair in pairs)
    held = looked.as_dict()
    assert {"top", "usage", "cost", "adaptations", "consolidation"} == set(held)
    assert len(held["usage"]) == 30
