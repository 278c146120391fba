"""Deletes many rows in small batches, so that other writers are not blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer

#: Rows that one transaction deletes.
GROUP = 5000


def delete_rows(writer: Writer, table: str, run_id: str) -> int:
    """Delete the rows of a run from a table, in transactions that others can write between; returns how many."""
    sql = f'DELETE FROM "{table}" WHERE id IN (SELECT id FROM "{table}" WHERE run_id = :run LIMIT {GROUP})'

    def some(connection: Connection) -> int:
        return int(connection.execute(sql, {"run": run_id}).rowcount)

    total = 0
    while deleted := writer.call(some, journal=False).result():
        total += deleted
    return total
