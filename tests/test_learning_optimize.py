"""Optimizing a skill: what is recommended, what is made of it, and that it is verified against the past."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.learning.reuse import hindrances
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.running.run import SkillExecution
from tests import held as holding
from tests.made_skills import again, executed, make_skill
from tests.skill_runs import Home

#: A table is worked out for a second; what is written depends on it and on the label.
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


def reused_from(home: Home, execution: SkillExecution) -> str | None:
    meta = home.db.rows("SELECT meta FROM skill_executions WHERE id = :id", id=execution.id)[0]["meta"]
    return json.loads(meta).get("reused_from")


def test_equal_executions_are_reused_and_failures_are_told_before(home: Home) -> None:
    """Executions that come again are reused; high orders are refused; the version becomes active and is faster."""
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
    kinds = {item.kind for item in skill._library.recommendations(skill)}
    assert kinds >= {"precondition", "reuse", "slow_cell"}
    dry = skill.optimize()
    assert dry.new is None
    assert len(skill.versions()) == 1
    done = skill.optimize(apply=True, reason="it is slow", sample=3)
    assert done.new is not None
    assert done.new.status == "active", done.report
    assert (done.new.version, done.new.info.meta["reason"], done.new.info.meta["optimized_from"]["version"]) == (
        2,
        "it is slow",
        1,
    )
    assert done.report["reused"] >= 2
    assert any(item["reused"] and item["equal"] for item in done.report["files"])
    assert done.report["failures"] == {"before": 3, "after": 0, "outcomes": {"told before": 3}}
    assert done.time_saved is not None and done.time_saved > 0.2, done.report
    kept = json.loads((done.new.info.folder / "verification.json").read_text())
    assert kept["summary"] == done.report["summary"]
    row = home.db.rows("SELECT parent_skill_id FROM skills WHERE id = :id", id=done.new.id)[0]
    assert row["parent_skill_id"] == skill.id
    new = holding.find(home.db, home.writer, home.path, "slow")
    assert new.version == 2
    with pytest.raises(SkillError, match="fails unless order < 4"):
        new.run(order=4)
    # the second is the first's result, in a folder of its own; another label, table or input is computed
    one, two = new.run(label="x"), new.run(label="x")
    assert two.success and two.outputs == one.outputs and two.metrics == one.metrics
    assert [reused_from(home, item) for item in (one, two)] == [None, str(one.work_dir)]
    assert any(str(one.work_dir) in note for note in two.notes)
    for name in one.outputs:
        assert two.path(name).read_bytes() == one.path(name).read_bytes()
    other, more = new.run(label="y"), new.run(label="x", n=7)
    assert json.loads(other.path("data/result.json").read_text())["label"] == "y"
    assert more.metrics["total"] != two.metrics["total"]
    assert [reused_from(home, item) for item in (other, more)] == [None, None]
    # a result that was changed since is computed anew, and so is one that is gone
    one.path("data/result.json").write_text("{}")
    anew = new.run(label="x")
    assert reused_from(home, anew) is None and anew.metrics == two.metrics
    assert skill.run(label="b").success and "+ equal executions are reused" in str(skill._library.diff(skill, 2))


def test_files_and_values_tell_executions_apart(home: Home) -> None:
    """An input with other content is another execution; code that removes files or names its folder is not reused."""
    codes = {
        "lines": "json.dump(len(open(table_file).readlines()), open('data/out.json', 'w'))",
        "removes": "import os\nos.remove('input/table.csv')\nopen('data/out.txt', 'w').write('x')",
        "names": "open('data/out.txt', 'w').write(str(Path('data').absolute()))",
    }
    table = Parameter("table_file", "str", "input/table.csv", kind="input")
    for name, code in codes.items():
        skill = make_skill(home, name, [code], [table], assets={"input/table.csv": "x\n1\n"}, meta={"reuse": True})
        first, second = skill.run(), skill.run()
        assert first.success, first.error
        assert (reused_from(home, second) is not None) == (name == "lines"), name
    skill = holding.find(home.db, home.writer, home.path, "lines")
    for rows, again_ in ((2, False), (3, False), (2, True)):
        done = skill.run(table=pd.DataFrame({"x": range(rows)}))
        assert done.metrics == {"value": rows + 1}
        assert (reused_from(home, done) is not None) is again_
    asset = skill.info.folder / "assets" / "input" / "table.csv"
    if asset.is_file():
        asset.write_text("x\n1\n2\n3\n")
        assert skill.run().metrics == {"value": 4}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import time\nx = time.time()", "clock"),
        ("from time import time as now\nx = now()", "clock"),
        ("from datetime import datetime\nx = datetime.now()", "clock"),
        ("import pandas as pd\nx = pd.Timestamp.now()", "clock"),
        ("import numpy as np\nx = np.random.normal(size=3)", "random"),
        ("import numpy as np\nx = np.random.default_rng().normal()", "random"),
        ("import numpy as np\nx = np.random.default_rng(seed=None).normal()", "random"),
        ("import random\nimport numpy as np\nnp.random.seed(1)\nx = random.gauss(0, 1)", "random"),
        ("import random\nrandom.seed(1)\nx = random.gauss(0, 1)", ""),
        ("import random\nx = random.random()", "random"),
        ("import uuid\nx = uuid.uuid4()", "random"),
        ("import requests\nx = requests.get('a')", "network"),
        ("from urllib.request import urlopen", "network"),
        ("import subprocess\nx = subprocess.run(['ls'])", "processes"),
        ("import os\nx = os.environ['HOME']", "surroundings"),
        ("x = eval('1')", "surroundings"),
        ("x = open('/etc/passwd').read()", "outside"),
        ("x = (", "plain"),
        ("import numpy as np\nx = np.random.default_rng(3).normal()", ""),
        ("import numpy as np\nnp.random.seed(3)\nx = np.random.normal()", ""),
        ("import time\nx = time.perf_counter()\ny = 'a/b'", ""),
    ],
)
def test_code_that_depends_on_more_than_its_inputs(code: str, why: str) -> None:
    """The clock, chance without a seed, the network, processes, the environment, places outside: named."""
    new = nbformat.v4
    found = hindrances(new.new_notebook(cells=[new.new_code_cell(code)]))
    assert [why in item for item in found] == ([True] if why else []), found


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
    found = {item.kind: item for item in skill._library.recommendations(skill)}
    assert (found["default"].change, found["default"].evidence["times"]) == ({"default": {"n": 8}}, 3)
    assert (found["parameter"].target, found["parameter"].evidence["times"]) == ("power", 3)
    assert found["unused_parameter"].target == "spare"
    done = skill.optimize(apply=True, sample=2)
    assert done.new is not None
    assert done.new.status == "active", done.report
    assert {item.name: item.default for item in done.new.parameters} == {"n": 8, "spare": "x", "power_value": 3}
    assert done.new.run().metrics == {"n": 8, "size": 8000}
    text = str(skill._library.diff(skill, 2))
    assert "- parameter n (int, 5)\n+ parameter n (int, 8)" in text
    assert '-    json.dump({"n": n, "size": n * scale(power=2)}, file)' in text
    assert "scale(power=power_value)" in text
    assert "&quot;size&quot;" in skill._library.diff(skill, 2)._repr_html_()


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
    assert holding.find(home.db, home.writer, home.path, "differs").version == 1
