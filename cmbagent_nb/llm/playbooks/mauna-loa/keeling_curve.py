"""Separate the rise of atmospheric CO2 at Mauna Loa from its seasonal cycle.

Reads  input/df.parquet         date, co2 [ppm], one row a week; gaps are NaN
Writes data/keeling_curve.json  growth rates, seasonal cycle, scatter
       plots/keeling_curve.png  record and trend, mean seasonal cycle
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

TREND_DEGREE = 2  # degree of the polynomial for the long-term rise
HARMONICS = 3  # sines and cosines of the seasonal cycle: yearly, half-yearly, ...
DAYS_PER_YEAR = 365.25

table = pd.read_parquet("input/df.parquet").dropna(subset=["co2"])
co2 = table["co2"].to_numpy()
start_of_year = pd.to_datetime(table["date"].dt.year.astype(str) + "-01-01")
year = (table["date"].dt.year + (table["date"] - start_of_year).dt.days / DAYS_PER_YEAR).to_numpy()
middle = year.mean()  # centring keeps the polynomial's columns well conditioned


def season(phase):
    """Columns of the seasonal cycle; phase counts years."""
    angle = 2 * np.pi * np.outer(phase, np.arange(1, HARMONICS + 1))
    return np.hstack([np.cos(angle), np.sin(angle)])


# Trend and cycle are fitted together, so that gaps in the record do not mix them up.
design = np.hstack([np.vander(year - middle, TREND_DEGREE + 1), season(year)])
solution, *_ = np.linalg.lstsq(design, co2)
trend = np.poly1d(solution[: TREND_DEGREE + 1])
cycle = solution[TREND_DEGREE + 1 :]
residual = co2 - design @ solution

phase = np.arange(0, 1, 1 / 365)
curve = season(phase) @ cycle
growth = trend.deriv()
first, last = year.min(), year.max()


def day(index):
    """A day of the year as text, such as '15 May'."""
    date = pd.Timestamp("2001-01-01") + pd.Timedelta(days=int(index))
    return f"{date.day} {date:%B}"


summary = {
    "weeks": len(table),
    "first_year": float(first),
    "last_year": float(last),
    "rise": float(trend(last - middle) - trend(first - middle)),  # [ppm]
    "growth_first": float(growth(first - middle)),  # [ppm / year]
    "growth_last": float(growth(last - middle)),  # [ppm / year]
    "cycle_peak_to_peak": float(np.ptp(curve)),  # [ppm]
    "cycle_maximum": day(curve.argmax()),
    "cycle_minimum": day(curve.argmin()),
    "scatter": float(residual.std(ddof=len(solution))),  # weekly residuals [ppm]
}
Path("data/keeling_curve.json").write_text(json.dumps(summary, indent=2) + "\n")

plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
fig, (record, yearly) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained", width_ratios=[1.5, 1])
record.plot(year, co2, ".", ms=1.5, color="#888888", label="weekly mean")
record.plot(year, trend(year - middle), color="#d55e00", lw=1.6, label="trend")
record.set(xlabel="year", ylabel="CO$_2$  [ppm]", xlim=(first - 1, last + 1))
record.legend(frameon=False, loc="upper left", markerscale=5)
record.text(
    0.97, 0.06,
    f"{summary['growth_first']:.2f} ppm/yr in {int(first)}\n{summary['growth_last']:.2f} ppm/yr in {int(last)}",
    transform=record.transAxes, ha="right", va="bottom", color="#d55e00",
)
yearly.plot(12 * (year % 1), co2 - trend(year - middle), ".", ms=1.5, color="#bbbbbb")
yearly.plot(12 * phase, curve, color="#0072b2", lw=2)
yearly.axhline(0, color="#333333", lw=0.6)
yearly.set(xlim=(0, 12), xlabel="month", ylabel="CO$_2$ above trend  [ppm]")
yearly.set_xticks(np.arange(12) + 0.5, list("JFMAMJJASOND"))
yearly.tick_params(axis="x", length=0)
yearly.text(
    0.04, 0.06,
    f"{summary['cycle_peak_to_peak']:.1f} ppm peak to peak\n"
    f"highest around {summary['cycle_maximum']}\nlowest around {summary['cycle_minimum']}",
    transform=yearly.transAxes, va="bottom", color="#0072b2", fontsize=9,
)
fig.savefig("plots/keeling_curve.png", dpi=150, facecolor="white")

print(f"Growth: {summary['growth_first']:.2f} ppm/yr in {int(first)}, {summary['growth_last']:.2f} ppm/yr in {int(last)}")
print(f"Seasonal cycle: {summary['cycle_peak_to_peak']:.1f} ppm peak to peak, highest around {summary['cycle_maximum']}")
