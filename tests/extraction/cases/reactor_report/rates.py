import json
import numpy as np
import pandas as pd
from scipy.stats import linregress

T_MAX_MIN = 40
MIN_POINTS = 5

runs = pd.read_parquet("input/runs.parquet")
with open("input/setup.json") as f:
    setup = json.load(f)

rows = []
for run, group in runs[runs["minutes"] <= T_MAX_MIN].groupby("run"):
    if len(group) < MIN_POINTS:
        print("skipping", run)
        continue
    line = linregress(group["minutes"], np.log(group["concentration"]))
    rows.append({"run": run, "temperature": setup["temperatures"][run], "k": -line.slope, "k_err": line.stderr})
rates = pd.DataFrame(rows)
rates.to_csv("data/rates.csv", index=False)
print(rates)
