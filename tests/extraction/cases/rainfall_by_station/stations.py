import json
import pandas as pd

CONFIG = {
    "input": "input/rain.parquet",
    "wet_day_mm": 1.0,
    "percentile": 90,
    "max_missing": 0.30,
    "json": "data/stations.json",
    "csv": "data/wet_days.csv",
}

rain = pd.read_parquet(CONFIG["input"])
rain["month"] = rain["date"].str.slice(0, 7)

result = {}
for station, group in rain.groupby("station"):
    missing = group["rain_mm"].isna().mean()
    if missing > CONFIG["max_missing"]:
        print(f"{station}: left out, {missing:.0%} missing")
        continue
    wet = group.loc[group["rain_mm"] >= CONFIG["wet_day_mm"], "rain_mm"]
    result[station] = {
        "wet_days": int(wet.size),
        "total_mm": round(float(group["rain_mm"].sum()), 1),
        f"p{CONFIG['percentile']}_mm": round(float(wet.quantile(CONFIG["percentile"] / 100)), 2),
        "missing": round(float(missing), 3),
    }

with open(CONFIG["json"], "w") as f:
    json.dump(result, f, indent=2)

kept = rain[rain["station"].isin(list(result))]
table = (
    kept.assign(wet=kept["rain_mm"] >= CONFIG["wet_day_mm"])
    .pivot_table(index="month", columns="station", values="wet", aggfunc="sum")
)
table.to_csv(CONFIG["csv"])
print(table)
