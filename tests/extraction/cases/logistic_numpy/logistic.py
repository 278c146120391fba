import json

import matplotlib.pyplot as plt
import numpy as np


class LogisticRegression:
    def __init__(self, learning_rate=0.1, epochs=400, l2=0.001):
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.l2 = l2
        self.losses = []

    @staticmethod
    def _sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    def fit(self, X, y):
        X = np.c_[np.ones(len(X)), X]
        self.w = np.zeros(X.shape[1])
        for _ in range(self.epochs):
            p = self._sigmoid(X @ self.w)
            grad = X.T @ (p - y) / len(y) + self.l2 * self.w
            self.w -= self.learning_rate * grad
            self.losses.append(-np.mean(y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12)))
        return self

    def predict(self, X):
        return (self._sigmoid(np.c_[np.ones(len(X)), X] @ self.w) > 0.5).astype(int)


def make_data(n=200, seed=3, centres=((-1.0, -1.0), (1.2, 1.0)), spread=1.0):
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.normal(c, spread, size=(n, 2)) for c in centres])
    y = np.repeat([0, 1], n)
    order = rng.permutation(len(y))
    return X[order], y[order]


X, y = make_data()
test_fraction = 0.25
cut = int(len(y) * (1 - test_fraction))
model = LogisticRegression().fit(X[:cut], y[:cut])
accuracy = {
    "train": float((model.predict(X[:cut]) == y[:cut]).mean()),
    "test": float((model.predict(X[cut:]) == y[cut:]).mean()),
}
np.savez("data/weights.npz", w=model.w)
with open("data/accuracy.json", "w") as f:
    json.dump(accuracy, f)
plt.semilogy(model.losses)
plt.xlabel("epoch")
plt.ylabel("loss")
plt.savefig("plots/loss.png")
print("accuracy", accuracy, "weights", model.w.round(3))
