"""Writes the rows that resume needs to the database and to the run's journal.

Either is enough. A line of the journal that holds a row names its table, and its kind says what happened:
``{"kind": "attempt_started", "data": {"table": "step_attempts", "row": {…}}}``; a change holds ``id`` and ``values``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.store.journal import FILE_NAME

if TYPE_CHECKING:
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.states import Change


class JournaledWriter:
    """Writes the rows of one run to the database and to its journal."""

    def __init__(self, writer: Writer, work_dir: Path) -> None:
        self._writer = writer
        self.path = work_dir / FILE_NAME

    def insert(self, kind: str, table: str, row: dict[str, Any]) -> None:
        """Write a row and a line for it."""
        self._writer.insert(table, row)
        self._writer.journal(self.path, kind, {"table": table, "row": row})

    def update(self, kind: str, table: str, id: str, values: dict[str, Any]) -> None:
        """Change a row and write a line for it."""
        self._writer.update(table, id, values)
        self.changed(kind, table, id, values)

    def changed(self, kind: str, table: str, id: str, values: Mapping[str, Any]) -> None:
        """Write a line for a change that is in the database already."""
        self._writer.journal(self.path, kind, {"table": table, "id": id, "values": dict(values)})

    def state(self, change: Change) -> None:
        """Write a line for a change of status that is in the database already."""
        data = {"entity": change.entity_type, "id": change.entity_id, "from": change.from_state, "to": change.to_state}
        self._writer.journal(self.path, "state", {**data, "values": dict(change.values)})

    def session(self, session_id: str) -> None:
        """Write a line with the name of the run's session, which no row of the run holds."""
        for row in self._writer.db.rows("SELECT name FROM sessions WHERE id = :id", id=session_id):
            self.note("session", {"id": session_id, "name": row["name"]})

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write a line that holds no row."""
        self._writer.journal(self.path, kind, dict(data))
