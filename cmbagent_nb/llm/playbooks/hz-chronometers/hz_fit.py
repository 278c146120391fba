"""Fit the expansion rate H(z) of a flat Universe to cosmic chronometers.

Reads  input/df.parquet     z, hubble, sigma [km/s/Mpc], correlated, one row a measurement
Writes data/hz_fit.json     H0, Omega_m, their errors and correlation, chi2
       data/hz_fit.csv      the measurements, the best fit and the pulls
       plots/hz_fit.png     H(z) with the fit and its 68 % band
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import optimize, stats

Z_MAX = 2.0  # highest redshift used
W = -1.0  # equation of state of dark energy; -1 is the cosmological constant
USE_CORRELATED = True  # whether the points whose errors share systematics are used

table = pd.read_parquet("input/df.parquet")
table = table[table["z"] <= Z_MAX].sort_values("z", kind="stable")
if not USE_CORRELATED:
    table = table[~table["correlated"]]
z, hubble, sigma = (table[name].to_numpy() for name in ("z", "hubble", "sigma"))


def expansion_rate(z, h0, omega_m):
    """H(z) of a flat Universe, without radiation [km/s/Mpc]."""
    return h0 * np.sqrt(omega_m * (1 + z) ** 3 + (1 - omega_m) * (1 + z) ** (3 * (1 + W)))


def pulls(parameters):
    return (hubble - expansion_rate(z, *parameters)) / sigma


fit = optimize.least_squares(
    pulls, [70.0, 0.3], bounds=([0.0, 0.0], [200.0, 1.0]), x_scale=[1.0, 0.01], xtol=1e-12, ftol=1e-12, gtol=1e-12
)
h0, omega_m = fit.x
covariance = np.linalg.inv(fit.jac.T @ fit.jac)
h0_error, omega_m_error = np.sqrt(np.diag(covariance))
chi2 = float(fit.fun @ fit.fun)
dof = len(table) - len(fit.x)

summary = {
    "H0": float(h0),  # [km/s/Mpc]
    "H0_error": float(h0_error),
    "omega_m": float(omega_m),
    "omega_m_error": float(omega_m_error),
    "correlation": float(covariance[0, 1] / (h0_error * omega_m_error)),
    "w": W,
    "chi2": chi2,
    "dof": dof,
    "pte": float(stats.chi2.sf(chi2, dof)),
    "measurements": len(table),
}
Path("data/hz_fit.json").write_text(json.dumps(summary, indent=2) + "\n")
table.assign(best_fit=expansion_rate(z, h0, omega_m), pull=fit.fun).to_csv("data/hz_fit.csv", index=False)

# The band of the fit: its errors carried to H(z) to first order.
curve_z = np.linspace(0, 1.05 * z.max(), 200)
curve = expansion_rate(curve_z, h0, omega_m)
steps = 1e-4 * np.array([h0, 1.0])
slopes = np.array(
    [
        (expansion_rate(curve_z, *(fit.x + step)) - expansion_rate(curve_z, *(fit.x - step))) / (2 * step.sum())
        for step in np.diag(steps)
    ]
)
band = np.sqrt(np.einsum("iz,ij,jz->z", slopes, covariance, slopes))

plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
fig, ax = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
ax.fill_between(curve_z, curve - band, curve + band, color="#0072b2", alpha=0.2, lw=0)
ax.plot(curve_z, curve, color="#0072b2", lw=1.4, label="flat model, 68 %")
shared = table["correlated"].to_numpy()
for chosen, colour, label in ((~shared, "#333333", "measurements"), (shared, "#d55e00", "with shared systematics")):
    if chosen.any():
        ax.errorbar(z[chosen], hubble[chosen], sigma[chosen], fmt="o", ms=3.5, lw=0.9, color=colour, label=label)
ax.set(xlabel="redshift $z$", ylabel="$H(z)$  [km/s/Mpc]", xlim=(0, curve_z[-1]))
ax.legend(
    frameon=False, loc="upper left", alignment="left",
    title=rf"$H_0 = {h0:.1f} \pm {h0_error:.1f}$, $\Omega_m = {omega_m:.3f} \pm {omega_m_error:.3f}$",
)
fig.savefig("plots/hz_fit.png", dpi=110, facecolor="white")

print(f"H0 = {h0:.2f} +- {h0_error:.2f} km/s/Mpc, Omega_m = {omega_m:.3f} +- {omega_m_error:.3f}, w = {W}")
print(f"chi2 = {chi2:.1f} for {dof} degrees of freedom ({len(table)} measurements)")
