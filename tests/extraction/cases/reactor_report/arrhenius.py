import json
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt

R = 8.314462618  # J / (mol K)
weighted = False

rates = pd.read_csv("data/rates.csv")
x, y = 1 / rates["temperature"], np.log(rates["k"])
weights = rates["k"] / rates["k_err"] if weighted else None
slope, intercept = np.polyfit(x, y, 1, w=weights)
result = dict(activation_energy_kj=-slope * R / 1000, ln_prefactor=intercept, weighted=weighted)
with open("data/arrhenius.json", "w") as f:
    json.dump(result, f, indent=2)

plt.plot(1000 * x, y, "ko")
plt.plot(1000 * x, slope * x + intercept, "b-")
plt.xlabel("1000 / T [1/K]")
plt.ylabel("ln k")
plt.savefig("plots/arrhenius.png")
print(f"E_a = {result['activation_energy_kj']:.2f} kJ/mol")
