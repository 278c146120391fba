"""Migrates a database to the current schema, with Alembic and under a lock.

Apart from :mod:`cmbagent_nb.store.database`, so that a database that is current is opened
without loading Alembic.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import StoreError
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import SCHEMA, VERSIONS
from cmbagent_nb.store.private import FILE, open_private
from cmbagent_nb.store.sqlite import connect, patiently
from cmbagent_nb.store.transient_errors import is_damage, reason

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine

    from cmbagent_nb.store.database import Database

#: Seconds to wait for another process that migrates.
LOCK_TIMEOUT = 120.0

_SPACE = "Make room on its disk and see whether its folder can be written, then try again."

#: The key of PostgreSQL's advisory lock.
_ADVISORY_KEY = 0x636D62


def migrate(database: Database, target: str = VERSIONS[-1]) -> None:
    """Bring ``database`` up, or down, to the version ``target`` (``base`` for none).

    A new SQLite database is made beside its place and put there whole: who opens it finds none, or one that is ready.
    """
    from filelock import FileLock, Timeout
    from sqlalchemy.exc import SQLAlchemyError

    lock = FileLock(database.home / "migrate.lock", timeout=LOCK_TIMEOUT, mode=FILE)
    try:
        if database.read_only:  # a copy that nobody else knows
            _in_place(database, target)
            return
        with lock:
            if database.path is not None:
                if _is_new(database.path):
                    _make(database)
                if target == VERSIONS[-1] and patiently(database.version) == target:
                    return  # another process was faster
            _in_place(database, target)
    except Timeout as error:
        raise StoreError(
            f"another process has been changing the database for {LOCK_TIMEOUT:g} s",
            f"If none does, remove {lock.lock_file} and try again.",
        ) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        if is_damage(error):
            raise database.told(error) from error
        raise StoreError(
            f"the tables of the database cannot be made or changed ({reason(error)})",
            _SPACE if database.is_sqlite else "The user of the database needs the right to create tables in it.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"the database in {database.home} cannot be made ({error.strerror or error})", _SPACE, path=database.home
        ) from error


def _in_place(database: Database, target: str) -> None:
    if database.path is not None:
        patiently(lambda: _use_log(database))
    database.pool.dispose()
    with engine(database).connect() as connection, connection.begin():
        if not database.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_KEY})")
        _run(connection, target, database.home)


def engine(database: Database) -> Engine:
    """Return an engine of SQLAlchemy, which only migrations need; it keeps no connection."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    if database.path is None:
        return create_engine(database.url, poolclass=NullPool)
    source = database.source
    assert source is not None
    made = create_engine("sqlite+pysqlite://", creator=lambda: _connected(source), poolclass=NullPool)
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return made


def _connected(source: Path) -> sqlite3.Connection:
    connection = connect(source)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _use_log(database: Database) -> None:
    source = database.source
    assert source is not None
    with closing(connect(source)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _is_new(path: Path) -> bool:
    return not path.exists() or (path.stat().st_size == 0 and not path.with_name(path.name + "-wal").exists())


def _make(database: Database) -> None:
    """Make a database of the current schema under another name and move it to its place; under the lock."""
    path = database.path
    assert path is not None
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink()  # a process died while it made one
    fresh = path.with_name(f".{path.name}.{new_id()}")
    os.close(open_private(str(fresh), os.O_CREAT | os.O_EXCL | os.O_RDWR))
    try:
        with closing(connect(fresh)) as connection:  # the last connection takes the log into the file
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA.read_text(encoding="utf-8"))
    except BaseException:
        for part in path.parent.glob(f"{fresh.name}*"):
            part.unlink()
        raise
    fresh.replace(path)


def configuration(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration; the scripts are part of the package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _run(connection: Connection, target: str, home: Path) -> None:
    from alembic import command
    from alembic.migration import MigrationContext

    config = configuration(connection)
    config.attributes["home"] = home
    current = MigrationContext.configure(connection).get_current_revision()
    if target == "base" or (current in VERSIONS and VERSIONS.index(current) > VERSIONS.index(target)):
        command.downgrade(config, target)
    else:
        command.upgrade(config, target)
