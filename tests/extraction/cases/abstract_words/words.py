import csv
import json
import re
from collections import Counter
from pathlib import Path

STOPWORDS = {"with", "from", "that", "this", "have", "which", "than", "were"}


def tokenize(text, min_length):
    for word in re.findall(r"[a-z]+", text.lower()):
        if len(word) >= min_length and word not in STOPWORDS:
            yield word


def analyse(path, top=15, min_length=4, split_year=2015, unit="sigma"):
    before, after, quoted = Counter(), Counter(), []
    number = re.compile(rf"(\d+(?:\.\d+)?)\s*{re.escape(unit)}")
    for line in path.read_text(encoding="utf-8").splitlines():
        year, _, text = line.partition("\t")
        (before if int(year) < split_year else after).update(tokenize(text, min_length))
        quoted.extend({"year": int(year), "value": float(v)} for v in number.findall(text))
    total = before + after
    ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))[:top]
    n_before, n_after = sum(before.values()), sum(after.values())
    rows = [(w, n, before[w] / n_before, after[w] / n_after) for w, n in ranked]
    return rows, quoted


rows, quoted = analyse(Path("input/abstracts.txt"))
with open("data/words.csv", "w", newline="") as f:
    writer = csv.writer(f)
    writer.writerow(["word", "count", "share_before", "share_after"])
    for word, n, b, a in rows:
        writer.writerow([word, n, f"{b:.5f}", f"{a:.5f}"])
Path("data/significances.json").write_text(json.dumps(quoted, indent=1))
print("most frequent:", ", ".join(w for w, *_ in rows[:5]))
