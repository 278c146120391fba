import datetime as dt
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

START = "2024-01-01"
END = "2024-12-31"
LATITUDES = [-33.9, 0.0, 48.1, 65.0]
HORIZON = -0.833  # degrees
OBLIQUITY = 23.45  # degrees
DECLINATION_MODEL = "cooper"  # or "simple"


def declination(day, model=DECLINATION_MODEL):
    if model == "cooper":
        return OBLIQUITY * np.sin(2 * np.pi * (284 + day) / 365)
    if model == "simple":
        return -OBLIQUITY * np.cos(2 * np.pi * (day + 10) / 365.25)
    raise ValueError(f"unknown model {model!r}")


def day_length(latitude, day):
    phi, delta, h = np.radians(latitude), np.radians(declination(day)), np.radians(HORIZON)
    cos_hour = (np.sin(h) - np.sin(phi) * np.sin(delta)) / (np.cos(phi) * np.cos(delta))
    return 24 / np.pi * np.arccos(np.clip(cos_hour, -1, 1))


dates = pd.date_range(START, END, freq="D")
day = dates.day_of_year.to_numpy()
table = pd.DataFrame({f"{lat:+.1f}": day_length(lat, day) for lat in LATITUDES}, index=dates)
table.resample("MS").mean().round(4).to_csv("data/day_length_monthly.csv", index_label="month")

longest = {
    column: {"date": values.idxmax().strftime("%d %B"), "hours": round(float(values.max()), 3)}
    for column, values in table.items()
}
with open("data/longest_days.json", "w") as f:
    json.dump(longest, f, indent=2)

table.plot(figsize=(9, 4))
plt.axvline(dt.datetime(2024, 6, 20), color="0.7", lw=0.8)
plt.ylabel("hours of daylight")
plt.legend(title="latitude")
plt.savefig("plots/day_length.png", dpi=100)
for latitude, value in longest.items():
    print(f"{latitude}: {value['hours']:.2f} h on {value['date']}")
