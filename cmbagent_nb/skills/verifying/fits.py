"""Reads FITS files for comparison: the cards of each header, and the data of images and binary tables.

Only what the comparison needs: no scaling, no compression. A table with columns of variable length has no data here;
its raw bytes are compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

_BLOCK = 2880
_CARD = 80
#: Cards that say when or by what a file was written.
_PASSING = frozenset({"DATE", "CHECKSUM", "DATASUM", "CREATOR", "ORIGIN", "HISTORY", "COMMENT", ""})
_IMAGES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_COLUMNS = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"}


@dataclass(frozen=True)
class Extension:
    """One header with its data; ``data`` is None for a form that is not read."""

    cards: dict[str, Any]
    data: Any
    raw: bytes


def read(path: Path) -> list[Extension]:
    """Return the extensions of a file.

    Raises
    ------
    ValueError
        It is not a FITS file, or ends too early.
    """
    content = path.read_bytes()
    if not content.startswith(b"SIMPLE  ="):
        raise ValueError("it does not begin as a FITS file does")
    found, at = [], 0
    while at < len(content) and content[at : at + 8].strip(b"\0 "):
        cards, at = _header(content, at)
        size = _size(cards)
        raw = content[at : at + size]
        if len(raw) < size:
            raise ValueError("it ends before its data do")
        found.append(Extension({k: v for k, v in cards.items() if k not in _PASSING}, _data(cards, raw), raw))
        at += -(-size // _BLOCK) * _BLOCK
    return found


def _header(content: bytes, at: int) -> tuple[dict[str, Any], int]:
    cards: dict[str, Any] = {}
    while True:
        card = content[at : at + _CARD].decode("ascii", "replace")
        if len(card) < _CARD:
            raise ValueError("a header has no end")
        at += _CARD
        name = card[:8].strip()
        if name == "END":
            return cards, -(-at // _BLOCK) * _BLOCK
        if card[8:10] == "= " and name not in cards:
            cards[name] = _value(card[10:])


def _value(text: str) -> Any:
    quoted = re.match(r"\s*'((?:[^']|'')*)'", text)
    if quoted:
        return quoted.group(1).rstrip().replace("''", "'")
    word = text.partition("/")[0].strip()
    if word in ("T", "F"):
        return word == "T"
    for kind in (int, float):
        try:
            return kind(word.replace("D", "E") if kind is float else word)
        except ValueError:
            continue
    return word


def _axes(cards: dict[str, Any]) -> list[int]:
    return [int(cards[f"NAXIS{number}"]) for number in range(1, int(cards.get("NAXIS", 0)) + 1)]


def _size(cards: dict[str, Any]) -> int:
    axes = _axes(cards)
    if not axes:
        return 0
    whole = prod(axes[1:] if cards.get("GROUPS") is True and axes[0] == 0 else axes) + int(cards.get("PCOUNT", 0))
    return abs(int(cards["BITPIX"])) // 8 * int(cards.get("GCOUNT", 1)) * whole


def _data(cards: dict[str, Any], raw: bytes) -> Any:
    import numpy as np

    axes = _axes(cards)
    if not raw:
        return np.zeros(0)
    if cards.get("XTENSION", "IMAGE") == "IMAGE" and "GROUPS" not in cards and not cards.get("PCOUNT"):
        return np.frombuffer(raw, _IMAGES[int(cards["BITPIX"])]).reshape(axes[::-1])
    if cards.get("XTENSION") != "BINTABLE" or cards.get("PCOUNT"):
        return None
    fields = []
    for number in range(1, int(cards["TFIELDS"]) + 1):
        form = re.fullmatch(r"(\d*)([A-Z])(.*)", str(cards[f"TFORM{number}"]).strip())
        if form is None or form.group(2) not in {*_COLUMNS, "A", "X"}:
            return None
        times, letter = int(form.group(1) or 1), form.group(2)
        name = f"{number}:{cards.get(f'TTYPE{number}', '')}"
        if letter == "A":
            fields.append((name, f"S{times}", (1,)))
        elif letter == "X":
            fields.append((name, "u1", (-(-times // 8),)))
        else:
            fields.append((name, _COLUMNS[letter], (times,)))
    kind = np.dtype([item for item in fields if item[1] != "S0" and item[2] != (0,)])
    return np.frombuffer(raw, kind) if kind.itemsize == axes[0] else None
