import numpy as np
import pandas as pd

N_DRAWS = int(4e3)
SEED = 314
ZERO_POINT = -0.017        # mas
MAX_RELATIVE_ERROR = 20    # percent
PERCENTILES = [16, 50, 84]


def draw(parallax, error, rng):
    samples = rng.normal(parallax[:, None] - ZERO_POINT, error[:, None], size=(len(parallax), N_DRAWS))
    samples[samples <= 0] = np.nan
    return 1.0 / samples  # kpc


gaia = pd.read_parquet("input/gaia.parquet")
good = gaia[100 * gaia["e_parallax"] / gaia["parallax"] < MAX_RELATIVE_ERROR].reset_index(drop=True)
good = good[good["parallax"] > 0]
distances = draw(good["parallax"].to_numpy(), good["e_parallax"].to_numpy(), np.random.default_rng(seed=SEED))
quantiles = np.nanpercentile(distances, PERCENTILES, axis=1)
for percentile, values in zip(PERCENTILES, quantiles):
    good[f"d{percentile}"] = values.round(5)

good.to_csv("data/distances_mc.csv", index=False)
np.save("data/samples.npy", distances[:, ::40].astype(np.float32))
print(f"{len(good)} of {len(gaia)} stars, median distance {good['d50'].median() if 'd50' in good else float('nan'):.3f} kpc")
