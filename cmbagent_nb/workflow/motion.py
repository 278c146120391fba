"""What moves in a run: places for steps that run at once, waiting for a person, pausing.

Invariants
----------
- A run is ``waiting_approval`` only while a gate is open and nothing else in it can move.
- A run is ``paused`` from the moment that is asked for; then nothing begins: no model call, no process. What is
  under way comes to its end, unless it is code and it was asked to stop now; that begins anew afterwards.
- A step that waits at a gate gives its place to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from cmbagent_nb.errors import StateError

if TYPE_CHECKING:
    from cmbagent_nb.workflow.states import States

T = TypeVar("T")


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
    """What moves, waits and is paused in one run, and the run's status that follows from it."""

    def __init__(self, states: States, places: int) -> None:
        self._states = states
        self._places = asyncio.Semaphore(places)
        self._lock = asyncio.Lock()
        self._free = asyncio.Event()
        self._free.set()
        self._moving = 0
        self._waiting = 0
        self._phase = ""
        self._status = ""
        self._code: set[asyncio.Task[object]] = set()
        self._stopped: set[asyncio.Task[object]] = set()

    async def enter(self, phase: str) -> None:
        """Begin a phase of the run: ``planning`` or ``executing``."""
        self._phase = phase
        await self.settle(reason=phase)

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

    # ---- pausing

    @property
    def paused(self) -> bool:
        """Tell whether the run is held."""
        return not self._free.is_set()

    async def pause(self, *, now: bool, by: str) -> None:
        """Let nothing begin from now on; ``now`` also stops the code that runs.

        Raises
        ------
        StateError
            The run is paused already, or has not begun.
        """
        if self.paused or not self._phase:
            raise StateError("the run cannot be paused just now", "Look at its state with %cmbagent show.")
        self._free.clear()
        await self.settle(reason="paused", by=by)
        if now:
            for task in self._code:
                self._stopped.add(task)
                task.cancel()

    async def go_on(self, *, by: str) -> None:
        """End a pause.

        Raises
        ------
        StateError
            The run is not paused.
        """
        if not self.paused:
            raise StateError("the run is not paused", "Look at its state with %cmbagent show.")
        self._free.set()
        await self.settle(reason="resumed", by=by)

    async def hold(self, node_id: str) -> None:
        """Wait here, as node ``node_id``, while the run is paused."""
        while self.paused:
            held = await self._states.hold(node_id)
            await self._free.wait()
            if held:
                await self._states.node(node_id, "running", reason="resumed")

    async def run_code(self, node_id: str, start: Callable[[], Awaitable[T]]) -> T:
        """Run code by ``start``; when a pause stops it, it is started again after the pause."""
        while True:
            await self.hold(node_id)
            task = asyncio.ensure_future(start())
            self._code.add(task)
            try:
                return await task
            except asyncio.CancelledError:
                # The run's own task may have been cancelled instead: then it is not the code alone that ends. The
                # pause itself may be over already.
                current = asyncio.current_task()
                if task not in self._stopped or (current is not None and current.cancelling()):
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    raise
            finally:
                self._code.discard(task)
                self._stopped.discard(task)

    # ---- the run's status

    async def settle(self, *, reason: str = "gate", by: str = "engine") -> None:
        """Give the run the status that follows from what moves, waits and is held in it."""
        async with self._lock:
            target = self._phase
            if self.paused:
                target = "paused"
            elif self._waiting > 0 and self._moving == 0:
                target = "waiting_approval"
            if not target or target == self._status:
                return
            if self._status == "paused" and target == "waiting_approval":
                await self._states.run(self._phase, reason=reason, by=by)
            self._status = target
            await self._states.run(target, reason=reason, by=by)
