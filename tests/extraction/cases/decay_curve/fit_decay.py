import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

df = pd.read_parquet("input/decay.parquet")
t = df["minutes"].to_numpy()
counts = df["counts"].to_numpy()
sigma = np.sqrt(np.maximum(counts, 1))


def model(t, n0, half_life, background):
    return n0 * 2 ** (-t / half_life) + background


popt, pcov = curve_fit(model, t, counts, p0=[1000, 10, 20], sigma=sigma, absolute_sigma=True)
perr = np.sqrt(np.diag(pcov))
chi2 = float(np.sum(((counts - model(t, *popt)) / sigma) ** 2))
dof = len(t) - len(popt)

result = {
    "n0": popt[0], "n0_err": perr[0],
    "half_life": popt[1], "half_life_err": perr[1],
    "background": popt[2], "background_err": perr[2],
    "chi2": chi2, "dof": dof,
}
with open("data/half_life.json", "w") as handle:
    json.dump(result, handle, indent=2)

fine = np.linspace(t.min(), t.max(), 400)
plt.errorbar(t, counts, sigma, fmt=".", label="data")
plt.plot(fine, model(fine, *popt), label=f"fit, $T_{{1/2}}$ = {popt[1]:.2f} min")
plt.xlabel("time [min]")
plt.ylabel("counts")
plt.legend()
plt.savefig("plots/decay.png", dpi=100)

print(f"Half-life: {popt[1]:.3f} +/- {perr[1]:.3f} min, chi2/dof = {chi2:.1f}/{dof}")
