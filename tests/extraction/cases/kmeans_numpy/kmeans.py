from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd


class KMeans:
    def __init__(self, k, n_init=10, max_iter=100, tol=1e-6, seed=17):
        self.k, self.n_init, self.max_iter, self.tol = k, n_init, max_iter, tol
        self.rng = np.random.default_rng(seed)

    def _start(self, X):
        centres = [X[self.rng.integers(len(X))]]
        while len(centres) < self.k:
            d2 = np.min([((X - c) ** 2).sum(1) for c in centres], axis=0)
            centres.append(X[self.rng.choice(len(X), p=d2 / d2.sum())])
        return np.array(centres)

    def _once(self, X):
        centres = self._start(X)
        for _ in range(self.max_iter):
            labels = ((X[:, None] - centres) ** 2).sum(2).argmin(1)
            new = np.array([X[labels == j].mean(0) if (labels == j).any() else centres[j] for j in range(self.k)])
            moved = np.abs(new - centres).max()
            centres = new
            if moved < self.tol:
                break
        d2 = ((X[:, None] - centres) ** 2).sum(2)
        return d2.min(1).sum(), d2.argmin(1), centres

    def fit(self, X):
        runs = [self._once(X) for _ in range(self.n_init)]
        self.inertia, labels, centres = min(runs, key=lambda run: run[0])
        order = np.argsort(centres[:, 0])
        self.centres = centres[order]
        self.labels = np.argsort(order)[labels]
        return self


df = pd.read_parquet("input/df.parquet")
X = df[["x", "y"]].to_numpy()
STANDARDISE = False
if STANDARDISE:
    X = (X - X.mean(0)) / X.std(0)

K = 4
model = KMeans(K).fit(X)
df.assign(cluster=model.labels).to_csv("data/clusters.csv", index=False)
np.save("data/centres.npy", model.centres)

ks = list(range(2, 8))
inertia = [KMeans(k).fit(X).inertia for k in ks]
pd.Series(inertia, index=ks, name="inertia").to_json("data/inertia.json")

fig, axes = plt.subplots(1, 2, figsize=(10, 4))
axes[0].scatter(*X.T, c=model.labels, s=12, cmap="tab10")
axes[0].plot(*model.centres.T, "k+", ms=14)
axes[1].plot(ks, inertia, "o-")
axes[1].set_xlabel("k")
fig.savefig(Path("plots", "kmeans.png"))
print(f"k = {K}: inertia {model.inertia:.2f}")
