import pandas as pd

MAX_MASS = 13.0  # Jupiter masses, the deuterium-burning limit
MIN_PLANETS = 5

df = pd.read_parquet("input/df.parquet")
planets = df[df["mass"] < MAX_MASS].dropna(subset=["period"])

summary = planets.groupby("method").agg(
    planets=("name", "count"),
    median_period=("period", "median"),
    mean_mass=("mass", "mean"),
)
summary = summary[summary["planets"] >= MIN_PLANETS].sort_values("planets", ascending=False)
summary.round(3).to_csv("data/planets_by_method.csv")

print(summary)
print(f"{int(summary['planets'].sum())} planets below {MAX_MASS} Jupiter masses")
