import json
import re
from collections import Counter

LEVELS = ["ERROR", "WARN"]
LONG_EXPOSURE = 600  # seconds
LINE = re.compile(r"^(?P<time>\S+) (?P<level>[A-Z]+) \[(?P<system>\w+)\] (?P<text>.*)$")
EXPOSURE = re.compile(r"exposure (?P<id>\w+) finished after (?P<seconds>[\d.]+) s")

counts = Counter()
long_exposures = []
with open("input/log.txt") as f:
    for line in f:
        match = LINE.match(line.strip())
        if not match:
            continue
        if match["level"] in LEVELS:
            counts[match["system"], match["level"]] += 1
        exposure = EXPOSURE.search(match["text"])
        if exposure and float(exposure["seconds"]) > LONG_EXPOSURE:
            long_exposures.append({"id": exposure["id"], "time": match["time"], "seconds": float(exposure["seconds"])})

with open("data/messages.csv", "w") as out:
    out.write("system,level,count\n")
    for (system, level), n in sorted(counts.items()):
        out.write(f"{system},{level},{n}\n")
with open("data/long_exposures.json", "w") as out:
    json.dump(long_exposures, out, indent=2)

print(f"{sum(counts.values())} messages of levels {', '.join(LEVELS)}")
print(f"{len(long_exposures)} exposures longer than {LONG_EXPOSURE} s")
