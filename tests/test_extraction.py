"""Extraction over the evaluation set: a few cases in every run of the tests, all of them with ``make test-full``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.skills.model import Parameter
from tests.extraction.evaluate import BARS, report, run_cases, score
from tests.extraction.runs import HALVES, Case, Expected, cases

#: One of each: arrays, text, a table, a command line, a retry, several steps.
SAMPLE = (
    "coupled_oscillators",
    "instrument_log",
    "planets_by_method",
    "orbit_cli",
    "integral_retry",
    "clean_fit_report",
)


def check(found: dict[str, Any], note: str) -> None:
    for name, bar in BARS.items():
        assert found[name] >= bar, f"{note}: {name} {found[name]} < {bar}"


def test_a_few_cases(tmp_path: Path) -> None:
    """They are verified, and nearly all that a scientist would vary is found and shown to be alive."""
    outcomes = run_cases([case for case in cases() if case.name in SAMPLE], tmp_path)
    assert sorted(item.name for item in outcomes) == sorted(SAMPLE)
    found = report(outcomes)
    assert found["not_verified"] == {}
    check(found["all"], "the sample")


@pytest.mark.full
@pytest.mark.parametrize("half", HALVES)
def test_all_cases(half: str, tmp_path: Path) -> None:
    """The bars of the evaluation, on both halves."""
    chosen = cases(half)
    assert len(chosen) >= 20
    assert len({kind for case in chosen for kind in case.kinds}) >= 10
    found = report(run_cases(chosen, tmp_path))
    check(found["halves"][half], f"{half}, not verified: {found['not_verified']}")


def case(*listed: Expected, optional: tuple[Expected, ...] = ()) -> Case:
    return Case("made_up", Path(), "tune", (), listed, optional, ())


def found(name: str, value: Any, kind: Any = "value") -> Parameter:
    return Parameter(name, type(value).__name__, value, kind=kind)


def test_the_score_counts_each_entry_once() -> None:
    """By kind and value; by name where values are alike; what is optional counts neither way."""
    listed = case(
        Expected(("n",), 3),
        Expected(("m",), 3),
        Expected(("file",), "data/x.csv", "output", ("x.csv",)),
        Expected(("flag",), True),
        optional=(Expected(("dpi",), 100),),
    )
    result = score(
        listed,
        [
            found("m_value", 3),
            found("other", 3),
            found("x_file", "x.csv", "output"),
            found("dpi", 100),
            found("one", 1),
            found("again_file", "data/x.csv", "output"),
        ],
    )
    assert result.found == ["m_value=3", "x_file='x.csv'"]
    assert result.optional == ["dpi=100"]
    assert result.wrong == ["other=3", "one=1", "again_file='data/x.csv'"]
    assert result.missed == ["n=3", "flag=True"]
