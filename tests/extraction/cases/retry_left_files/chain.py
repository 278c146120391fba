import numpy as np
import pandas as pd

BURN_IN = 200
C_WINDOW = 5.0
THIN_FACTOR = 0.5
NAMES = ["omega_m", "sigma_8", "n_s"]

chain = np.load("input/chain.npy")[BURN_IN:]


def autocorrelation(x):
    x = x - x.mean()
    f = np.fft.fft(x, n=2 * len(x))
    acf = np.fft.ifft(f * np.conj(f)).real[: len(x)]
    return acf / acf[0]


def tau(x):
    t = 2 * np.cumsum(autocorrelation(x)) - 1
    return t[np.argmax(np.arange(len(t)) >= C_WINDOW * t)]


taus = np.array([tau(c) for c in chain.T])
thin = max(1, int(THIN_FACTOR * taus.max()))
thinned = chain[::thin]
np.save("data/thinned_chain.npy", thinned)

table = pd.DataFrame(
    {"mean": chain.mean(axis=0), "std": chain.std(axis=0, ddof=1), "tau": taus, "ess": len(chain) / taus},
    index=pd.Index(NAMES, name="parameter"),
)
table.to_csv("data/chain_statistics.csv", float_format="%.6g")
print(table.round(4))
print(f"thinned by {thin}: {len(thinned)} samples")
