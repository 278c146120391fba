"""What executions say of skills: figures held against pandas, trials, rollback, suggestions, analytics."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmbagent_nb.errors import SkillError, SkillNotFound
from cmbagent_nb.skills import library
from cmbagent_nb.skills.learning import trials
from cmbagent_nb.skills.learning.analytics import SkillAnalytics
from cmbagent_nb.skills.learning.statistics import fisher_exact, mann_whitney, quantile
from cmbagent_nb.skills.learning.suggest import suggest
from cmbagent_nb.skills.learning.trials import Observation, draw, judge, next_share
from cmbagent_nb.skills.library import Skill
from cmbagent_nb.skills.model import Parameter
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
    table = versions[0].performance()
    assert list(table["version"]) == [1, 2, 3]
    for _, row in table.iterrows():
        _agrees(row, over[over["version"] == row["version"]])
        assert row["cancelled"] == sum(frame[frame["version"] == row["version"]]["status"] == "cancelled")
    for _, row in versions[0].performance("parameters").iterrows():
        if row["parameter"] == "n" and not isinstance(row["value"], str):
            own = over[(over["version"] == 1) & (over["n"].fillna(5) == row["value"])]
            _agrees(row, own)
            assert row["given"] == own["n"].notna().sum()
    by_value = versions[0].performance("parameters")
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
TABLES = ("skill_executions", "skill_trials", "skills")


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
    return library.find(home.db, home.writer, home.path, skill_id)


def test_statistics_are_those_of_scipy() -> None:
    """Fisher's test, the rank test and quantiles agree with scipy and numpy."""
    import numpy as np
    from scipy import stats

    generator = random.Random(5)
    for _ in range(40):
        a, b, c, d = (generator.randrange(12) for _ in range(4))
        assert math.isclose(fisher_exact(a, b, c, d), stats.fisher_exact([[a, b], [c, d]])[1], rel_tol=1e-9)
        first = [generator.randrange(20) / 4 for _ in range(generator.randrange(2, 15))]
        second = [generator.randrange(20) / 4 for _ in range(generator.randrange(2, 15))]
        expected = stats.mannwhitneyu(first, second, method="asymptotic").pvalue
        assert math.isclose(mann_whitney(first, second), expected, rel_tol=1e-9)
        assert math.isclose(quantile(first, 0.9) or 0.0, float(np.quantile(first, 0.9)), abs_tol=1e-12)


# ---- trials -------------------------------------------------------------------------------------

ARGUMENTS = {"share": 0.5, "gradual": True, "alpha": 0.05, "max_executions": 200}
BOTH = {"A": 1, "B": 2}


def played(
    seed: int, success: dict[str, float], seconds: dict[str, float], most: int = 200
) -> tuple[str, str | None, int]:
    """Play a trial with random outcomes, looked at after every execution; returns outcome, winner and length."""
    generator = random.Random(seed)
    seen: list[Observation] = []
    while True:
        share = next_share(seen, ARGUMENTS)
        arm = "B" if draw(f"trial{seed}", str(len(seen))) < share else "A"
        good = generator.random() < success[arm]
        seen.append(Observation(arm, share, good, generator.lognormvariate(math.log(seconds[arm]), 0.3)))
        _, outcome, winner = judge(seen, {**ARGUMENTS, "max_executions": most}, BOTH)
        if outcome != "running":
            return outcome, winner, len(seen)


def test_equal_versions_are_seldom_told_apart() -> None:
    """Looked at after each of 60 executions, equal versions are told apart in no more than 5 % of the trials."""
    same = {"A": 0.8, "B": 0.8}, {"A": 1.0, "B": 1.0}
    decided = sum(played(seed, *same, most=60)[0] == "decided" for seed in range(100))
    assert decided <= 9  # 5 of 100 expected at most; more than 9 has a chance below 3 %


def test_better_versions_are_found() -> None:
    """A version twice as fast, or one that does not fail, wins; a worse one loses."""
    fast = [played(seed, {"A": 1.0, "B": 1.0}, {"A": 2.0, "B": 1.0}) for seed in range(10)]
    assert sum(winner == "B" for _, winner, _ in fast) >= 9
    sure = [played(seed, {"A": 0.4, "B": 1.0}, {"A": 1.0, "B": 1.0}) for seed in range(10)]
    assert sum(winner == "B" for _, winner, _ in sure) >= 9
    worse = [played(seed, {"A": 1.0, "B": 0.3}, {"A": 1.0, "B": 1.0}) for seed in range(10)]
    assert sum(winner == "A" for _, winner, _ in worse) >= 9


def test_the_share_grows_with_the_evidence() -> None:
    """A tenth, then twice as much for every five successes, up to half; back to a tenth when it fails."""
    seen = [Observation("A", 0.1, True, 1.0)] * 3
    assert next_share(seen, ARGUMENTS) == 0.1
    assert next_share([*seen, *[Observation("B", 0.1, True, 1.0)] * 5], ARGUMENTS) == 0.2
    as_split = [*[Observation("A", 0.1, True, 1.0)] * 9, Observation("B", 0.1, True, 1.0)]
    assert next_share([*seen, *as_split * 20], ARGUMENTS) == 0.5
    assert next_share([*seen * 5, *[Observation("B", 0.1, False, 1.0)] * 4], ARGUMENTS) == 0.1
    assert next_share(seen, {**ARGUMENTS, "gradual": False}) == 0.5


def test_a_trial_splits_what_the_name_runs(home: Home) -> None:
    """The name is split as drawn, a version by its number is not; the decision is kept and the loser gives way."""
    first = make_skill(home, "tried", ["print(n)"], NUMBER)
    second = make_skill(home, "tried", ["print(n)", "print(n)"], NUMBER)
    trial = first.compare(2, share=0.5, gradual=False)
    with pytest.raises(SkillError, match="A trial of tried is running"):
        second.compare(1)
    by_name = library.find(home.db, home.writer, home.path, "tried")
    assert trials.choose(library.find(home.db, home.writer, home.path, "tried@1"), "key").trial == {}
    chosen = {str(key): trials.choose(by_name, str(key), {"n": 1}) for key in range(40)}
    for key, skill in chosen.items():
        assert skill.version == (2 if draw(trial.id, key) < 0.5 else 1)
        assert skill.trial["draw"] == draw(trial.id, key)
    assert {skill.version for skill in chosen.values()} == {1, 2}
    for number, skill in enumerate(chosen.values()):
        failed = skill.version == 2
        executed(
            home,
            skill,
            status="failed" if failed else "completed",
            trial_id=trial.id,
            meta={"trial": skill.trial},
            started_at=DAY + number,
            ended_at=DAY + number,
        )
    home.writer.barrier().result()
    trial.refresh()
    assert (trial.status, trial.result["winner"]) == ("decided", "A"), trial.result
    assert trial.result["evidence_success"] >= trial.result["needed"] == 40
    assert library.find(home.db, home.writer, home.path, "tried").version == 1
    worse = library.find(home.db, home.writer, home.path, "tried@2")
    assert (worse.status, worse.meta["deprecated"]["trial_id"]) == ("deprecated", trial.id)
    row = trials.frame(home.db, home.writer).iloc[0]
    assert (row["status"], row["winner"], row["version_b"]) == ("decided", "A", 2)
    assert "v1 is better: it succeeds more often" in str(trial)


def test_an_execution_of_a_trial_says_so(home: Home) -> None:
    """What a name runs while a trial goes on has the trial, the share and the draw in its row."""
    first = make_skill(home, "really", ["print(n)"], NUMBER)
    make_skill(home, "really", ["print(n, n)"], NUMBER)
    trial = first.compare(2, share=0.5, gradual=False)
    done = library.find(home.db, home.writer, home.path, "really").run(n=2)
    row = home.db.rows("SELECT trial_id, skill_id FROM skill_executions WHERE id = :id", id=done.id)[0]
    assert row["trial_id"] == trial.id
    assert done.version == (2 if draw(trial.id, done.id) < 0.5 else 1)
    assert trial.refresh().result["arms"]["B" if done.version == 2 else "A"]["executions"] == 1
    trial.stop("enough")
    assert (trial.status, trial.result["reason"]) == ("stopped", "enough")
    assert library.find(home.db, home.writer, home.path, "really").run().version == 2


# ---- versions -----------------------------------------------------------------------------------


def test_back_to_an_older_version(home: Home) -> None:
    """The name means the older version at once, the newer ones are deprecated with the reason, and one can go forth."""
    versions = [make_skill(home, "rolled", [f"print({number}, n)"], NUMBER) for number in (1, 2, 3)]
    make_skill(home, "rolled", ["print(n)"], NUMBER, status="draft", verification={})
    back = versions[2].rollback(1, "v2 was wrong")
    assert (back.version, back.status) == (1, "active")
    found = library.find(home.db, home.writer, home.path, "rolled")
    assert found.version == 1
    assert found.run(n=1).success
    table = found.versions()
    assert list(table["status"]) == ["active", "deprecated", "deprecated", "draft"]
    assert list(table["reason"]) == ["", "v2 was wrong", "v2 was wrong", ""]
    assert list(table[table["current"]]["version"]) == [1]
    assert table["executions"].iloc[0] == 1
    assert found.rollback("v3").version == 3
    assert library.find(home.db, home.writer, home.path, "rolled").version == 3
    with pytest.raises(SkillError, match="never verified"):
        found.rollback(4)
    with pytest.raises(SkillNotFound, match=r"has no version 9\. It has: 1, 2, 3, 4"):
        found.rollback(9)
    (versions[0].folder / "notebook.ipynb").write_text("{}")
    with pytest.raises(SkillError, match="was changed"):
        found.rollback(1)
    assert library.find(home.db, home.writer, home.path, "rolled").version == 3


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
