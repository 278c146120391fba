import numpy as np
import pandas as pd
from pathlib import Path
from scipy.optimize import curve_fit
import matplotlib.pyplot as plt

here = Path(".")
sp = pd.read_parquet(here / "input/sp.parquet")
sp = sp[sp.wavelength.between(5875, 5911)]
x, y, err = (sp[c].to_numpy() for c in ("wavelength", "flux", "error"))

line1, line2 = 5890.0, 5896.0  # Angstrom
max_shift = 1.5
width_bounds = (0.2, 3.0)


def doublet(x, c0, c1, d1, d2, m1, m2, s):
    cont = c0 + c1 * (x - 5893)
    absorption = d1 * np.exp(-0.5 * ((x - m1) / s) ** 2) + d2 * np.exp(-0.5 * ((x - m2) / s) ** 2)
    return cont * (1 - absorption)


lower = [0, -1, 0, 0, line1 - max_shift, line2 - max_shift, width_bounds[0]]
upper = [np.inf, 1, 1, 1, line1 + max_shift, line2 + max_shift, width_bounds[1]]
guess = [np.median(y), 0, 0.5, 0.3, line1, line2, 0.8]
best, cov = curve_fit(doublet, x, y, p0=guess, sigma=err, bounds=(lower, upper))
sig = np.sqrt(np.diag(cov))

rows = []
for name, d, s_d, centre in (("D2", best[2], sig[2], best[4]), ("D1", best[3], sig[3], best[5])):
    ew = d * best[6] * np.sqrt(2 * np.pi)
    ew_err = ew * np.hypot(s_d / d, sig[6] / best[6])
    rows.append(dict(line=name, centre=centre, depth=d, ew=ew, ew_err=ew_err))
    print(f"{name}: {centre:.2f} A, EW = {ew:.3f} +/- {ew_err:.3f} A")
pd.DataFrame(rows).round(5).to_csv(here / "data" / "equivalent_widths.csv", index=False)

plt.errorbar(x, y, err, fmt=".", ms=3, alpha=0.5)
plt.plot(x, doublet(x, *best), "r-")
plt.xlabel("wavelength [A]")
plt.savefig(here / "plots" / "doublet.png")
