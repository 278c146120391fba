"""Find the periods in an unevenly sampled series: the Lomb-Scargle periodogram with a floating mean.

A polynomial trend is taken off first. At each frequency a sine, a cosine and a constant are fitted,
and the power is the share of the variance that they explain (0 to 1). Gaps do no harm.

Reads  input/df.parquet          a column of times (dates or numbers), then one of values
Writes data/periodogram.json     the strongest periods, their power, amplitude and false-alarm probability
       data/periodogram.csv      the power at each frequency
       plots/periodogram.png     series and trend, periodogram, series folded with the strongest period
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

TREND_DEGREE = 2  # degree of the polynomial that is taken off first
MIN_PERIOD = 0.2  # shortest period looked for, in years for dates [yr]
MAX_PERIOD = 10.0  # longest period looked for, in years for dates [yr]
OVERSAMPLING = 5  # points of the periodogram for each peak's width
PEAKS = 3  # how many of the strongest periods are listed
DAYS_PER_YEAR = 365.25

# The first column of dates or numbers holds the times, the next one of numbers the values.
table = pd.read_parquet("input/df.parquet")
dates = [name for name in table.columns if pd.api.types.is_datetime64_any_dtype(table[name])]
numbers = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
times = [*dates, *numbers][0]
values = next(name for name in numbers if name != times)
table = table[[times, values]].dropna().sort_values(times, kind="stable")
time, value = table[times], table[values].to_numpy(dtype=float)
unit = "yr" if dates else ""
if dates:
    time = (time - time.min()) / pd.Timedelta(days=DAYS_PER_YEAR)  # dates are counted in years
time = time.to_numpy(dtype=float)
time = time - time.min()

span = np.ptp(time)
scaled = 2 * time / span - 1  # keeps the polynomial's columns well conditioned
columns = np.vander(scaled, TREND_DEGREE + 1)
trend = columns @ np.linalg.lstsq(columns, value)[0]
signal = value - trend
signal = signal - signal.mean()

# Generalized Lomb-Scargle (Zechmeister & Kuerster 2009) with equal weights, at all frequencies.
frequency = np.arange(1 / MAX_PERIOD, 1 / MIN_PERIOD, 1 / (OVERSAMPLING * span))


def fit_sines(frequency):
    """Power, and the coefficients of cosine and sine, at each frequency."""
    power, cosine, sine = (np.empty(len(frequency)) for _ in range(3))
    variance = np.mean(signal**2)
    for part in np.array_split(np.arange(len(frequency)), max(1, len(frequency) * len(time) // 2_000_000)):
        angle = 2 * np.pi * np.outer(frequency[part], time)
        c, s = np.cos(angle), np.sin(angle)
        mean_c, mean_s = c.mean(axis=1), s.mean(axis=1)
        cc = (c * c).mean(axis=1) - mean_c**2
        ss = (s * s).mean(axis=1) - mean_s**2
        cs = (c * s).mean(axis=1) - mean_c * mean_s
        yc, ys = c @ signal / len(time), s @ signal / len(time)
        determinant = cc * ss - cs**2
        cosine[part] = (yc * ss - ys * cs) / determinant
        sine[part] = (ys * cc - yc * cs) / determinant
        power[part] = (cosine[part] * yc + sine[part] * ys) / variance
    return power, cosine, sine


power, cosine, sine = fit_sines(frequency)

# Peaks: local maxima from the strongest down; the side lobes of those before are passed over.
inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] > power[2:])) + 1
peaks = []
for place in inner[np.argsort(-power[inner], kind="stable")]:
    if len(peaks) < PEAKS and all(abs(frequency[place] - frequency[other]) > 2 / span for other in peaks):
        peaks.append(place)
independent = max(1.0, span * (frequency[-1] - frequency[0]))  # about one frequency for each peak's width


def false_alarm(height):
    """Probability that noise alone, white and Gaussian, makes a peak this high anywhere."""
    single = (1 - min(height, 1.0)) ** ((len(time) - 3) / 2)
    return float(-np.expm1(independent * np.log1p(-min(single, 1 - 1e-16))))


found = []
for place in peaks:
    # The top of the peak, from the parabola through the three highest points.
    left, top, right = power[place - 1 : place + 2]
    shift = 0.5 * (left - right) / (left - 2 * top + right)
    best = frequency[place] + shift * (frequency[1] - frequency[0])
    (height,), (a,), (b,) = fit_sines(np.array([best]))
    found.append(
        {
            "period": float(1 / best),
            "frequency": float(best),
            "power": float(height),
            "amplitude": float(np.hypot(a, b)),
            "false_alarm_probability": false_alarm(height),
        }
    )

summary = {
    "samples": len(time),
    "span": float(span),
    "time_unit": unit or "as in the table",
    "value": values,
    "strongest_period": found[0]["period"] if found else None,
    "peaks": found,
}
Path("data/periodogram.json").write_text(json.dumps(summary, indent=2) + "\n")
spectrum = pd.DataFrame({"frequency": frequency, "period": 1 / frequency, "power": power})
spectrum.to_csv("data/periodogram.csv", index=False, float_format="%.9g")

label = f" [{unit}]" if unit else ""
plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
fig, (series, graph, folded) = plt.subplots(3, 1, figsize=(6.4, 7.0), layout="constrained")
series.plot(time, value, ".", ms=1.5, color="#888888")
series.plot(time, trend, color="#d55e00", lw=1.4, label="trend")
series.set(xlabel=f"time since the first sample{label}", ylabel=values)
series.legend(frameon=False)
graph.plot(1 / frequency, power, color="#0072b2", lw=0.9)
for peak in found:
    graph.annotate(
        f"{peak['period']:.3g}", (peak["period"], peak["power"]), textcoords="offset points", xytext=(5, -2), fontsize=8
    )
graph.set(xscale="log", xlabel=f"period{label}", ylabel="power", ylim=(0, 1))
if found:
    phase = time * found[0]["frequency"] % 1
    folded.plot(phase, signal, ".", ms=1.5, color="#888888")
    folded.set(xlabel=f"phase of the period {found[0]['period']:.4g} {unit}".rstrip(), ylabel=f"{values} without trend")
fig.savefig("plots/periodogram.png", dpi=100, facecolor="white")

for peak in found:
    print(f"period {peak['period']:.4g} {unit}: power {peak['power']:.3f}, amplitude {peak['amplitude']:.3g}")
