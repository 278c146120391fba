"""Splits a string that is still raw into characters and escapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_TOKEN = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\.|[\b\f]|[^\\\b\f]+", re.DOTALL)


class Token(NamedTuple):
    """A piece of a raw string, and where it begins and ends there."""

    text: str
    start: int
    end: int

    @property
    def control(self) -> str:
        """The letter of the control character that it stands for, however it is written; else nothing."""
        text = self.text
        if text in ("\b", "\f"):
            return "b" if text == "\b" else "f"
        if len(text) == 2 and text[0] == "\\" and text[1] in CONTROLS:
            return text[1]
        return {"\\u0008": "b", "\\u000c": "f"}.get(text.lower(), "") if len(text) == 6 else ""

    @property
    def forgotten(self) -> bool:
        """Whether no JSON allows it, so that its backslash was not doubled."""
        return self.text[0] == "\\" and len(self.text) == 2 and self.text[1] not in "\"\\/bfnrt'"


def tokens(raw: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """Split a raw string, or a part of it."""
    for match in _TOKEN.finditer(raw, start, len(raw) if end is None else end):
        yield Token(match[0], match.start(), match.end())


def plain(token: str, quote: str = '"') -> str:
    """Decode a token as JSON does; what JSON does not allow stays with its backslash."""
    if token[0] != "\\" or len(token) == 1:
        return token
    mark = token[1]
    if mark in '"\\/':
        return mark
    if mark in CONTROLS:
        return CONTROLS[mark]
    if len(token) == 6:
        return chr(int(token[2:], 16))
    if mark == "'":
        return "'"
    return chr(int(token[2:], 16)) if len(token) == 4 and quote == "'" else token
