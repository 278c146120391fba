"""Numbers, times and texts in the form in which people read them.

Everything that goes into HTML passes through :func:`esc`: a text that a model wrote never
becomes markup.
"""

from __future__ import annotations

import html
import re
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def esc(value: Any) -> str:
    """Escape a value for HTML or SVG, and drop control characters.

    >>> esc("<b onclick='x'>&")
    '&lt;b onclick=&#x27;x&#x27;&gt;&amp;'
    """
    if value is None:
        return ""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return html.escape(_CONTROL.sub("", text), quote=True)


def cut(value: Any, length: int) -> str:
    """Shorten a text to one line of at most ``length`` characters.

    >>> cut("a long\\nline of words", 10)
    'a long li…'
    """
    text = " ".join(str("" if value is None else value).split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def seconds(value: float | None) -> str:
    """Give a duration.

    >>> [seconds(value) for value in (None, 0.04, 4.13, 42.4, 75, 3700)]
    ['', '0.0 s', '4.1 s', '42 s', '1 min 15 s', '1 h 01 min']
    """
    if value is None:
        return ""
    if value < 9.95:
        return f"{max(value, 0.0):.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(value: float | None) -> str:
    """Give an elapsed time as a clock shows it.

    >>> clock(42), clock(3725)
    ('00:42', '1:02:05')
    """
    whole = int(max(value or 0.0, 0.0))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def usd(value: float | None) -> str:
    """Give an amount of money; what is not known is not zero.

    >>> [usd(value) for value in (None, 0, 0.00042, 0.038, 1.5)]
    ['unknown', '$0', '$0.00042', '$0.038', '$1.50']
    """
    if value is None:
        return "unknown"
    if value == 0:
        return "$0"
    if value < 0.001:
        return f"${value:.2g}" if value >= 0.0001 else "<$0.0001"
    return f"${value:.3f}" if value < 0.1 else f"${value:,.2f}"


def count(value: int | None) -> str:
    """Give a large number, such as of tokens.

    >>> count(950), count(14210), count(2_100_000)
    ('950', '14.2 k', '2.1 M')
    """
    number = value or 0
    if number < 1000:
        return str(number)
    return f"{number / 1000:.1f} k" if number < 999_950 else f"{number / 1e6:.1f} M"


def plural(number: int | None, noun: str) -> str:
    """Give a number with its noun.

    >>> plural(1, "file"), plural(3, "file")
    ('1 file', '3 files')
    """
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def size(value: int | None) -> str:
    """Give the size of a file.

    >>> size(312), size(20480), size(5_300_000)
    ('312 B', '20.5 kB', '5.3 MB')
    """
    number = float(value or 0)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
