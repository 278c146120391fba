"""Holds what the comparisons of files and of displayed results share: tolerances, what is noted, numbers and texts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from cmbagent_nb.skills.verifying.moments import differ_in_moments, is_moment_number
from cmbagent_nb.skills.verifying.rounding import RTOL, close, rounded_lines

#: Levels of 255 by which a pixel may differ: rounding where a line is smoothed, never a line that moved.
PIXEL_LEVELS = 8

_VOLATILE = re.compile(
    r"^(time_?stamp|date_?time|created(_at|_on)?|generated(_at|_on)?|(started|ended|finished|run)_at|run_?date|elapsed(_\w+)?|"
    r"duration(_s|_seconds|_sec|_ms)?|(run|wall|cpu|compute|execution|processing)_?time(_s|_seconds|_sec|_ms)?|runtime(_s|_seconds|_sec|_ms)?|"
    r"(hostname|host|pid|platform|cwd|work_?dir))$",
    re.IGNORECASE,
)
#: A duration, a speed or a use of memory as code reports it: words before or after the number say so.
_MEASURED = re.compile(
    r"\b(?:took|elapsed|run ?time|wall(?: time)?|duration|(?:finished|completed|done|ran|trained|fitted|loaded) in|"
    r"cpu times?|total|user|sys|eta|speed|memory|rss|time)\b[^\n\d]{0,24}"
    r"(?P<a>\d+(?:\.\d+)?)\s?(?:ns|µs|μs|us|ms|s|sec|secs|seconds?|min|mins|minutes?|h|hours?|it/s|s/it|[kKMG]i?B)\b"
    r"|(?P<b>\d+(?:\.\d+)?)\s?(?:it/s|s/it|(?:ns|µs|μs|us|ms|s|min) (?:per loop|elapsed|± ))",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w])")


def is_volatile(name: str) -> bool:
    """Tell whether a name says that its value is a time of day or a duration measured, which differs each time.

    >>> is_volatile("elapsed_s"), is_volatile("chi2")
    (True, False)
    """
    return _VOLATILE.match(name) is not None


class Different(Exception):
    """Two results differ; the text says where."""


class NoComparison(Exception):
    """Two files differ in their bytes, and nothing here can tell whether their content does."""


@dataclass
class Look:
    """Notes what was found while two results are compared."""

    #: Where they were made: these paths may stand in texts.
    folders: tuple[str, ...] = ()
    #: Whether the code asks the clock, so that any date in a result may be the run's own.
    asks_clock: bool = False
    #: Whether every difference counts, as when the effect of a parameter is looked for.
    exact: bool = False
    largest: float = 0.0
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, folders: tuple[str, ...] = (), *, asks_clock: bool = False, exact: bool = False) -> Look:
        """Return one for results made in these folders, by the names given and by their real ones."""
        from pathlib import Path

        known = {*folders, *(str(Path(item).resolve()) for item in folders)}
        return cls(tuple(sorted(known, key=len, reverse=True)), asks_clock=asks_clock, exact=exact)

    def skip(self, what: str) -> None:
        """Note something that is not compared."""
        if what not in self.skipped:
            self.skipped.append(what)

    def text(self, value: str) -> str:
        """Return a text with the folders that it was made in taken out."""
        for folder in self.folders:
            value = value.replace(folder, "…")
        return value

    def number(self, where: str, old: float, new: float, allowed: float = 0.0) -> None:
        """Compare two numbers within the tolerance; one that is the present time is passed over.

        Parameters
        ----------
        allowed
            The difference that is rounding beside the other numbers of its column.
        """
        if old == new or (math.isnan(old) and math.isnan(new)):
            return
        size = max(abs(old), abs(new))
        off = abs(old - new)
        if math.isinf(size) or math.isnan(off) or off > RTOL * size + allowed:
            if not self.exact and is_moment_number(new) and 1e9 <= old <= new:
                self.skip(where)
                return
            raise Different(f"{where}: {old!r} became {new!r}")
        self.largest = max(self.largest, off / size if size else 0.0)

    def same_text(self, where: str, old: str, new: str) -> bool:
        """Tell whether two texts are the same but for folders, dates and made-up names."""
        old, new = self.text(old), self.text(new)
        if old == new:
            return True
        if not self.exact and differ_in_moments(old, new, asks_clock=self.asks_clock):
            self.skip(where)
            return True
        return False

    def same_line(self, where: str, old: str, new: str) -> bool:
        """Tell whether two lines of a report are the same but for what was measured: durations, speeds, memory."""
        if self.same_numbers(where, old, new):
            return True
        if self.exact or not _MEASURED.search(new):
            return False
        if self.same_numbers(where, _MEASURED.sub("…", old), _MEASURED.sub("…", new)):
            self.skip(where)
            return True
        return False

    def same_numbers(self, where: str, old: str, new: str) -> bool:
        """Tell whether two texts are the same where numbers are compared as numbers.

        A number that was printed with five digits or more may be rounded the other way in its last one.
        """
        if self.same_text(where, old, new):
            return True
        if self.exact:
            return False
        old, new = self.text(old), self.text(new)
        if _NUMBER.sub("0", old).split() != _NUMBER.sub("0", new).split():
            return False
        pairs = zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True)
        return all(first == second or close(first, second) for first, second in pairs)

    def rounded_lines(self, old: list[str], new: list[str]) -> set[int]:
        """Return the numbers of lines, the rows of tables in a text, that are the same but for rounding."""
        return set() if self.exact else rounded_lines(old, new)


def short(value: Any) -> str:
    """Return a value in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def some(names: Any) -> str:
    """Return the first five of some names."""
    return ", ".join(sorted(map(str, names))[:5])
