import json
import numpy as np
import pandas as pd

M_C = 3.4
DELTA_M = 0.1

m = pd.read_csv("data/selected.csv")["magnitude"]
m = m[m >= M_C - DELTA_M / 2]
b = np.log10(np.e) / (m.mean() - (M_C - DELTA_M / 2))
result = {"b": b, "b_error": b / np.sqrt(len(m)), "n": m.count()}
with open("data/b_value.json", "w") as f:
    json.dump(result, f)
print(result)
