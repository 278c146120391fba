"""Holds the objects that all parts of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.workflow.plan import Plan
from cmbagent_nb.workflow.prompts import Done
from cmbagent_nb.workflow.restore import Past

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.agents.tools import ToolBox
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.execution.launcher import Limits
    from cmbagent_nb.llm.gateway import Gateway
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.checkpoints import Checkpoints
    from cmbagent_nb.workflow.file_registry import FileRegistry
    from cmbagent_nb.workflow.gates import Answer, Gates, Question
    from cmbagent_nb.workflow.journaled import JournaledWriter
    from cmbagent_nb.workflow.scheduler import RunScheduler, Slot
    from cmbagent_nb.workflow.skill_selector import SkillSelector
    from cmbagent_nb.workflow.states import States
    from cmbagent_nb.workflow.step_source import StepSource
    from cmbagent_nb.workflow.stream import Stream


#: The modes in which a plan is made first.
PLANNED = frozenset({"planning_and_control", "deep_research"})


@dataclass(frozen=True)
class Options:
    """Options of a run; every value has its default in the settings."""

    mode: str
    agent: str
    approve: frozenset[str]
    max_attempts: int
    parallel_steps: int
    max_plan_steps: int
    n_plan_reviews: int
    step_timeout: float
    step_memory_mb: int
    #: Names and patterns of environment variables that code gets besides the usual ones.
    pass_env: str = ""
    plan: Plan | None = None
    plan_instructions: str = ""
    context_tokens: int = 12_000
    context_keep: int = 3


@dataclass
class Context:
    """One run under way. Only the event loop touches it."""

    run_id: str
    session_id: str
    name: str
    task: str
    work_dir: Path
    options: Options
    inputs: list[dict[str, Any]]
    writer: Writer
    journaled: JournaledWriter
    recorder: Recorder
    states: States
    gates: Gates
    gateway: Gateway
    registry: Registry
    file_registry: FileRegistry
    checkpoints: Checkpoints
    stream: Stream
    limits: Limits
    scheduler: RunScheduler
    created_at: float
    #: Why the run's task is cancelled: ``cancelled`` by somebody, or ``interrupted`` because the process ends.
    stopped_as: Callable[[], str] = lambda: "cancelled"
    #: Supplies the code of steps instead of agents, for a run of a skill.
    step_source: StepSource | None = None
    #: Chooses a skill for the task before planning.
    skill_selector: SkillSelector | None = None
    #: Says in words what keeps the run waiting; an empty text when all is well again.
    set_blocked_reason: Callable[[str], None] = lambda text: None
    #: Whether a person was asked about a skill: then that is where the graph begins.
    was_offered: bool = False
    plan: Plan | None = None
    plan_event: str | None = None
    last_node: str = "planning"
    past: Past = field(default_factory=Past)
    done: dict[str, Done] = field(default_factory=dict)
    #: Held while files are put into the work dir and registered: the last version is the one that is there.
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Held while a step is told what was done: steps that begin together share a summary.
    carrying: asyncio.Lock = field(default_factory=asyncio.Lock)

    def tools(self, folder: Path) -> ToolBox:
        """Return the tools of an agent that works in ``folder``."""
        from cmbagent_nb.agents.tools import ToolBox

        return ToolBox(folder)

    async def ask_gate(
        self, question: Question, node_id: str, moment: str, slot: Slot | None = None, *, still: bool = False
    ) -> Answer:
        """Ask a person at a gate of a node, which waits meanwhile; an answer from before an interruption counts.

        ``still`` leaves the node's status as it is: it had ended before the run was interrupted.
        """
        answer = self.gates.given(question, node_id, moment)
        if answer is not None:
            return answer
        if not still:
            await self.states.node(node_id, "waiting_approval", reason=question.title)
        async with self.scheduler.waiting(slot):
            answer = await self.gates.ask(
                question,
                node_id,
                moment,
                on_open=lambda approval_id: self.stream.emit(
                    "approval_requested", approval_id=approval_id, node_id=node_id, title=question.title
                ),
            )
        self.stream.emit("approval_received", approval_id=answer.approval_id, resolution=answer.resolution)
        return answer

    def hand_over(
        self, from_agent: str, to_agent: str, reason: str, passed: Any, parent: str | None = None
    ) -> dict[str, Any]:
        """Record that one agent hands over to another; returns the transition for the step's row."""
        self.recorder.record(
            "handoff",
            agent=from_agent,
            inputs={"from": from_agent, "to": to_agent, "reason": reason, "context_passed": passed},
            parent=parent,
        )
        self.stream.emit("agent_transition", **{"from": from_agent, "to": to_agent, "reason": reason})
        return {"from": from_agent, "to": to_agent, "reason": reason}
