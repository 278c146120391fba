import numpy as np
import pandas as pd
from scipy import ndimage
import matplotlib.pyplot as plt


def robust_sigma(a):
    """Standard deviation from the median absolute deviation."""
    return 1.4826 * np.median(np.abs(a - np.median(a)))


def find_sources(image, smoothing=1.5, threshold=5.0, min_pixels=4):
    flat = image - np.median(image)
    smooth = ndimage.gaussian_filter(flat, smoothing)
    mask = smooth > threshold * robust_sigma(smooth)
    labels, n = ndimage.label(mask)
    rows = []
    for i in range(1, n + 1):
        region = labels == i
        if region.sum() < min_pixels:
            continue
        y, x = ndimage.center_of_mass(flat * region)
        rows.append((round(x, 2), round(y, 2), round(float(flat[region].sum()), 1), int(region.sum())))
    return pd.DataFrame(rows, columns=["x", "y", "flux", "pixels"]), mask


image = np.load("input/image.npy")
sources, mask = find_sources(image)
sources = sources.sort_values("flux", ascending=False, ignore_index=True)
sources.to_csv("data/sources.csv", index=False)
np.save("data/mask.npy", mask)

plt.imshow(image, origin="lower", cmap="gray")
plt.plot(sources.x, sources.y, "ro", mfc="none", ms=12)
plt.savefig("plots/sources.png", dpi=100)
print(f"found {len(sources)} sources")
print(sources)
