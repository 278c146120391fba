"""Finds and creates sessions by name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cmbagent_nb.ids import new_id

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection


def session_of(connection: Connection, name: str) -> str:
    """Return the id of the active session of this name, made if there is none."""
    found = connection.execute(
        "SELECT id FROM sessions WHERE name = :name AND status = 'active' ORDER BY created_at", {"name": name}
    ).scalar()
    if found is not None:
        return str(found)
    session_id = new_id()
    connection.execute(
        "INSERT INTO sessions (id, name, status, created_at) VALUES (:id, :name, 'active', :now)",
        {"id": session_id, "name": name, "now": time.time()},
    )
    return session_id
