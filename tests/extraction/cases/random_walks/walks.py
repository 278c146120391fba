import numpy as np
import pandas as pd
import matplotlib.pyplot as plt

SEED = 42
WALKERS = 500
STEPS = 1_000
STEP_LENGTH = 1.0
EVERY = 100

rng = np.random.default_rng(SEED)
angles = rng.uniform(0, 2 * np.pi, size=(WALKERS, STEPS))
x = np.cumsum(STEP_LENGTH * np.cos(angles), axis=1)
y = np.cumsum(STEP_LENGTH * np.sin(angles), axis=1)
msd = (x**2 + y**2).mean(axis=0)
n = np.arange(1, STEPS + 1)
expected = n * STEP_LENGTH**2

table = pd.DataFrame({"step": n, "msd": msd, "expected": expected})
table[table["step"] % EVERY == 0].to_csv("data/msd.csv", index=False)

fig, ax = plt.subplots()
ax.plot(n, msd, label="simulation")
ax.plot(n, expected, "k--", label="$n \\ell^2$")
ax.set(xlabel="steps", ylabel="mean squared displacement")
ax.legend()
fig.savefig("plots/msd.png")
print("final ratio:", msd[-1] / expected[-1])
