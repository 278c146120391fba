import json
import pandas as pd

df = pd.read_csv("data/calibrated.csv")
summary = {}
for channel, group in df.groupby("channel"):
    summary[str(channel)] = {
        "n": int(len(group)),
        "mean": round(float(group["temperature"].mean()), 4),
        "sem": round(float(group["temperature"].sem()), 4),
    }
with open("data/summary.json", "w") as f:
    json.dump(summary, f, indent=2, sort_keys=True)
for channel, s in summary.items():
    print(f"channel {channel}: {s['mean']:.2f} +- {s['sem']:.2f} C ({s['n']})")
