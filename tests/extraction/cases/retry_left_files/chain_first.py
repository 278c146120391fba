import numpy as np
import pandas as pd

BURN_IN = 200
C_WINDOW = 5.0

chain = np.load("input/chain.npy")[BURN_IN:]
np.save("data/burned.npy", chain)


def autocorrelation(x):
    x = x - x.mean()
    f = np.fft.fft(x, n=2 * len(x))
    acf = np.fft.ifft(f * np.conj(f)).real[: len(x)]
    return acf / acf[0]


def tau(x):
    t = 2 * np.cumsum(autocorrelation(x)) - 1
    return t[np.argmax(np.arange(len(t)) >= C_WINDOW * t)]


taus = [tau(c) for c in chain.T]
thin = 0.5 * max(taus)
thinned = chain[::thin]
np.save("data/thinned_chain.npy", thinned)
