import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp

params = dict(alpha=1.1, beta=0.4, gamma=0.4, delta=0.1)
y0 = [10.0, 5.0]
other_starts = [(5, 5), (15, 5), (20, 5)]
t_end = 50
log_phase = False


def rhs(t, y, alpha, beta, gamma, delta):
    prey, predator = y
    return [alpha * prey - beta * prey * predator, delta * prey * predator - gamma * predator]


def conserved(y, alpha, beta, gamma, delta):
    prey, predator = y
    return delta * prey - gamma * np.log(prey) + beta * predator - alpha * np.log(predator)


def solve(start):
    t = np.linspace(0, t_end, 1501)
    sol = solve_ivp(rhs, (0, t_end), start, t_eval=t, args=tuple(params.values()), rtol=1e-9, atol=1e-9)
    return t, sol.y


t, y = solve(y0)
fig, axs = plt.subplots(1, 3, figsize=(14, 4))
axs[0].plot(t, y[0], label="prey")
axs[0].plot(t, y[1], label="predator")
axs[0].legend()
axs[0].set_xlabel("time")
axs[1].plot(*y, "k")
for start in other_starts:
    axs[1].plot(*solve(start)[1], lw=0.8)
if log_phase:
    axs[1].loglog()
axs[1].set(xlabel="prey", ylabel="predator")
invariant = conserved(y, **params)
axs[2].plot(t, invariant - invariant[0])
axs[2].set(xlabel="time", ylabel="change of invariant")
fig.tight_layout()
fig.savefig("plots/lotka_volterra.png", dpi=110)

pd.DataFrame({"t": t, "prey": y[0], "predator": y[1]}).iloc[::10].to_csv("data/populations.csv", index=False, float_format="%.5f")
print(f"prey between {y[0].min():.2f} and {y[0].max():.2f}, drift of invariant {np.ptp(invariant):.1e}")
