"""Declares the protocol for choosing a skill before planning.

The engine does not import skills: a run that looks for one is started with a :class:`SkillSelector`. It searches, asks
a person where that is wanted, and the chosen skill sets the run's plan, its mode and its step source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cmbagent_nb.workflow.context import Context


class SkillSelector(Protocol):
    """Selects a skill for a task; every method is called on the event loop."""

    def to_dict(self) -> dict[str, Any]:
        """Return a description stored with the run, from which another process can search again."""

    async def select(self, context: Context) -> None:
        """Search and ask; set the run's step source, and its plan in the run's options, to the chosen skill.

        Raises
        ------
        CMBAgentError
            No skill was chosen, and the run cannot be done otherwise.
        """
