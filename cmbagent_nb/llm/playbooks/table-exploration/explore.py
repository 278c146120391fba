"""Look into any table: what its columns hold, how its numbers are spread, and which of them go together.

Reads  input/df.parquet           any table (CSV and TSV too); nothing is assumed of its columns
Writes data/exploration.json      size, missing values, the strongest correlations
       data/columns.csv           one row a column: type, missing, distinct, and for numbers their spread
       data/correlations.csv      correlations of all pairs of numeric columns
       plots/distributions.png    histogram of each numeric column
       plots/correlations.png     the matrix of correlations
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

TABLE = "input/df.parquet"  # the table to look into: parquet, CSV or TSV
CORRELATION = "spearman"  # kind of correlation: spearman (of the ranks) or pearson (straight lines)
STRONGEST = 5  # how many of the strongest correlations are listed
BINS = 24  # bins of the histograms
OUTLIER_IQR = 1.5  # a value is an outlier when it lies this many interquartile ranges outside of the quartiles

suffix = Path(TABLE).suffix.lower()
if suffix in (".csv", ".tsv", ".txt"):
    table = pd.read_csv(TABLE, sep="\t" if suffix == ".tsv" else ",")
else:
    table = pd.read_parquet(TABLE)

# One row a column; spread and outliers for numbers, the most frequent value for the rest.
numeric = [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name]) and table[name].dtype != bool]
rows = []
for name in table.columns:
    column = table[name]
    row = {
        "column": str(name),
        "type": str(column.dtype),
        "missing": int(column.isna().sum()),
        "distinct": int(column.nunique()),
    }
    if name in numeric and column.notna().any():
        low, middle, high = (float(value) for value in column.quantile([0.25, 0.5, 0.75]))
        beyond = OUTLIER_IQR * (high - low)
        row |= {
            "mean": float(column.mean()),
            "std": float(column.std()),
            "min": float(column.min()),
            "median": middle,
            "max": float(column.max()),
            "outliers": int(((column < low - beyond) | (column > high + beyond)).sum()),
        }
    elif column.notna().any():
        counts = column.astype(str)[column.notna()].value_counts()
        top = sorted(counts[counts == counts.max()].index)[0]
        row |= {"most_frequent": top, "frequency": int(counts.max())}
    rows.append(row)
columns = pd.DataFrame(rows)
columns.to_csv("data/columns.csv", index=False)

# Each pair is correlated over the rows that have both.
varying = [name for name in numeric if table[name].nunique() > 1]
correlations = table[varying].corr(method=CORRELATION)
correlations.to_csv("data/correlations.csv", index_label="column", float_format="%.9g")
pairs = [
    {"columns": [str(first), str(second)], "correlation": float(correlations.loc[first, second])}
    for place, first in enumerate(varying)
    for second in varying[place + 1 :]
    if pd.notna(correlations.loc[first, second])
]
pairs.sort(key=lambda pair: (-abs(pair["correlation"]), pair["columns"]))

summary = {
    "rows": len(table),
    "columns": len(table.columns),
    "numeric_columns": len(numeric),
    "missing_values": int(table.isna().sum().sum()),
    "complete_rows": int(table.notna().all(axis=1).sum()),
    "duplicate_rows": int(table.astype(str).duplicated().sum()),
    "correlation": CORRELATION,
    "strongest": pairs[:STRONGEST],
}
Path("data/exploration.json").write_text(json.dumps(summary, indent=2) + "\n")

plt.rcParams.update({"font.size": 9, "axes.linewidth": 0.8, "xtick.direction": "in", "ytick.direction": "in"})
shown = numeric[:12]
across = min(3, max(1, len(shown)))
down = max(1, -(-len(shown) // across))
fig, axes = plt.subplots(down, across, figsize=(2.9 * across, 2.1 * down), squeeze=False, layout="constrained")
for ax, name in zip(axes.flat, shown, strict=False):
    ax.hist(table[name].dropna().astype(float), bins=BINS, color="#0072b2", alpha=0.8)
    ax.set(xlabel=str(name), ylabel="rows")
for ax in list(axes.flat)[len(shown) :]:
    ax.set_axis_off()
fig.savefig("plots/distributions.png", dpi=100, facecolor="white")

size = max(3.2, 0.55 * len(varying) + 1.6)
fig, ax = plt.subplots(figsize=(size + 0.6, size), layout="constrained")
matrix = ax.imshow(correlations.to_numpy(dtype=float).reshape(len(varying), -1), vmin=-1, vmax=1, cmap="RdBu_r")
ax.set_xticks(range(len(varying)), [str(name) for name in varying], rotation=45, ha="right")
ax.set_yticks(range(len(varying)), [str(name) for name in varying])
if len(varying) <= 12:
    for (row, column), value in np.ndenumerate(correlations.to_numpy(dtype=float)):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if abs(value) > 0.6 else "#333333")
ax.set_title(f"{CORRELATION} correlations")
fig.colorbar(matrix, shrink=0.8)
fig.savefig("plots/correlations.png", dpi=100, facecolor="white")

print(f"{len(table)} rows, {len(table.columns)} columns, {summary['missing_values']} missing values")
for pair in pairs[:STRONGEST]:
    print(f"{pair['columns'][0]} and {pair['columns'][1]}: {pair['correlation']:.2f}")
