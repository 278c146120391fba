"""Reports what a running run waits for: a model's reply, or the rate limit of its server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmbagent_nb.store.lookup import parsed

#: Seconds after which a model call is told of: most are over by then.
SLOW_CALL = 20.0

#: The newest events that have not ended and can be waited for.
WAITING = """
SELECT event_type, event_subtype, started_at, inputs FROM (
  SELECT event_type, event_subtype, started_at, inputs, status FROM execution_events
  WHERE run_id = :run ORDER BY execution_order DESC LIMIT 200
) AS newest
WHERE status = 'running' AND (event_type = 'model_call' OR (event_type = 'retry' AND event_subtype = 'rate_limit'))
ORDER BY started_at
"""


def waits(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return what is waited for, in words, and since when (seconds since the epoch); the rate limit comes first."""
    limits, calls = [], []
    for row in rows:
        if row["event_type"] == "retry":
            inputs = parsed(dict(row)).get("inputs")
            model = inputs.get("model", "") if isinstance(inputs, dict) else ""
            limits.append((f"waiting for the rate limit{f' of {model}' if model else ''}", float(row["started_at"])))
        else:
            calls.append(("waiting for the model", float(row["started_at"])))
    return [*limits[:1], *calls[:1]][:1]


def waiting_text(waiting: Sequence[tuple[str, float]], now: float) -> str:
    """Return a line such as "waiting for the model for 40 s"; empty where nothing has been waited for long.

    >>> waiting_text([("waiting for the model", 100.0)], 140.4)
    'waiting for the model for 40 s'
    >>> waiting_text([("waiting for the model", 100.0)], 105.0)
    ''
    """
    for what, since in waiting:
        passed = max(0.0, now - since)
        if passed >= SLOW_CALL or "rate limit" in what:
            minutes, rest = divmod(round(passed), 60)
            return f"{what} for {f'{minutes} min ' if minutes else ''}{rest} s"
    return ""
