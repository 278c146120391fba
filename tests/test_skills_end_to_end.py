"""From a run over HTTP, with code that no playbook holds, to a skill that reruns without a model."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan

FIT = '''"""Fit a power law to the points."""
import json
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

X_MIN = 2.0  # smallest x used in the fit

df = pd.read_parquet("input/points.parquet")
df = df[df["x"] >= X_MIN]
best, cov = curve_fit(lambda x, a, n: a * x**n, df["x"], df["y"], p0=[1.0, 1.0])
with open("data/fit.json", "w") as file:
    json.dump({"a": best[0], "n": best[1], "points": len(df)}, file)
'''
DRAW = """
import json
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

df = pd.read_parquet("input/points.parquet")
fit = json.load(open("data/fit.json"))
x = np.linspace(df["x"].min(), df["x"].max(), 100)
fig, ax = plt.subplots(figsize=(4, 3))
ax.plot(df["x"], df["y"], "o")
ax.plot(x, fit["a"] * x ** fit["n"])
fig.savefig("plots/fit.png", dpi=100)
"""
BROKEN = 'import pandas as pd\npd.read_parquet("input/points.parquet")["X"]\n'


def test_a_run_over_http_becomes_a_skill(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry, a file passed on, an input variable and a report: verified, and run again without a call."""
    points = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 5.0], "y": [9.0, 8.1, 17.9, 32.2, 49.8]})
    report = {"title": "Fit", "markdown": "# Fit\n\nIt is done."}
    steps = plan(
        {"title": "Fit", "expected_outputs": ["data/fit.json"]},
        {"title": "Draw", "depends_on": [1]},
        {"title": "Report", "agent": "researcher", "depends_on": [2]},
    )
    team = Team(
        plan=steps,
        review=APPROVED,
        report=report,
        steps={"Fit": [code(BROKEN, "fit.py"), code(FIT, "fit.py")], "Draw": code(DRAW, "draw.py")},
    )
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
        run = workspace.planning_and_control("Fit a power law.", inputs={"points": points}).wait(60)
        assert run.status == "completed", run.error
        calls = server.count
        skill = run.extract_skill("power_law")
        execution = skill.run(x_min=3)
        assert server.count == calls
    assert skill.status == "active", skill.info.verification
    assert skill.info.steps == ["step_1", "step_2"]
    assert {item.name: item.default for item in skill.parameters} == {
        "X_MIN": 2.0,
        "p0": [1.0, 1.0],
        "points_file": "input/points.parquet",
        "fit_file": "data/fit.json",
        "fit_png_file": "plots/fit.png",
    }
    assert skill.info.verification["summary"] == "2 of 2 files reproduced"
    provenance = json.loads(skill.notebook.read_text())["metadata"]["cmbagent_nb"]
    assert [step["attempt"] for step in provenance["steps"]] == [2, 1]
    assert provenance["left_out"] == {"step_3": "it wrote no code"}
    assert (execution.status, execution.metrics["points"]) == ("completed", 3), execution.error
    frame = workspace.skills.list()
    assert frame[["name", "version", "status", "usage_count"]].values.tolist() == [["power_law", 1, "active", 1]]
    assert workspace.skills.get("power_law").id == skill.id
    assert run.events().query("event_type == 'skill'").event_subtype.tolist() == ["complete"]
