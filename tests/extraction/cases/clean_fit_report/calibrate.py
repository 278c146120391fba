import pandas as pd

GAIN = 25.0     # [degree C / V]
OFFSET = -12.5  # [degree C]

df = pd.read_csv("data/clean.csv")
df["temperature"] = GAIN * df["volt"] + OFFSET
df.to_csv("data/calibrated.csv", index=False)
print(df["temperature"].describe())
