"""Pairs the names of files whose dates, times or made-up parts differ from run to run.

A name that is there as expected is that name. Of the rest, two are a pair when they are equal but for such parts and
no other name of theirs is: ``map_2026-11-30.png`` with ``map_2026-12-01.png``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

_TIME = r"(?:[T_ .-]{0,2}(?:[01]\d|2[0-3])[-:_.h]?[0-5]\d(?:[-:_.m]?[0-5]\d)?(?:[.,_]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?)?"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
#: Parts that say by their form that they are made anew each time.
_MADE_UP = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
    rf"|(?<!\d)(?:19|20)\d{{2}}[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]){_TIME}(?!\d)"
    rf"|(?<!\d)(?:0?[1-9]|[12]\d|3[01])[-_.]?(?:{_MONTH}|0[1-9]|1[0-2])[-_.]?(?:19|20)\d{{2}}{_TIME}(?!\d)"
    rf"|{_MONTH}[-_.]?(?:0?[1-9]|[12]\d|3[01])[-_.,]{{0,2}}(?:19|20)\d{{2}}{_TIME}(?!\d)"
    r"|(?<!\d)1[5-9]\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?!\d)"
    r"|(?:tmp|temp)[a-z0-9_]{8}(?![a-z0-9])",
    re.IGNORECASE,
)
#: Parts that may be made anew, where the code is known to make such: any number, hexadecimal and random words.
_ANY = re.compile(
    r"(?<![a-z0-9])(?=[a-z0-9]*\d)[a-z0-9]{6,}(?![a-z0-9])|(?<![a-z0-9])[0-9a-f]{6,}(?![a-z0-9])|\d+", re.IGNORECASE
)


def pattern(name: str, *, varies: bool = False) -> str:
    """Return a name with its made-up parts as ``*``.

    >>> pattern("plots/tt_1796072695.png"), pattern("out_2026-11-30.json"), pattern("run_001.csv")
    ('plots/tt_*.png', 'out_*.json', 'run_001.csv')
    """
    found = _MADE_UP.sub("*", name)
    return _ANY.sub("*", found) if varies else found


def pair(expected: Iterable[str], made: Iterable[str], *, varies: bool = False) -> dict[str, str]:
    """Return for each expected name the one that was made in its place; those without one are not in it.

    Parameters
    ----------
    varies
        Whether the code makes names anew (by the clock, random numbers, process ids), so that any number may be one.
    """
    wanted, there = sorted(set(expected)), set(made)
    found = {name: name for name in wanted if name in there}
    rest = there - set(wanted)
    for loose in (False, True) if varies else (False,):
        open_, candidates = defaultdict(list), defaultdict(list)
        for name in wanted:
            if name not in found:
                open_[pattern(name, varies=loose)].append(name)
        for name in sorted(rest):
            candidates[pattern(name, varies=loose)].append(name)
        for key, names in open_.items():
            if "*" in key and len(candidates[key]) == len(names):
                found |= dict(zip(names, candidates[key], strict=True))
                rest -= set(candidates[key])
    return found
