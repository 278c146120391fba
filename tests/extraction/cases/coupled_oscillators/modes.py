import numpy as np

N = 12           # number of masses
MASS = 0.5       # [kg]
STIFFNESS = 200  # spring constant [N/m]

matrix = np.zeros((N, N))
for i in range(N):
    matrix[i, i] = 2 * STIFFNESS / MASS
    if i + 1 < N:
        matrix[i, i + 1] = matrix[i + 1, i] = -STIFFNESS / MASS

omega2, shapes = np.linalg.eigh(matrix)
frequencies = np.sqrt(omega2) / (2 * np.pi)  # [Hz]

# the sign of an eigenvector is arbitrary: make the first component positive
shapes *= np.sign(shapes[0])

np.save("data/frequencies.npy", frequencies)
np.save("data/mode_shapes.npy", shapes)

for k, f in enumerate(frequencies, start=1):
    print(f"mode {k:2d}: {f:8.4f} Hz")
