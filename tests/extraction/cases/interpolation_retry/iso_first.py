import numpy as np
import pandas as pd
from scipy.interpolate import interp1d

kind = "cubic"
m_min, m_max, n_masses = 0.8, 1.6, 50
target_log_l = 0.5

iso = pd.read_parquet("input/iso.parquet").sort_values("mass")
masses = np.linspace(m_min, m_max, n_masses)
fine = {"mass": masses}
for column in ("log_l", "log_teff"):
    fine[column] = interp1d(iso["mass"], iso[column], kind=kind)(masses)
pd.DataFrame(fine).to_csv("data/isochrone_fine.csv", index=False)
