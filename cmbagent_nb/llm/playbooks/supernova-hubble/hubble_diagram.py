"""Draw the Hubble diagram of type Ia supernovae and fit flat LambdaCDM to it.

Supernovae measure relative distances: their absolute magnitude and H0 enter only through one offset,
which is fitted with Omega_m. Errors are those of the table, without their correlations.

Reads  input/df.parquet                  zHD, zHEL, m_b_corr, m_b_corr_err_DIAG, one row a light curve
Writes data/supernova_hubble.json        Omega_m, the offset, their errors, chi2
       data/supernova_hubble_bins.csv    mean residual in bins of redshift
       plots/supernova_hubble.png        Hubble diagram and residuals
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import optimize, stats

Z_MIN = 0.01  # lowest redshift used: nearer ones are ruled by peculiar velocities
Z_MAX = 2.3  # highest redshift used
REDSHIFT_BINS = 18  # bins of the averaged residuals, even in log(z)
W = -1.0  # equation of state of dark energy; -1 is the cosmological constant

table = pd.read_parquet("input/df.parquet")
table = table[(table["zHD"] > Z_MIN) & (table["zHD"] < Z_MAX)].sort_values("zHD", kind="stable")
z = table["zHD"].to_numpy()
magnitude = table["m_b_corr"].to_numpy()
sigma = table["m_b_corr_err_DIAG"].to_numpy()

# Gauss-Legendre nodes between 0 and each redshift, to integrate 1/E(z).
nodes, weights = np.polynomial.legendre.leggauss(24)
z_nodes = z[:, None] * (1 + nodes) / 2
z_weights = z[:, None] * weights / 2


def distance_term(omega_m):
    """5 log10 of the luminosity distance in units of c/H0, flat Universe."""
    dark_energy = (1 - omega_m) * (1 + z_nodes) ** (3 * (1 + W))
    comoving = (z_weights / np.sqrt(omega_m * (1 + z_nodes) ** 3 + dark_energy)).sum(axis=1)
    return 5 * np.log10((1 + table["zHEL"].to_numpy()) * comoving)


def pulls(parameters):
    omega_m, offset = parameters
    return (magnitude - offset - distance_term(omega_m)) / sigma


fit = optimize.least_squares(pulls, [0.3, 24.0], bounds=([0.0, 0.0], [1.0, 50.0]), xtol=1e-12, ftol=1e-12, gtol=1e-12)
omega_m, offset = fit.x
omega_m_error, offset_error = np.sqrt(np.diag(np.linalg.inv(fit.jac.T @ fit.jac)))
chi2 = float(fit.fun @ fit.fun)
dof = len(table) - len(fit.x)
residual = fit.fun * sigma
scatter = float(np.sqrt(np.average(residual**2, weights=sigma**-2)))

summary = {
    "omega_m": float(omega_m),
    "omega_m_error": float(omega_m_error),
    "w": W,
    "offset": float(offset),  # M + 5 log10(c/H0 / 10 pc) [mag]
    "offset_error": float(offset_error),
    "chi2": chi2,
    "dof": dof,
    "pte": float(stats.chi2.sf(chi2, dof)),
    "supernovae": len(table),
    "scatter": scatter,  # weighted rms of the residuals [mag]
    "deceleration": float(omega_m / 2 + (1 - omega_m) * (1 + 3 * W) / 2),  # q0; negative: the expansion accelerates
}
Path("data/supernova_hubble.json").write_text(json.dumps(summary, indent=2) + "\n")

# Residuals averaged with their weights, in bins that are even in log(z).
edges = np.geomspace(z.min(), z.max() * (1 + 1e-9), REDSHIFT_BINS + 1)
place = np.digitize(z, edges) - 1
rows = []
for number in range(REDSHIFT_BINS):
    inside = place == number
    if inside.any():
        weight = sigma[inside] ** -2
        rows.append(
            {
                "z": float(np.average(z[inside], weights=weight)),
                "residual": float(np.average(residual[inside], weights=weight)),
                "error": float(weight.sum() ** -0.5),
                "supernovae": int(inside.sum()),
            }
        )
bins = pd.DataFrame(rows)
bins.to_csv("data/supernova_hubble_bins.csv", index=False)

plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
fig, (top, bottom) = plt.subplots(
    2, 1, figsize=(6.4, 4.8), sharex=True, height_ratios=[2.4, 1], gridspec_kw={"hspace": 0.06}
)
top.errorbar(z, magnitude, sigma, fmt="o", ms=1.6, lw=0.4, color="#888888", label="supernovae")
top.plot(z, offset + distance_term(omega_m), color="#0072b2", lw=1.4, zorder=4, label="flat model")
top.set(xscale="log", ylabel=r"$m_B$, standardised  [mag]")
top.legend(
    frameon=False, loc="upper left",
    title=rf"$\Omega_m = {omega_m:.3f} \pm {omega_m_error:.3f}$, $\chi^2 = {chi2:.0f}$ for {dof} d.o.f.", alignment="left",
)
bottom.axhline(0, color="#0072b2", lw=1.0)
bottom.plot(z, residual, ".", ms=1.2, color="#cccccc")
bottom.errorbar(bins["z"], bins["residual"], bins["error"], fmt="o", ms=3, lw=0.9, color="#333333")
bottom.set(xlabel="redshift $z$", ylabel="residual  [mag]", ylim=(-0.5, 0.5))
fig.align_ylabels()
fig.savefig("plots/supernova_hubble.png", dpi=110, bbox_inches="tight", facecolor="white")

print(f"Omega_m = {omega_m:.4f} +- {omega_m_error:.4f} from {len(table)} light curves, w = {W}")
print(f"chi2 = {chi2:.1f} for {dof} degrees of freedom, scatter {scatter:.3f} mag")
