from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd


@dataclass
class Config:
    size: int = 16
    temperatures: list[float] = field(default_factory=lambda: [1.5, 2.0, 2.3, 2.7, 3.5])
    coupling: float = 1.0
    equilibration: int = 60   # sweeps
    measurement: int = 120    # sweeps
    seed: int = 5
    cold_start: bool = True
    data_dir: Path = Path("data")
    plot_dir: Path = Path("plots")


class Ising:
    def __init__(self, config: Config, temperature: float, rng: np.random.Generator):
        self.cfg = config
        self.beta = 1.0 / temperature
        self.rng = rng
        n = config.size
        self.spins = np.ones((n, n), dtype=int) if config.cold_start else rng.choice([-1, 1], size=(n, n))
        parity = np.add.outer(np.arange(n), np.arange(n)) % 2
        self.masks = [parity == 0, parity == 1]

    def neighbours(self):
        s = self.spins
        return np.roll(s, 1, 0) + np.roll(s, -1, 0) + np.roll(s, 1, 1) + np.roll(s, -1, 1)

    def sweep(self):
        for mask in self.masks:
            cost = 2 * self.cfg.coupling * self.spins * self.neighbours()
            flip = self.rng.random(self.spins.shape) < np.exp(-self.beta * np.clip(cost, 0, None))
            self.spins[mask & flip] *= -1

    @property
    def magnetisation(self):
        return abs(self.spins.mean())

    @property
    def energy(self):
        return -0.5 * self.cfg.coupling * (self.spins * self.neighbours()).mean()


def main():
    cfg = Config()
    rng = np.random.default_rng(cfg.seed)
    rows = []
    for T in cfg.temperatures:
        model = Ising(cfg, T, rng)
        for _ in range(cfg.equilibration):
            model.sweep()
        m, e = [], []
        for _ in range(cfg.measurement):
            model.sweep()
            m.append(model.magnetisation)
            e.append(model.energy)
        rows.append({"T": T, "magnetisation": np.mean(m), "energy": np.mean(e), "susceptibility": np.var(m) * cfg.size**2 / T})
        plt.imsave(cfg.plot_dir / f"lattice_T{T:.1f}.png", model.spins, cmap="gray")
        print(f"T = {T:.2f}: |m| = {rows[-1]['magnetisation']:.3f}, e = {rows[-1]['energy']:.3f}")
    pd.DataFrame(rows).to_csv(cfg.data_dir / "ising.csv", index=False, float_format="%.6f")


if __name__ == "__main__":
    main()
