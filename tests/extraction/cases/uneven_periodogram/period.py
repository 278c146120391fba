import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.signal import lombscargle

# --- settings -------------------------------------------------
P_MIN, P_MAX = 0.2, 10.0   # days
OVERSAMPLING = 10
OUT_DIR = Path("plots")
# --------------------------------------------------------------

lc = pd.read_parquet(Path("input") / "lc.parquet")
t = lc["time"].to_numpy()
y = lc["mag"].to_numpy() - lc["mag"].mean()

step = 1 / (OVERSAMPLING * (t.max() - t.min()))
freq = np.arange(1 / P_MAX, 1 / P_MIN, step)
power = lombscargle(t, y, 2 * np.pi * freq, normalize=True)
best = 1 / freq[np.argmax(power)]

fig, (a, b) = plt.subplots(1, 2, figsize=(11, 4))
a.plot(1 / freq, power, lw=0.7)
a.axvline(best, color="r", ls=":")
a.set_xscale("log")
a.set_xlabel("period [d]")
a.set_ylabel("power")
phase = (t / best) % 1
b.plot(phase, lc["mag"], "k.")
b.invert_yaxis()
b.set_xlabel("phase")
b.set_title(f"P = {best:.4f} d")
fig.savefig(OUT_DIR / "period.png", dpi=110)

Path("data/period.json").write_text(json.dumps({"period": best, "power": float(power.max())}))
print(f"best period {best:.5f} d")
