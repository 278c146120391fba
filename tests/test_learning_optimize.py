"""Optimizing a skill: what is recommended, what is made of it, and that it is verified against the past."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills import library
from cmbagent_nb.skills.learning.cache import folder_of
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.running.run import SkillExecution
from tests.made_skills import again, executed, make_skill
from tests.skill_runs import Home

#: A table is worked out for a second, whatever the label is; what is written depends on both.
SLOW = """
import time
import numpy as np

def work(n):
    end = time.perf_counter() + 1.0
    while time.perf_counter() < end:
        pass
    return np.linspace(0, 1, n) ** 2

if order > 3:
    raise ValueError(f"order {order} is too high")
values = work(n)
total = float(values.sum())
with open("data/result.json", "w") as file:
    json.dump({"total": total, "label": label, "order": order}, file)
np.save("data/values.npy", values)
print("done", label)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home.open(tmp_path / "home")
    yield opened
    opened.close()


def from_results(execution: SkillExecution) -> int:
    cells = json.loads(execution.notebook.read_text())["cells"]
    return sum("from_results" in cell["metadata"].get("cmbagent_nb", {}) for cell in cells)


def test_a_slow_part_is_kept_and_failures_are_told_before(home: Home) -> None:
    """The slow statement alone is kept, whatever the label; high orders are refused; the version becomes active."""
    parameters = [Parameter("n", "int", 5), Parameter("order", "int", 2), Parameter("label", "str", "a")]
    skill = make_skill(home, "slow", [SLOW], parameters)
    first = skill.run(label="b")
    assert first.success, first.error
    second = skill.run(label="c", n=6)
    again(home, first.id, 4)
    again(home, second.id, 3)
    for order in (4, 5, 6):
        executed(
            home, skill, status="failed", error=f"ValueError: order {order} is too high", parameters={"order": order}
        )
    kinds = {item.kind for item in skill.recommendations()}
    assert {"precondition"} < kinds
    dry = skill.optimize()
    assert dry.new is None
    assert len(skill.versions()) == 1
    done = skill.optimize(apply=True, reason="it is slow", sample=3)
    assert done.new is not None
    assert done.new.status == "active", done.report
    assert (done.new.version, done.new.meta["reason"], done.new.meta["optimized_from"]["version"]) == (
        2,
        "it is slow",
        1,
    )
    assert done.report["from_results"] >= 2
    assert any(item["from_results"] and item["equal"] for item in done.report["files"])
    assert done.report["failures"] == {"before": 3, "after": 0, "outcomes": {"told before": 3}}
    assert done.report["cell_seconds"]["saved"] > 0.2, done.report
    kept = json.loads((done.new.folder / "verification.json").read_text())
    assert kept["summary"] == done.report["summary"]
    row = home.db.rows("SELECT parent_skill_id FROM skills WHERE id = :id", id=done.new.id)[0]
    assert row["parent_skill_id"] == skill.id
    new = library.find(home.db, home.writer, home.path, "slow")
    assert new.version == 2
    with pytest.raises(SkillError, match="fails unless order < 4"):
        new.run(order=4)
    # the first fills the store of the workspace, the second finds the slow part there and still says its own label
    one, two = new.run(label="x"), new.run(label="y")
    assert [json.loads(item.path("data/result.json").read_text())["label"] for item in (one, two)] == ["x", "y"]
    assert two.path("data/values.npy").read_bytes() == one.path("data/values.npy").read_bytes()
    assert [from_results(item) for item in (one, two)] == [0, 1]
    other = new.run(label="y", n=7)
    assert other.metrics["total"] != two.metrics["total"]
    assert from_results(other) == 0
    assert list(folder_of(home.path).glob("??/*/entry.json"))
    assert "its results are kept" in str(skill.diff(2)) or "added" in str(skill.diff(2))


def test_what_agents_change_again_and_again(home: Home) -> None:
    """A value that agents keep setting becomes the default, a constant that they keep changing a parameter."""
    code = 'with open("data/out.json", "w") as file:\n    json.dump({"n": n, "size": n * scale(power=2)}, file)\n'
    code = "def scale(power=1):\n    return 10 ** power\n\n" + code
    skill = make_skill(home, "adapted", [code], [Parameter("n", "int", 5), Parameter("spare", "str", "x")])
    first = skill.run(n=3)
    again(home, first.id, 6)
    after = code.replace("power=2", "power=3")
    for _ in range(3):
        adaptations = [
            {"kind": "parameter", "node_id": "step_1", "before": {"n": 5}, "after": {"n": 8}, "reason": "too few"},
            {"kind": "code", "node_id": "step_1", "before": code, "after": after, "reason": "too small"},
        ]
        executed(home, skill, adapted=True, adaptations=adaptations, adaptation_reason="too few", parameters={})
    found = {item.kind: item for item in skill.recommendations()}
    assert (found["default"].change, found["default"].evidence["times"]) == ({"default": {"n": 8}}, 3)
    assert (found["parameter"].target, found["parameter"].evidence["times"]) == ("power", 3)
    assert found["unused_parameter"].target == "spare"
    done = skill.optimize(apply=True, sample=2)
    assert done.new is not None
    assert done.new.status == "active", done.report
    assert {item.name: item.default for item in done.new.parameters} == {"n": 8, "spare": "x", "power_value": 3}
    assert done.new.run().metrics == {"n": 8, "size": 8000}
    text = str(skill.diff(2))
    assert "- parameter n (int, 5)\n+ parameter n (int, 8)" in text
    assert '-    json.dump({"n": n, "size": n * scale(power=2)}, file)' in text
    assert "scale(power=power_value)" in text
    assert "&quot;size&quot;" in skill.diff(2)._repr_html_()


def test_too_little_to_learn_from(home: Home) -> None:
    """Nine executions are refused with the number; so is a skill of which nothing can be made better."""
    skill = make_skill(home, "few", ["print(n)"], [Parameter("n", "int", 1)])
    for number in range(9):
        executed(home, skill, parameters={"n": number})
    with pytest.raises(SkillError, match=r"9 executions that ended\. It takes 10"):
        skill.optimize()
    executed(home, skill, parameters={"n": 9})
    assert skill.optimize().recommendations == []
    with pytest.raises(SkillError, match="Nothing of skill few v1"):
        skill.optimize(apply=True)


def test_variables_that_were_given_are_run_again(home: Home) -> None:
    """A table from a notebook is a file of its execution: there it is found when the past is run again."""
    table = Parameter("table_file", "str", "input/table.csv", kind="input")
    code = "lines = len(open(table_file).readlines())\njson.dump({'lines': lines * n}, open('data/out.json', 'w'))"
    skill = make_skill(home, "tables", [code], [table, Parameter("n", "int", 1)], assets={"input/table.csv": "x\n1\n"})
    first = skill.run(table=pd.DataFrame({"x": [1, 2, 3]}), n=2)
    assert first.metrics == {"lines": 8}, first.error
    again(home, first.id, 9)
    found = skill.optimize(apply=True, sample=2)
    assert found.verified and found.new is not None and found.new.status == "active", found.report
    assert {item.name: item.default for item in found.new.parameters}["n"] == 2


def test_a_version_that_differs_stays_a_draft(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that changes results is found out by the past executions: the name keeps its meaning."""
    from cmbagent_nb.skills.learning import change

    code = 'with open("data/out.json", "w") as file:\n    json.dump({"n": n * 2}, file)\n'
    skill = make_skill(home, "differs", [code], [Parameter("n", "int", 5)])
    first = skill.run(n=3)
    again(home, first.id, 10)
    make = change.make

    def wrong(*arguments: Any) -> change.Changed:
        made = make(*arguments)
        made.notebook.cells[-1].source = code.replace("n * 2", "n * 3")
        return made

    monkeypatch.setattr(change, "make", wrong)
    done = skill.optimize(apply=True, sample=2)
    assert done.new is not None
    assert (done.new.status, done.verified) == ("draft", False)
    assert "data/out.json: n: 6 became 9" in done.report["reason"]
    assert library.find(home.db, home.writer, home.path, "differs").version == 1
