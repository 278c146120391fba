"""The light rules about the kinds of columns fit the tables: what a writer makes of a value fits its column."""

from __future__ import annotations

from cmbagent_nb.store import columns
from cmbagent_nb.store.tables import Table


def test_the_name_of_a_column_says_its_kind() -> None:
    """A name has one kind in all tables, but for the keys that are counted up."""
    for table in Table.metadata.tables.values():
        for column in table.columns:
            kind = type(column.type).__name__
            counted = table.name in columns.COUNTED and column.name == "id"
            assert (kind in ("Integer", "BigInteger")) == (column.name in columns.INTEGER or counted), column
            assert (kind == "Float") == columns.is_real(column.name), column
            assert (kind == "LargeBinary") == (column.name in columns.BYTES), column
            assert (kind == "Boolean") == (column.name in columns.BOOLEAN), column
