"""Toy linear power spectrum (BBKS), normalised to sigma_8."""
import json

import matplotlib.pyplot as plt
import numpy as np

cosmo = {
    "h": 0.7,
    "omega_m": 0.3,
    "n_s": 0.96,
    "sigma_8": 0.8,
}
K_MIN, K_MAX, N_K = 1e-3, 10.0, 600   # h/Mpc
EXTRA_REDSHIFTS = (1, 3)
R8 = 8.0  # Mpc/h, by the definition of sigma_8


def transfer(k):
    gamma = cosmo["omega_m"] * cosmo["h"]
    q = k / gamma
    poly = 1 + 3.89 * q + (16.1 * q) ** 2 + (5.46 * q) ** 3 + (6.71 * q) ** 4
    return np.log(1 + 2.34 * q) / (2.34 * q) * poly**-0.25


def growth(z):
    om0 = cosmo["omega_m"]
    ez2 = om0 * (1 + z) ** 3 + 1 - om0
    om, ol = om0 * (1 + z) ** 3 / ez2, (1 - om0) / ez2
    g = 2.5 * om / (om ** (4 / 7) - ol + (1 + om / 2) * (1 + ol / 70))
    return g / (1 + z)


k = np.geomspace(K_MIN, K_MAX, N_K)
shape = k ** cosmo["n_s"] * transfer(k) ** 2
x = k * R8
window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
sigma2 = np.trapezoid(shape * window**2 * k**3 / (2 * np.pi**2), np.log(k))
pk = shape * cosmo["sigma_8"] ** 2 / sigma2
turnover = float(k[np.argmax(pk)])

np.savetxt("data/pk.csv", np.c_[k, pk], delimiter=",", header="k,pk", comments="")
with open("data/pk_summary.json", "w") as fp:
    json.dump({"cosmology": cosmo, "k_turnover": turnover, "p_max": float(pk.max())}, fp, indent=2)

plt.loglog(k, pk, label="z = 0")
for z in EXTRA_REDSHIFTS:
    plt.loglog(k, pk * (growth(z) / growth(0)) ** 2, ls="--", label=f"z = {z}")
plt.axvline(turnover, color="0.7")
plt.xlabel(r"$k$ [$h$/Mpc]")
plt.ylabel(r"$P(k)$ [(Mpc/$h)^3$]")
plt.legend()
plt.savefig("plots/pk.png", dpi=120)
print(f"turnover at k = {turnover:.4f} h/Mpc, P = {pk.max():.0f} (Mpc/h)^3")
