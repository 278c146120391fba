"""Converts values for every driver, with JSON as text and strings masked and cleaned.

A group of rows is prepared column by column, with few steps of Python a value: a thread that takes its time here
keeps all others of the process waiting. What is unusual in a group (a secret, an odd value) is prepared row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from cmbagent_nb.store.columns import BOOLEAN, BYTES, COUNTED, INTEGER, JSON, is_real, is_verbatim
from cmbagent_nb.store.json import clean, to_json, to_json_all

#: Masks what must not be stored, wherever in a text it stands.
Scrub = Callable[[str], str]
Row = Mapping[str, Any]

_JSON, _VERBATIM, _BOOLEAN, _TEXT, _INTEGER, _REAL, _BYTES = range(7)


@lru_cache(maxsize=1024)
def _kinds(names: tuple[str, ...], counted: bool) -> tuple[int, ...]:
    return tuple(_kind(name, counted) for name in names)


def _kind(name: str, counted: bool) -> int:
    if name in JSON:
        return _JSON
    if name in BOOLEAN:
        return _BOOLEAN
    if name in INTEGER or (counted and name == "id"):
        return _INTEGER
    if is_real(name):
        return _REAL
    if name in BYTES:
        return _BYTES
    return _VERBATIM if is_verbatim(name) else _TEXT


def prepare(table: str, row: Row, scrub: Scrub) -> tuple[tuple[str, ...], list[Any]]:
    """Return a row's columns and values as every driver takes them: JSON as text, texts masked and clean.

    Raises
    ------
    ValueError, TypeError
        A column for numbers is given something else.
    """
    names = tuple(row)
    values: list[Any] = []
    masked = False
    for kind, value in zip(_kinds(names, table in COUNTED), row.values(), strict=True):
        if value is None:
            values.append(None)
        elif kind in _PLAIN:
            values.append(_PLAIN[kind](value))
        else:
            text = to_json(value) if kind == _JSON else _text(value)
            shown = text if kind == _VERBATIM else scrub(text)
            masked = masked or shown != text
            values.append(shown)
    if masked and table == "model_replies":
        if "masked" not in row:
            return ("masked", *names), [True, *values]
        values[names.index("masked")] = True
    return names, values


def prepare_alike(table: str, rows: Sequence[Row], scrub: Scrub) -> list[tuple[Any, ...]] | None:
    """Return the values of rows that have the same columns, as :func:`prepare` gives them.

    None when there is something to mask: these rows have to be prepared one by one.
    """
    columns: list[Sequence[Any]] = []
    texts: list[str] = []
    kinds = _kinds(tuple(rows[0]), table in COUNTED)
    for kind, given in zip(kinds, zip(*(row.values() for row in rows), strict=True), strict=True):
        column: Sequence[Any] = given
        types = set(map(type, given))
        gaps = type(None) in types
        types.discard(type(None))
        if not types:
            pass
        elif kind in _PLAIN:
            if types != _AS_IT_IS.get(kind) or (kind == _REAL and math.isnan(sum(filter(None, given)))):
                convert = _PLAIN[kind]
                column = [None if value is None else convert(value) for value in given]
        else:
            held = [value for value in given if value is not None] if gaps else given
            if kind == _JSON:
                held = to_json_all(held)
            elif types != {str}:
                held = list(map(_text, held))
            joined = _BETWEEN.join(held)
            if not joined.isascii() or joined.count(_BETWEEN) != len(held) - 1:
                held = list(map(clean, held))
                joined = _BETWEEN.join(held)
            column = held
            if gaps:
                following = iter(held)
                column = [None if value is None else next(following) for value in given]
            if kind != _VERBATIM:
                texts.append(joined)
        columns.append(column)
    together = _BETWEEN.join(texts)
    if together and scrub(together) != together:
        return None
    return list(zip(*columns, strict=True))


#: Stands between texts that are looked at together; no clean text holds it, and no secret goes across it.
_BETWEEN = "\x00"


def _integer(value: Any) -> int:
    """Return a whole number; SQLite would take anything, PostgreSQL nothing else.

    >>> _integer(2.0), _integer("7")
    (2, 7)
    """
    if type(value) is int:
        return value
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _real(value: Any) -> float | None:
    """Return a number; NaN is none, as SQLite has it."""
    number = value if type(value) is float else float(value)
    return None if math.isnan(number) else number


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        raise TypeError(f"{value!r} is neither yes nor no")
    return bool(value)


def _bytes(value: Any) -> bytes:
    return bytes(memoryview(value))


#: What turns a value into one for its column, for columns that hold no text.
_PLAIN: dict[int, Callable[[Any], Any]] = {_INTEGER: _integer, _REAL: _real, _BOOLEAN: _truth, _BYTES: _bytes}

#: The types of values that are right for such a column already.
_AS_IT_IS: dict[int, set[type]] = {_INTEGER: {int}, _REAL: {float}, _BOOLEAN: {bool}, _BYTES: {bytes}}


def _text(value: Any) -> str:
    """Return the text of a value in a column for texts."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, PurePath):
        return clean(value.as_posix())
    return clean(str(value)) if isinstance(value, BaseException) else to_json(value)
