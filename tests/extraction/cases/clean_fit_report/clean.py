import pandas as pd

n_sigma = 4
input_file = "input/raw.parquet"
output_file = "data/clean.csv"

df = pd.read_parquet(input_file)
n0 = len(df)
df = df[df["flag"] == 0]
median = df["volt"].median()
mad = (df["volt"] - median).abs().median() * 1.4826
df = df[(df["volt"] - median).abs() <= n_sigma * mad]
df.drop(columns="flag").to_csv(output_file, index=False)
print(f"kept {len(df)} of {n0} readings")
