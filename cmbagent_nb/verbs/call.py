"""Holds the arguments of a verb: the workspace, its options, and the services of the front end."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import RunNotFound

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.store.listings import Listing
    from cmbagent_nb.workspace import Workspace


def silent(_: str) -> None:
    """Say nothing."""


@dataclass
class Call:
    """One call of a verb.

    Attributes
    ----------
    options
        The parsed options and arguments.
    front
        ``cli`` or ``magic``.
    namespace
        The variables of the notebook; None on the command line.
    say
        Shows a line of progress at once.
    """

    options: argparse.Namespace
    front: str = "cli"
    namespace: Mapping[str, Any] | None = None
    say: Callable[[str], None] = silent
    given: Workspace | None = None
    _own: Workspace | None = field(default=None, repr=False)

    @property
    def ws(self) -> Workspace:
        """The workspace: the one that was given, else the default one."""
        if self.given is not None:
            return self.given
        if self._own is None:
            from cmbagent_nb.workspace import Workspace

            self._own = Workspace()
        return self._own

    @property
    def prog(self) -> str:
        """Words that a user types before a verb."""
        return "%cmbagent" if self.front == "magic" else "cmbagent"

    @property
    def by(self) -> str:
        """Name with which a decision that is made here is signed in the record."""
        return "magic" if self.front == "magic" else "command line"

    def refresh(self) -> None:
        """Find out which runs have lost their process, so that none is shown as running."""
        from cmbagent_nb.workflow.ownership import interrupt_orphans

        interrupt_orphans(self.ws._core.db, self.ws._core.writer)

    def run(self) -> Run:
        """Return the run that was named, or the newest.

        Raises
        ------
        RunNotFound, AmbiguousReference
        """
        self.refresh()
        reference = getattr(self.options, "run", None)
        if reference is None:
            newest = self.ws._core.db.rows("SELECT id FROM workflow_runs ORDER BY created_at DESC, id DESC LIMIT 1")
            if not newest:
                raise RunNotFound("there is no run yet", f'Start one with {self.prog} run "TASK".')
            reference = str(newest[0]["id"])
        return self.ws.run(reference)

    def listing(self, name: str, run: Run) -> Listing:
        """Return what the record has of a run: the rows of one of its frames, without pandas."""
        from cmbagent_nb.store import listings

        self.ws._core.writer.caught_up()
        return getattr(listings, name)(self.ws._core.db, run_id=run.id)  # type: ignore[no-any-return]

    def only(self, listing: Listing, run: Run, **wanted: str | None) -> Listing:
        """Return the rows of a listing whose columns have the wanted values; a node must be one of the run's."""
        for column, value in wanted.items():
            if value is None:
                continue
            if column == "node_id":
                known = [str(name) for name in self.listing("nodes", run).columns["node_id"]]
                if value not in known:
                    close = difflib.get_close_matches(value, known, 1)
                    hint = f"Did you mean {close[0]}?" if close else f"Its nodes are {', '.join(known)}."
                    raise RunNotFound(f"run {run.name} has no node {value!r}", hint, node=value)
            listing = listing.where(column, value)
        return listing
