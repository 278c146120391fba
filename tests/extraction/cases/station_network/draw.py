import json
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

show_fit = True
m = pd.read_csv("data/selected.csv")["magnitude"].to_numpy()
with open("data/b_value.json") as f:
    fit = json.load(f)

bins = np.arange(m.min(), m.max() + 0.1, 0.1)
cumulative = [(m >= x).sum() for x in bins]
plt.semilogy(bins, cumulative, "ks", ms=3)
if show_fit:
    x = bins[bins >= fit["completeness"]]
    plt.semilogy(x, fit["n"] * 10 ** (-fit["b"] * (x - fit["completeness"])), "r-", label=f"b = {fit['b']:.2f} +- {fit['b_error']:.2f}")
    plt.legend()
plt.xlabel("magnitude")
plt.ylabel("N(>= M)")
plt.savefig("plots/gutenberg_richter.png")
