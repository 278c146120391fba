from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import least_squares


@dataclass(frozen=True)
class Settings:
    loss: str = "soft_l1"
    f_scale: float = 0.1
    outlier_distance: float = 0.5
    points_file: str = "input/pts.npy"
    result_file: str = "data/circle.json"


def residuals(p, xy):
    return np.hypot(xy[:, 0] - p[0], xy[:, 1] - p[1]) - p[2]


def main(settings: Settings) -> None:
    xy = np.load(settings.points_file)
    centre = np.median(xy, axis=0)
    radius = np.median(np.hypot(*(xy - centre).T))
    fit = least_squares(residuals, [*centre, radius], args=(xy,), loss=settings.loss, f_scale=settings.f_scale)
    distance = residuals(fit.x, xy)
    outliers = np.flatnonzero(np.abs(distance) > settings.outlier_distance)
    result = {
        "x": float(fit.x[0]), "y": float(fit.x[1]), "radius": float(fit.x[2]),
        "cost": float(fit.cost), "outliers": outliers.tolist(), "settings": asdict(settings),
    }
    with open(settings.result_file, "w") as stream:
        json.dump(result, stream, indent=2)
    print(f"centre ({fit.x[0]:.3f}, {fit.x[1]:.3f}), radius {fit.x[2]:.3f}, {len(outliers)} outliers")


if __name__ == "__main__":
    main(Settings())
