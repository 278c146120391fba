import numpy as np

H0_TRUE, OMEGA_M_TRUE = 70.0, 0.3
Z_MIN, Z_MAX, N_Z = 0.1, 1.9, 12
RELATIVE_ERROR = 0.05
SEED = 8

rng = np.random.default_rng(SEED)
z = np.linspace(Z_MIN, Z_MAX, N_Z)
hz = H0_TRUE * np.sqrt(OMEGA_M_TRUE * (1 + z) ** 3 + 1 - OMEGA_M_TRUE)
error = RELATIVE_ERROR * hz
np.savez("data/hz.npz", z=z, h=hz + error * rng.standard_normal(N_Z), error=error)
print(f"{N_Z} points of H(z)")
