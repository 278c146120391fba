"""The workspace that the magics work in: the same one as the functions of the package use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace


def workspace(session: str | None = None) -> Workspace:
    """Return the default workspace, in a session if one is named; making the object is cheap."""
    from cmbagent_nb.workspace import Workspace

    return Workspace(session=session or "")
