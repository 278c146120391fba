"""Schedules a run: concurrency slots, waiting at gates, pausing, and the run status derived from them.

Invariants
----------
- A run is ``waiting_approval`` only while a gate is open and nothing else in it is active.
- A run is ``paused`` from the moment of the request; then no model call and no process starts. What is
  under way finishes, unless it is code and the pause was asked to stop it now; that code starts again afterwards.
- A step that waits at a gate releases its slot.
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


class Slot:
    """A concurrency slot of a step; it can be released and acquired again."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False

    async def acquire(self) -> None:
        """Wait for a free slot."""
        await self._slots.acquire()
        self._held = True

    def release(self) -> None:
        """Release the slot for another step."""
        if self._held:
            self._held = False
            self._slots.release()


class RunScheduler:
    """Counts active and waiting work of one run, pauses it, and derives the run's status."""

    def __init__(self, states: States, slots: int) -> None:
        self._states = states
        self._slots = asyncio.Semaphore(slots)
        self._lock = asyncio.Lock()
        self._free = asyncio.Event()
        self._free.set()
        self._active = 0
        self._waiting = 0
        self._phase = ""
        self._status = ""
        self._code: set[asyncio.Task[object]] = set()
        self._stopped: set[asyncio.Task[object]] = set()

    async def enter(self, phase: str) -> None:
        """Begin a phase of the run: ``planning`` or ``executing``."""
        self._phase = phase
        await self.update_run_status(reason=phase)

    @asynccontextmanager
    async def active(self) -> AsyncIterator[None]:
        """Count the block as active."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Hold a concurrency slot."""
        slot = Slot(self._slots)
        await slot.acquire()
        try:
            yield slot
        finally:
            slot.release()

    @asynccontextmanager
    async def waiting(self, slot: Slot | None) -> AsyncIterator[None]:
        """Count the block, inside :meth:`active`, as waiting for a person; its slot is released meanwhile."""
        if slot is not None:
            slot.release()
        self._active -= 1
        self._waiting += 1
        try:
            await self.update_run_status()
            yield
        finally:
            self._active += 1
            self._waiting -= 1
        await self.update_run_status()
        if slot is not None:
            await slot.acquire()

    # ---- pausing

    @property
    def paused(self) -> bool:
        """Return whether the run is paused."""
        return not self._free.is_set()

    async def pause(self, *, now: bool, by: str) -> None:
        """Start nothing from now on; ``now`` also stops running code.

        Raises
        ------
        StateError
            The run is paused already, or has not begun.
        """
        if self.paused or not self._phase:
            raise StateError("the run cannot be paused just now", "Look at its state with %cmbagent show.")
        self._free.clear()
        await self.update_run_status(reason="paused", by=by)
        if now:
            for task in self._code:
                self._stopped.add(task)
                task.cancel()

    async def resume(self, *, by: str) -> None:
        """End a pause.

        Raises
        ------
        StateError
            The run is not paused.
        """
        if not self.paused:
            raise StateError("the run is not paused", "Look at its state with %cmbagent show.")
        self._free.set()
        await self.update_run_status(reason="resumed", by=by)

    async def wait_while_paused(self, node_id: str) -> None:
        """Wait here, as node ``node_id``, while the run is paused."""
        while self.paused:
            held = await self._states.hold(node_id)
            await self._free.wait()
            if held:
                await self._states.node(node_id, "running", reason="resumed")

    async def run_code(self, node_id: str, start: Callable[[], Awaitable[T]]) -> T:
        """Run code by ``start``; when a pause stops it, it is started again after the pause."""
        while True:
            await self.wait_while_paused(node_id)
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

    async def update_run_status(self, *, reason: str = "gate", by: str = "engine") -> None:
        """Set the run's status from the phase, the active and waiting counts, and the pause."""
        async with self._lock:
            target = self._phase
            if self.paused:
                target = "paused"
            elif self._waiting > 0 and self._active == 0:
                target = "waiting_approval"
            if not target or target == self._status:
                return
            if self._status == "paused" and target == "waiting_approval":
                await self._states.run(self._phase, reason=reason, by=by)
            self._status = target
            await self._states.run(target, reason=reason, by=by)
