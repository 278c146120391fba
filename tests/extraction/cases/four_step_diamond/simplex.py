import json
import numpy as np
from scipy.optimize import minimize

start = [65.0, 0.25]
method = "Nelder-Mead"

data = np.load("data/hz.npz")


def chi2(theta):
    h0, om = theta
    model = h0 * np.sqrt(np.abs(om * (1 + data["z"]) ** 3 + 1 - om))
    return float(np.sum(((data["h"] - model) / data["error"]) ** 2))


best = minimize(chi2, start, method=method)
result = {"H0": best.x[0], "Omega_m": best.x[1], "chi2": best.fun, "method": method}
with open("data/simplex.json", "w") as f:
    json.dump(result, f, indent=2)
print(f"{method}: H0 = {best.x[0]:.2f}, Omega_m = {best.x[1]:.3f}")
