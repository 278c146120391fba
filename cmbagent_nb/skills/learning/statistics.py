"""The few statistics that learning stands on, without a package that has to be installed for them.

Two kinds, not to be mixed up:

| | valid when |
|---|---|
| :func:`fisher_exact`, :func:`mann_whitney` | the number of executions was fixed before; shown, never used to stop |
| :class:`Evidence` | looked at after every execution, for as long as one likes; it is what a trial stops by |

>>> round(fisher_exact(8, 2, 1, 5), 4)
0.035
>>> quantile([1.0, 2.0, 4.0], 0.5), quantile([], 0.9)
(2.0, None)
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

#: How strongly a rank is held to tell the arms apart, in log odds between the fastest and the middle.
_TILTS = (-3.0, -1.5, -0.75, 0.75, 1.5, 3.0)


def quantile(values: Sequence[float], part: float) -> float | None:
    """Return a quantile with linear interpolation, as numpy and pandas have it; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def fisher_exact(a: int, b: int, c: int, d: int) -> float:
    """Return the two-sided p-value of the table ``[[a, b], [c, d]]``."""
    row, column, whole = a + b, a + c, a + b + c + d

    def weight(x: int) -> float:
        return math.comb(row, x) * math.comb(whole - row, column - x) / math.comb(whole, column)

    if not whole:
        return 1.0
    seen = weight(a)
    possible = range(max(0, column - (whole - row)), min(row, column) + 1)
    return min(1.0, sum(each for each in map(weight, possible) if each <= seen * (1 + 1e-7)))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of the rank test, by its normal approximation with ties and continuity."""
    n, m = len(first), len(second)
    if not n or not m:
        return 1.0
    pooled = sorted([*first, *second])
    ranks = {value: (bisect_left(pooled, value) + bisect_right(pooled, value) + 1) / 2 for value in set(pooled)}
    statistic = sum(ranks[value] for value in first) - n * (n + 1) / 2
    whole = n + m
    ties = sum(count**3 - count for count in (bisect_right(pooled, v) - bisect_left(pooled, v) for v in ranks))
    variance = n * m / 12 * ((whole + 1) - ties / (whole * (whole - 1))) if whole > 1 else 0.0
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(statistic - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


@dataclass
class Evidence:
    """What the executions so far say about two versions, valid at every look.

    Each execution was given to B with a probability that is known (its share). If the versions do not
    differ, the outcome says nothing about which one it was, so a bet on that at fair odds gains
    nothing on average: by Ville's inequality the gain ever reaches ``1/α`` with a probability of at
    most α, whenever one looks and however the share changes. The bets use only what was seen before.
    """

    success: float = 0.0  #: log of the gain of betting by success
    time: float = 0.0  #: log of the gain of betting by rank of duration
    counts: dict[str, list[int]] = field(default_factory=lambda: {"A": [0, 0], "B": [0, 0]})
    _ranks: list[float] = field(default_factory=list)
    _time: list[float] = field(default_factory=lambda: [0.0] * len(_TILTS))

    def add(self, arm: str, share: float, success: bool, duration_s: float | None) -> None:
        """Take in one execution, in the order in which they ended."""
        rates = {name: (ok + 1) / (ok + bad + 2) for name, (ok, bad) in self.counts.items()}
        likely_b, likely_a = (rates["B"], rates["A"]) if success else (1 - rates["B"], 1 - rates["A"])
        self.success += _gain(arm, share, math.log(likely_b / likely_a))
        self.counts[arm][0 if success else 1] += 1
        if success and duration_s is not None:
            self._rank(arm, share, duration_s)

    def _rank(self, arm: str, share: float, duration_s: float) -> None:
        known = self._ranks
        if known:
            middle = (bisect_left(known, duration_s) + bisect_right(known, duration_s)) / 2
            rank = (middle + 0.5) / (len(known) + 1)
            for place, tilt in enumerate(_TILTS):
                self._time[place] += _gain(arm, share, tilt * (0.5 - rank) * 2)
            self.time = _mean_of_logs(self._time)
        insort(known, duration_s)

    @property
    def faster(self) -> str:
        """The version that the durations speak for."""
        half = len(_TILTS) // 2
        return "B" if _mean_of_logs(self._time[half:]) >= _mean_of_logs(self._time[:half]) else "A"

    @property
    def surer(self) -> str:
        """The version that succeeded more often."""
        rates = {name: (ok + 1) / (ok + bad + 2) for name, (ok, bad) in self.counts.items()}
        return "B" if rates["B"] >= rates["A"] else "A"


def _gain(arm: str, share: float, tilt: float) -> float:
    """Return the log of what a bet gains that holds B's odds to be ``e^tilt`` times what the split makes them."""
    bet = 1 / (1 + (1 - share) / share * math.exp(-tilt))
    return math.log(bet / share) if arm == "B" else math.log((1 - bet) / (1 - share))


def _mean_of_logs(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values) / len(values))
