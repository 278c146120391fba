"""Numbers, times and texts in the form in which people read them.

Everything that goes into HTML passes through :func:`esc`, and what a terminal prints through :func:`visible`: a text
that a model wrote never becomes markup, and no character of it is invisible or changes the order of the others.
"""

from __future__ import annotations

import html
import re
from typing import Any

#: Characters that nobody sees, or that change how others are shown: controls but the tabulator and the end of a line,
#: format characters (bidirectional marks, zero-width ones, tags), fillers, separators, surrogates, private use.
_INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U0010ffff"
)
#: The selectors that give a symbol its colours are shown where they follow none.
_SELECTOR = "(?<![\u00a9\u00ae\u203c-\u3299#*0-9\U0001f000-\U0001faff])[\ufe0e\ufe0f]|[\ufe00-\ufe0d]"
_HIDDEN = re.compile(f"[{_INVISIBLE}]|{_SELECTOR}")
#: Blanks of another width than the usual one: they matter in code, and are good typography elsewhere.
_BLANK = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_WORD = re.compile(r"\w*[a-zA-Z]\w*")
#: Letters of other alphabets that look like Latin ones; in a word with Latin letters they are a disguise.
_LOOKALIKE = re.compile(
    "[\u0370-\u037f\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf"
    "\u03f2\u03f3\u0400-\u058f]"
)


def visible(value: Any, *, code: bool = False) -> str:
    """Return a text in which each invisible or misleading character stands as its number.

    Ends of lines become ``\\n``. With ``code``, unusual blanks and letters that pass for Latin ones are shown, too.

    >>> visible("a\u202eb\x1b[2J"), visible("s\u0443s.exit()\u00a0#", code=True)
    ('a⟨U+202E⟩b⟨U+001B⟩[2J', 's⟨U+0443⟩s.exit()⟨U+00A0⟩#')
    """
    text = str("" if value is None else value).replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    text = _HIDDEN.sub(_number, text)
    if code:
        text = _BLANK.sub(_number, _WORD.sub(lambda word: _LOOKALIKE.sub(_number, word[0]), text))
    return text


def _number(found: re.Match[str]) -> str:
    return f"⟨U+{ord(found[0]):04X}⟩"


def esc(value: Any, *, code: bool = False) -> str:
    """Escape a value for HTML or SVG, and make invisible characters visible.

    >>> esc("<b onclick='x'>&\u200b")
    '&lt;b onclick=&#x27;x&#x27;&gt;&amp;⟨U+200B⟩'
    """
    return html.escape(visible(value, code=code), quote=True)


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
