import json

import numpy as np
import pandas as pd
from scipy.integrate import cumulative_trapezoid

C_KMS = 299792.458
H0 = 70.0
OM_MIN, OM_MAX, OM_STEPS = 0.05, 0.7, 131

sn = pd.read_csv("data/cut.csv")
zz = np.linspace(0, sn["z"].max() * 1.001, 2000)


def mu_model(omega_m):
    e = np.sqrt(omega_m * (1 + zz) ** 3 + 1 - omega_m)
    dc = C_KMS / H0 * cumulative_trapezoid(1 / e, zz, initial=0)
    dl = (1 + sn["z"]) * np.interp(sn["z"], zz, dc)
    return 5 * np.log10(dl) + 25


grid = np.linspace(OM_MIN, OM_MAX, OM_STEPS)
weights = 1 / sn["mu_err"] ** 2
chi2, offsets = [], []
for om in grid:
    residual = sn["mu"] - mu_model(om)
    offset = (weights * residual).sum() / weights.sum()
    offsets.append(offset)
    chi2.append((weights * (residual - offset) ** 2).sum())
chi2 = np.array(chi2)
best = int(chi2.argmin())
inside = grid[chi2 < chi2.min() + 1]

sn.assign(mu_model=mu_model(grid[best]) + offsets[best]).to_csv("data/sn_model.csv", index=False)
fit = {
    "H0": H0, "omega_m": float(grid[best]), "low": float(inside.min()), "high": float(inside.max()),
    "chi2": float(chi2.min()), "n": len(sn), "offset": float(offsets[best]),
}
with open("data/sn_fit.json", "w") as f:
    json.dump(fit, f, indent=2)
print("Omega_m = {omega_m:.3f} [{low:.3f}, {high:.3f}], chi2 = {chi2:.1f} for {n}".format(**fit))
