"""What all parts of one run share while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
    from cmbagent_nb.workflow.credits import Credits
    from cmbagent_nb.workflow.gates import Gates
    from cmbagent_nb.workflow.states import States
    from cmbagent_nb.workflow.stream import Stream


@dataclass(frozen=True)
class Options:
    """How a run is to be done; every value has its default in the settings."""

    mode: str
    agent: str
    approve: frozenset[str]
    max_attempts: int
    parallel_steps: int
    max_plan_steps: int
    n_plan_reviews: int
    step_timeout: float
    step_memory_mb: int
    plan: Plan | None = None
    plan_instructions: str = ""


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
    recorder: Recorder
    states: States
    gates: Gates
    gateway: Gateway
    registry: Registry
    credits: Credits
    stream: Stream
    limits: Limits
    motion: Motion
    created_at: float
    plan: Plan | None = None
    plan_event: str | None = None
    last_node: str = "planning"
    past: Past = field(default_factory=Past)
    done: dict[str, Done] = field(default_factory=dict)
    #: Held while files are put into the work dir and credited: the last version is the one that is there.
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def journal(self) -> Path:
        """The run's journal."""
        return self.work_dir / "journal.jsonl"

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write a line into the run's journal."""
        self.writer.journal(self.journal, kind, dict(data))

    def tools(self, folder: Path) -> ToolBox:
        """Return the tools of an agent that works in ``folder``."""
        from cmbagent_nb.agents.tools import ToolBox

        return ToolBox(folder)

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


class Place:
    """One of the places for steps that run at once; it can be given up and taken again."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def take(self) -> None:
        """Wait for a free place."""
        await self._places.acquire()
        self._held = True

    def give(self) -> None:
        """Let another step have the place."""
        if self._held:
            self._held = False
            self._places.release()


class Motion:
    """Counts what moves in a run, and gives out the places for steps that run at once.

    A run waits for a person only when nothing else in it can move; then, and only then, its status is
    ``waiting_approval``. A step that waits at a gate gives its place to another.
    """

    def __init__(self, states: States, places: int) -> None:
        self._states = states
        self._places = asyncio.Semaphore(places)
        self._lock = asyncio.Lock()
        self._moving = 0
        self._waiting = 0
        self._stands = False
        self._returns_to = "planning"

    def phase(self, status: str) -> None:
        """Say which status the run has while something moves: planning or executing."""
        self._returns_to = status

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Count the block as something that moves."""
        self._moving += 1
        try:
            yield
        finally:
            self._moving -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """Hold one of the places for steps that run at once."""
        place = Place(self._places)
        await place.take()
        try:
            yield place
        finally:
            place.give()

    @asynccontextmanager
    async def waiting(self, place: Place | None) -> AsyncIterator[None]:
        """Count the block, inside :meth:`moving`, as waiting for a person; it gives up its place meanwhile."""
        if place is not None:
            place.give()
        self._moving -= 1
        self._waiting += 1
        try:
            await self.settle()
            yield
        finally:
            self._moving += 1
            self._waiting -= 1
        await self.settle()
        if place is not None:
            await place.take()

    async def settle(self) -> None:
        """Look again whether the run waits for a person, after something has begun or ended."""
        async with self._lock:
            stands = self._waiting > 0 and self._moving == 0
            if stands != self._stands:
                self._stands = stands
                await self._states.run("waiting_approval" if stands else self._returns_to, reason="gate")
