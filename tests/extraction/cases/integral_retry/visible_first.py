import json
import numpy as np

h = 6.62607015e-34   # J s
c = 2.99792458e8     # m/s
kB = 1.380649e-23    # J/K

temperature = 5772.0                 # K
band = (400e-9, 700e-9)              # m
full_range = (0.1e-6, 100e-6)        # m
points = 20000


def planck(wavelength, T):
    x = h * c / (wavelength * kB * T)
    return 2 * h * c**2 / wavelength**5 / np.expm1(x)


def integral(lo, hi):
    w = np.geomspace(lo, hi, points)
    return np.trapz(planck(w, temperature), w)


visible = integral(*band)
total = integral(*full_range)
result = {"temperature": temperature, "visible": visible, "total": total, "fraction": visible / total}
json.dump(result, open("data/visible_fraction.json", "w"), indent=1)
print(f"fraction in {band[0] * 1e9:.0f}-{band[1] * 1e9:.0f} nm at {temperature:.0f} K: {visible / total:.4f}")
