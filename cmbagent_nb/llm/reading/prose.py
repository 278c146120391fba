r"""Decodes Markdown that stood in a JSON string whose backslashes may not be doubled.

==================================  ==========================================================================
a LaTeX command that leaves a rest  is a command: no line begins with "heta"
that no line begins with
one whose rest may be a word        is a command within a formula, unless the line break stands where a
                                    formula set apart has one; outside, after a single blank
a path of Windows, a code span,     has backslashes
a regular expression
a fence with Python                 is read as a script
a backspace, a form feed            is a backslash, unless it stands alone
==================================  ==========================================================================
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import pairwise

from cmbagent_nb.llm.reading.escaped_script import decode_script
from cmbagent_nb.llm.reading.latex import CERTAIN, OTHERS, POSSIBLE, WORDS, mathematics
from cmbagent_nb.llm.reading.tokens import CONTROLS, Token, plain, tokens

_LETTERS = re.compile("[A-Za-z]*")
_BEFORE_PATTERN = re.compile(r"\\[dDwWsS](?:[+*?]|\{\d+(?:,\d*)?\})?\??\Z|\[\^\Z")
_AFTER_PATTERN = re.compile(r"(?:[+*?]\??|\{\d+(?:,\d*)?\})?\\[dDwWsS](?![A-Za-z])")
_CLASS_BEFORE = re.compile(r"\[\^?[^\]\[\s]{0,12} ?\Z")
_CLASS_AFTER = re.compile(r"[^\]\[\s]{0,12}\][+*{?]")
#: The letter of a drive is no end of a word, nor of a character that is written by its number.
_PATH = re.compile(
    r"(?<![^\W\d_])(?<!\\u[0-9a-fA-F]{3})(?<!\\u[0-9a-fA-F]{4})"
    r"[A-Za-z]:(?:\\(?![\\\"/])[^\\\s\"'`<>|*?:,;]*)+"
)
_CERTAIN_PATH = re.compile(r"\\[^nrt]|\A[CDcd]:.*\.\w{1,5}\Z", re.DOTALL)
_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*(?:\\r\\n|\\n|\r?\n)(.*?)(?:\\n|\n)[ \t]*```", re.DOTALL)
_SINGLE_TICK = re.compile("(?<!`)`(?!`)")
#: Characters of a code span whose backslashes are looked at.
_LONGEST_SPAN = 80
_PYTHON_NAMES = frozenset({"", "python", "py", "python3", "ipython", "pycon"})
_ENVIRONMENT = re.compile(r"(?:begin|end)\{\w+\*?\}(?:\{[^}]*\})?\Z")

Spans = list[tuple[int, int]]


def decode_prose(raw: str, quote: str = '"') -> str:
    """Return the Markdown of a raw string."""
    fences = [match.span(2) for match in _FENCE.finditer(raw) if match[1].lower() in _PYTHON_NAMES]
    prose = _Prose(raw, quote, fences)
    out: list[str] = []
    position = 0
    for start, end in fences:
        prose.decode(position, start, out)
        out.append(decode_script(raw[start:end], quote))
        position = end
    prose.decode(position, len(raw), out)
    return "".join(out)


class _Prose:
    def __init__(self, raw: str, quote: str, fences: Spans) -> None:
        self.raw = raw
        self.quote = quote
        outside, position = [], 0
        for start, end in fences:
            outside.append((position, start))
            position = end
        self.outside = [*outside, (position, len(raw))]
        self.spans = self._code_spans()
        self.paths = [match.span() for match in _PATH.finditer(raw) if _CERTAIN_PATH.search(match[0])]
        formulas = list(mathematics(raw))
        self.displays = sorted((start, end) for start, end, apart in formulas if apart)
        self.inlines = sorted((start, end) for start, end, apart in formulas if not apart)
        found = [list(tokens(raw, *part)) for part in self.outside]
        self.single = any(
            token.forgotten or (token.control in ("b", "f") and bool(self._letters(token.end)))
            for part in found
            for token in part
        )
        self.doubled = any(
            token.text == "\\\\" and after.text[:1].isalpha() for part in found for token, after in pairwise(part)
        )

    def decode(self, start: int, end: int, out: list[str]) -> None:
        """Add the text of a part of the string to ``out``."""
        for token in tokens(self.raw, start, end):
            mark = token.control
            if mark:
                before = out[-1][-1:] if out else ""
                out.append(f"\\{mark}" if self._is_backslash(mark, token, before) else CONTROLS[mark])
            elif token.text == "\\\\" and self._is_row_break(token.end):
                out.append(token.text)
            else:
                out.append(plain(token.text, self.quote))

    def _code_spans(self) -> Spans:
        spans: Spans = []
        for start, end in self.outside:
            ticks = [match.start() for match in _SINGLE_TICK.finditer(self.raw, start, end)]
            if len(ticks) % 2 == 0:  # in pairs: else what is between two spans would be taken for one
                spans += [
                    (opening + 1, closing)
                    for opening, closing in zip(ticks[::2], ticks[1::2], strict=True)
                    if closing - opening <= _LONGEST_SPAN + 1 and "\n" not in self.raw[opening:closing]
                ]
        return spans

    def _letters(self, end: int) -> str:
        match = _LETTERS.match(self.raw, end)
        return match[0] if match else ""

    def _is_backslash(self, mark: str, token: Token, before: str) -> bool:
        """Tell whether a backslash and a letter are meant where a control character is written."""
        letters, raw, end = self._letters(token.end), self.raw, token.end
        if _around(self.paths, token.start) or _around(self.spans, token.start):
            return True
        proper = self.doubled and not self.single
        if mark in "bf":
            after = raw[end : end + 2]
            seen = after[:1] not in ("", " ", "\n") and after not in ("\\n", "\\r", "\\t")
            return bool(letters) or seen or (before not in ("", " ", "\n", "\r", "\t"))
        if mark == "r" and raw.startswith(("\\n", "\n"), end):
            return self._is_pattern(token)
        name = mark + letters
        if name in CERTAIN or name in OTHERS:
            return True
        if mark == "r":
            return bool(letters) and not proper
        if name in POSSIBLE and not proper:
            return self._is_command(name, token.start, before)
        if mark == "t" and letters and not proper and _around(self.inlines, token.start):
            return True
        return self._is_pattern(token)

    def _is_command(self, name: str, start: int, before: str) -> bool:
        """Tell whether a possible LaTeX command is one, by what is around it."""
        if _around(self.inlines, start):
            return True
        display = _around(self.displays, start)
        if display is None:
            if name in WORDS and not self.single:
                return False
            return bool(before) and before in " (" and self.raw[max(start - 2, 0) : start] != "  "
        opening = 2 if self.raw.startswith(("$$", "\\["), display[0]) else 0
        if opening and start == display[0] + opening:  # a line break after the opening has one before the closing
            return not self.raw[: display[1] - 2].rstrip(" ").endswith(("\\n", "\n"))
        if before == "}" and _ENVIRONMENT.search(self.raw, max(start - 60, 0), start):
            return False
        return before != "\\"

    def _is_pattern(self, token: Token) -> bool:
        """Tell whether a place is within a regular expression."""
        before, after = self.raw[max(token.start - 24, 0) : token.start], self.raw[token.end : token.end + 24]
        if _BEFORE_PATTERN.search(before) or _AFTER_PATTERN.match(after):
            return True
        return bool(_CLASS_BEFORE.search(before) and _CLASS_AFTER.match(after))

    def _is_row_break(self, end: int) -> bool:
        """Tell whether two backslashes end the row of a formula, in a string whose backslashes are not doubled."""
        if not self.single or self.doubled or _around(self.displays, end) is None:
            return False
        after = self.raw[end : end + 2]
        forgotten = len(after) == 2 and Token(after, 0, 2).forgotten
        return after[:1] in (" ", "\n", "[", "&", "") or after == "\\n" or forgotten


def _around(spans: Spans, position: int) -> tuple[int, int] | None:
    """Return the span that holds a position; the spans are in order and do not overlap."""
    index = bisect_right(spans, position, key=lambda span: span[0]) - 1
    return spans[index] if index >= 0 and position < spans[index][1] else None
