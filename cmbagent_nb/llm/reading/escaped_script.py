r"""Decodes a Python script that stood in a JSON string whose backslashes may not be doubled.

A script has backslashes in its string literals and comments only. A string literal of one line cannot hold a line
break, so an escape in there belongs to the script; a tab in there is written as an escape, which means the same.
"""

from __future__ import annotations

import ast
import re

from cmbagent_nb.llm.reading.latex import CERTAIN, OTHERS, POSSIBLE
from cmbagent_nb.llm.reading.tokens import CONTROLS, Token, plain, tokens

_LETTERS = re.compile("[A-Za-z]*")
_QUOTED = re.compile(r"(?:\\[nrt])*(['`])")
#: The body of a literal after two quotes: an empty one, or the beginning of one of several lines.
EMPTY = "\0"
#: A script of which so little of its lines is left was not understood.
_LEFT = 0.5


def decode_script(raw: str, quote: str = '"') -> str:
    """Return the Python source of a raw string."""
    pieces = list(tokens(raw))
    text = _Script(raw, quote).decode(pieces)
    strict = "".join(plain(token.text, quote) for token in pieces)
    if "\n" not in strict and "\\n" in strict and not _parses(strict):  # every backslash was doubled once more
        single = _Script(strict, quote).decode(list(tokens(strict)))
        if _parses(single):
            return single
    if text == strict or _parses(text):
        return text
    fewer = text.count("\n") < _LEFT * strict.count("\n")
    return strict if fewer or _parses(strict) else text


def _parses(source: str) -> bool:
    try:
        ast.parse(re.sub(r"\\[^\n]", "__", source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class _Script:
    """Follows a script through its literals and comments while it is decoded."""

    def __init__(self, raw: str, quote: str) -> None:
        self.raw = raw
        self.quote = quote
        self.out: list[str] = []
        self.state = "code"  #: code, comment, or the quotes around the literal
        self.body = ""  #: the line of the literal or comment so far
        self.escaped = False
        self.opened_by_escape = False

    def decode(self, pieces: list[Token]) -> str:
        continued = False
        for token in pieces:
            if continued:  # the "n" of a line break after a backslash that continues a line
                self._put("\n")
                continued = False
                token = Token(token.text[1:], token.start + 1, token.end)  # noqa: PLW2901
                if not token.text:
                    continue
            mark = token.control
            if mark:
                self._put(f"\\{mark}" if self._is_backslash(mark, token) else CONTROLS[mark])
            elif token.text == "\\'":
                self._quote()
            elif token.forgotten:
                self._put(token.text)
            elif token.text == "\\\\" and self._in_code and self.raw.startswith("n", token.end):
                self._put("\\")
                continued = True
            elif token.text.startswith("\\u00") and token.text[4] in "01":  # a control character
                self._put(token.text if self._in_literal else plain(token.text))
            else:
                self._put(plain(token.text, self.quote))
        return "".join(self.out)

    @property
    def _in_code(self) -> bool:
        return self.state == "code" or self.body == EMPTY

    @property
    def _in_literal(self) -> bool:
        return not self._in_code and self.state != "comment"

    def _is_backslash(self, mark: str, token: Token) -> bool:
        if self._in_code:
            return mark == "b" or (mark == "f" and bool(self.out) and not self.out[-1].endswith("\n"))
        if self.state == "comment" or len(self.state) == 3:
            match = _LETTERS.match(self.raw, token.end)
            return self._in_lines(mark, mark + (match[0] if match else ""), token)
        return not (self.escaped and mark == "n")  # a line that goes on

    def _in_lines(self, mark: str, name: str, token: Token) -> bool:
        """Tell it for a comment or a literal of several lines, where line breaks are meant."""
        if mark in "bf" or name in CERTAIN:
            return True
        if mark == "r":
            return name in OTHERS or (len(name) > 1 and not self.raw.startswith(("\\n", "\n"), token.end))
        if name in POSSIBLE and self.body.count("$") % 2 == 1:
            return True
        quoted = _QUOTED.match(self.raw, token.end)
        if quoted is None or (quoted[1] == "`" and self.body.count("`") % 2 == 0):  # a code span that ends the line
            return False
        return re.search(rf"{quoted[1]}(?:\\[nrt])*\Z", self.body) is not None

    def _quote(self) -> None:
        r"""Take ``\'``, which no JSON allows: a quote, or one that the script itself escapes."""
        if self.state == "code":
            self._put("'")
            self.opened_by_escape = True
        elif self.state == "'" and self.opened_by_escape:
            self._put("'")
        else:
            self._put("\\'")

    def _put(self, text: str) -> None:
        self.out.append(text)
        for character in text:
            self._follow(character)

    def _follow(self, character: str) -> None:
        if self.state == "code":
            if character == "#":
                self.state, self.body = "comment", ""
            elif character in "'\"":
                self.state, self.body, self.escaped, self.opened_by_escape = character, "", False, False
            return
        if self.state == "comment":
            if character == "\n":
                self.state, self.body = "code", ""
            else:
                self.body += character
            return
        self._follow_literal(character)

    def _follow_literal(self, character: str) -> None:
        mark = self.state[0]
        if self.escaped:
            self.escaped = False
            self.body += character
        elif character == "\\":
            self.escaped = True
            self.body += character
        elif len(self.state) == 1:
            self._follow_line(character, mark)
        else:
            self.body = "" if character == "\n" else self.body + character
            if self.body.endswith(self.state):
                self.state, self.body = "code", ""

    def _follow_line(self, character: str, mark: str) -> None:
        if self.body == EMPTY:  # two quotes were seen
            if character == mark:
                self.state, self.body = mark * 3, ""
            else:
                self.state, self.body = "code", ""
                self._follow(character)
        elif character == mark:
            self.state, self.body = ("code", "") if self.body else (self.state, EMPTY)
        elif character == "\n":
            self.state, self.body = "code", ""  # a literal of one line ends with it, so this was none
        else:
            self.body += character
