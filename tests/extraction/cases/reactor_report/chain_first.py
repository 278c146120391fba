import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp

k1, k2 = 0.08, 0.03  # 1/min
t_end = 60.0         # min
c0 = [1.0, 0.0, 0.0]
solver = "RK45"

times = np.linspace(0, t_end, 121)
sol = solve_ivp(lambda t, c: [-k1 * c[0], k1 * c[0] - k2 * c[1], k2 * c[1]], (0, t_end), c0, method=solver, t_eval=times)
table = pd.DataFrame(sol.T, columns=["A", "B", "C"])
