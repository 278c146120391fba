import json

import numpy as np
import pandas as pd


def main():
    min_snr = 10
    max_distance = 100.0  # pc

    phot = pd.read_parquet("input/phot.parquet")
    astro = pd.read_parquet("input/astro.parquet")
    stars = phot.merge(astro, on="source_id", how="inner", validate="one_to_one")

    stars = stars[stars["parallax"] / stars["parallax_error"] > min_snr].copy()
    stars["distance"] = 1000.0 / stars["parallax"]  # mas -> pc
    stars["abs_g"] = stars["g_mag"] - 5 * np.log10(stars["distance"]) + 5
    stars.to_csv("data/absolute_magnitudes.csv", index=False)

    near = stars[stars["distance"] <= max_distance]
    counts = {
        "matched": int(len(stars)),
        "within_limit": int(len(near)),
        "brightest": None if near.empty else float(near["abs_g"].min()),
    }
    with open("data/counts.json", "w") as f:
        json.dump(counts, f, indent=2)
    print(counts)


if __name__ == "__main__":
    main()
