"""Waits for the rate limit of a model's server, for all calls of the process together.

| what the server says | how long is waited |
|---|---|
| ``Retry-After``, ``retry-after-ms`` | that long |
| "try again in 1m20s", "retry in 15.5 s", ``"retryDelay": "17s"`` in the answer | that long, and half a second more |
| ``x-ratelimit-reset-*``, ``anthropic-ratelimit-*-reset`` of a limit that is used up | until then |
| nothing | 2 s, then twice as long each time, up to the usual window of a minute |

One call that meets the limit holds back all others to the same server and model; they go on one after the other.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakKeyDictionary

#: Seconds of the first wait for a limit of which the server says nothing, and of the longest: the usual window.
FIRST_WAIT = 2.0
LONGEST_WAIT = 60.0
#: Seconds after which a call that meets the limit again and again fails.
PATIENCE = 240.0
#: The part of a wait by which calls that were held back together are spread.
SPREAD = 0.25

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"(?:(?:try|retry|retrying|request|again)\s+(?:again\s+)?(?:in|after)|retry[- _]?(?:after|delay|in)[\"']?\s*[:=]?"
    r"|wait(?:\s+for)?|resets?\s+(?:in|after)|available\s+in)"
    r"\s*(?:about|approximately|around|at least|another)?\s*[\"']?"
    r"(?P<time>\d[\d.]*\s*[a-z]*(?:\s*\d[\d.]*\s*[a-z]+)*)",
    re.IGNORECASE,
)


def asked_wait(headers: Mapping[str, Any], text: str) -> float | None:
    """Return the seconds that a server asks to wait, in its headers or in the text of its answer; None if it does not.

    >>> asked_wait({"retry-after": "1.5"}, ""), asked_wait({}, "Limit reached. Please try again in 1m20.5s.")
    (1.5, 81.0)
    >>> asked_wait({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, "")
    360.0
    """
    wait = retry_after(headers)
    if wait is None:
        wait = _in_text(text)
    return _until_reset(headers) if wait is None else wait


def retry_after(headers: Mapping[str, Any]) -> float | None:
    """Return the seconds in the ``Retry-After`` header, or None.

    >>> retry_after({"retry-after": "1.5"}), retry_after({"retry-after-ms": "20"}), retry_after({})
    (1.5, 0.02, None)
    >>> retry_after({"retry-after": "nan"}) is None
    True
    """
    milliseconds = headers.get("retry-after-ms")
    value = headers.get("retry-after")
    try:
        if milliseconds:
            return _wait(float(milliseconds) / 1000)
        if not value:
            return None
        return _wait(float(value))
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(str(value)).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return _seconds(str(value))


def _wait(seconds: float) -> float | None:
    """Return a time to wait; "nan" is none, and a timer for it would never end."""
    return None if math.isnan(seconds) else max(seconds, 0.0)


def _in_text(text: str) -> float | None:
    for match in _ASKED.finditer(text):
        seconds = _seconds(match["time"])
        if seconds is None and re.fullmatch(r"\d+(?:\.\d+)?\s*", match["time"]):
            seconds = float(match["time"])  # a number alone is seconds
        if seconds is not None:
            return seconds + 0.5  # what is written is rounded
    return None


def _seconds(text: str) -> float | None:
    """Read a duration such as "1m20s", "450ms" or "2 minutes".

    >>> _seconds("1h 2m 3.5s"), _seconds("450ms"), _seconds("two")
    (3723.5, 0.45, None)
    """
    found = [(float(match["number"]), match["unit"].lower()) for match in _DURATION.finditer(text)]
    if not found:
        return None
    return sum(number * _UNITS["ms" if unit.startswith(("ms", "mil")) else unit[0]] for number, unit in found)


def _until_reset(headers: Mapping[str, Any]) -> float | None:
    """Return the time at which exhausted limits are reset, from the response headers."""
    waits = []
    for name, value in ((str(name).lower(), value) for name, value in headers.items()):
        if "ratelimit" not in name or "reset" not in name:
            continue
        left = headers.get(name.replace("reset", "remaining"))
        if left is not None and not re.fullmatch(r"0(\.0+)?", str(left).strip()):
            continue
        wait = _seconds(str(value))
        if wait is None:
            try:
                wait = datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp() - time.time()
            except ValueError:
                continue
        waits.append(max(wait, 0.0))
    return max(waits, default=None)


class RateLimit:
    """The limit of one server and model, shared by all calls of an event loop."""

    def __init__(self) -> None:
        self._until = 0.0
        self._met = 0

    def met(self, asked: float | None) -> float:
        """Hold all calls back after one that met the limit; returns the seconds until they go on."""
        if self.wait <= 0:  # calls that were under way together meet it as one
            self._met += 1
        wait = asked if asked is not None else min(FIRST_WAIT * 2 ** (self._met - 1), LONGEST_WAIT)
        self._until = max(self._until, time.monotonic() + wait)
        return self._until - time.monotonic()

    def passed(self) -> None:
        """Note that a call was answered: the limit is over."""
        self._met = 0

    @property
    def wait(self) -> float:
        """The seconds until calls may go on; 0 when they may now."""
        return max(0.0, self._until - time.monotonic())

    async def open(self) -> None:
        """Wait until calls may go on, each a little apart from the others."""
        for wait in iter(lambda: self.wait, 0.0):  # others may move the end while one waits
            await asyncio.sleep(wait + random.uniform(0, SPREAD * wait))  # noqa: S311 - no secret


_limits: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], RateLimit]] = WeakKeyDictionary()


def rate_limit(server: str, model: str) -> RateLimit:
    """Return the limit that calls of a model at a server share on the running loop."""
    return _limits.setdefault(asyncio.get_running_loop(), {}).setdefault((server, model), RateLimit())
