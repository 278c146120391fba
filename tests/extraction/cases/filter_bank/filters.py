import json
import os

import matplotlib.pyplot as plt
import numpy as np
from scipy import signal

FS = 200.0  # Hz


def make_filters(cutoff=15.0, order=4, sg_window=21, sg_order=3):
    def lowpass(name):
        sos = signal.butter(order, cutoff, btype="low", fs=FS, output="sos")

        def apply(x):
            return signal.sosfiltfilt(sos, x)

        apply.__name__ = name
        return apply

    def smoother(x):
        return signal.savgol_filter(x, sg_window, sg_order)

    return {"butterworth": lowpass("butterworth"), "savgol": smoother}


def plot(name, t, x, y, seconds=2.0, outdir="plots"):
    def limit(a):
        return 1.1 * np.abs(a).max()

    inside = t < seconds
    fig, ax = plt.subplots(figsize=(8, 3))
    ax.plot(t[inside], x[inside], color="0.8")
    ax.plot(t[inside], y[inside], color="C3")
    ax.set_ylim(-limit(x), limit(x))
    ax.set_title(name)
    fig.savefig(os.path.join(outdir, f"filtered_{name}.png"))
    plt.close(fig)


x = np.load("input/sig.npy")
t = np.arange(len(x)) / FS
rms = {}
filtered = {}
for name, function in make_filters().items():
    filtered[name] = function(x)
    rms[name] = float(np.sqrt(np.mean((filtered[name] - x) ** 2)))
    plot(name, t, x, filtered[name])
    print(f"{name:12s} rms difference {rms[name]:.4f}")

np.savez("data/filtered.npz", t=t, **filtered)
with open("data/rms.json", "w") as f:
    json.dump(rms, f, indent=2)
