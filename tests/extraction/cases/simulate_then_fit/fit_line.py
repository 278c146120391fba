import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

TRUE_CENTRE = 6563.0

spec = pd.read_csv("data/spectrum.csv")
w, f, e = spec["wavelength"].values, spec["flux"].values, spec["error"].values


def gauss(x, centre, sigma, height, continuum):
    return continuum + height * np.exp(-0.5 * ((x - centre) / sigma) ** 2)


start = [w[f.argmax()], 3.0, f.max() - np.median(f), np.median(f)]
p, cov = curve_fit(gauss, w, f, p0=start, sigma=e, absolute_sigma=True)
err = np.sqrt(np.diag(cov))
names = ["centre", "sigma", "height", "continuum"]
out = {n: {"value": float(v), "error": float(s)} for n, v, s in zip(names, p, err)}
out["offset_in_sigma"] = float((p[0] - TRUE_CENTRE) / err[0])
with open("data/line_fit.json", "w") as fh:
    json.dump(out, fh, indent=2)

plt.step(w, f, where="mid", lw=0.8)
plt.plot(w, gauss(w, *p), "r")
plt.xlabel("wavelength [Angstrom]")
plt.savefig("plots/line.png")
print(f"centre {p[0]:.3f} +- {err[0]:.3f}, offset {out['offset_in_sigma']:+.2f} sigma")
