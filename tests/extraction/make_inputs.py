"""Makes the inputs of the cases, always the same: ``python -m tests.extraction.make_inputs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent / "cases"
WORDS = """galaxy cluster dark matter energy lensing survey redshift with from that this spectrum supernova model
cosmic background data likelihood prior posterior constraint tension baryon acoustic which were than"""


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


def bootstrap_mean() -> None:
    rng = np.random.default_rng(5)
    write("bootstrap_mean", "df.csv", pd.DataFrame({"velocity": rng.standard_t(4, 60).round(2) * 12 + 310}))


def uneven_periodogram() -> None:
    rng = np.random.default_rng(6)
    time = np.sort(rng.uniform(0, 60, 180)).round(4)
    mag = 12.4 + 0.3 * np.sin(2 * np.pi * time / 1.7342) + rng.normal(0, 0.05, 180)
    write("uneven_periodogram", "lc.csv", pd.DataFrame({"time": time, "mag": mag.round(3)}))


def monthly_temperature() -> None:
    rng = np.random.default_rng(7)
    date = pd.date_range("2001-01-01", "2003-06-30", freq="D")
    value = (
        10
        - 8 * np.cos(2 * np.pi * date.day_of_year / 365)
        + 0.0005 * np.arange(len(date))
        + rng.normal(0, 2, len(date))
    )
    table = pd.DataFrame({"date": date.strftime("%Y-%m-%d"), "temperature": np.round(value, 1)})
    write("monthly_temperature", "temps.csv", table.drop(index=range(400, 418)))


def instrument_log() -> None:
    rng = np.random.default_rng(8)
    lines = []
    for i in range(160):
        level = rng.choice(["INFO", "WARN", "ERROR", "DEBUG"], p=[0.5, 0.2, 0.1, 0.2])
        system = rng.choice(["camera", "slit", "guider", "cryo"])
        text = (
            f"exposure E{i:03d} finished after {rng.exponential(400):.1f} s"
            if i % 4 == 0
            else f"status {rng.integers(99)}"
        )
        lines.append(f"2025-03-{1 + i // 24:02d}T{i % 24:02d}:10:00 {level} [{system}] {text}")
    lines.insert(40, "--- restart ---")
    write("instrument_log", "log.txt", "\n".join(lines) + "\n")


def blob_finder() -> None:
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:48, :48]
    image = rng.normal(100, 5, (48, 48))
    for x0, y0, peak, width in ((10, 12, 150, 2), (35, 30, 90, 2.5), (22, 40, 60, 1.5), (40, 8, 40, 2)):
        image += peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2))
    write("blob_finder", "image.npy", image.astype(np.float32))


def group_difference() -> None:
    rng = np.random.default_rng(10)
    values = np.concatenate([rng.normal(5.1, 0.8, 34), rng.normal(5.7, 1.1, 29)]).round(2)
    write("group_difference", "df.csv", pd.DataFrame({"treatment": ["A"] * 34 + ["B"] * 29, "yield": values}))


def two_surveys_compared() -> None:
    rng = np.random.default_rng(11)
    for name, n, slope in (("north", 700, 0.42), ("south", 500, 0.35)):
        mag = 20 + np.log10(rng.random(n)) / slope
        write("two_surveys_compared", f"{name}.csv", pd.DataFrame({"mag": mag[mag > 13].round(3)}))


def clean_fit_report() -> None:
    rng = np.random.default_rng(12)
    n = 300
    volt = rng.normal(1.4, 0.05, n)
    volt[::37] += 2
    table = {"channel": rng.integers(1, 5, n), "volt": volt.round(4), "flag": (rng.random(n) < 0.08).astype(int)}
    write("clean_fit_report", "raw.csv", pd.DataFrame(table))


def retry_after_a_file() -> None:
    rng = np.random.default_rng(13)
    hours = np.arange(0, 12, 0.25)
    density = 1.1 / (1 + np.exp(-(hours - 6.5) / 0.95)) + 0.004
    od = (density * rng.normal(1, 0.03, len(hours))).round(4)
    write("retry_after_a_file", "df.csv", pd.DataFrame({"hours": hours, "od": od}))


def likelihood_bfgs() -> None:
    rng = np.random.default_rng(14)
    energy = (1 - rng.random(4000)) ** (-1 / 0.7)
    energy = energy[(rng.random(4000) < np.exp(-energy / 15)) & (energy < 400)][:900]
    write("likelihood_bfgs", "df.csv", pd.DataFrame({"energy": energy.round(3)}))


def rainfall_by_station() -> None:
    rng = np.random.default_rng(21)
    date = pd.date_range("2020-01-01", "2020-04-30").strftime("%Y-%m-%d")
    frames = []
    for station, wet, missing in (
        ("Alder", 0.4, 0.02),
        ("Birch", 0.25, 0.1),
        ("Cedar", 0.5, 0.5),
        ("Dogwood", 0.3, 0.0),
    ):
        rain = np.where(rng.random(len(date)) < wet, rng.exponential(6, len(date)), 0).round(1)
        rain[rng.random(len(date)) < missing] = np.nan
        frames.append(pd.DataFrame({"station": station, "date": date, "rain_mm": rain}))
    write("rainfall_by_station", "rain.csv", pd.concat(frames))


def sites_and_species() -> None:
    rng = np.random.default_rng(22)
    sites = pd.DataFrame({"site_id": [f"S{i:02d}" for i in range(25)], "elevation": rng.integers(100, 2400, 25)})
    n = 400
    table = {"site_id": rng.choice(sites["site_id"][:23], n), "species": rng.choice([f"sp{i}" for i in range(40)], n)}
    table |= {
        "abundance": rng.poisson(2.5, n),
        "confidence": rng.choice(["high", "medium", "low"], n, p=[0.5, 0.3, 0.2]),
    }
    write("sites_and_species", "sites.csv", sites)
    write("sites_and_species", "observations.csv", pd.DataFrame(table))


def pca_spectra() -> None:
    rng = np.random.default_rng(23)
    x = np.linspace(0, 1, 60)
    basis = np.array([np.sin(3 * x), np.exp(-(((x - 0.4) / 0.05) ** 2)), x**2, np.cos(9 * x)])
    spectra = 5 + rng.normal(0, [1, 0.8, 0.6, 0.3], (40, 4)) @ basis + rng.normal(0, 0.05, (40, 60))
    spectra[17, 20:30] += 1.5
    write("pca_spectra", "spectra.npy", spectra.astype(np.float32))


def absorption_doublet() -> None:
    rng = np.random.default_rng(24)
    wave = np.arange(5860, 5925, 0.25)
    depth = 0.62 * np.exp(-0.5 * ((wave - 5890.1) / 0.9) ** 2) + 0.41 * np.exp(-0.5 * ((wave - 5896.05) / 0.9) ** 2)
    flux = (1.05 + 0.002 * (wave - 5893)) * (1 - depth) + rng.normal(0, 0.015, len(wave))
    write("absorption_doublet", "sp.csv", pd.DataFrame({"wavelength": wave, "flux": flux.round(4), "error": 0.015}))


def robust_circle() -> None:
    rng = np.random.default_rng(25)
    angle = rng.uniform(0, 2 * np.pi, 80)
    pts = np.c_[1.3 + 4.2 * np.cos(angle), -0.6 + 4.2 * np.sin(angle)] + rng.normal(0, 0.08, (80, 2))
    pts[::11] += rng.uniform(-3, 3, pts[::11].shape)
    write("robust_circle", "pts.npy", pts)


def parallax_errors() -> None:
    rng = np.random.default_rng(31)
    parallax = rng.gamma(2, 0.8, 60) + 0.05
    error = rng.uniform(0.02, 0.3, 60)
    table = {"star": [f"G{i}" for i in range(60)], "parallax": (parallax + rng.normal(0, error)).round(4)}
    write("parallax_errors", "gaia.csv", pd.DataFrame(table | {"e_parallax": error.round(4)}))


def tide_spectrum() -> None:
    rng = np.random.default_rng(32)
    hours = np.arange(24 * 70)
    level = 0.0002 * hours + rng.normal(0, 0.05, len(hours))
    for period, amplitude in ((12.4206, 0.9), (12.0, 0.35), (25.8193, 0.2), (23.9345, 0.28), (6.21, 0.08)):
        level += amplitude * np.cos(2 * np.pi * hours / period + period)
    write("tide_spectrum", "level.npy", level.astype(np.float32))


def river_flow() -> None:
    rng = np.random.default_rng(33)
    day = pd.date_range("2015-09-01", "2017-10-31")
    base = 18 + 9 * np.cos(2 * np.pi * (day.day_of_year - 60) / 365)
    flow = base * np.exp(np.convolve(rng.normal(0, 0.35, len(day)), np.exp(-np.arange(15) / 5), "same") / 2)
    table = pd.DataFrame({"day": day.strftime("%Y-%m-%d"), "discharge": np.round(flow, 2)})
    write("river_flow", "flow.csv", table.drop(index=[100, 101, 300]))


def abstract_words() -> None:
    rng = np.random.default_rng(34)
    words = WORDS.split()
    lines = []
    for _ in range(60):
        text = " ".join(rng.choice(words, 22))
        if rng.random() < 0.4:
            text += f" at {rng.uniform(1, 6):.1f} sigma"
        lines.append(f"{rng.integers(2008, 2024)}\t{text.capitalize()}.")
    write("abstract_words", "abstracts.txt", "\n".join(lines) + "\n")


def galaxy_profile() -> None:
    rng = np.random.default_rng(35)
    y, x = np.mgrid[:60, :60]
    flat = 1 + 0.1 * np.sin(x / 9) * np.cos(y / 11)
    light = 40 + 900 * np.exp(-np.hypot(x - 31.4, (y - 28.2) / 0.9) / 5)
    write("galaxy_profile", "frame.npy", (300 + rng.poisson(light * flat)).astype(np.int16))
    write("galaxy_profile", "flat.npy", (flat * 20000 + rng.normal(0, 50, flat.shape)).astype(np.float32))


def smoking_survey() -> None:
    rng = np.random.default_rng(36)
    n = 320
    smoker = rng.choice(["yes", "no"], n, p=[0.3, 0.7])
    age = rng.integers(12, 85, n)
    capacity = (6.2 - 0.025 * age - 0.4 * (smoker == "yes") + rng.normal(0, 0.5, n)).round(2)
    table = {"sex": rng.choice(["f", "m"], n), "age": age, "smoker": smoker, "capacity": capacity}
    write("smoking_survey", "survey.csv", pd.DataFrame(table))


def kmeans_numpy() -> None:
    rng = np.random.default_rng(37)
    centres = rng.uniform(-6, 6, (4, 2))
    points = np.vstack([rng.normal(centre, 0.9, (60, 2)) for centre in centres]).round(3)
    write("kmeans_numpy", "df.csv", pd.DataFrame(points, columns=["x", "y"]).assign(name=[f"p{i}" for i in range(240)]))


def lightcurve_two_steps() -> None:
    rng = np.random.default_rng(41)
    time = np.sort(rng.uniform(0, 60, 420)).round(4)
    phase = ((time - 1.2) / 2.47) % 1
    flux = 1 - 0.02 * (np.minimum(phase, 1 - phase) < 0.08) + rng.normal(0, 0.003, 420)
    flux[::53] += rng.choice([-0.08, 0.08], len(flux[::53]))
    write("lightcurve_two_steps", "star.csv", pd.DataFrame({"time": time, "flux": flux.round(5)}))


def station_network() -> None:
    rng = np.random.default_rng(42)
    n = 600
    table = {"magnitude": (2.5 + rng.exponential(np.log10(np.e) / 0.95, n)).round(1)}
    table |= {"depth": rng.gamma(2, 18, n).round(1), "distance": rng.uniform(5, 300, n).round(1)}
    write("station_network", "quakes.csv", pd.DataFrame(table))


def interpolation_retry() -> None:
    mass = np.array([0.815, 0.88, 0.95, 1.0, 1.07, 1.15, 1.22, 1.3, 1.41, 1.5, 1.62, 1.75])
    table = {"mass": mass, "log_l": (4.1 * np.log10(mass) + 0.03 * np.sin(9 * mass)).round(4)}
    write("interpolation_retry", "iso.csv", pd.DataFrame(table | {"log_teff": (3.76 + 0.4 * np.log10(mass)).round(4)}))


def retry_left_files() -> None:
    rng = np.random.default_rng(43)
    chain = np.empty((1500, 3))
    state = np.zeros(3)
    for i in range(len(chain)):
        state = [0.9, 0.8, 0.6] * state + rng.normal(0, 1, 3)
        chain[i] = np.array([0.3, 0.8, 0.96]) + 0.01 * state
    write("retry_left_files", "chain.npy", chain[:1500].astype(np.float32))


def filter_bank() -> None:
    rng = np.random.default_rng(44)
    t = np.arange(2000) / 200
    sig = np.sin(2 * np.pi * 3 * t) + 0.5 * np.sin(2 * np.pi * 7.5 * t) + rng.normal(0, 0.6, len(t))
    write("filter_bank", "sig.npy", sig.astype(np.float32))


def supernova_pipeline() -> None:
    rng = np.random.default_rng(51)
    z = np.sort(rng.uniform(0.01, 1.3, 90)).round(4)
    grid = np.linspace(0, 1.4, 3000)
    distance = np.cumsum(1 / np.sqrt(0.31 * (1 + grid) ** 3 + 0.69)) * (grid[1] - grid[0]) * 299792.458 / 70
    error = rng.uniform(0.08, 0.3, 90).round(3)
    mu = 5 * np.log10((1 + z) * np.interp(z, grid, distance)) + 25 + rng.normal(0, error)
    write("supernova_pipeline", "sn.csv", pd.DataFrame({"z": z, "mu": mu.round(4), "mu_err": error}))
    write("supernova_pipeline", "config.json", {"z_min": 0.02, "z_max": 1.2, "max_error": 0.25})


def reactor_report() -> None:
    rng = np.random.default_rng(52)
    minutes = np.arange(0, 60, 4)
    frames = []
    temperatures = {"r1": 310.0, "r2": 320.0, "r3": 335.0}
    for run, temperature in temperatures.items():
        rate = np.exp(20 - 60000 / 8.314 / temperature)
        concentration = np.exp(-rate * minutes) * rng.normal(1, 0.01, len(minutes))
        frames.append(pd.DataFrame({"run": run, "minutes": minutes, "concentration": concentration.round(5)}))
    write("reactor_report", "runs.csv", pd.concat(frames))
    write("reactor_report", "setup.json", {"temperatures": temperatures, "operator": "K."})


def energy_by_weekday() -> None:
    rng = np.random.default_rng(53)
    time = pd.date_range("2023-03-01", "2023-03-29 23:00", freq="h")
    kwh = 3 + 6 * ((time.hour >= 8) & (time.hour < 18) & (time.day_of_week < 5)) + rng.normal(0, 0.5, len(time))
    table = pd.DataFrame({"timestamp": time.strftime("%Y-%m-%d %H:%M"), "kwh": np.round(kwh, 2)})
    write("energy_by_weekday", "meter.csv", table)


MAKERS = (
    planets_by_method, star_crossmatch, detector_histograms, decay_curve, bootstrap_mean, uneven_periodogram,
    monthly_temperature, instrument_log, blob_finder, group_difference, two_surveys_compared, clean_fit_report,
    retry_after_a_file, likelihood_bfgs, rainfall_by_station, sites_and_species, pca_spectra, absorption_doublet,
    robust_circle, parallax_errors, tide_spectrum, river_flow, abstract_words, galaxy_profile, smoking_survey,
    kmeans_numpy, lightcurve_two_steps, station_network, interpolation_retry, retry_left_files, filter_bank,
    supernova_pipeline, reactor_report, energy_by_weekday,
)  # fmt: skip

if __name__ == "__main__":
    for make in MAKERS:
        make()
