from pathlib import Path
import pandas as pd

INPUT = Path("input")
OUTPUT = Path("data")


def species_richness(observations: pd.DataFrame, min_abundance: int = 2, accepted=("high", "medium")) -> pd.Series:
    good = observations.query("abundance >= @min_abundance and confidence in @accepted")
    return good.groupby("site_id")["species"].nunique().rename("richness")


def join_sites(sites: pd.DataFrame, richness: pd.Series, how: str = "left") -> pd.DataFrame:
    joined = sites.merge(richness, left_on="site_id", right_index=True, how=how)
    return joined.assign(richness=joined["richness"].fillna(0).astype(int))


def main(correlation: str = "spearman"):
    observations = pd.read_parquet(INPUT / "observations.parquet")
    sites = pd.read_parquet(INPUT / "sites.parquet")
    table = join_sites(sites, species_richness(observations))
    table.sort_values("richness", ascending=False).to_csv(OUTPUT / "richness.csv", index=False)
    r = table["richness"].corr(table["elevation"], method=correlation)
    (OUTPUT / "correlation.txt").write_text(f"{correlation} correlation of richness and elevation: {r:.4f} (n = {len(table)})\n")
    print(f"r = {r:.3f}")


main()
