import pandas as pd

mag_range = [3.0, 6.5]
max_depth_km = 70

quakes = pd.read_parquet("./input/quakes.parquet")
selected = quakes[quakes.magnitude.between(*mag_range) & (quakes.depth < max_depth_km)]
selected.to_csv("./data/selected.csv", index=False)
print(len(quakes), "->", len(selected))
