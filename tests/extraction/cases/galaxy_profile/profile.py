import json
from pathlib import Path
import numpy as np
import matplotlib.pyplot as plt

DATA, PLOTS = Path("data"), Path("plots")


class Frame:
    """A CCD frame and what is done with it."""

    def __init__(self, pixels, bias=300.0):
        self.pixels = np.asarray(pixels, dtype=float) - bias

    def flatten(self, flat):
        self.pixels /= flat / np.median(flat)
        return self

    def subtract_sky(self, border=6):
        edge = np.ones_like(self.pixels, dtype=bool)
        edge[border:-border, border:-border] = False
        self.sky = np.median(self.pixels[edge])
        self.pixels -= self.sky
        return self

    def centroid(self, quantile=0.97):
        weights = np.where(self.pixels > np.quantile(self.pixels, quantile), self.pixels, 0)
        y, x = np.indices(self.pixels.shape)
        return (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()

    def profile(self, ring_width=2.0, r_max=24.0):
        x0, y0 = self.centroid()
        y, x = np.indices(self.pixels.shape)
        r = np.hypot(x - x0, y - y0)
        edges = np.arange(0, r_max + ring_width, ring_width)
        flux, _ = np.histogram(r, edges, weights=self.pixels)
        area, _ = np.histogram(r, edges)
        return 0.5 * (edges[1:] + edges[:-1]), flux / area, np.cumsum(flux), edges[1:]


frame = Frame(np.load("input/frame.npy")).flatten(np.load("input/flat.npy")).subtract_sky()
radius, brightness, growth, outer = frame.profile()
half_light = float(np.interp(0.5 * growth[-1], growth, outer))

np.save(DATA / "calibrated.npy", frame.pixels.astype("float32"))
np.savetxt(DATA / "profile.csv", np.c_[radius, brightness, growth], delimiter=",", header="radius,brightness,growth", comments="", fmt="%.4f")
(DATA / "galaxy.json").write_text(json.dumps({"half_light_radius": half_light, "sky": float(frame.sky), "centre": list(map(float, frame.centroid()))}))

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
left.imshow(np.arcsinh(frame.pixels / 50), origin="lower", cmap="magma")
right.semilogy(radius, np.clip(brightness, 0.1, None), "o-")
right.axvline(half_light, ls=":", color="k")
right.set_xlabel("radius [pixel]")
fig.savefig(PLOTS / "galaxy.png")
print(f"half-light radius {half_light:.2f} pixels")
