import pandas as pd


def clip(lc, window=11, n_sigma=3.5, iterations=2):
    for i in range(iterations):
        median = lc["flux"].rolling(window, center=True, min_periods=1).median()
        residual = lc["flux"] - median
        scatter = 1.4826 * residual.abs().median()
        keep = residual.abs() < n_sigma * scatter
        print(f"iteration {i + 1}: {(~keep).sum()} points removed")
        lc = lc[keep]
    return lc.reset_index(drop=True)


lightcurve = pd.read_parquet("input/star.parquet").sort_values("time")
clip(lightcurve).to_parquet("data/clean_lightcurve.parquet")
