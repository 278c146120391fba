"""Compare the Planck 2018 TT band powers with the spectrum of flat LambdaCDM computed by CAMB.

Reads  input/df.parquet             band powers: ell, ell_min, ell_max, cl, sigma (C_l in muK^2)
Writes data/planck_tt.json          chi2, its probability, parameters and derived quantities
       data/planck_tt_residuals.csv band powers, theory and residuals, one row a bin
       plots/tt.png                 spectrum and residuals
"""

import json
from pathlib import Path

import camb
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from cmbagent_nb import datasets

# Best fit of base LambdaCDM to Planck 2018 TT,TE,EE+lowE+lensing (A&A 641, A6). Nothing is fitted here.
H0 = 67.32  # Hubble constant [km/s/Mpc]
OMBH2 = 0.022383  # baryon density Omega_b h^2
OMCH2 = 0.12011  # cold dark matter density Omega_c h^2
TAU = 0.0543  # optical depth to reionisation
LN_AS = 3.0448  # ln(10^10 A_s), amplitude of the primordial spectrum
NS = 0.96605  # scalar spectral index
MNU = 0.06  # sum of the neutrino masses [eV]
LMAX = 2508  # highest multipole used: bins that reach beyond it are left out

# Theory: lensed C_l in muK^2, from l = 0, without the factor l(l+1)/2pi. CAMB is asked for more than
# LMAX, since lensing moves power between neighbouring multipoles.
parameters = camb.set_params(
    H0=H0, ombh2=OMBH2, omch2=OMCH2, tau=TAU, As=1e-10 * np.exp(LN_AS), ns=NS, mnu=MNU,
    lmax=LMAX + 500, lens_potential_accuracy=1,
)
results = camb.get_results(parameters)
cl_theory = results.get_lensed_scalar_cls(lmax=LMAX, CMB_unit="muK", raw_cl=True)[:, 0]

# Data: the bins below LMAX, with their windows and covariance (kept in the order of the table).
table = pd.read_parquet("input/df.parquet")
table = table[table["ell_max"] <= LMAX].copy()
windows = datasets.planck2018_tt_windows().loc[table.index, :LMAX]
covariance = datasets.planck2018_tt_covariance().loc[table.index, table.index]

# The likelihood is Gaussian in the band powers: chi2 = r^T C^-1 r, with all correlations.
table["theory"] = windows.to_numpy() @ cl_theory[windows.columns]
table["residual"] = table["cl"] - table["theory"]
table["pull"] = table["residual"] / table["sigma"]
chi2 = float(table["residual"] @ np.linalg.solve(covariance, table["residual"]))
bins = len(table)

derived = results.get_derived_params()
summary = {
    "chi2": chi2,
    "bins": bins,
    "pte": float(stats.chi2.sf(chi2, bins)),  # probability to exceed chi2, if the model is right
    "lmax": LMAX,
    "parameters": {
        "H0": H0, "ombh2": OMBH2, "omch2": OMCH2, "tau": TAU, "ln_As": LN_AS, "ns": NS, "mnu": MNU,
    },
    "derived": {
        "omega_m": float(parameters.omegam),
        "theta_star": float(derived["thetastar"]) / 100,  # angle of the sound horizon at last scattering
        "r_d": float(derived["rdrag"]),  # sound horizon at the drag epoch [Mpc]
        "h_r_d": float(derived["rdrag"]) * H0 / 100,  # [Mpc]
    },
}
Path("data/planck_tt.json").write_text(json.dumps(summary, indent=2) + "\n")
table.to_csv("data/planck_tt_residuals.csv", index_label="bin")

# Figure: D_l = l(l+1) C_l / 2pi above, residuals in units of their error below.
plt.rcParams.update({"font.size": 10, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
fig, (top, bottom) = plt.subplots(
    2, 1, figsize=(7.2, 4.8), sharex=True, height_ratios=[3, 1], gridspec_kw={"hspace": 0.06}
)
ell = np.arange(2, LMAX + 1)
to_dl = table["ell"] * (table["ell"] + 1) / (2 * np.pi)
top.plot(ell, ell * (ell + 1) / (2 * np.pi) * cl_theory[2:], color="#0072b2", lw=1.3, label=r"$\Lambda$CDM, CAMB", zorder=4)
top.errorbar(
    table["ell"], to_dl * table["cl"], to_dl * table["sigma"],
    fmt="o", ms=2.4, lw=0.7, color="#555555", label="Planck 2018 (plik_lite)",
)
top.set(ylabel=r"$D_\ell^{TT}$  [$\mu$K$^2$]", xlim=(0, LMAX + 20), ylim=(0, None))
top.legend(frameon=False, loc="upper right", title=rf"$\chi^2 = {chi2:.1f}$ for {bins} bins", alignment="left")
bottom.axhspan(-1, 1, color="#0072b2", alpha=0.12, lw=0)
bottom.axhline(0, color="#0072b2", lw=1.0)
bottom.plot(table["ell"], table["pull"], "o", ms=2.2, color="#333333")
limit = max(4.0, 1.1 * table["pull"].abs().max())
bottom.set(xlabel=r"multipole $\ell$", ylabel=r"residual / $\sigma$", ylim=(-limit, limit))
fig.align_ylabels()
fig.savefig("plots/tt.png", dpi=150, bbox_inches="tight", facecolor="white")

print(f"chi2 = {chi2:.1f} for {bins} TT band powers (PTE {summary['pte']:.2f}), H0 = {H0} km/s/Mpc, lmax = {LMAX}")
