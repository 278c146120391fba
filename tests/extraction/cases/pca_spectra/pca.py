import json

import numpy as np

n_components = 4
outlier_sigma = 3.0
normalise = True

spectra = np.load("input/spectra.npy").astype(float)
print("spectra:", spectra.shape)

if normalise:
    spectra = spectra / np.median(spectra, axis=1, keepdims=True)

mean = spectra.mean(axis=0)
u, s, vt = np.linalg.svd(spectra - mean, full_matrices=False)
# fix the signs, which an SVD leaves open
signs = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(axis=1)])
vt *= signs[:, None]
u *= signs

variance = s**2 / np.sum(s**2)
components = vt[:n_components]
coefficients = u[:, :n_components] * s[:n_components]
rms = np.sqrt(np.mean((spectra - mean - coefficients @ components) ** 2, axis=1))
outliers = np.flatnonzero(rms > rms.mean() + outlier_sigma * rms.std())

np.savez("data/pca.npz", mean=mean, components=components, coefficients=coefficients)
with open("data/pca_summary.json", "w") as f:
    json.dump({"explained": variance[:n_components].tolist(), "outliers": outliers.tolist()}, f, indent=2)
print("explained variance:", np.round(variance[:n_components], 4))
print("outliers:", outliers)
