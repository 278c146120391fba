import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

ENERGY_RANGE = (50, 900)  # keV
ENERGY_BINS = 40
RATE_BIN = 10.0  # seconds
MAP_BINS = 25
LOG_ENERGY = True
OUTPUT = "plots/detector.png"

events = pd.read_parquet("input/events.parquet")
low, high = ENERGY_RANGE
events = events[(events.energy >= low) & (events.energy <= high)]
print(f"{len(events)} events between {low} and {high} keV")

fig, axes = plt.subplots(2, 2, figsize=(10, 8))

ax = axes[0, 0]
ax.hist(events.energy, bins=ENERGY_BINS, histtype="step", color="k")
ax.set_xlabel("energy [keV]")
if LOG_ENERGY:
    ax.set_yscale("log")

ax = axes[0, 1]
edges = np.arange(0, events.time.max() + RATE_BIN, RATE_BIN)
counts, _ = np.histogram(events.time, edges)
ax.step(edges[:-1], counts / RATE_BIN, where="post")
ax.set_xlabel("time [s]")
ax.set_ylabel("rate [1/s]")

ax = axes[1, 0]
image = ax.hist2d(events.x, events.y, bins=MAP_BINS, cmap="viridis")[3]
fig.colorbar(image, ax=ax)
ax.set_aspect("equal")

ax = axes[1, 1]
ax.scatter(np.hypot(events.x, events.y), events.energy, s=4, alpha=0.4)
ax.set_xlabel("radius [mm]")
ax.set_ylabel("energy [keV]")

fig.tight_layout()
fig.savefig(OUTPUT, dpi=100)
