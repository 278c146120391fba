from pathlib import Path

import numpy as np
import pandas as pd
import matplotlib.pyplot as plt

root = Path.cwd()
period = 2.47  # days
epoch = 1.2    # days
n_bins = 20
two_cycles = True

lc = pd.read_parquet(root / "data" / "clean_lightcurve.parquet")
lc["phase"] = ((lc["time"] - epoch) / period) % 1.0
lc["bin"] = np.minimum((lc["phase"] * n_bins).astype(int), n_bins - 1)
folded = lc.groupby("bin")["flux"].agg(["mean", "sem", "count"]).reset_index()
folded["phase"] = (folded["bin"] + 0.5) / n_bins
folded.to_csv(root / "data" / "folded.csv", index=False, float_format="%.6f")

fig, ax = plt.subplots()
for shift in (0, 1) if two_cycles else (0,):
    ax.errorbar(folded["phase"] + shift, folded["mean"], folded["sem"], fmt="k.", capsize=2)
ax.set_xlabel("phase")
ax.set_ylabel("flux")
fig.savefig(root / "plots" / "folded.png", dpi=100)
print(f"depth {folded['mean'].max() - folded['mean'].min():.4f}")
