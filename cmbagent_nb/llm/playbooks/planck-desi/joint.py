"""Set the two data sets side by side: does one set of parameters describe both?

Reads  data/planck_tt.json, data/planck_tt_residuals.csv  the CMB at the Planck 2018 parameters
       data/desi_bao.json, data/desi_bao.csv, data/desi_bao_dchi2.csv  the BAO fit
Writes data/joint.json  chi2 of the BAO distances at the Planck parameters, and the joint minimum
       plots/joint.png  CMB residuals, BAO distances, and the two in the plane of Omega_m and h r_d
"""

import json
from pathlib import Path

import camb
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import optimize, stats

from cmbagent_nb import datasets

OMCH2_ERROR = 0.0012  # error of Omega_c h^2 from Planck 2018 TT,TE,EE+lowE+lensing (A&A 641, A6)

planck = json.loads(Path("data/planck_tt.json").read_text())
desi = json.loads(Path("data/desi_bao.json").read_text())
residuals = pd.read_csv("data/planck_tt_residuals.csv")
bao = pd.read_csv("data/desi_bao.csv")
grid = pd.read_csv("data/desi_bao_dchi2.csv", index_col="omega_m")
inverse_covariance = np.linalg.inv(datasets.desi_dr2_bao_covariance())
z = bao["z"].to_numpy()


def planck_cosmology(shift):
    """The cosmology `shift` standard deviations of Omega_c h^2 away from the Planck parameters.

    The CMB fixes the angle of the sound horizon far better than anything else, so its uncertainty in
    this plane is a line: Omega_c h^2 moves and H0 follows such that the angle stays as it is.
    """
    cosmology = planck["parameters"]
    parameters = camb.set_params(
        thetastar=planck["derived"]["theta_star"],
        ombh2=cosmology["ombh2"],
        omch2=cosmology["omch2"] + shift * OMCH2_ERROR,
        mnu=cosmology["mnu"],
    )
    background = camb.get_background(parameters)
    return parameters, background, background.get_derived_params()["rdrag"]


def omega_m_and_h_rd(shift):
    parameters, _, r_d = planck_cosmology(shift)
    return parameters.omegam, parameters.h * r_d


def predict(shift):
    """The 13 BAO distances over r_d, in the order of the table."""
    _, background, r_d = planck_cosmology(shift)
    dm = background.comoving_radial_distance(z) / r_d  # transverse comoving distance
    dh = 1 / background.h_of_z(z) / r_d  # Hubble distance
    kinds = {"DM_over_rs": dm, "DH_over_rs": dh, "DV_over_rs": np.cbrt(z * dm**2 * dh)}
    return np.array([kinds[quantity][row] for row, quantity in enumerate(bao["quantity"])])


def chi2_desi(shift):
    residual = bao["value"] - predict(shift)
    return float(residual @ inverse_covariance @ residual)


# The best compromise: the BAO and the CMB's own constraint, shift = 0 +- 1, together.
joint = optimize.minimize_scalar(lambda shift: chi2_desi(shift) + shift**2, bounds=(-5, 5), method="bounded")
joint_omega_m, joint_h_rd = omega_m_and_h_rd(joint.x)
at_planck = chi2_desi(0)
delta_chi2 = float(joint.fun) - desi["chi2"]
pte = float(stats.chi2.sf(delta_chi2, df=2))  # two parameters, Omega_m and h r_d, were free

summary = {
    "desi_chi2_at_planck": at_planck,  # with the parameters held where the CMB has them
    "delta_chi2": delta_chi2,  # joint minimum above that of DESI alone
    "pte": pte,
    "sigmas": float(stats.norm.isf(pte / 2)),  # the same as a two-sided Gaussian
    "joint_omega_m": float(joint_omega_m),
    "joint_h_r_d": float(joint_h_rd),  # [Mpc]
}
Path("data/joint.json").write_text(json.dumps(summary, indent=2) + "\n")

plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#333333"
fig, (cmb, ratio, plane) = plt.subplots(1, 3, figsize=(11.4, 3.7), layout="constrained")

# Left: what the CMB says about the parameters that all three panels share.
cmb.axhspan(-1, 1, color=BLUE, alpha=0.12, lw=0)
cmb.axhline(0, color=BLUE, lw=1.2)
cmb.plot(residuals["ell"], residuals["pull"], "o", ms=2.2, color=GREY)
limit = max(4.0, 1.1 * residuals["pull"].abs().max())
cmb.set(xlabel=r"multipole $\ell$", ylabel=r"TT residual / $\sigma$", ylim=(-limit, limit))
cmb.set_title(rf"Planck 2018:  $\chi^2 = {planck['chi2']:.1f}$ for {planck['bins']} bins", fontsize=10)

# Middle: the BAO distances over those of the Planck parameters, and the best fit of DESI through them.
reference = predict(0)
ratio.axhline(1, color=BLUE, lw=1.2, label="Planck 2018")
for quantity, label, marker, face, line, offset in (
    ("DM_over_rs", "$D_M$", "o", GREY, "-", -0.012),
    ("DH_over_rs", "$D_H$", "s", "white", "--", 0.012),
    ("DV_over_rs", "$D_V$", "D", GREY, "", 0.0),
):
    rows = np.flatnonzero(bao["quantity"] == quantity)
    rows = rows[np.argsort(z[rows])]
    value, sigma, fit = (bao[name].to_numpy()[rows] / reference[rows] for name in ("value", "sigma", "best_fit"))
    ratio.errorbar(
        z[rows] + offset, value, sigma, fmt=marker, ms=4.5, lw=1, color=GREY, markerfacecolor=face, label=label
    )
    if line:
        ratio.plot(z[rows], fit, line, color=ORANGE, lw=1.3, label=f"fit, {label}")
ratio.set(xlabel="redshift $z$", ylabel=r"distance / Planck 2018", ylim=(0.925, 1.04))
ratio.legend(frameon=False, fontsize=8.5, ncols=2, loc="lower right")
ratio.set_title(rf"DESI DR2:  $\chi^2 = {desi['chi2']:.1f}$ at its fit, {at_planck:.1f} at Planck", fontsize=10)

# Right: both in the plane that BAO measure; the CMB as a line of one and two standard deviations.
levels = stats.chi2.isf([0.32, 0.05], df=2)  # 68 % and 95 % for two parameters
omega_m, h_rd = grid.index.to_numpy(), grid.columns.to_numpy(dtype=float)
plane.contourf(omega_m, h_rd, grid.to_numpy().T, levels=[0, *levels], colors=[ORANGE, "#f2b48f"])
plane.contour(omega_m, h_rd, grid.to_numpy().T, levels=levels, colors="#8a3c00", linewidths=0.9)
for sigmas, width in ((2, 1.2), (1, 4)):
    track = np.array([omega_m_and_h_rd(shift) for shift in np.linspace(-sigmas, sigmas, 9)])
    plane.plot(*track.T, color=BLUE, lw=width, solid_capstyle="butt")
plane.plot(*omega_m_and_h_rd(0), "o", color="white", ms=4, markeredgecolor=BLUE)
plane.plot(joint_omega_m, joint_h_rd, "x", color="black", ms=6, mew=1.6)
plane.text(0.305, 102.4, "DESI DR2", color="#8a3c00")
plane.text(0.312, 98.5, "Planck 2018", color=BLUE, ha="right")
plane.set(xlabel=r"$\Omega_m$", ylabel=r"$h\,r_d$  [Mpc]", xlim=(0.27, 0.338), ylim=(97.5, 104.5))
plane.set_title(rf"together ($\times$):  $\Delta\chi^2 = {delta_chi2:.1f}$, {summary['sigmas']:.1f}$\sigma$", fontsize=10)
fig.savefig("plots/joint.png", dpi=150, facecolor="white")

print(f"DESI at the Planck parameters: chi2 = {at_planck:.1f} for {len(bao)} measurements")
print(f"Together: chi2 {delta_chi2:.1f} above DESI's own best fit ({summary['sigmas']:.1f} sigma)")
