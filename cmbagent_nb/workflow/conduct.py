"""Who stands behind a run besides its agents: code that is there before anybody is asked for it.

The engine knows no skills. A run of a skill is started with a :class:`Conduct`, which hands out the code of its steps,
judges what it made, and is told how the run ends; without one, every step is an agent's.
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
class Ready:
    """Code that need not be asked for, and where it comes from."""

    code: str
    filename: str
    explanation: str
    about: Mapping[str, Any]


class Conduct(Protocol):
    """What a run asks for what stands behind it; every method belongs to the event loop."""

    @property
    def skill_id(self) -> str:
        """The skill that the run is of."""

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept with the run, so that another process can go on with it."""

    async def begin(self, context: Context, plan: Plan) -> None:
        """Hear that the run begins, or goes on."""

    def seeds(self) -> Sequence[str]:
        """Return files of the work dir that every attempt gets, besides the input and what came before."""

    async def ready(self, context: Context, step: Step, *, other: bool) -> Ready | None:
        """Return the code of an attempt; ``None`` asks the step's agent.

        ``other`` tells that it has to be other code: the first has failed, or a person wants it done differently.

        Raises
        ------
        CMBAgentError
            There is no code, and no agent may be asked.
        """

    def guide(self, step: Step, failures: Sequence[Failure]) -> str:
        """Return what an agent is told besides its step."""

    async def judge(self, context: Context, step: Step, attempt: int, outcome: Outcome, folder: Path) -> str:
        """Say why code that was ready did not do what it should; empty when it did."""

    async def deviated(self, context: Context, step: Step, failure: Failure) -> None:
        """Hear that code that was ready failed.

        Raises
        ------
        CMBAgentError
            No agent may go on from here.
        """

    async def made(self, context: Context, step: Step, code: str, reason: str, agent: str) -> None:
        """Hear that an agent's code did a step."""

    async def end(self, context: Context, status: str, error: str) -> dict[str, Any]:
        """Hear how the run ends; returns what its result says besides."""
