"""Tells dates, times of day and made-up names in texts: by them alone, two runs of the same code may differ.

Two texts are the same but for these when all else is equal, and where they differ in a date, both are of one form and
the later one is the time of the comparison, or the code is known to ask the clock.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY_NAME = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s?[AaPp][Mm])?"
_ZONE = r"(?:\s?(?:Z|UTC|GMT|[A-Z]{3,4}|[+-]\d{2}:?\d{2}))?"
#: Each kind of moment, in the order in which they are tried.
_KINDS = {
    "uuid": r"(?<![0-9A-Fa-f])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"(?![0-9A-Fa-f])",
    "address": r"\b0x[0-9a-fA-F]{6,16}\b",
    "iso": rf"(?<!\d)(?:19|20)\d{{2}}-\d{{2}}-\d{{2}}"
    rf"(?:[T _-]+{_CLOCK}|[T_-]\d{{2}}-?\d{{2}}-?\d{{2}}(?!\d))?{_ZONE}(?!\d)",
    "slashed": rf"(?<!\d)(?:(?:19|20)\d{{2}}/\d{{2}}/\d{{2}}|\d{{1,2}}/\d{{1,2}}/(?:19|20)\d{{2}})"
    rf"(?:,?\s+{_CLOCK})?(?!\d)",
    "dotted": rf"(?<![\d.])\d{{1,2}}\.\d{{1,2}}\.(?:19|20)\d{{2}}(?:,?\s+{_CLOCK})?(?![\d.])",
    "named": rf"\b(?:{_DAY_NAME},?\s+)?(?:{_MONTH}\s+\d{{1,2}},?|\d{{1,2}}[ -]{_MONTH},?)"
    rf"(?:\s+{_CLOCK}{_ZONE})?[ -]+(?:19|20)\d{{2}}(?:,?\s+{_CLOCK})?{_ZONE}(?!\d)",
    "compact": r"(?<!\d)(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[T_-]?\d{4}(?:\d{2})?)?Z?(?!\d)",
    "epoch": r"(?<![\d.])1[5-9]\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?!\d)",
    "clock": rf"(?<![\d:.]){_CLOCK}(?![\d:])",
}
_MOMENT = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _KINDS.items()))
#: How far a date may be from now: two days hold every time zone.
_NEAR_S = 2 * 86_400.0
#: How far a time of day without a date may be from now.
_NEAR_CLOCK_S = 20 * 60.0
_DAY_S = 86_400.0
_FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y%m%d")


@dataclass(frozen=True)
class Moment:
    """A date, a time or a made-up name as it stands in a text."""

    kind: str
    text: str

    @property
    def form(self) -> str:
        """The form that it is written in: its digits and letters do not count."""
        shape = re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "0", self.text))
        return f"{self.kind}:{shape}" if self.kind not in ("uuid", "address") else self.kind


def split(text: str) -> tuple[list[str], list[Moment]]:
    """Return the pieces between the moments of a text, and the moments.

    >>> split("made on 2026-11-30 by x")
    (['made on ', ' by x'], [Moment(kind='iso', text='2026-11-30')])
    """
    pieces, moments, last = [], [], 0
    for found in _MOMENT.finditer(text):
        pieces.append(text[last : found.start()])
        moments.append(Moment(str(found.lastgroup), found.group()))
        last = found.end()
    return [*pieces, text[last:]], moments


def differ_in_moments(old: str, new: str, *, asks_clock: bool = False) -> bool:
    """Tell whether two texts are the same but for dates, times and made-up names.

    Parameters
    ----------
    asks_clock
        Whether the code asks the clock: then a date counts as one of the run, however far from now it is.
    """
    if not _MOMENT.search(new):
        return False
    (pieces, before), (others, now) = split(old), split(new)
    if pieces != others or len(before) != len(now):
        return False
    if not all(
        first.text == second.text or (first.form == second.form and (asks_clock or is_now(second)))
        for first, second in zip(before, now, strict=True)
    ):
        return False
    return old != new


def is_now(moment: Moment) -> bool:
    """Tell whether a moment is about the present one; a made-up name always is."""
    if moment.kind in ("uuid", "address"):
        return True
    seconds = seconds_of(moment)
    if seconds is None:
        return False
    if moment.kind == "clock":
        here = datetime.now()
        for now in (here, datetime.now(UTC)):
            off = abs(seconds - (now.hour * 3600 + now.minute * 60 + now.second)) % _DAY_S
            if min(off, _DAY_S - off) <= _NEAR_CLOCK_S:
                return True
        return False
    return abs(seconds - time.time()) <= _NEAR_S


def is_moment_number(value: float) -> bool:
    """Tell whether a number is the present time, in seconds or milliseconds since 1970."""
    return any(abs(value / scale - time.time()) <= _NEAR_S for scale in (1.0, 1e3, 1e6, 1e9))


def seconds_of(moment: Moment) -> float | None:
    """Return a moment in seconds since 1970 (to the day where it has a date), a time of day in seconds."""
    text = moment.text
    if moment.kind == "epoch":
        whole = text.partition(".")[0]
        return float(text) / 10.0 ** (len(whole) - 10)
    if moment.kind == "clock":
        numbers = [int(item) for item in re.findall(r"\d+", text)[:3]]
        hours = numbers[0] % 12 + 12 if text[-2:].casefold() == "pm" else numbers[0]
        return float(hours * 3600 + numbers[1] * 60 + (numbers[2] if len(numbers) > 2 else 0))
    for candidate in _dates(moment):
        for form in (*_FORMS, "%d %b %Y", "%b %d %Y"):
            try:
                return datetime.strptime(candidate, form).replace(tzinfo=UTC).timestamp() + _DAY_S / 2
            except ValueError:
                continue
    return None


def _dates(moment: Moment) -> list[str]:
    """Return the part of a moment that is its date, as :data:`_FORMS` write it."""
    text = moment.text
    if moment.kind == "named":
        month = re.search(_MONTH, text)
        year = re.search(r"(?:19|20)\d{2}", text)
        rest = re.sub(_CLOCK, " ", text.replace(year.group(), " ") if year else text)
        day = re.search(r"\d{1,2}", rest)
        return [f"{day.group()} {month.group()[:3]} {year.group()}"] if day and month and year else []
    if moment.kind == "compact":
        return [text[:8]]
    return [text[:10], re.split(r"[\sT,_]", text)[0]]
