"""The schema: made, migrated up and down, equal to the tables in the code."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from cmbagent_nb.errors import DatabaseTooNew
from cmbagent_nb.store import columns
from cmbagent_nb.store.database import VERSIONS, Database
from cmbagent_nb.store.migrate import engine, migrate
from cmbagent_nb.store.tables import Table
from tests.conformance.backend import Backend


def migrations_go_up_and_down(backend: Backend) -> None:
    """Each version up, each down to nothing, and up again: the same schema as the tables in the code have."""
    db = backend.database()
    first = _schema(db)
    assert set(columns.TABLES) <= set(first)
    for version in (*reversed(VERSIONS[:-1]), "base"):
        migrate(db, version)
    assert set(_schema(db)) == {"alembic_version"}
    for version in VERSIONS:
        migrate(db, version)
    assert _schema(db) == first
    with engine(db).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True, "compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def _schema(db: Database) -> dict[str, tuple[list[str], list[str], list[str], list[str]]]:
    """Return what each table consists of."""
    with engine(db).connect() as connection:
        found = inspect(connection)
        return {
            name: (
                sorted(repr(sorted(item.items(), key=str)) for item in found.get_columns(name)),
                sorted(
                    repr(sorted({**item, "dialect_options": _texts(item)}.items(), key=str))
                    for item in found.get_indexes(name)
                ),
                sorted(repr(sorted(item.items(), key=str)) for item in found.get_foreign_keys(name)),
                sorted(repr(sorted(item.items(), key=str)) for item in found.get_unique_constraints(name)),
            )
            for name in found.get_table_names()
        }


def _texts(index: Any) -> dict[str, str]:
    """Return the options of an index, such as which rows it holds, as texts that can be compared."""
    return {name: str(value) for name, value in index.get("dialect_options", {}).items()}


def several_open_at_once(backend: Backend) -> None:
    """Threads with folders of their own, as on several machines: one makes the schema, all find it."""
    opened: list[Database] = []
    homes = [backend.home / str(number) if backend.url else backend.home for number in range(4)]
    threads = [
        threading.Thread(target=lambda home=home: opened.append(Database.open(home, backend.url)))  # type: ignore[misc]
        for home in homes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(opened) == 4
    for db in opened:
        assert db.rows("SELECT version_num FROM alembic_version") == [{"version_num": VERSIONS[-1]}]
        db.close()


def a_newer_schema_is_refused(backend: Backend) -> None:
    """It is left as it is, and no password is shown."""
    db = backend.database()
    with db.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew, match="Update cmbagent_nb"):
        Database.open(backend.home, backend.url)
    with closing(db):
        assert db.rows("SELECT version_num FROM alembic_version") == [{"version_num": "9999"}]


SPECS = (migrations_go_up_and_down, several_open_at_once, a_newer_schema_is_refused)
