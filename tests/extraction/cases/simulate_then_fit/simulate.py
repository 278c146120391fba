import numpy as np
import pandas as pd

CENTRE = 6563.0      # Angstrom
SIGMA = 4.0          # Angstrom
HEIGHT = 80.0
CONTINUUM = 20.0
WAVE_MIN, WAVE_MAX = 6500.0, 6620.0
PIXELS = 300
NOISE = 3.0
SEED = 2024

rng = np.random.default_rng(SEED)
wave = np.linspace(WAVE_MIN, WAVE_MAX, PIXELS)
flux = CONTINUUM + HEIGHT * np.exp(-0.5 * ((wave - CENTRE) / SIGMA) ** 2)
flux += rng.normal(0, NOISE, PIXELS)
pd.DataFrame({"wavelength": wave, "flux": flux, "error": NOISE}).to_csv("data/spectrum.csv", index=False)
print("simulated", PIXELS, "pixels")
