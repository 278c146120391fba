"""Returns the record as pandas DataFrames: the tables' columns, JSON as values, times as UTC datetimes.

| rule | |
|---|---|
| names | the columns of the tables; what is added says so below |
| times | ``*_at`` is ``datetime64[ns, UTC]``; NaT where there is none |
| whole numbers with gaps | ``Int64`` |
| nothing found | a frame with its columns and no rows |
| ``run_id`` | one run; ``session``: the runs of a session, by its id or name; neither: all |
| a run that was archived | is read from its archive, also among all runs |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from cmbagent_nb.store import listings
from cmbagent_nb.store.columns import BOOLEAN, JSON
from cmbagent_nb.store.json import from_json_all
from cmbagent_nb.store.listings import SUMMARY_COLUMNS, Listing, checked

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SUMMARY_COLUMNS",
    "checkpoints",
    "costs",
    "decisions",
    "events",
    "files",
    "frame_of",
    "history",
    "messages",
    "nodes",
    "runs",
    "skill_executions",
    "skills",
    "steps"
]  # fmt: skip

#: Columns of whole numbers that can be missing.
_INTEGERS = frozenset(
    {"attempt", "exit_code", "max_attempts", "n_events", "n_files", "n_messages", "pid", "size_bytes", "tokens"}
)


def _framed(function: Callable[..., Listing]) -> Callable[..., pd.DataFrame]:
    """Return a query of :mod:`cmbagent_nb.store.listings` that gives a DataFrame."""

    @wraps(function)
    def framed(*arguments: Any, **options: Any) -> pd.DataFrame:
        return function(*arguments, **options).frame()  # type: ignore[no-any-return]

    return framed


events = _framed(listings.events)
messages = _framed(listings.messages)
files = _framed(listings.files)
costs = _framed(listings.costs)
steps = _framed(listings.steps)
history = _framed(listings.history)
checkpoints = _framed(listings.checkpoints)
decisions = _framed(listings.decisions)
nodes = _framed(listings.nodes)
runs = _framed(listings.runs)
skills = _framed(listings.skills)
skill_executions = _framed(listings.skill_executions)


def frame_of(names: Sequence[str], columns: Sequence[Sequence[Any]], added: Collection[str] = ()) -> pd.DataFrame:
    """Make a frame of columns as they are stored."""
    import pandas as pd

    data = {}
    for name, column in zip(names, columns, strict=True):
        if name in added and name != "missing" and not name.endswith("_s"):
            data[name] = _objects(list(column))
        else:
            data[name] = checked(name, lambda name=name, column=column: _series(name, column))  # type: ignore[misc]
    return pd.DataFrame(data, columns=list(names))


def _series(name: str, values: Sequence[Any]) -> Any:
    """Return the values of a column with the type that its name calls for."""
    if name.endswith("_at"):
        return _times(values)
    if name in JSON:
        return _objects(from_json_all(values))
    if name in BOOLEAN:
        return _objects([None if value is None else bool(value) for value in values], boolean=True)
    if name in _INTEGERS:
        import pandas as pd

        return pd.array(list(values), dtype="Int64")
    if values and isinstance(next((value for value in values if value is not None), None), dict | list):
        return _objects(list(values))
    return list(values)


def _objects(values: list[Any], *, boolean: bool = False) -> Any:
    import pandas as pd

    if boolean:
        return pd.array(values, dtype="boolean") if None in values else pd.array(values, dtype=bool)
    return pd.Series(values, dtype=object)


def _times(values: Sequence[Any]) -> Any:
    import numpy as np
    import pandas as pd

    seconds = np.array(values, dtype=float)
    times = np.full(len(seconds), np.datetime64("NaT"), dtype="datetime64[us]")
    known = np.isfinite(seconds)
    times[known] = np.round(seconds[known] * 1e6).astype("int64").astype("datetime64[us]")
    return pd.DatetimeIndex(times.astype("datetime64[ns]")).tz_localize("UTC")
