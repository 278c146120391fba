"""``python -m tests.benchmarks [NAME ...]``: a line of JSON for each figure, each benchmark in a process of its own."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys

#: Each benchmark with its home and whether it takes minutes; those run when they are named, or with ``--long``.
BENCHMARKS = {
    "record": ("recording:record", False),
    "burst": ("recording:burst", False),
    "kill": ("recording:kill", False),
    "barrier": ("durable:barrier", False),
    "checkpoint": ("durable:checkpoint", False),
    "frame": ("reading:frame", False),
    "many": ("reading:many", False),
    "million": ("reading:million", True),
    "messages": ("reading:messages", False),
    "messages_336000": ("reading:messages_336000", True),
    "disk": ("reading:disk", False),
    "turn": ("agents:turn", False),
    "demo": ("running:demo", True),
    "hundred": ("running:hundred", True),
    "skills_run": ("skills:skills_run", True),
    "skills_speed": ("skills:skills_speed", True),
    "skills_sweep": ("skills:skills_sweep", False),
    "skills_starter_sweep": ("skills:skills_starter_sweep", False),
    "start": ("starting:start", False),
    "matching": ("matching:quality", False),
    "matching_limits": ("matching:limits", False),
    "matching_speed": ("matching:speed", False),
    "matching_share": ("matching:share", False),
    "starter": ("sharing:installed", False),
    "sharing": ("sharing:travelled", True),
    "optimize": ("optimizing:optimized", True),
    "compose": ("optimizing:composed", True),
    "peers": ("peers:peers", False),
    "peers_reading": ("peers:reading", True),
}


def main() -> int:
    """Run the benchmarks that are named, or all that do not take minutes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--long", action="store_true", help="also those that take minutes")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not held")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    names = asked.names or [name for name, (_, long) in BENCHMARKS.items() if asked.long or not long]
    if asked.here:
        return max((_run(name) for name in names), default=0)
    missed = broken = 0
    for name in names:
        ended = subprocess.run([sys.executable, "-m", "tests.benchmarks", "--here", name], check=False)
        missed += ended.returncode == 3
        broken += ended.returncode not in {0, 3}
    return 1 if broken or (asked.strict and missed) else 0


def _run(name: str) -> int:
    """Run one benchmark in this process; 3 when a bar is not held."""
    module, _, function = BENCHMARKS[name][0].partition(":")
    held = True
    for figure in getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)():
        figure.more.setdefault("load", round(os.getloadavg()[0], 1))
        print(figure.line() if hasattr(figure, "line") else json.dumps(figure), flush=True)
        held = held and figure.passed is not False
    return 0 if held else 3


if __name__ == "__main__":
    sys.exit(main())
