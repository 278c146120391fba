import json
import numpy as np
import pandas as pd
from scipy import optimize


def load(path="input/df.parquet", e_min=1.0):
    energies = pd.read_parquet(path)["energy"].to_numpy()
    return energies[energies >= e_min], e_min


def make_likelihood(energies, e_min):
    grid = np.geomspace(e_min, 50 * energies.max(), 2000)
    sum_log = np.log(energies).sum()
    total = energies.sum()

    def minus_log_likelihood(theta):
        index, log_cutoff = theta

        def shape(e):
            return e**-index * np.exp(-e / np.exp(log_cutoff))

        norm = np.trapezoid(shape(grid), grid)
        return index * sum_log + total / np.exp(log_cutoff) + len(energies) * np.log(norm)

    return minus_log_likelihood


def fit(nll, start_index=2.0, start_cutoff=20.0, method="BFGS"):
    result = optimize.minimize(nll, [start_index, np.log(start_cutoff)], method=method)
    return result.x, np.sqrt(np.diag(result.hess_inv)), result.fun


def profile(nll, best, low=1.0, high=2.5, n=31):
    indices = np.linspace(low, high, n)
    values = []
    for index in indices:
        def along(log_cutoff):
            return nll([index, log_cutoff])
        values.append(optimize.minimize_scalar(along, bounds=(best[1] - 3, best[1] + 3), method="bounded").fun)
    return pd.DataFrame({"index": indices, "delta_nll": np.array(values)})


energies, e_min = load()
nll = make_likelihood(energies, e_min)
best, errors, minimum = fit(nll)
curve = profile(nll, best)
curve["delta_nll"] -= minimum
curve.round(5).to_csv("data/profile.csv", index=False)
summary = {
    "index": round(best[0], 4), "index_error": round(errors[0], 3),
    "cutoff_kev": round(float(np.exp(best[1])), 3),
    "events": len(energies),
}
with open("data/best_fit.json", "w") as f:
    json.dump(summary, f)
print(summary)
