"""The skills of a workspace, to look through; in a notebook they show as a browser with search and cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace


class Library:
    """What a workspace has of skills: ``ws.library()``, or ``ws.library("spectrum")``.

    Parameters
    ----------
    search
        Words that are searched for to begin with.
    """

    def __init__(self, ws: Workspace, search: str = "") -> None:
        self.ws = ws
        self.search = search

    def __str__(self) -> str:
        found = self.ws.search_skills(self.search)
        if found.empty:
            return "no skills" + (f" with the words {self.search!r}" if self.search else " yet")
        return str(found[["name", "version", "status", "tags", "description"]].to_string(index=False, max_colwidth=60))

    __repr__ = __str__
