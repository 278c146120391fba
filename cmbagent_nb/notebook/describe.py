"""Describes a variable in a few words: small values as they are, tables and arrays by their shape."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cmbagent_nb.errors import UsageError

#: The longest text of a value that is not a text itself, and the most items of a collection, that are put in whole.
LONGEST = 400
MOST_ITEMS = 50
#: Columns that are named.
COLUMNS = 12

_PLAIN = (str, bool, int, float, complex, type(None))


def text_of(name: str, value: Any) -> str:
    """Return a value as a task tells it: its text, or a description where that is a table, an array or long.

    Raises
    ------
    UsageError
        Its text cannot be made.
    """
    try:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, _PLAIN):
            return str(value)
        described = _table(value)
        if described is None and isinstance(value, Collection) and not isinstance(value, bytes):
            described = _collection(value)
        if described is None:
            text = str(value)
            described = f"a {type(value).__name__}" if _says_nothing(text) else None
            if described is None:
                return text
    except UsageError:
        raise
    except Exception as error:  # whatever the value's own code raises
        raise UsageError(
            f"the variable {name!r} ({type(value).__name__}) cannot be put into the task: its text cannot be made"
            f" ({type(error).__name__})",
            f"Name a value that has one, or write {{{{{name}}}}} to keep the braces.",
            variable=name,
        ) from None
    return f"{name} ({described})"


def _table(value: Any) -> str | None:
    """Describe what has rows and columns, or a shape; ``None`` for anything else."""
    kind = type(value).__name__
    columns = getattr(value, "columns", None)
    if columns is None:
        columns = getattr(value, "colnames", None)
    shape = getattr(value, "shape", None)
    if columns is not None and not callable(columns) and hasattr(value, "__len__"):
        names = [str(item) for item in columns]
        more = f" and {len(names) - COLUMNS} more" if len(names) > COLUMNS else ""
        return f"a {kind} of {len(value)} rows and {len(names)} columns: {', '.join(names[:COLUMNS])}{more}"
    if isinstance(shape, tuple):
        if not shape:
            return None
        dtype = getattr(value, "dtype", None)
        unit = getattr(value, "unit", None) or getattr(value, "units", None)
        label = getattr(value, "name", None)
        parts = [f"a {kind} of shape {tuple(int(item) for item in shape)}"]
        parts += [f"of {dtype}"] if dtype is not None else []
        parts += [f"in {unit}"] if unit is not None and not callable(unit) else []
        parts += [f"named {label}"] if isinstance(label, str) else []
        return ", ".join(parts)
    if hasattr(value, "data_vars") and hasattr(value, "dims"):
        return f"a {kind} with the variables {', '.join(map(str, list(value.data_vars)[:COLUMNS]))}"
    return None


def _collection(value: Collection[Any]) -> str | None:
    """Describe a collection that is long or holds more than plain values; ``None`` for a short one."""
    kind = type(value).__name__
    size = len(value)
    if size <= MOST_ITEMS and _is_plain(value, 3):
        text = str(value)
        if len(text) <= LONGEST and not _says_nothing(text):
            return None
    if isinstance(value, Mapping):
        names = ", ".join(str(key) for key in list(value)[:COLUMNS])
        return f"a {kind} with {size} keys: {names[:LONGEST]}{' and more' if size > COLUMNS else ''}"
    return f"a {kind} of {size} items"


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether a value holds nothing that its text would paste as a table."""
    if isinstance(value, _PLAIN):
        return True
    if depth == 0 or _table(value) is not None:
        return False
    if isinstance(value, Mapping):
        return len(value) <= MOST_ITEMS and all(_is_plain(item, depth - 1) for item in [*value, *value.values()])
    if isinstance(value, list | tuple | set | frozenset):
        return len(value) <= MOST_ITEMS and all(_is_plain(item, depth - 1) for item in value)
    return not isinstance(value, Collection) or isinstance(value, bytes)


def _says_nothing(text: str) -> bool:
    """Tell whether a text is the one that Python gives what has none of its own, or too long to be put in."""
    return (text.startswith("<") and text.endswith(">")) or len(text) > LONGEST
