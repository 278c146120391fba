"""Stores paths within the workspace relative to it, so that a workspace that is copied or moved finds its own files.

A run that was recorded where the workspace lay before is found by its journal in the folder of its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from cmbagent_nb.store.files import from_record, to_record
from cmbagent_nb.store.journal import FILE_NAME, names_run

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = (("workflow_runs", "work_dir"), ("skill_executions", "work_dir"), ("skill_executions", "notebook"))


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    home = Path(context.config.attributes["home"])
    earlier: set[str] = set()
    for table, column in COLUMNS:
        for key, path in _rows(table, column):
            stored = to_record(home, path)
            if stored == path and table == "workflow_runs":
                stored = _moved(home, key, path)
                if stored != path:
                    earlier.add(path.removesuffix(stored))
            for place in earlier:
                if stored.startswith(place):
                    stored = stored.removeprefix(place)
            if stored != path:
                _set(table, column, key, stored)


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    home = Path(context.config.attributes["home"])
    for table, column in COLUMNS:
        for key, path in _rows(table, column):
            _set(table, column, key, from_record(home, path))


def _moved(home: Path, run_id: str, path: str) -> str:
    """Return the path of a run within the workspace where it lies now; that of a run elsewhere as it is."""
    parts = Path(path).parts
    if len(parts) < 3 or parts[-2] != "runs":
        return path
    inside = f"runs/{parts[-1]}"
    return inside if path.endswith(os.sep + inside) and names_run(home / inside / FILE_NAME, run_id) else path


def _rows(table: str, column: str) -> list[Any]:
    query = sa.text(f"SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL")
    return [tuple(row) for row in op.get_bind().execute(query)]


def _set(table: str, column: str, key: str, value: str) -> None:
    statement = sa.text(f"UPDATE {table} SET {column} = :value WHERE id = :key")
    op.get_bind().execute(statement, {"value": value, "key": key})
