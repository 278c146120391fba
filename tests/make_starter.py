"""Makes the starter skills anew: ``python -m tests.make_starter [NAME ...]``.

Each is made as a user would make it: a playbook is run, a skill is extracted from the run and verified, and it is
exported. What differs between two makings (ids, seconds) is left out, so that the same code, data and packages make
the same files.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb.llm.playbook import Playbook
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.notebook import notebook_text, read_notebook
from cmbagent_nb.skills.sharing import manifest, skill_md
from cmbagent_nb.skills.sharing.export import pack, write_files
from cmbagent_nb.skills.sharing.package import ABOUT, NOTEBOOK, ROW, SCRIPT, Package
from cmbagent_nb.skills.starter.install import FOLDER
from cmbagent_nb.workspace import Workspace

LICENCE = "Apache-2.0"
#: Seconds for showing that the parameters have an effect: enough for each of them, on a busy machine too.
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Recipe:
    """From which steps of which playbook a starter skill is made."""

    playbook: str
    description: str
    tags: list[str] = field(default_factory=list)
    steps: str | None = None


RECIPES = {
    "planck-tt-spectrum": Recipe(
        "planck-desi",
        "Compute the CMB temperature (TT) power spectrum of a cosmology with CAMB, lensed, and compare it with the "
        "Planck 2018 band powers: chi2 through the full covariance, residuals of every bin, and a plot of the "
        "spectrum with its acoustic peaks",
        ["cosmology", "cmb", "planck", "power-spectrum", "camb"],
        "1",
    ),
    "desi-bao-fit": Recipe(
        "planck-desi",
        "Fit flat LCDM to the DESI DR2 baryon acoustic oscillation (BAO) distances to constrain the matter density "
        "Omega_m and h r_d: best-fit parameters, errors, chi2, and the 68 % and 95 % confidence contours",
        ["cosmology", "bao", "desi", "fit"],
        "2",
    ),
    "supernova-hubble-diagram": Recipe(
        "supernova-hubble",
        "Draw the Hubble diagram of type Ia supernovae (SNe Ia) such as Pantheon+, their distance modulus against "
        "redshift, and fit the matter density Omega_m of a flat Universe to it: chi2, scatter, and residuals "
        "averaged in bins of redshift",
        ["cosmology", "supernovae", "hubble-diagram", "fit"],
    ),
    "hz-fit": Recipe(
        "hz-chronometers",
        "Measure how fast the Universe expands: fit the Hubble constant H0 and Omega_m to measurements of the "
        "expansion rate H(z), such as cosmic chronometers (differential ages of galaxies), and draw the Hubble "
        "parameter against redshift with the best fit and its 68 % band",
        ["cosmology", "chronometers", "expansion-rate", "fit"],
    ),
    "table-exploration": Recipe(
        "table-exploration",
        "Explore a table or dataset (CSV, parquet or DataFrame) and tell what is in the table: summary statistics "
        "of its columns, missing values, outliers, correlations, histograms and a correlation matrix plot",
        ["data", "exploration", "table", "statistics"],
    ),
    "periodogram": Recipe(
        "periodogram",
        "Find the period of a variable star, a rotation, a yearly cycle or any other periodic signal in a light "
        "curve or time series, evenly sampled or with gaps, by a Lomb-Scargle periodogram: strongest periods, their "
        "power, amplitude and false-alarm probability, after subtracting a polynomial trend",
        ["data", "time-series", "periodogram", "lomb-scargle", "light-curve", "variable-star"],
    ),
}


def make(names: list[str], target: Path, *, patience_s: float = PATIENCE_S) -> dict[str, Skill]:
    """Make skills and write each as a folder of its name below ``target``; returns them as they were extracted.

    With a patience of 0 it is not tried whether their parameters have an effect.
    """
    made: dict[str, Skill] = {}
    with tempfile.TemporaryDirectory(prefix="starter-") as folder:
        workspace = Workspace(Path(folder) / "home")
        try:
            runs: dict[str, Any] = {}
            for name in names:
                recipe = RECIPES[name]
                if recipe.playbook not in runs:
                    runs[recipe.playbook] = _run(workspace, recipe.playbook)
                options = {"tags": recipe.tags, "description": recipe.description, "liveness_s": patience_s}
                skill = runs[recipe.playbook].extract_skill(name, recipe.steps, **options)
                if not skill.verified:
                    raise RuntimeError(f"{name} was not verified: {skill.info.verification.get('reason')}")
                unproven = (skill.info.verification.get("liveness") or {}).get("unproven")
                if unproven and patience_s:
                    raise RuntimeError(f"{name} has parameters that were not shown to have an effect: {unproven}")
                made[name] = skill
                place = target / name
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                write_files(_plain(pack(skill.info, licence=LICENCE), skill), place)
        finally:
            workspace.close()
    return made


def _run(workspace: Workspace, name: str) -> Any:
    playbook = Playbook.load(name)
    inputs = {}
    for key, loader in playbook.inputs.items():
        module, _, function = loader.partition(":")
        inputs[key] = getattr(importlib.import_module(module), function)()
    run = workspace.start(playbook.task, mode=playbook.mode, model=f"playbook:{name}", inputs=inputs, name=name)
    run.wait(600)
    if run.status != "completed":
        raise RuntimeError(f"the run of {name} is {run.status}: {run.error}")
    return run


def _plain(package: Package, skill: Skill) -> Package:
    """Leave out what differs from one making to the next (ids, seconds) and the script that every export writes."""
    notebook = read_notebook(package.text(NOTEBOOK))
    ours = notebook.metadata["cmbagent_nb"]
    ours["run"].pop("id", None)
    for step in ours["steps"]:
        step.pop("code_exec_event", None)
        step.pop("duration_s", None)
    text = notebook_text(notebook)
    row = json.loads(package.text(ROW))
    row["verification"] = _without_times(row["verification"])
    row["visibility"] = "public"
    del package.files[SCRIPT]
    package.files[NOTEBOOK] = text.encode()
    package.files[ROW] = (json.dumps(row, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
    package.files[ABOUT] = skill_md.write(skill.info, row, row["license"]).encode()
    return manifest.seal(package)


def _without_times(report: Any) -> Any:
    if isinstance(report, dict):
        return {key: _without_times(value) for key, value in report.items() if key not in {"duration_s", "cells"}}
    return [_without_times(item) for item in report] if isinstance(report, list) else report


def main(names: list[str]) -> int:
    """Make the named skills, or all."""
    unknown = set(names) - set(RECIPES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    for name, skill in make(names or list(RECIPES), FOLDER).items():
        size = sum(path.stat().st_size for path in (FOLDER / name).rglob("*") if path.is_file())
        print(f"{name}: {skill.info.summary()} ({size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
