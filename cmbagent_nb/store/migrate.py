"""Bring a database to the current schema, with Alembic and under a lock.

Apart from :mod:`cmbagent_nb.store.database`, so that a database that is current is opened
without loading Alembic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store.database import VERSIONS
from cmbagent_nb.store.trouble import reason

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from cmbagent_nb.store.database import Database

#: Seconds to wait for another process that migrates.
LOCK_TIMEOUT = 120.0

#: The key of PostgreSQL's advisory lock.
_ADVISORY_KEY = 0x636D62


def migrate(database: Database, target: str = VERSIONS[-1]) -> None:
    """Bring ``database`` up, or down, to the version ``target`` (``base`` for none)."""
    from filelock import FileLock, Timeout
    from sqlalchemy.exc import SQLAlchemyError

    lock = FileLock(database.home / "migrate.lock", timeout=LOCK_TIMEOUT)
    try:
        with lock, database.engine.connect().execution_options(writing=True) as connection, connection.begin():
            if not database.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_KEY})")
            _run(connection, target)
    except Timeout as error:
        raise StoreError(
            f"another process has been changing the database for {LOCK_TIMEOUT:g} s",
            f"If none does, remove {lock.lock_file} and try again.",
        ) from error
    except SQLAlchemyError as error:
        raise StoreError(
            f"the tables of the database cannot be made or changed ({reason(error)})",
            "The user of the database needs the right to create tables in it.",
        ) from error


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration; the scripts are part of the package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _run(connection: Connection, target: str) -> None:
    from alembic import command
    from alembic.migration import MigrationContext

    config = configuration(connection)
    current = MigrationContext.configure(connection).get_current_revision()
    if target == "base" or (current in VERSIONS and VERSIONS.index(current) > VERSIONS.index(target)):
        command.downgrade(config, target)
    else:
        command.upgrade(config, target)
