"""What may do a run's task without planning it, looked for before anything else happens.

The engine knows no skills: a run that looks for one is started with an :class:`Offer`. It looks, asks a person where
that is wanted, and what is taken changes how the run is done: its plan, its mode, and who stands behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context


class Offer(Protocol):
    """Looks for what can do a task; every method belongs to the event loop."""

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept with the run, so that another process can look again."""

    async def decide(self, context: Context) -> None:
        """Look and ask; what is taken stands behind the run from here on, with its plan in the run's options.

        Raises
        ------
        CMBAgentError
            Nothing is taken, and the run cannot be done otherwise.
        """
