import csv

import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import quad

c = 299792.458  # speed of light [km/s]
H0 = 67.4       # [km/s/Mpc]
Omega_m = 0.315
redshifts = [0.1, 0.5, 1.0, 2.0, 5.0]
z_max = 6.0


def E(z):
    return np.sqrt(Omega_m * (1 + z) ** 3 + 1 - Omega_m)


def comoving_distance(z):
    integral, _ = quad(lambda x: 1 / E(x), 0, z)
    return c / H0 * integral


rows = []
for z in redshifts:
    dc = comoving_distance(z)
    rows.append({"z": z, "H": H0 * E(z), "D_C": dc, "D_L": (1 + z) * dc})

with open("data/distances.csv", "w", newline="") as f:
    writer = csv.DictWriter(f, fieldnames=["z", "H", "D_C", "D_L"])
    writer.writeheader()
    writer.writerows(rows)

zz = np.linspace(0.01, z_max, 200)
plt.loglog(zz, [(1 + z) * comoving_distance(z) for z in zz])
plt.scatter(redshifts, [r["D_L"] for r in rows], color="k")
plt.xlabel("redshift z")
plt.ylabel("$D_L$ [Mpc]")
plt.savefig("plots/luminosity_distance.png")

for r in rows:
    print("z = {z:4.1f}  H = {H:8.2f} km/s/Mpc  D_C = {D_C:8.1f} Mpc  D_L = {D_L:9.1f} Mpc".format(**r))
