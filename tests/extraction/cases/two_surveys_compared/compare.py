import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

surveys = ["north", "south"]
min_count = 3
rows = []
fig, ax = plt.subplots()
for survey, marker in zip(surveys, "os"):
    counts = pd.read_csv(f"data/counts_{survey}.csv")
    counts = counts[counts["n"] >= min_count]
    y = np.log10(counts["corrected"])
    slope, offset = np.polyfit(counts["mag"], y, 1, w=np.sqrt(counts["n"]))
    rows.append({"survey": survey, "slope": slope, "offset": offset, "bins": len(counts)})
    ax.plot(counts["mag"], y, marker, label=f"{survey}: slope {slope:.2f}")
    ax.plot(counts["mag"], slope * counts["mag"] + offset, "-", color="0.6")
ax.set_xlabel("magnitude")
ax.set_ylabel("log N")
ax.legend()
fig.savefig("plots/counts.png", dpi=120, bbox_inches="tight")
slopes = pd.DataFrame(rows)
slopes.to_csv("data/slopes.csv", index=False)
print(slopes.to_string(index=False))
