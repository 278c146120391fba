"""Adds up what a run has spent, once when it ends, and stores the sums with its row.

A list of a thousand runs would else add up the costs of every call that was ever made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

#: The columns of ``workflow_runs`` that hold the totals, and how each is added up from a run's cost records.
TOTALS = {
    "total_calls": "COUNT(*)",
    "total_tokens": "COALESCE(SUM(total_tokens), 0)",
    "total_cost_usd": "COALESCE(SUM(cost_usd), 0.0)",
    "total_unknown_costs": "COUNT(*) - COUNT(cost_usd)",
}


def keep_totals(connection: Connection, run_id: str) -> None:
    """Add up what a run that has ended has spent."""
    sums = (f"{name} = (SELECT {total} FROM cost_records WHERE run_id = :run)" for name, total in TOTALS.items())
    connection.execute(f"UPDATE workflow_runs SET {', '.join(sums)} WHERE id = :run", {"run": run_id})


def drop_totals(connection: Connection, run_ids: Iterable[str], mark: str = "?") -> list[str]:
    """Forget what was added up of runs that spend more; return those of which something was."""
    dropped = []
    nothing = ", ".join(f"{name} = NULL" for name in TOTALS)
    for run_id in run_ids:
        statement = f"UPDATE workflow_runs SET {nothing} WHERE id = {mark} AND total_calls IS NOT NULL"
        if connection.exec_driver_sql(statement, (run_id,)).rowcount:
            dropped.append(run_id)
    return dropped
