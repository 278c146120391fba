from datetime import date

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import pandas as pd


def load(path: str, start: date, end: date) -> pd.Series:
    df = pd.read_parquet(path)
    s = pd.Series(df["discharge"].to_numpy(), index=pd.to_datetime(df["day"]), name="discharge")
    return s.asfreq("D").interpolate(limit=3).loc[str(start):str(end)]


start, end = date(2015, 10, 1), date(2017, 9, 30)
window = "7D"
threshold = 12.0  # m^3/s

flow = load("input/flow.parquet", start, end)
rolling = flow.rolling(window, min_periods=7).mean()

season = pd.DataFrame({
    "minimum_7d": rolling.resample("QS").min(),
    "mean": flow.resample("QS").mean(),
    "low_days": (flow < threshold).resample("QS").sum(),
})
season.index.name = "season"
season.round(3).to_csv("data/low_flow.csv")

fig, ax = plt.subplots(figsize=(9, 4))
ax.plot(flow.index, flow, lw=0.5, color="0.5", label="daily")
ax.plot(rolling.index, rolling, color="tab:blue", label=f"rolling mean, {window}")
ax.axhline(threshold, color="tab:red", ls="--")
ax.xaxis.set_major_formatter(mdates.DateFormatter("%Y-%m"))
ax.set_ylabel("discharge [m$^3$/s]")
ax.legend()
fig.savefig("plots/hydrograph.png")
print(season)
