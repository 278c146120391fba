"""Writing a row of ours within a transaction of the writer, with its values masked as the writer masks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


def mark(db: Database) -> str:
    """Return what stands for a value in a statement of this database's driver."""
    return "?" if db.is_sqlite else "%s"


def insert(connection: Connection, db: Database, writer: Writer, table: str, row: dict[str, Any]) -> None:
    """Insert a row; JSON columns take any value."""
    from cmbagent_nb.store.columns import JSON, is_verbatim
    from cmbagent_nb.store.json import clean, to_json

    values: list[Any] = []
    for name, value in row.items():
        if name in JSON and value is not None:
            values.append(writer.scrub(to_json(value)))
        elif isinstance(value, str):
            text = clean(value)
            values.append(text if is_verbatim(name) else writer.scrub(text))
        else:
            values.append(value)
    marks = ", ".join([mark(db)] * len(row))
    sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
    connection.exec_driver_sql(sql, tuple(values))
