import numpy as np

h0_range, om_range = (55.0, 85.0), (0.1, 0.6)
n_grid = 121

data = np.load("data/hz.npz")
h0 = np.linspace(*h0_range, n_grid)
om = np.linspace(*om_range, n_grid)
model = h0[:, None, None] * np.sqrt(om[:, None] * (1 + data["z"]) ** 3 + 1 - om[:, None])
chi2 = (((data["h"] - model) / data["error"]) ** 2).sum(axis=-1)
i, j = np.unravel_index(chi2.argmin(), chi2.shape)
np.savez("data/grid.npz", h0=h0, om=om, chi2=chi2)
print(f"grid: H0 = {h0[i]:.2f}, Omega_m = {om[j]:.3f}, chi2 = {chi2.min():.2f}")
