r"""Reads JSON as models write it, with every string still raw, so that its backslashes can be judged.

Understood beside JSON: comments, trailing commas, single quotes, names without quotes as keys, Python's and
JavaScript's constants, line breaks in strings. Never completed: what is cut stays unreadable.

>>> read_value('{approved: True, "why": \'it is\', /* so */ "n": [1, 2,],}', 0)[0]
{'approved': True, 'why': 'it is', 'n': [1, 2]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cmbagent_nb.llm.reading.escapes import PLAIN, TEXT, decode

#: How deep values may be nested.
DEEPEST = 100
#: Digits of an integer beyond which it stays a text: reading it takes quadratic time, and Python refuses.
LONGEST_INTEGER = 4000

_SPACE = re.compile(r"(?:[ \t\r\n\f\v\u00a0\u2028\u2029\ufeff]+|//[^\n]*|#[^\n]*|/\*.{0,500}?\*/)*", re.DOTALL)
_STRINGS = {
    '"""': re.compile(r'"""((?:[^"\\]++|\\.|"(?!""))*+)"""', re.DOTALL),
    "'''": re.compile(r"'''((?:[^'\\]++|\\.|'(?!''))*+)'''", re.DOTALL),
    '"': re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]++|\\.)*+)'", re.DOTALL),
}
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*(?P<point>\.\d*)?|(?P<bare>\.\d+))(?P<exponent>[eE][-+]?\d+)?")
_NAME = re.compile(r"[-+]?[A-Za-z_$][\w$]*")
_CONSTANTS: Mapping[str, Any] = {
    "true": True, "false": False, "null": None, "True": True, "False": False, "None": None, "undefined": None,
    "NaN": float("nan"), "nan": float("nan"), "Infinity": float("inf"), "inf": float("inf"),
    "-Infinity": float("-inf"), "-inf": float("-inf"), "+Infinity": float("inf"), "-NaN": float("nan"),
}  # fmt: skip


class Unreadable(ValueError):
    """A text that cannot be read; it says why, in words for the model."""


class NotJSON(Unreadable):
    """A text that is not JSON from the place where reading began."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position

    def where(self, text: str) -> str:
        """Return the message with its line and column in ``text``."""
        line = text.count("\n", 0, self.position) + 1
        column = self.position - (text.rfind("\n", 0, self.position) + 1) + 1
        return f"{self.message} at line {line}, column {column}"


class Effort:
    """Limit on the characters of invalid JSON that are read."""

    def __init__(self, text: str) -> None:
        self.left = 100_000 + len(text)

    def spend(self, error: NotJSON, start: int) -> bool:
        """Count an attempt that failed; tell whether there may be another."""
        self.left -= error.position - start + 100
        return self.left > 0


def read_value(text: str, start: int, kinds: Mapping[str, str] | None = None) -> tuple[Any, int]:
    """Read the value that begins at ``start``; return it with the position of its end.

    ``kinds`` tells how the backslashes of strings are read by the name of their field (see ``escapes``); fields that
    it does not name hold text. Without it only what no JSON allows is taken for a forgotten backslash.

    Raises
    ------
    NotJSON
        There is no value, or it is not complete.
    """
    return _Reader(text, kinds).value(start, PLAIN if kinds is None else TEXT, 0)


def after_space(text: str, position: int) -> int:
    """Return where the next thing begins that is neither white space nor a comment."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


class _Reader:
    def __init__(self, text: str, kinds: Mapping[str, str] | None) -> None:
        self.text = text
        self.kinds = kinds

    def value(self, position: int, kind: str, depth: int) -> tuple[Any, int]:
        position = after_space(self.text, position)
        first = self.text[position : position + 1]
        if depth > DEEPEST:
            raise NotJSON("it is nested too deeply", position)
        if first == "{":
            return self._object(position, kind, depth)
        if first == "[":
            return self._list(position, kind, depth)
        if first in "\"'" and first:
            return self._string(position, kind)
        if (match := _NUMBER.match(self.text, position)) is not None:
            return _number(match), match.end()
        name = _NAME.match(self.text, position)
        if name is not None and name[0] in _CONSTANTS:
            return _CONSTANTS[name[0]], name.end()
        raise NotJSON("a value is missing" if first else "it ends too early", position)

    def _object(self, position: int, kind: str, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        position += 1
        while True:
            position = after_space(self.text, position)
            if self.text.startswith("}", position):
                return found, position + 1
            key, position = self._key(position)
            position = self._expect(":", after_space(self.text, position))
            inner = kind if self.kinds is None else self.kinds.get(key, kind)
            found[key], position = self.value(position, inner, depth + 1)
            position = after_space(self.text, position)
            if not self.text.startswith("}", position):
                position = self._expect(",", position)

    def _list(self, position: int, kind: str, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        position += 1
        while True:
            position = after_space(self.text, position)
            if self.text.startswith("]", position):
                return found, position + 1
            item, position = self.value(position, kind, depth + 1)
            found.append(item)
            position = after_space(self.text, position)
            if not self.text.startswith("]", position):
                position = self._expect(",", position)

    def _key(self, position: int) -> tuple[str, int]:
        if self.text.startswith(('"', "'"), position):
            return self._string(position, PLAIN)
        if (match := _NAME.match(self.text, position)) is not None:
            return match[0], match.end()
        raise NotJSON("a name in double quotes is missing", position)

    def _string(self, position: int, kind: str) -> tuple[str, int]:
        for quote, pattern in _STRINGS.items():
            if self.text.startswith(quote, position) and (match := pattern.match(self.text, position)) is not None:
                return decode(match[1], kind, quote=quote[0]), match.end()
        raise NotJSON("a string has no end", position)

    def _expect(self, mark: str, position: int) -> int:
        if self.text.startswith(mark, position):
            return position + 1
        raise NotJSON(f"{mark!r} is missing" if position < len(self.text) else "it ends too early", position)


def _number(match: re.Match[str]) -> Any:
    digits = match[0].replace("_", "")
    if match["point"] is None and match["bare"] is None and match["exponent"] is None:
        return int(digits) if len(digits) <= LONGEST_INTEGER else digits
    return float(digits)
