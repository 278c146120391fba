"""Optimizing skills: how much better the next version is, verified against the executions that it was made from.

Each skill is really run ten times or more, as a user would who tries a few values and comes back to some; then it
is optimized. The time is that of whole executions, with the start of their kernels, old and new in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.learning.optimize import Optimization
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.workspace import Workspace
from tests.benchmarks.measure import Figure, environment
from tests.made_skills import make_skill
from tests.skill_runs import Home

BETTER, SKILLS = 0.2, 5
#: Past executions that are replayed by both versions, with no results kept before the first.
SAMPLE = 8

BOOTSTRAP = """
generator = np.random.default_rng(seed)
sample = generator.normal(3.0, 1.0, 400)
means = np.array([generator.choice(sample, size=len(sample)).mean() for _ in range(120_000)])
low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
with open("data/interval.json", "w") as file:
    json.dump({"low": float(low), "high": float(high), "level": level}, file)
"""
WALK = """
def walk(n, seed):
    generator = np.random.default_rng(seed)
    position, places = 0.0, []
    for step in generator.normal(size=n):
        position += 0.1 * np.sin(position) + step
        places.append(position)
    return np.array(places)

places = walk(n, seed)
smooth = np.convolve(places, np.ones(width) / width, mode="valid")
np.save("data/smooth.npy", smooth)
with open("data/walk.json", "w") as file:
    json.dump({"mean": float(smooth.mean()), "width": width}, file)
"""
FIT = """
x = np.linspace(0, 1, points)
if degree >= points:
    raise ValueError(f"a fit of degree {degree} needs more than {points} points")
if degree > 12:
    raise ValueError(f"degree {degree} is badly conditioned")
coefficients = np.polyfit(x, np.exp(x), degree)
with open("data/fit.json", "w") as file:
    json.dump({"residual": float(np.abs(np.polyval(coefficients, x) - np.exp(x)).max())}, file)
"""


@dataclass
class Case:
    """A skill, and the values of the parameters that it is used with."""

    skill: Skill
    used: list[dict[str, Any]]
    #: What the next version must gain: nothing where no values come again.
    bar: float = BETTER


def cases(workspace: Workspace) -> Iterator[Case]:
    """Yield skills as they ship, and skills of the kinds that runs leave."""
    workspace.skills.install_starter()
    home = Home(workspace.home, workspace._core.db, workspace._core.writer)
    numpy = "import json\nimport numpy as np"
    numbers = [Parameter("n", "int", 1_000_000), Parameter("seed", "int", 3), Parameter("width", "int", 10)]
    yield Case(
        make_skill(home, "walk", [WALK], numbers, imports=numpy),
        [{"width": width} for width in (5, 10, 20, 50, 100, 8, 16, 32, 64, 128)],
        bar=0.0,
    )
    levels = [Parameter("seed", "int", 1), Parameter("level", "float", 0.68)]
    yield Case(
        make_skill(home, "bootstrap", [BOOTSTRAP], levels, imports=numpy),
        [{"level": level} for level in (0.5, 0.68, 0.9, 0.95, 0.99, 0.8, 0.75, 0.6, 0.85, 0.997)],
        bar=0.0,
    )
    fits = [Parameter("degree", "int", 3), Parameter("points", "int", 50)]
    yield Case(
        make_skill(home, "polynomial", [FIT], fits, imports=numpy),
        [{"degree": degree} for degree in (2, 3, 4, 13, 5, 14, 6, 15, 7, 16, 3, 20)],
    )
    find = workspace.skills.get
    again = [0, 0, 1, 0, 1, 2, 0, 1, 0, 2]
    yield Case(find("periodogram"), [{"PEAKS": (3, 4, 5)[place]} for place in again])
    yield Case(find("desi-bao-fit"), [{"GRID_POINTS": (101, 121, 141)[place]} for place in again])
    yield Case(find("table-exploration"), [{"OUTLIER_IQR": (1.5, 2.0, 3.0)[place]} for place in again])
    yield Case(find("planck-tt-spectrum"), [{"H0": (67.32, 70.0, 73.0)[place]} for place in again])


def optimized() -> Iterator[Figure]:
    """Yield the gain of each skill, and how many are better by a fifth, verified and active."""
    better = 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, environment(Path(folder) / "home"):
        workspace = Workspace(Path(folder) / "home")
        try:
            for case in cases(workspace):
                done = _use(case)
                gain = max(done.time_saved or 0.0, done.failures_saved or 0.0)
                active = done.new is not None and done.new.status == "active"
                better += active and done.verified and gain >= BETTER
                yield _figure(case, done, gain)
        finally:
            workspace.close()
    yield Figure("optimize.better", better, "skills", SKILLS, at_least=True, more={"from": f"{BETTER:.0%}"})


def _use(case: Case) -> Optimization:
    for values in case.used:
        case.skill.run(**values)
    try:
        return case.skill.optimize(apply=True, sample=SAMPLE)
    except SkillError:  # nothing of it can be made better: no values come again
        return case.skill.optimize()


def _figure(case: Case, done: Optimization, gain: float) -> Figure:
    report = done.report
    more = {
        "time_saved": done.time_saved,
        "failures_saved": done.failures_saved,
        "cells_saved": (report.get("cell_seconds") or {}).get("saved"),
        "old_median_s": (report.get("seconds") or {}).get("old_median"),
        "new_median_s": (report.get("seconds") or {}).get("new_median"),
        "executions": done.executions,
        "status": done.new.status if done.new else None,
        "changes": [item.kind for item in done.applied],
        "verified": report.get("summary"),
    }
    return Figure(f"optimize.{case.skill.name}", gain, "part", case.bar, at_least=True, more=more)


def composed() -> Iterator[Figure]:
    """Yield how many rollbacks and compositions of the shipped skills work: verified, active, and run by name."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, environment(Path(folder) / "home"):
        workspace = Workspace(Path(folder) / "home")
        try:
            names = sorted(workspace.skills.install_starter() or set(workspace.skills.list()["name"]))
            rolled = [_rolled_back(workspace, name) for name in names]
            yield _part("optimize.rollback", rolled, names)
            wanted = list(_compositions(names))
            made = [_composed(workspace, f"composed_{number}", *each) for number, each in enumerate(wanted)]
            yield _part("optimize.compose", made, [f"{kind}: {' + '.join(parts)}" for parts, kind, _ in wanted])
        finally:
            workspace.close()


def _part(name: str, worked: list[str], what: list[str]) -> Figure:
    failed = {each: why for each, why in zip(what, worked, strict=True) if why}
    return Figure(
        name, 1 - len(failed) / len(worked), "part", 1.0, at_least=True, more={"of": len(worked), "failed": failed}
    )


def _rolled_back(workspace: Workspace, name: str) -> str:
    """Go back to the version before an edited one, and run the name; returns what is wrong, if anything."""
    first = workspace.skills.get(name)
    place = workspace.home / "edited"
    place.mkdir(exist_ok=True)
    text = first.notebook.read_text().replace('"nbformat_minor": 5', '"nbformat_minor":  5')
    (place / "notebook.ipynb").write_text(text)
    second = first.edit(place / "notebook.ipynb", reason="for the benchmark", liveness_s=0.0)
    if second.version != first.version + 1:
        return "no next version"
    workspace.skills.get(name).rollback(first.version, "back")
    done = workspace.skills.get(name).run()
    return "" if done.success and done.version == first.version else f"v{done.version} {done.status}: {done.error}"


def _compositions(names: list[str]) -> Iterator[tuple[list[str], str, dict[str, Any]]]:
    for place in range(0, len(names) - 1, 2):
        yield names[place : place + 2], "parallel", {}
    for name in names:
        if name != "table-exploration":
            yield [name, "table-exploration"], "sequential", {"connect": name}
    yield ["hz-fit", "supernova-hubble-diagram", "desi-bao-fit"], "conditional", {"when": "chi2 < 100"}


def _composed(workspace: Workspace, name: str, parts: list[str], kind: str, options: dict[str, Any]) -> str:
    if "connect" in options:
        first = workspace.skills.get(parts[0])
        table = next(path for path, schema in first.info.output_schema.items() if schema.get("kind") == "table")
        options = {"connect": {f"{parts[1]}.TABLE": f"{parts[0]}:{table}"}}
    skill = workspace.skills.compose(name, parts, kind, **options)
    if skill.status != "active":
        return f"{skill.status}: {skill.info.verification['reason']}"
    done = workspace.skills.get(name).run()
    return "" if done.success else done.error
