"""What happens in a run, as it happens: typed events for callbacks and for ``async for``.

A callback that fails never hurts the run: it is counted, and after five failures in a row it is
not called any more.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypedDict

LOG = logging.getLogger(__name__)

#: Failures in a row after which a callback is given up.
PATIENCE = 5


class StreamEvent(TypedDict):
    """One thing that happened; ``seq`` counts from 1 without gaps."""

    seq: int
    event_type: str
    timestamp: float
    run_id: str
    session_id: str
    data: dict[str, Any]


class Stream:
    """The events of one run, for as many listeners as there are."""

    def __init__(self, run_id: str, session_id: str) -> None:
        self._run_id = run_id
        self._session_id = session_id
        self._lock = threading.Lock()
        self._seq = 0
        self._handlers: list[_Handler] = []
        self._queues: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[StreamEvent | None]]] = []
        self._closed = False

    def emit(self, event_type: str, **data: Any) -> None:
        """Tell every listener; callable from any thread, never raises."""
        with self._lock:
            self._seq += 1
            event: StreamEvent = {
                "seq": self._seq,
                "event_type": event_type,
                "timestamp": time.time(),
                "run_id": self._run_id,
                "session_id": self._session_id,
                "data": data,
            }
            handlers, queues = list(self._handlers), list(self._queues)
        for handler in handlers:
            handler(event)
        for loop, queue in queues:
            _put(loop, queue, event)

    def on(self, kind: str, function: Callable[[StreamEvent], Any]) -> Callable[[], None]:
        """Call ``function`` with every event of ``kind`` (``"*"`` for all); returns how to stop it."""
        handler = _Handler(kind, function)
        with self._lock:
            self._handlers.append(handler)

        def stop() -> None:
            with self._lock:
                if handler in self._handlers:
                    self._handlers.remove(handler)

        return stop

    async def follow(self) -> AsyncIterator[StreamEvent]:
        """Yield events from now on until the run ends."""
        queue: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        entry = (asyncio.get_running_loop(), queue)
        with self._lock:
            if self._closed:
                return
            self._queues.append(entry)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            with self._lock:
                self._queues.remove(entry)

    def close(self) -> None:
        """End all iterations; called once when the run has ended."""
        with self._lock:
            self._closed = True
            queues = list(self._queues)
        for loop, queue in queues:
            _put(loop, queue, None)


def _put(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[StreamEvent | None], event: StreamEvent | None) -> None:
    try:
        loop.call_soon_threadsafe(queue.put_nowait, event)
    except RuntimeError:  # the listener's loop is closed: nobody is there to be told
        return


class _Handler:
    def __init__(self, kind: str, function: Callable[[StreamEvent], Any]) -> None:
        self.kind = kind
        self.function = function
        self.failures = 0

    def __call__(self, event: StreamEvent) -> None:
        if self.failures >= PATIENCE or self.kind not in ("*", event["event_type"]):
            return
        try:
            outcome = self.function(event)
            if inspect.iscoroutine(outcome):
                outcome.close()
                raise TypeError("an async callback was given; use `async for event in run.stream()` instead")
            self.failures = 0
        except Exception as error:
            self.failures += 1
            LOG.warning("a callback for %s failed (%s: %s)", event["event_type"], type(error).__name__, error)
