"""Declares the protocol by which a skill supplies the code of steps to the engine instead of an agent.

The engine does not import skills. A run of a skill is started with a :class:`StepSource`, which supplies the code of
its steps, checks the results, and is notified of the run's end; without one, agents write the code of every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cmbagent_nb.llm.spec import ModelSpec

if TYPE_CHECKING:
    from cmbagent_nb.execution.launcher import Outcome
    from cmbagent_nb.workflow.context import Context
    from cmbagent_nb.workflow.plan import Plan, Step
    from cmbagent_nb.workflow.prompts import Failure

#: The mode of a run of a skill.
MODE = "skill"
#: The model of a run that has none: the skill's code needs none, and nothing else can be asked for.
NO_MODEL = ModelSpec("none", "")


@dataclass(frozen=True)
class PreparedCode:
    """Code of a step that was not written by an agent of this run, and its origin."""

    code: str
    filename: str
    explanation: str
    about: Mapping[str, Any]


class StepSource(Protocol):
    """Supplies the code of a run's steps; every method is called on the event loop."""

    @property
    def skill_id(self) -> str:
        """Id of the skill that the run executes."""

    def to_dict(self) -> dict[str, Any]:
        """Return a description stored with the run, from which another process can resume it."""

    async def begin(self, context: Context, plan: Plan) -> None:
        """Handle the start or the resume of the run."""

    def seeds(self) -> Sequence[str]:
        """Return files of the work dir that seed every attempt, besides the input and the files of earlier steps."""

    async def code_for(self, context: Context, step: Step, *, other: bool) -> PreparedCode | None:
        """Return the code of an attempt; ``None`` asks the step's agent.

        ``other`` asks for other code: the first has failed, or a person wants it done differently.

        Raises
        ------
        CMBAgentError
            There is no code, and no agent may be asked.
        """

    def guide(self, step: Step, failures: Sequence[Failure]) -> str:
        """Return text for the agent's prompt besides the step."""

    async def check_outcome(self, context: Context, step: Step, attempt: int, outcome: Outcome, folder: Path) -> str:
        """Return why supplied code did not do what it should; an empty string when it did."""

    async def on_deviation(self, context: Context, step: Step, failure: Failure) -> None:
        """Handle the failure of supplied code.

        Raises
        ------
        CMBAgentError
            No agent may continue from here.
        """

    async def on_adapted(self, context: Context, step: Step, code: str, reason: str, agent: str) -> None:
        """Handle the success of an agent's code at a step."""

    async def end(self, context: Context, status: str, error: str) -> dict[str, Any]:
        """Handle the end of the run and return additions to its result."""
