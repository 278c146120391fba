"""Write the tables of a new SQLite workspace: ``python -m tests.make_schema``; once after each new migration."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from cmbagent_nb.store.database import SCHEMA, VERSIONS, Database
from cmbagent_nb.store.migrate import migrate
from cmbagent_nb.store.sqlite import connect


def migrated() -> str:
    """Return the tables that all migrations make, one after the other, as SQL."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(Path(folder))
        migrate(database, "base")  # which leaves an empty file of SQLite
        for version in VERSIONS:
            migrate(database, version)
        database.close()
        with closing(connect(Path(folder, "cmbagent.db"))) as connection:
            return "\n".join(connection.iterdump()) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(migrated())
