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
    dc = C_KMS / H0 * cumulative_trapezoid(1 / e, zz)
    dl = (1 + sn["z"]) * np.interp(sn["z"], zz, dc)
    return 5 * np.log10(dl) + 25


grid = np.linspace(OM_MIN, OM_MAX, OM_STEPS)
chi2 = np.array([(((sn["mu"] - mu_model(om)) / sn["mu_err"]) ** 2).sum() for om in grid])
