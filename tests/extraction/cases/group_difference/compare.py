import json

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.01
ALTERNATIVE = "two-sided"

df = pd.read_parquet("input/df.parquet")
a = df.loc[df["treatment"] == "A", "yield"].to_numpy()
b = df.loc[df["treatment"] == "B", "yield"].to_numpy()


def permutation_p(a, b, n_permutations=2000, seed=11):
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([a, b])
    observed = abs(a.mean() - b.mean())
    hits = 0
    for _ in range(n_permutations):
        rng.shuffle(pooled)
        hits += abs(pooled[: len(a)].mean() - pooled[len(a):].mean()) >= observed
    return (hits + 1) / (n_permutations + 1)


p_values = {
    "welch": float(stats.ttest_ind(a, b, equal_var=False, alternative=ALTERNATIVE).pvalue),
    "mann_whitney": float(stats.mannwhitneyu(a, b, alternative=ALTERNATIVE).pvalue),
    "permutation": float(permutation_p(a, b)),
}
report = {
    "n": {"A": len(a), "B": len(b)},
    "difference": float(a.mean() - b.mean()),
    "p": p_values,
    "significant": {name: bool(p < ALPHA) for name, p in p_values.items()},
}
with open("data/tests.json", "w") as f:
    json.dump(report, f, indent=4)
print(json.dumps(report["p"]))
