"""Holds the outcome of a verb: data for ``--json``, a text for a terminal, an object for a notebook.

| in JSON | |
|---|---|
| a row | an object with the column names of the tables |
| a time (``*_at``) | ISO 8601 in UTC: ``2025-01-31T12:00:00.250000Z`` |
| what is missing, NaN or infinite | ``null`` |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cmbagent_nb.redaction import scrub
from cmbagent_nb.render.text import cut

#: What JSON may hold as it is and nobody would see: it is written as an escape, which means the same.
_ESCAPED = re.compile(
    "[\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\U000e0000-\U000e0fff]"
)
#: The widest that a column of a table is printed.
WIDEST = 60


class Output:
    """The outcome of a verb.

    Attributes
    ----------
    display
        What a notebook shows; ``text`` is printed when it is None.
    exit_status
        0 done, 1 the run or the skill failed, 130 interrupted.
    as_json
        Whether ``--json`` was asked for.
    bind
        The name of the variable that ``display`` is bound to in a notebook, or nothing.
    """

    def __init__(
        self,
        data: Any,
        text: str | Callable[[], str] = "",
        *,
        display: Any = None,
        exit_status: int = 0,
        bind: str = "",
    ) -> None:
        self._data = data
        self._text = text
        self._display = display
        self.exit_status = exit_status
        self.bind = bind
        self.as_json = False

    @cached_property
    def display(self) -> Any:
        """The outcome as an object that a notebook shows; rows are a DataFrame."""
        return self._display.frame() if hasattr(self._display, "records") else self._display

    @cached_property
    def data(self) -> Any:
        """The outcome as values that JSON can hold."""
        return plain(self._data)

    @cached_property
    def text(self) -> str:
        """The outcome as text; with ``--json`` it is JSON."""
        if self.as_json:
            shown = json.dumps(self.data, ensure_ascii=False, indent=2, allow_nan=False)
            return _ESCAPED.sub(_escaped, scrub(shown))
        return scrub(self._text() if callable(self._text) else self._text)

    def __repr__(self) -> str:
        return f"Output({type(self._data).__name__}, exit_status={self.exit_status})"


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def table(frame: Any, columns: str, *, limit: int | None = None, none: str = "There is nothing.") -> Output:
    """Make the outcome of a frame: all its columns as JSON, and ``columns`` of it as a text.

    ``limit`` keeps the last rows, which are the newest.
    """
    if limit is not None:
        frame = frame.tail(limit)
    return Output(frame, lambda: grid(rows(frame), columns.split(), none), display=frame)


def rows(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON shows them."""
    if hasattr(frame, "records"):
        return [plain(row) for row in frame.records()]
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    return [{name: plain(values[index]) for name, values in columns.items()} for index in range(len(frame))]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it.

    >>> plain({"a": float("nan"), "b": (1, Path("x"))})
    {'a': None, 'b': [1, 'x']}
    """
    if value is None or isinstance(value, str | bool | int):
        return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): stamp(item) if _is_time(key, item) else plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    if isinstance(value, datetime):
        return stamp(value.timestamp())
    if isinstance(value, date | Path):
        return str(value)
    if hasattr(value, "columns") and hasattr(value, "tail"):
        return rows(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def _is_time(key: Any, value: Any) -> bool:
    return str(key).endswith("_at") and isinstance(value, float) and math.isfinite(value)


def stamp(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC.

    >>> stamp(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# ---- tables as text


def grid(lines: list[dict[str, Any]], columns: Iterable[str], none: str) -> str:
    """Write rows as a table: numbers to the right, each column as wide as it needs to be.

    >>> print(grid([{"name": "a", "n": 1}, {"name": "bb", "n": None}], ["name", "n"], "none"))
    name  n
    a     1
    bb
    """
    names = list(columns)
    if not lines:
        return none
    cells = [[_cell(name, line.get(name)) for name in names] for line in lines]
    widths = [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)]
    numeric = [
        all(isinstance(line.get(name), int | float) or line.get(name) is None for line in lines) for name in names
    ]
    shown = [names, *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in shown
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "id" or name.endswith("_id"):
        text = str(value)
        return text[-8:] if len(text) == 36 else text
    if name.endswith("_at"):
        return local(str(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return cut(", ".join(map(str, value)), WIDEST)
    if isinstance(value, list | dict):
        return cut(json.dumps(value, ensure_ascii=False), WIDEST)
    return cut(value, WIDEST)


def local(text: str) -> str:
    """Return a time of the JSON as people here read it."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text
