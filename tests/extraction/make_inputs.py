"""Makes the inputs of the cases, always the same: ``python -m tests.extraction.make_inputs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent / "cases"


def write(case: str, name: str, value: Any) -> None:
    """Write one input in the form that its suffix names."""
    file = FOLDER / case / "inputs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        value.to_csv(file, index=False, lineterminator="\n")
    elif file.suffix == ".parquet":
        value.to_parquet(file)
    elif file.suffix == ".npy":
        np.save(file, value, allow_pickle=False)
    elif file.suffix == ".json":
        file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    else:
        file.write_text(value, encoding="utf-8")


def planets_by_method() -> None:
    rng = np.random.default_rng(1)
    method = rng.choice(
        ["transit", "radial velocity", "imaging", "microlensing", "timing"], 120, p=[0.5, 0.3, 0.1, 0.07, 0.03]
    )
    period = np.exp(rng.normal(3, 1.5, 120)).round(3)
    period[rng.random(120) < 0.05] = np.nan
    table = {"name": [f"P{i:03d}" for i in range(120)], "method": method, "period": period}
    write("planets_by_method", "df.csv", pd.DataFrame(table | {"mass": np.exp(rng.normal(0, 1.5, 120)).round(3)}))


def star_crossmatch() -> None:
    rng = np.random.default_rng(2)
    ids = np.arange(1000, 1150)
    parallax = np.exp(rng.normal(2.2, 0.7, 150)).round(3)
    phot = pd.DataFrame({"source_id": ids, "g_mag": rng.uniform(6, 15, 150).round(3)})
    astro = pd.DataFrame({"source_id": ids, "parallax": parallax, "parallax_error": rng.uniform(0.05, 2, 150).round(3)})
    write("star_crossmatch", "phot.csv", phot.sample(130, random_state=1))
    write("star_crossmatch", "astro.csv", astro.sample(140, random_state=2))


def detector_histograms() -> None:
    rng = np.random.default_rng(3)
    n = 400
    energy = np.where(rng.random(n) < 0.3, rng.normal(662, 25, n), rng.exponential(250, n)).round(1)
    table = {"energy": energy, "time": np.sort(rng.uniform(0, 300, n)).round(2)}
    table |= {"x": rng.normal(0, 10, n).round(2), "y": rng.normal(0, 10, n).round(2)}
    write("detector_histograms", "events.csv", pd.DataFrame(table))


def decay_curve() -> None:
    rng = np.random.default_rng(4)
    minutes = np.arange(0, 60, 1.5)
    counts = rng.poisson(1200 * 2 ** (-minutes / 8.3) + 25)
    write("decay_curve", "decay.csv", pd.DataFrame({"minutes": minutes, "counts": counts}))


MAKERS = (planets_by_method, star_crossmatch, detector_histograms, decay_curve)

if __name__ == "__main__":
    for make in MAKERS:
        make()
