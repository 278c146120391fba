import numpy as np
from scipy import signal
import matplotlib.pyplot as plt

level = np.load("input/level.npy")
dt = 1.0  # hours
window_name = "hann"
pad_factor = 4
n_peaks = 5
shortest, longest = 3.0, 30.0  # hours

detrended = signal.detrend(level, type="linear")
window = signal.get_window(window_name, len(detrended))
n_fft = pad_factor * len(detrended)
spectrum = np.fft.rfft(detrended * window, n=n_fft)
freq = np.fft.rfftfreq(n_fft, d=dt)
amplitude = 2 * np.abs(spectrum) / window.sum()

with np.errstate(divide="ignore"):
    period = 1 / freq
inside = (period >= shortest) & (period <= longest)
found, _ = signal.find_peaks(np.where(inside, amplitude, 0))
found = found[np.argsort(amplitude[found])[::-1][:n_peaks]]

np.savez_compressed("data/spectrum.npz", frequency=freq, amplitude=amplitude)
np.savetxt(
    "data/tidal_peaks.csv", np.column_stack([period[found], amplitude[found]]),
    delimiter=",", header="period_h,amplitude_m", comments="", fmt="%.5f",
)

plt.semilogx(period[inside], amplitude[inside])
plt.plot(period[found], amplitude[found], "rv")
plt.xlabel("period [h]")
plt.ylabel("amplitude [m]")
plt.savefig("plots/tides.png", dpi=100)
for p, a in zip(period[found], amplitude[found]):
    print(f"{p:7.3f} h  {a:.3f} m")
