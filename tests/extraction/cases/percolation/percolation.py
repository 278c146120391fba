from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.ndimage import generate_binary_structure, label


@dataclass
class Experiment:
    size: int = 30
    lattices: int = 60
    seed: int = 123
    diagonal: bool = False
    probabilities: tuple[float, ...] = (0.50, 0.55, 0.58, 0.60, 0.65, 0.70)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.structure = generate_binary_structure(2, 2 if self.diagonal else 1)

    def percolates(self, sites):
        labels, _ = label(sites, structure=self.structure)
        common = np.intersect1d(labels[0], labels[-1])
        return bool((common > 0).any()), labels

    def run(self):
        for p in self.probabilities:
            hits = 0
            for _ in range(self.lattices):
                found, labels = self.percolates(self.rng.random((self.size, self.size)) < p)
                hits += found
            name = f"lattice_p{round(100 * p)}"
            plt.imsave(f"plots/{name}.png", labels, cmap="nipy_spectral")
            share = hits / self.lattices
            yield {"p": p, "percolating": share, "error": np.sqrt(share * (1 - share) / self.lattices)}


if __name__ == "__main__":
    table = pd.DataFrame(Experiment().run())
    table.to_csv("data/percolation.csv", index=False)
    table.to_json("data/percolation.json", orient="records", indent=1)

    plt.errorbar(table.p, table.percolating, table.error, fmt="o-", capsize=3)
    plt.xlabel("occupation probability")
    plt.ylabel("share of percolating lattices")
    plt.savefig("plots/percolation.png")
    print(table.to_string(index=False))
