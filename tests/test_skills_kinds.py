"""Extraction, verification and running on kinds of code as agents write it, over a real record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.held import extract
from tests.skill_runs import Home, Step, make_run


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home.open(tmp_path / "home")
    yield opened
    opened.close()


@dataclass
class Kind:
    """A kind of code: its steps, the parameters it has, and values to run it again with."""

    task: str
    steps: list[Step]
    parameters: dict[str, Any]
    change: dict[str, Any]
    changed_files: list[str]
    inputs: dict[str, Any] = field(default_factory=dict)
    choose: str | None = None


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"ell": np.arange(60), "cl": rng.normal(5, 1, 60), "kind": ["a", "b", "c"] * 20})


KINDS: dict[str, Kind] = {
    "pandas": Kind(
        "Summarise the table by kind and keep groups with a mean above 4.9.",
        [
            Step(
                '''"""Summarise a table."""
import json
import pandas as pd

ROLLING = 5  # points in the moving mean
MEAN_LIMIT = 4.9

df = pd.read_csv("input/table.csv")
df["smooth"] = df["value"].rolling(ROLLING, min_periods=1).mean()
summary = df.groupby("kind")["smooth"].agg(["mean", "std", "count"]).reset_index()
summary = summary[summary["mean"] > MEAN_LIMIT]
summary.to_csv("data/summary.csv", index=False)
with open("data/overview.json", "w") as file:
    json.dump({"groups": len(summary), "mean": float(summary["mean"].mean())}, file, indent=2)
print(summary.head())
'''
            )
        ],
        {"ROLLING": 5, "MEAN_LIMIT": 4.9, "table_file": "input/table.csv"},
        {"rolling": 2},
        ["data/summary.csv", "data/overview.json"],
        inputs={"table.csv": "kind,value\n" + "".join(f"{'abc'[i % 3]},{5 + (i % 7) / 3}\n" for i in range(60))},
    ),
    "numpy and a plot": Kind(
        "Draw a damped wave.",
        [
            Step(
                """import os

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

DAMPING = 0.3  # [1/s]
FREQUENCY = 2.0  # oscillations [Hz]
FIGSIZE = (5, 3)
DPI = 80

t = np.linspace(0, 5, 200)
y = np.exp(-DAMPING * t) * np.sin(2 * np.pi * FREQUENCY * t)
np.savez("data/wave.npz", t=t, y=y)
fig, ax = plt.subplots(figsize=FIGSIZE)
ax.plot(t, y, color="C1", lw=1.5, alpha=0.8)
ax.set_xlabel("t [s]", fontsize=11)
fig.savefig(os.path.join("plots", "wave.png"), dpi=DPI)
"""
            )
        ],
        {"DAMPING": 0.3, "FREQUENCY": 2.0},
        {"DAMPING": 0.6},
        ["data/wave.npz", "plots/wave.png"],
    ),
    "a fit with scipy, main guard and exit": Kind(
        "Fit a line with noise 0.2.",
        [
            Step(
                '''"""Fit a line to noisy points."""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

OUTPUT = Path("data") / "fit.json"


@dataclass
class Config:
    slope: float = 2.5  # true slope
    intercept: float = 0.7
    n_points: int = 40


def line(x, a, b):
    return a * x + b


def main() -> int:
    config = Config()
    noise = 0.2
    rng = np.random.default_rng(7)
    x = np.linspace(0, 1, config.n_points)
    y = line(x, config.slope, config.intercept) + rng.normal(0, noise, x.size)
    best, covariance = curve_fit(line, x, y, p0=[1.0, 0.0])
    if not np.isfinite(best).all():
        sys.exit("no fit")
    OUTPUT.write_text(json.dumps({"slope": best[0], "intercept": best[1], "sigma": float(covariance[0, 0] ** 0.5)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''
            )
        ],
        {"slope": 2.5, "intercept": 0.7, "n_points": 40, "noise": 0.2, "seed": 7, "p0": [1.0, 0.0]},
        {"noise": 0.4, "seed": 8},
        ["data/fit.json"],
    ),
    "seeded random numbers": Kind(
        "Estimate pi with 20000 samples.",
        [
            Step(
                """import random
import numpy as np

np.random.seed(42)
random.seed(42)
n_samples = 20000
points = np.random.uniform(-1, 1, size=(n_samples, 2))
inside = 0
for x, y in points:
    if x * x + y * y < 1:
        inside += 1
estimate = 4 * inside / n_samples
np.save("data/estimate.npy", np.array([estimate, random.random()]))
open("data/estimate.txt", "w").write(f"pi is about {estimate:.4f}\\n")
"""
            )
        ],
        {"seed": 42, "n_samples": 20000},
        {"n_samples": 5000},
        ["data/estimate.npy", "data/estimate.txt"],
    ),
    "a frame given with --in": Kind(
        "Mean of cl above multipole 30 in the table df.",
        [
            Step(
                """import pandas as pd

df = pd.read_parquet("input/df.parquet")
high = df[df["ell"] > 30]
out = high.groupby("kind", as_index=False)["cl"].mean()
out.to_parquet("data/means.parquet")
out.to_csv("data/means.tsv", sep="\\t", index=False)
"""
            )
        ],
        {"ell_min": 30, "df_file": "input/df.parquet"},
        {"ell_min": 45},
        ["data/means.parquet", "data/means.tsv"],
        inputs={"df": frame()},
    ),
    "two steps with files passed on, style and names in collision": Kind(
        "Make a spectrum, then draw it.",
        [
            Step(
                """import json
from datetime import datetime
import numpy as np
import matplotlib.pyplot as plt

plt.style.use("dark_background")
LMAX = 120  # highest multipole
AMPLITUDE = 3.0
sum = 0  # shadows the built-in
ell = np.arange(2, LMAX)
cl = AMPLITUDE / (ell * (ell + 1))
json.dump({"ell": ell.tolist(), "cl": cl.tolist()}, open("data/spectrum.json", "w"))
fig = plt.figure(figsize=(4, 3))
plt.plot(ell, cl)
plt.savefig("plots/first.png")
assert datetime.now().year > 2000
""",
                title="Make the spectrum",
            ),
            Step(
                """import json
import datetime
import numpy as np
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

with open("data/spectrum.json") as file:
    spectrum = json.load(file)
total = sum(spectrum["cl"])
plt.figure(figsize=(4, 3))
plt.loglog(spectrum["ell"], spectrum["cl"])
plt.title("Spectrum")
plt.savefig("plots/spectrum.png", dpi=90)
with open("report.md", "w") as file:
    file.write(f"# Spectrum\\n\\nThe sum is {total:.5f}; it has {len(spectrum['ell'])} multipoles.\\n")
assert datetime.date.today().year > 2000
""",
                title="Draw it",
                depends_on=(1,),
            ),
        ],
        {"LMAX": 120, "AMPLITUDE": 3.0},
        {"lmax": 90},
        ["data/spectrum.json", "plots/first.png", "plots/spectrum.png", "report.md"],
    ),
    "the second of two steps alone": Kind(
        "Make numbers, then take their 0.9 quantile.",
        [
            Step('import numpy as np\nnp.save("data/numbers.npy", np.arange(50.0))\n'),
            Step(
                'import numpy as np, json\nQUANTILE = 0.9\nx = np.load("data/numbers.npy")\n'
                'json.dump({"quantile": float(np.quantile(x, QUANTILE)), "n": len(x)}, open("data/q.json", "w"))\n',
                depends_on=(1,),
            ),
        ],
        {"QUANTILE": 0.9, "numbers_file": "data/numbers.npy"},
        {"QUANTILE": 0.5},
        ["data/q.json"],
        choose="2",
    ),
    "a retry, functions and argparse": Kind(
        "Histogram of the squares.",
        [
            Step(
                """import argparse
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def histogram(values, n_bins=8):
    low, high = min(values), max(values)
    width = (high - low) / n_bins
    counts = [0] * n_bins
    for value in values:
        counts[min(int((value - low) / width), n_bins - 1)] += 1
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many squares")
    args = parser.parse_args()
    values = [i**2 for i in range(args.count)]
    with open(os.path.join(ROOT, "data", "histogram.json"), "w") as file:
        json.dump({"counts": histogram(values), "script": os.path.basename(sys.argv[0])}, file)
""",
                failing=('import json\njson.loads("{")\n',),
                filename="squares.py",
            )
        ],
        {"n_bins": 8, "count": 500},
        {"count": 100, "n_bins": 4},
        ["data/histogram.json"],
    ),
    "a module of the run, asyncio and a settings table": Kind(
        "Distances for a flat universe.",
        [
            Step(
                "from pathlib import Path\n"
                'Path("codebase/tools.py").write_text("def double(x):\\n    return 2 * x\\n")\n'
                'Path("data/ok.txt").write_text("ok")\n'
            ),
            Step(
                """import asyncio
import json
import math

from tools import double

C_KMS = 299792.458
params = {"H0": 67.36, "omega_m": 0.315, "label": "flat"}


async def distance(z):
    steps = 200
    om = params["omega_m"]
    total = sum(1 / math.sqrt(om * (1 + z * i / steps) ** 3 + 1 - om) for i in range(steps))
    return C_KMS / params["H0"] * total * z / steps


async def main():
    redshifts = [0.1, 0.5, 1.0]
    found = await asyncio.gather(*(distance(z) for z in redshifts))
    json.dump({"twice": [double(item) for item in found]}, open("data/distances.json", "w"))


asyncio.run(main())
""",
                depends_on=(1,),
            ),
        ],
        {"H0": 67.36, "omega_m": 0.315, "redshifts": [0.1, 0.5, 1.0]},
        {"h0": 70, "redshifts": [0.2, 0.4]},
        ["data/distances.json"],
        choose="2",
    ),
    "only printed": Kind(
        "Print the sum of the first 100 squares.",
        [Step("N_SQUARES = 100\nprint('sum', sum(i * i for i in range(N_SQUARES)))\n")],
        {"N_SQUARES": 100},
        {"n_squares": 10},
        [],
    ),
}


#: Kinds whose parameters are shown to be alive here; the evaluation set does it for all of its own.
TRIED = ("pandas", "a frame given with --in", "a retry, functions and argparse")


@pytest.mark.parametrize("name", KINDS)
def test_extracted_verified_and_run_with_other_values(home: Home, name: str) -> None:
    """Each kind of code becomes an active skill with the expected parameters, which change what it makes."""
    kind = KINDS[name]
    run_id = make_run(home, kind.task, kind.steps, kind.inputs)
    options = {} if name in TRIED else {"liveness_s": 0}
    skill = extract(home.db, home.writer, home.path, run_id, name="kind", steps=kind.choose, **options)
    assert skill.status == "active", skill.info.verification
    assert {item.name: item.default for item in skill.parameters if item.kind != "output"} == kind.parameters
    if name in TRIED:
        assert set(skill.info.verification["liveness"]["alive"]) == {item.name for item in skill.parameters}
    compared = {item["path"] for item in skill.info.verification["files"]}
    assert set(kind.changed_files) <= compared

    other = skill.run(**kind.change)
    assert other.status == "completed", other.error
    assert compared <= set(other.outputs)
    for path in kind.changed_files:
        assert other.path(path).read_bytes() != (home.path / "runs" / run_id / path).read_bytes(), path
    assert json.loads(
        home.db.rows("SELECT parameters FROM skill_executions WHERE id = :id", id=other.id)[0]["parameters"]
    )


def test_what_a_library_keeps_in_memory_is_kept_from_the_next_step(home: Home) -> None:
    """Steps that one kernel would let disturb each other each get a fresh one, and the report says so."""
    first = Step(
        "import decimal\ndecimal.getcontext().prec = 4\nDIVISOR = 7\nopen('data/a.txt', 'w').write(str(1 / DIVISOR))\n"
    )
    second = Step(
        "from decimal import Decimal\nf = open('data/b.txt', 'w')\nf.write(str(Decimal(1) / Decimal(13)))\nf.close()",
        depends_on=(1,),
    )
    run_id = make_run(home, "Divide.", [first, second])
    skill = extract(home.db, home.writer, home.path, run_id, name="divide")
    assert skill.status == "active", skill.info.verification
    assert "one kernel for all steps" in skill.info.verification["notes"][0]
    execution = skill.run(divisor=9)
    assert execution.path("data/a.txt").read_text() == str(1 / 9)
    assert len(execution.path("data/b.txt").read_text()) > 20
