import numpy as np
import pandas as pd
from scipy.interpolate import interp1d
from scipy.optimize import brentq

kind = "cubic"
m_min, m_max, n_masses = 0.8, 1.6, 50
target_log_l = 0.5

iso = pd.read_parquet("input/iso.parquet").sort_values("mass")
low, high = max(m_min, iso["mass"].min()), min(m_max, iso["mass"].max())
masses = np.linspace(low, high, n_masses)
splines = {column: interp1d(iso["mass"], iso[column], kind=kind) for column in ("log_l", "log_teff")}
fine = pd.DataFrame({"mass": masses} | {column: spline(masses) for column, spline in splines.items()})
fine.round(6).to_csv("data/isochrone_fine.csv", index=False)

mass = brentq(lambda m: splines["log_l"](m) - target_log_l, low, high)
with open("data/mass_at_luminosity.txt", "w") as f:
    f.write(f"log L = {target_log_l}: M = {mass:.5f} Msun, log Teff = {float(splines['log_teff'](mass)):.5f}\n")
print(f"M(log L = {target_log_l}) = {mass:.4f} Msun")
