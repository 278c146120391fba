import json
import numpy as np
import pandas as pd
from scipy.stats import linregress

df = pd.read_parquet("input/df.parquet")
df["smooth"] = df["od"].rolling(3, center=True, min_periods=1).median()
df.to_csv("data/smoothed.csv", index=False)

sel = df[(df["smooth"] > 0.05) & (df["smooth"] < 0.6)]
fit = linregress(sel["hours"], np.log(sel["smooth"]))
result = {
    "rate_per_hour": fit.slope,
    "rate_error": fit.stderr,
    "doubling_time_hours": np.log(2) / fit.slope,
    "points": len(sel),
}
json.dump(result, open("data/growth.json", "w"), indent=2)
print(f"growth rate {fit.slope:.3f} / h, doubling time {60 * np.log(2) / fit.slope:.1f} min")
