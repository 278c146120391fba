import json

import pandas as pd
from scipy import stats


def report(name, statistic, p, level):
    verdict = "rejected" if p < level else "not rejected"
    print(f"{name:12s} statistic = {statistic:8.3f}  p = {p:.4f}  -> {verdict}")
    return {"statistic": float(statistic), "p": float(p), "rejected": bool(p < level)}


def main(age_min=18, age_max=75, level=0.05, yates=True, path="input/survey.parquet", out="data/survey_tests.json"):
    survey = pd.read_parquet(path)
    adults = survey[survey.age.between(age_min, age_max)]
    results = {"n": len(adults)}

    table = pd.crosstab(adults.smoker, adults.sex)
    chi2, p, dof, _ = stats.chi2_contingency(table, correction=yates)
    results["sex"] = report("smoking/sex", chi2, p, level) | {"dof": int(dof)}

    ks = stats.ks_2samp(adults.age[adults.smoker == "yes"], adults.age[adults.smoker == "no"], method="asymp")
    results["age"] = report("age", ks.statistic, ks.pvalue, level)

    r = stats.pearsonr(adults.age, adults.capacity)
    results["capacity"] = report("capacity", r.statistic, r.pvalue, level)

    table.to_csv("data/contingency.csv")
    with open(out, "w") as f:
        json.dump(results, f, indent=2)


if __name__ == "__main__":
    main()
