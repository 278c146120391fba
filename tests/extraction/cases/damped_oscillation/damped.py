"""Plot a damped oscillation with its envelope."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

# Parameters
amplitude = 1.5  # cm
tau = 4.0        # s, damping time
frequency = 0.8  # Hz
t_max = 20.0     # s
n_points = 2000
show_envelope = True

t = np.linspace(0, t_max, n_points)
envelope = amplitude * np.exp(-t / tau)
x = envelope * np.cos(2 * np.pi * frequency * t)

plt.figure(figsize=(8, 4))
plt.plot(t, x, color="navy", lw=1.2, label="x(t)")
if show_envelope:
    plt.plot(t, envelope, "--", color="gray", label="envelope")
    plt.plot(t, -envelope, "--", color="gray")
plt.xlabel("time [s]")
plt.ylabel("displacement [cm]")
plt.title(f"Damped oscillation, tau = {tau} s")
plt.grid(alpha=0.3)
plt.legend()
plt.tight_layout()
plt.savefig("plots/damped.png", dpi=120)
print("Saved plots/damped.png")
print(f"Quality factor: {np.pi * frequency * tau:.2f}")
