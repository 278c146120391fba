"""Fit flat LambdaCDM to the DESI DR2 BAO distances.

BAO fix the shape of the distance-redshift relation and its scale in units of the sound horizon r_d,
so that two parameters are measured: Omega_m and the product h r_d.

Writes data/desi_bao.json       best fit, errors, chi2
       data/desi_bao.csv        the measurements and the best fit
       data/desi_bao_dchi2.csv  chi2 above its minimum: rows Omega_m, columns h r_d [Mpc]
       plots/desi_contours.png  68 % and 95 % confidence regions
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import optimize, stats

from cmbagent_nb import datasets

SPEED_OF_LIGHT = 299792.458  # [km/s]
OMEGA_M_RANGE = (0.260, 0.340)  # range of the contour figure
H_RD_RANGE = (97.5, 105.0)  # range of the contour figure [Mpc]
GRID_POINTS = 101  # points of the chi2 grid along each axis

# The rows of each kind of distance, with the names of the DESI papers.
bao = datasets.desi_dr2_bao()
covariance = datasets.desi_dr2_bao_covariance().to_numpy()
kinds = bao.groupby("quantity")
dm_rows = kinds.get_group("DM_over_rd").index
dh_rows = kinds.get_group("DH_over_rd").index
dv_rows = kinds.get_group("DV_over_rd").index

# Gauss-Legendre nodes between 0 and each redshift, to integrate 1/E(z).
nodes, weights = np.polynomial.legendre.leggauss(40)
z = bao["z"].to_numpy()
z_nodes = z[:, None] * (1 + nodes) / 2
z_weights = z[:, None] * weights / 2


def expansion(z, omega_m):
    """E(z) = H(z)/H0 of flat LambdaCDM; radiation is negligible at these redshifts."""
    return np.sqrt(omega_m * (1 + z) ** 3 + 1 - omega_m)


def predict(omega_m, h_rd):
    """The 13 distances over r_d."""
    scale = SPEED_OF_LIGHT / (100 * h_rd)  # c / (H0 r_d)
    dm = scale * (z_weights / expansion(z_nodes, omega_m)).sum(axis=1)  # transverse comoving distance
    dh = scale / expansion(z, omega_m)  # Hubble distance c/H
    model = np.empty(len(bao))
    model[dm_rows] = dm[dm_rows]
    model[dh_rows] = dh[dh_rows]
    model[dv_rows] = np.cbrt(z * dm**2 * dh)[dv_rows]  # volume average
    return model


# Least squares on residuals that the Cholesky factor of the covariance makes independent.
cholesky = np.linalg.cholesky(covariance)


def whitened(parameters):
    return np.linalg.solve(cholesky, bao["value"] - predict(*parameters))


fit = optimize.least_squares(whitened, [0.3, 100.0], x_scale=[0.01, 1.0], xtol=1e-12, ftol=1e-12)
omega_m, h_rd = fit.x
fit_covariance = np.linalg.inv(fit.jac.T @ fit.jac)
omega_m_error, h_rd_error = np.sqrt(np.diag(fit_covariance))
chi2 = float(fit.fun @ fit.fun)
dof = len(bao) - len(fit.x)

summary = {
    "omega_m": float(omega_m),
    "omega_m_error": float(omega_m_error),
    "h_r_d": float(h_rd),  # [Mpc]
    "h_r_d_error": float(h_rd_error),  # [Mpc]
    "correlation": float(fit_covariance[0, 1] / (omega_m_error * h_rd_error)),
    "chi2": chi2,
    "measurements": len(bao),
    "dof": dof,
    "pte": float(stats.chi2.sf(chi2, dof)),
}
Path("data/desi_bao.json").write_text(json.dumps(summary, indent=2) + "\n")
bao.assign(best_fit=predict(omega_m, h_rd)).to_csv("data/desi_bao.csv", index=False)

# chi2 on a grid, for the contours: the exact likelihood, not its Gaussian approximation.
omega_m_grid = np.linspace(*OMEGA_M_RANGE, GRID_POINTS)
h_rd_grid = np.linspace(*H_RD_RANGE, GRID_POINTS)
dchi2 = np.array([[np.sum(whitened((om, hr)) ** 2) - chi2 for hr in h_rd_grid] for om in omega_m_grid])
grid = pd.DataFrame(dchi2, index=omega_m_grid.round(6), columns=h_rd_grid.round(4))
grid.to_csv("data/desi_bao_dchi2.csv", index_label="omega_m", float_format="%.4f")

plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
levels = stats.chi2.isf([0.32, 0.05], df=2)  # 68 % and 95 % for two parameters
fig, ax = plt.subplots(figsize=(4.8, 4.2))
ax.contourf(omega_m_grid, h_rd_grid, dchi2.T, levels=[0, *levels], colors=["#d55e00", "#f2b48f"])
ax.contour(omega_m_grid, h_rd_grid, dchi2.T, levels=levels, colors="#8a3c00", linewidths=0.9)
ax.plot(omega_m, h_rd, "+", color="white", ms=9, mew=1.6)
ax.set(xlabel=r"$\Omega_m$", ylabel=r"$h\,r_d$  [Mpc]", title="DESI DR2 BAO, flat $\\Lambda$CDM")
ax.text(
    0.96, 0.95,
    rf"$\Omega_m = {omega_m:.3f} \pm {omega_m_error:.3f}$" "\n"
    rf"$h\,r_d = {h_rd:.2f} \pm {h_rd_error:.2f}$ Mpc" "\n"
    rf"$\chi^2 = {chi2:.1f}$ for {dof} d.o.f.",
    transform=ax.transAxes, ha="right", va="top", linespacing=1.5,
)
fig.savefig("plots/desi_contours.png", dpi=150, bbox_inches="tight", facecolor="white")

print(f"Omega_m = {omega_m:.4f} +- {omega_m_error:.4f}, h r_d = {h_rd:.2f} +- {h_rd_error:.2f} Mpc")
print(f"chi2 = {chi2:.1f} for {len(bao)} measurements and 2 parameters (PTE {summary['pte']:.2f})")
