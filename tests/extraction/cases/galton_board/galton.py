import json
import random
from collections import Counter

import matplotlib.pyplot as plt
from scipy.stats import binom, chisquare

random.seed(99)
rows, balls, p_right = 12, 3000, 0.5

slots = Counter(sum(random.random() < p_right for _ in range(rows)) for _ in range(balls))
observed = [slots[k] for k in range(rows + 1)]
expected = [balls * binom.pmf(k, rows, p_right) for k in range(rows + 1)]

# slots with few expected balls are merged into their neighbour
min_expected = 5
obs_m, exp_m = [], []
acc_o = acc_e = 0.0
for o, e in zip(observed, expected):
    acc_o += o
    acc_e += e
    if acc_e >= min_expected:
        obs_m.append(acc_o)
        exp_m.append(acc_e)
        acc_o = acc_e = 0.0
obs_m[-1] += acc_o
exp_m[-1] += acc_e
statistic, p_value = chisquare(obs_m, exp_m)

with open("data/galton.json", "w") as f:
    json.dump({"observed": observed, "expected": expected, "chi2": float(statistic), "p": float(p_value), "bins": len(obs_m)}, f)

plt.bar(range(rows + 1), observed, width=0.9, label="balls")
plt.plot(range(rows + 1), expected, "ko-", label="binomial")
plt.xlabel("slot")
plt.legend()
plt.savefig("plots/galton.png", dpi=90)
print(f"chi2 = {statistic:.2f} for {len(obs_m)} bins, p = {p_value:.3f}")
