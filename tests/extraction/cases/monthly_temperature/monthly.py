import pandas as pd
import matplotlib.pyplot as plt

REFERENCE_START = "2001-01-01"
REFERENCE_END = "2002-12-31"
MIN_DAYS = 20
FREQ = "MS"  # month start

temps = pd.read_parquet("input/temps.parquet")
temps["date"] = pd.to_datetime(temps["date"])
series = temps.set_index("date")["temperature"].sort_index()

resampled = series.resample(FREQ)
monthly = resampled.mean()[resampled.count() >= MIN_DAYS].to_frame("mean")

reference = monthly.loc[REFERENCE_START:REFERENCE_END, "mean"]
climatology = reference.groupby(reference.index.month).mean()
monthly["anomaly"] = monthly["mean"] - monthly.index.month.map(climatology)
monthly.round(3).to_csv("data/monthly_anomalies.csv", index_label="month")

ax = monthly["anomaly"].plot.bar(figsize=(10, 3), color=(monthly["anomaly"] > 0).map({True: "tab:red", False: "tab:blue"}))
ax.set_ylabel("anomaly [K]")
ax.set_xticks(range(0, len(monthly), 6))
ax.figure.tight_layout()
ax.figure.savefig("plots/anomalies.png")

print(f"{len(monthly)} months, last anomaly {monthly['anomaly'].iloc[-1]:+.2f} K")
