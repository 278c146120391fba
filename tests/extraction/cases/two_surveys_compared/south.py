import numpy as np
import pandas as pd

BIN_WIDTH = 0.5
MAG_MIN, MAG_MAX = 14.0, 20.0
COMPLETENESS = 0.85

mags = pd.read_parquet("input/south.parquet")["mag"]
edges = np.arange(MAG_MIN, MAG_MAX + BIN_WIDTH / 2, BIN_WIDTH)
n, _ = np.histogram(mags, bins=edges)
table = pd.DataFrame({"mag": (edges[:-1] + edges[1:]) / 2, "n": n, "corrected": n / COMPLETENESS})
table.to_csv("data/counts_south.csv", index=False)
print("south:", n.sum())
