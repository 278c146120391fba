"""Tells by how much numbers may differ by rounding alone, from the column or array that they stand in.

A residual, a pull or a correlation is a difference of larger numbers. Where it comes near zero, another processor or
another BLAS changes many of its digits, although nothing changed: a minimiser agrees with itself to about the square
root of the machine's precision. So a number that is tiny against its column is compared with the column's scale.

The scale is the median, which an outlier does not move, and it counts only where numbers of both signs stand in the
column: p-values or a spectrum are small without being differences, and each of their digits counts. A single number
has no column; it is compared by its own size.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

RTOL = 1e-6
#: Differences this small against the largest number of an array, or of the column, are rounding.
ATOL_OF_LARGEST, ATOL_IN_COLUMN = 1e-14, 1e-12
#: The same against the typical number of a column that crosses zero: some times the square root of 2.2e-16.
ATOL_OF_TYPICAL = 1e-7
#: Numbers that a column has before it has a typical one, and the part of them that may be near zero.
FEWEST, NEAR_ZERO = 8, 0.1

_BETWEEN = re.compile(r"[\s,;|]+")


def rounding(old: Any, new: Any, *, exact: bool = False) -> Any:
    """Return the differences that are rounding for the numbers of two arrays of one shape.

    The columns of an array run along its longest axis.

    >>> import numpy as np
    >>> pull = np.array([-0.2, -0.4, 0.00482616, 1.4, -1.7, 0.3, 0.9, -0.6])
    >>> float(rounding(pull, pull)[2])
    5e-08
    """
    import numpy as np

    size = np.abs(np.where(np.isfinite(old), old, np.nan))
    if old.ndim == 0 or not np.isfinite(size).any():
        return np.zeros(old.shape)
    axis = int(np.argmax(old.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without numbers
        largest = np.nan_to_num(np.nanmax(size, axis=axis, keepdims=True))
        typical = np.nan_to_num(np.nanmedian(np.where(size == 0, np.nan, size), axis=axis, keepdims=True))
    least = np.maximum(np.full(old.shape, ATOL_OF_LARGEST * float(largest.max())), ATOL_IN_COLUMN * largest)
    if exact or old.shape[axis] < FEWEST:
        return least
    beyond = np.abs(new - old) > RTOL * np.maximum(np.abs(old), np.abs(new))
    crosses = (old < 0).any(axis=axis, keepdims=True) & (old > 0).any(axis=axis, keepdims=True)
    few = beyond.sum(axis=axis, keepdims=True) <= max(1, NEAR_ZERO * old.shape[axis])
    return np.maximum(least, np.where(crosses & few, ATOL_OF_TYPICAL * typical, 0.0))


def in_list(old: list[Any], new: list[Any], *, exact: bool = False) -> list[Any]:
    """Return the differences that are rounding for the entries of two lists, as JSON has them.

    An entry of a list of records or of rows has one by key or position: their columns go through the list.
    """
    columns: dict[Any, list[tuple[int, float, float]]] = {}
    for position, (first, second) in enumerate(zip(old, new, strict=True)):
        others = dict(_cells(second))
        for key, value in _cells(first):
            other = others.get(key)
            if isinstance(value, float) and isinstance(other, float):
                columns.setdefault(key, []).append((position, value, other))
    found: list[Any] = [0.0 if isinstance(item, float) else {} for item in old]
    import numpy as np

    for key, entries in columns.items():
        places, first, second = zip(*entries, strict=True)
        for place, allowed in zip(
            places, rounding(np.array(first), np.array(second), exact=exact).tolist(), strict=True
        ):
            if key is None:
                found[place] = allowed
            elif isinstance(found[place], dict):
                found[place][key] = allowed
    return found


def _cells(item: Any) -> Iterable[tuple[Any, Any]]:
    """Return the entries of a record or a row, or a number as the only one."""
    if isinstance(item, Mapping):
        return item.items()
    return enumerate(item) if isinstance(item, list) else [(None, item)]


def rounded_lines(old: list[str], new: list[str]) -> set[int]:
    """Return the numbers (from 1) of lines of numbers alone that are the same but for rounding.

    Lines with as many numbers are the rows of one table.
    """
    import numpy as np

    tables: dict[int, list[tuple[int, list[str], list[str]]]] = {}
    for number, lines in enumerate(zip(old, new, strict=False), start=1):
        first, second = (_BETWEEN.split(line.strip()) for line in lines)
        if len(first) == len(second) and all(map(_is_number, [*first, *second])):
            tables.setdefault(len(first), []).append((number, first, second))
    found = set()
    for rows in tables.values():
        before, now = (np.array([row[place] for row in rows], dtype=float) for place in (1, 2))
        allowed = np.stack([rounding(before[:, n], now[:, n]) for n in range(before.shape[1])], axis=1)
        for row, limits in zip(rows, allowed.tolist(), strict=True):
            words = zip(row[1], row[2], limits, strict=True)
            if all(a == b or close(a, b) or abs(float(a) - float(b)) <= limit for a, b, limit in words):
                found.add(row[0])
    return found


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word)) or word.lower().lstrip("+-") in ("nan", "inf")
    except ValueError:
        return False


def close(first: str, second: str) -> bool:
    """Tell whether two numbers as they are printed may be one number."""
    old, new = float(first), float(second)
    if abs(old - new) <= RTOL * max(abs(old), abs(new)):
        return True
    digits = re.sub(r"\D", "", first.lower().partition("e")[0]).lstrip("0")
    if len(digits) < 5 or "." not in first or "." not in second:
        return False
    mantissa, _, exponent = first.lower().partition("e")
    step = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(old - new) <= 1.01 * step
