import json
from pathlib import Path

import pandas as pd

INPUT_DIR = Path("input")
OUTPUT_DIR = Path("data")

with open(INPUT_DIR / "config.json") as f:
    config = json.load(f)

sn = pd.read_parquet(INPUT_DIR / "sn.parquet")
keep = sn["z"].between(config["z_min"], config["z_max"]) & (sn["mu_err"] < config["max_error"])
sn[keep].sort_values("z").to_csv(OUTPUT_DIR / "cut.csv", index=False)
print(f"{keep.sum()} of {len(sn)} supernovae")
