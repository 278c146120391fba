import json
import numpy as np
import pandas as pd
from scipy.stats import linregress

df = pd.read_parquet("input/df.parquet")
df["smooth"] = df["od"].rolling(3, center=True).median()
df.to_csv("data/smoothed.csv", index=False)
df.describe().to_csv("data/description.csv")

sel = df[(df["smooth"] > 0.05) & (df["smooth"] < 0.6)]
fit = linregress(sel["hours"], np.log(sel["smoothed"]))
json.dump({"rate": fit.slope, "doubling_time": np.log(2) / fit.slope}, open("data/growth.json", "w"))
