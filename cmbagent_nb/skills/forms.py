"""Forms of parameters that JSON lacks: dates, paths, complex numbers and others, given as text, list or number.

:func:`given` takes Python's own objects, :func:`check` refuses a text that the notebook's conversion would not read.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

_ISO: dict[str, type[date] | type[time]] = {"date": date, "datetime": datetime, "time": time}


def given(form: str, value: Any) -> Any:
    """Return an object of the form as the text, list or number by which it is given.

    >>> given("date", date(2024, 1, 2)), given("complex", 1 + 2j), given("set", {2, 1})
    ('2024-01-02', '1+2j', [1, 2])
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, complex) or (form == "complex" and isinstance(value, (int, float))):
        return str(complex(value)).strip("()")
    if isinstance(value, (Decimal, Fraction)) or form in ("decimal", "fraction", "datetime64", "timestamp"):
        return str(value)
    if isinstance(value, bytes):
        return repr(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    return repr(value) if form.endswith(" literal") else value


def check(form: str, value: Any) -> None:
    """Refuse a text that the notebook could not convert.

    Raises
    ------
    ValueError, TypeError
        It does not read as the form.
    """
    if not form or value is None:
        return
    if form in _ISO:
        _ISO[form].fromisoformat(value)
    elif form in _READERS:
        try:
            _READERS[form](value)
        except (InvalidOperation, ZeroDivisionError, SyntaxError) as error:
            raise ValueError(value) from error
    elif form.endswith(" literal") or form == "bytes":
        try:
            found = ast.literal_eval(value)
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(value) from error
        if type(found).__name__ != form.removesuffix(" literal"):
            raise TypeError(value)
    elif form == "range" and not isinstance(value, int):
        raise TypeError(value)


_READERS: dict[str, Callable[[Any], Any]] = {"complex": complex, "decimal": Decimal, "fraction": Fraction}
