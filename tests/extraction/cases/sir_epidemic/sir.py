import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp


def sir(t, y, beta, gamma, population):
    s, i, r = y
    infection = beta * s * i / population
    recovery = gamma * i
    return [-infection, infection - recovery, recovery]


def run(population=10000, infected=10, beta=0.3, gamma=0.1, days=160, method="LSODA"):
    times = np.arange(0, days + 1)
    solution = solve_ivp(
        sir, (0, days), [population - infected, infected, 0],
        t_eval=times, args=(beta, gamma, population), method=method, rtol=1e-8, atol=1e-8,
    )
    return pd.DataFrame({"day": times, "S": solution.y[0], "I": solution.y[1], "R": solution.y[2]})


curve = run()
peak = curve.loc[curve["I"].idxmax()]
summary = {
    "peak_day": int(peak["day"]),
    "peak_infected": round(float(peak["I"]), 2),
    "final_size": round(float(curve["R"].iloc[-1]), 2),
}
curve.round(4).to_csv("data/sir_curve.csv", index=False)
Path("data/sir_summary.json").write_text(json.dumps(summary, indent=1))
print(summary)
