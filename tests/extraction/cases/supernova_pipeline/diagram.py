import json
import matplotlib.pyplot as plt
import pandas as pd

sn = pd.read_csv("data/sn_model.csv")
fit = json.load(open("data/sn_fit.json"))
log_z = True

fig, (top, bottom) = plt.subplots(2, 1, sharex=True, height_ratios=[3, 1])
top.errorbar(sn["z"], sn["mu"], sn["mu_err"], fmt=".", color="0.4")
top.plot(sn["z"], sn["mu_model"], "r-", label=rf"$\Omega_m = {fit['omega_m']:.2f}$")
top.set_ylabel("distance modulus")
top.legend()
bottom.errorbar(sn["z"], sn["mu"] - sn["mu_model"], sn["mu_err"], fmt=".", color="0.4")
bottom.axhline(0, color="r")
bottom.set_xlabel("redshift")
if log_z:
    bottom.set_xscale("log")
fig.savefig("plots/hubble_diagram.png", dpi=120)
print("drawn", len(sn), "supernovae")
