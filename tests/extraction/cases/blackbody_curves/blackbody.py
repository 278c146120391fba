import numpy as np
import matplotlib.pyplot as plt
from scipy import constants as const

temps = [3000, 4500, 5800, 8000]  # K
lam = np.linspace(100, 3000, 1000) * 1e-9
WIEN = 2.897771955e-3  # m K


def planck(lam, T):
    a = 2 * const.h * const.c**2 / lam**5
    return a / (np.exp(const.h * const.c / (lam * const.k * T)) - 1)


colors = plt.cm.plasma(np.linspace(0.1, 0.85, len(temps)))
fig, ax = plt.subplots(figsize=(7, 5))
for T, color in zip(temps, colors):
    B = planck(lam, T) * 1e-12  # kW / (m^2 sr nm)
    ax.plot(lam * 1e9, B, color=color, label=f"{T} K")
    peak = WIEN / T
    ax.plot(peak * 1e9, planck(peak, T) * 1e-12, "o", color=color)
    print(f"T = {T} K: maximum at {peak * 1e9:.1f} nm")
ax.axvspan(380, 750, color="gold", alpha=0.2, label="visible")
ax.set_xlabel("wavelength [nm]")
ax.set_ylabel(r"$B_\lambda$ [kW m$^{-2}$ sr$^{-1}$ nm$^{-1}$]")
ax.set_title("Black-body radiation")
ax.legend()
for ext in ("png", "pdf"):
    fig.savefig(f"plots/blackbody.{ext}", metadata={"CreationDate": None} if ext == "pdf" else None)
