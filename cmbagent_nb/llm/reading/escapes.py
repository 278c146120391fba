r"""Decodes the strings of a reply, and takes a single backslash for what the model meant by it.

A model that writes LaTeX, a regular expression or a Windows path into JSON has to double every backslash, and often
forgets to. ``\alpha`` is then no JSON; ``\theta``, ``\frac`` and ``\nu`` are, and a parser makes control characters
of them. What a field holds decides:

==========  ======================================================================================================
``PLAIN``   keys, and objects of no known form: only what no JSON allows is a forgotten backslash
``TEXT``    Markdown: line breaks and tabs are meant, but not before the rest of a LaTeX command, in a path, in a
            pattern or in a code span; backspaces and form feeds are not meant
``PYTHON``  a script: line breaks and tabs are meant, but not within a string literal of one line, where the
            script itself has to have the escape
==========  ======================================================================================================

What is doubled is left as it is.

>>> decode(r"Slope $\frac{a}{b}$, $\theta_0$, $\nu$\nand \\alpha", TEXT)
'Slope $\\frac{a}{b}$, $\\theta_0$, $\\nu$\nand \\alpha'
>>> decode(r"import re\nre.split('\s\n', x)", PYTHON)
"import re\nre.split('\\s\\n', x)"
"""

from __future__ import annotations

from cmbagent_nb.llm.reading.escaped_script import decode_script
from cmbagent_nb.llm.reading.prose import decode_prose
from cmbagent_nb.llm.reading.tokens import plain, tokens

PLAIN, TEXT, PYTHON = "plain", "text", "python"


def decode(raw: str, kind: str, quote: str = '"') -> str:
    """Return the text of a string that stood in ``quote``, of the kind that its field holds."""
    if "\\" not in raw and "\b" not in raw and "\f" not in raw:
        return whole(raw)
    if kind == PYTHON:
        return whole(decode_script(raw, quote))
    if kind == TEXT:
        return whole(decode_prose(raw, quote))
    return whole("".join(plain(token.text, quote) for token in tokens(raw)))


def whole(text: str) -> str:
    """Join surrogates that belong together, and put U+FFFD for those that are alone.

    >>> whole("\\ud83d\\ude00 \\ud83d")
    '😀 �'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
