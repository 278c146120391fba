import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

levels = [2.30, 6.18]  # 68 % and 95 % for two parameters

grid = np.load("data/grid.npz")
simplex = json.loads(Path("data/simplex.json").read_text())
i, j = np.unravel_index(grid["chi2"].argmin(), grid["chi2"].shape)
comparison = {
    "grid": {"H0": float(grid["h0"][i]), "Omega_m": float(grid["om"][j]), "chi2": float(grid["chi2"].min())},
    "simplex": simplex,
    "difference_H0": float(grid["h0"][i] - simplex["H0"]),
}
Path("data/comparison.json").write_text(json.dumps(comparison, indent=2))

plt.figure(figsize=(5, 4))
plt.contour(grid["om"], grid["h0"], grid["chi2"] - grid["chi2"].min(), levels=levels, colors=["navy", "cornflowerblue"])
plt.plot(simplex["Omega_m"], simplex["H0"], "r*", ms=12)
plt.xlabel(r"$\Omega_m$")
plt.ylabel(r"$H_0$ [km/s/Mpc]")
plt.tight_layout()
plt.savefig("plots/comparison.png")
print(json.dumps(comparison["grid"]))
