"""Measures skill extraction on the evaluation set: ``python -m tests.extraction.evaluate --half tune|heldout``.

Each case is recorded as a run, a skill is made of it without a model, and what came of it is held against the case's
list. A found parameter and a listed one are the same when their kind and value are; where a value stands for more than
one entry of the list, the name decides. What is listed as optional counts neither way.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.run import Run
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.workspace import Workspace
from tests.extraction.runs import HALVES, Case, Expected, cases, record

#: The bars of the evaluation: share verified, precision, recall.
BARS = {"verified": 0.95, "precision": 0.9, "recall": 0.8}


@dataclass(frozen=True)
class Score:
    """What was found of a case's list."""

    found: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What came of one case."""

    name: str
    half: str
    kinds: tuple[str, ...]
    verified: bool
    reason: str
    score: Score
    seconds: float
    liveness: dict[str, Any] = field(default_factory=dict)


def score(case: Case, parameters: Iterable[Parameter]) -> Score:
    """Hold the parameters of a skill against a case's list."""
    result = Score()
    listed = [*case.parameters, *case.optional]
    left = list(listed)
    for item in parameters:
        match = _match(item, left, listed)
        text = f"{item.name}={item.default!r}"
        if match is None:
            result.wrong.append(text)
            continue
        left.remove(match)
        (result.found if match in case.parameters else result.optional).append(text)
    result.missed.extend(f"{item.names[0] if item.names else '?'}={item.value!r}" for item in left
                         if item in case.parameters)  # fmt: skip
    return result


def _match(item: Parameter, left: list[Expected], listed: list[Expected]) -> Expected | None:
    same = [entry for entry in left if _same(item, entry)]
    if not same:
        return None
    # A name that means something else in the code gets an ending.
    name = re.sub(r"_(value|step_\d+|\d+)$", "", item.name.casefold())
    named = [entry for entry in same if {name, item.name.casefold()} & {known.casefold() for known in entry.names}]
    if named:
        return named[0]
    alone = sum(_same(item, entry) for entry in listed) == 1
    return same[0] if alone or item.kind != "value" else None


def _same(item: Parameter, entry: Expected) -> bool:
    return item.kind == entry.kind and any(_equal(item.default, value) for value in entry.values)


def _equal(value: Any, other: Any) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_equal, value, other))
    return bool(value == other)


def evaluate(case: Case, run: Run) -> Outcome:
    """Make a skill of a recorded case and score it."""
    started = time.monotonic()
    if run.status != "completed":
        return Outcome(case.name, case.half, case.kinds, False, f"the run is {run.status}: {run.error}", Score(), 0.0)
    try:
        skill = run.extract_skill(case.name)
    except CMBAgentError as error:
        return Outcome(case.name, case.half, case.kinds, False, str(error), score(case, []), 0.0)
    return Outcome(
        case.name,
        case.half,
        case.kinds,
        skill.status == "active",
        skill.info.verification.get("reason", ""),
        score(case, skill.parameters),
        time.monotonic() - started,
        skill.info.verification.get("liveness") or {},
    )


def figures(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the share verified, precision and recall over some cases."""
    found = sum(len(item.score.found) for item in outcomes)
    wrong = sum(len(item.score.wrong) for item in outcomes)
    missed = sum(len(item.score.missed) for item in outcomes)
    return {
        "cases": len(outcomes),
        "verified": round(sum(item.verified for item in outcomes) / len(outcomes), 4) if outcomes else None,
        "precision": round(found / (found + wrong), 4) if found + wrong else None,
        "recall": round(found / (found + missed), 4) if found + missed else None,
        "found": found,
        "wrong": wrong,
        "missed": missed,
        "optional": sum(len(item.score.optional) for item in outcomes),
        "dropped": sum(len(item.liveness.get("dropped", ())) for item in outcomes),
        "unproven": sum(len(item.liveness.get("unproven", ())) for item in outcomes),
        "seconds": round(sum(item.seconds for item in outcomes), 1),
    }


def run_cases(chosen: list[Case], home: Path, say: Any = None) -> list[Outcome]:
    """Record the cases in a workspace (those that are there already are taken as they are) and evaluate them."""
    ws, outcomes = Workspace(home), []
    try:
        there = dict(ws.runs()[["name", "status"]].itertuples(index=False))
        for case in chosen:
            run = ws.run(case.name) if there.get(case.name) == "completed" else record(ws, case)
            outcome = evaluate(case, run)
            outcomes.append(outcome)
            if say is not None:
                say(outcome)
    finally:
        ws.close()
    return outcomes


def report(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the figures of all, of each half and of each kind, and what fell short."""
    kinds = sorted({kind for item in outcomes for kind in item.kinds})
    return {
        "all": figures(outcomes),
        "halves": {half: figures([item for item in outcomes if item.half == half]) for half in HALVES},
        "kinds": {kind: figures([item for item in outcomes if kind in item.kinds]) for kind in kinds},
        "not_verified": {item.name: item.reason for item in outcomes if not item.verified},
    }


def _tell(outcome: Outcome) -> None:
    points = outcome.score
    mark = "verified" if outcome.verified else f"NOT VERIFIED ({outcome.reason})"
    print(f"{outcome.name}: {mark}, {outcome.seconds:.1f} s", file=sys.stderr, flush=True)
    for label in ("missed", "wrong"):
        for item in getattr(points, label):
            print(f"    {label}: {item}", file=sys.stderr)
    for label in ("dropped", "unproven"):
        for name, why in outcome.liveness.get(label, {}).items():
            print(f"    {label}: {name}: {why}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a half and print its figures as JSON; the status is 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=HALVES, help="tune or heldout; both when not given")
    parser.add_argument(
        "--home", type=Path, help="a workspace to keep the recorded runs in; a temporary one by default"
    )
    parser.add_argument("--quiet", action="store_true", help="only the figures, not what was missed in which case")
    parser.add_argument("names", nargs="*", help="only these cases")
    options = parser.parse_args(arguments)
    chosen = [case for case in cases(options.half) if not options.names or case.name in options.names]
    say = None if options.quiet else _tell
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = run_cases(chosen, options.home or Path(scratch), say)
    result = report(outcomes)
    print(json.dumps(result, indent=1, ensure_ascii=False))
    halves = [item for item in result["halves"].values() if item["cases"]]
    return int(any((item[name] or 0) < bar for item in halves for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
