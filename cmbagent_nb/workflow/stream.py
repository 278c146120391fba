"""Streams the events of a run as they happen, typed, for callbacks and for ``async for``.

| invariant | |
|---|---|
| a listener never holds the run up | a callback has a thread of its own, an iteration is on the listener's loop |
| memory is bounded | at most :data:`WAITING` events wait for a listener that is slower than the run |
| nothing is lost | of those that come while so many wait, the place in the record is kept, to read them there |
| a callback that fails never hurts the run | after five failures in a row it is not called any more |
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from cmbagent_nb.logs import get_logger

LOG = get_logger(__name__)

#: Failures in a row after which a callback is given up.
PATIENCE = 5
#: The most events that wait for one listener.
WAITING = 1000


class StreamEvent(TypedDict):
    """One thing that happened; ``seq`` counts from 1, without gaps for a listener that is not slower than the run."""

    seq: int
    event_type: str
    timestamp: float
    run_id: str
    session_id: str
    data: dict[str, Any]


#: Reads what is in the record after one place in its order, up to another: a page of it.
Reader = Callable[[int, int], list[dict[str, Any]]]


class Stream:
    """The events of one run, for as many listeners as there are."""

    def __init__(self, run_id: str, session_id: str) -> None:
        self._run_id = run_id
        self._session_id = session_id
        self._lock = threading.Lock()
        self._seq = 0
        self._taps: list[Callable[[StreamEvent], Any]] = []
        self._handlers: list[_Handler] = []
        self._followers: list[_Backlog] = []
        self._closed = False
        #: The ``execution_order`` of the newest event in the record, which tells a slow listener where to read on.
        self.position: Callable[[], int] = lambda: 0

    def emit(self, event_type: str, **data: Any) -> None:
        """Tell every listener; callable from any thread, never raises and never waits."""
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
            position = self.position()
            for handler in self._handlers:
                if handler.kind in ("*", event_type):
                    handler.backlog.put(event, position)
            for backlog in self._followers:
                backlog.put(event, position)
            taps = list(self._taps)
        for tap in taps:
            tap(event)

    def on(self, kind: str, function: Callable[[StreamEvent], Any]) -> Callable[[], None]:
        """Call ``function`` with every event of ``kind`` (``"*"`` for all), in order; returns how to stop it.

        It is called on a thread of its own. One that falls too far behind is told so by an event ``events_missed``.
        """
        handler = _Handler(kind, function)
        with self._lock:
            if not self._closed:
                self._handlers.append(handler)
            else:
                handler.backlog.close()  # nothing comes any more: its thread ends

        def stop() -> None:
            with self._lock:
                if handler in self._handlers:
                    self._handlers.remove(handler)
            handler.backlog.close(now=True)

        return stop

    def tap(self, function: Callable[[StreamEvent], Any]) -> None:
        """Call ``function`` with every event at the very moment, where it happens: it must neither wait nor raise."""
        with self._lock:
            self._taps.append(function)

    async def follow(self, read: Reader | None = None) -> AsyncIterator[StreamEvent]:
        """Yield events from now on until the run ends.

        Where the listener was slower than the run, what it missed comes as events ``event_captured``, one for each
        row that ``read`` finds in the record; without ``read`` as one event ``events_missed``.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(news.set)
            except RuntimeError:  # the listener's loop is closed: nobody is there to be told
                return

        backlog = _Backlog(wake)
        with self._lock:
            if self._closed:
                return
            self._followers.append(backlog)
        try:
            while True:
                news.clear()
                item = backlog.take()
                if item is None:
                    if backlog.ended:
                        return
                    await news.wait()
                elif isinstance(item, _Missed) and read is not None:
                    after = item.after
                    while rows := await asyncio.to_thread(read, after, item.upto):
                        for row in rows:
                            yield {**item.event(), "event_type": "event_captured", "data": row}
                        after = rows[-1]["execution_order"]
                else:
                    yield item.event() if isinstance(item, _Missed) else item
        finally:
            with self._lock:
                self._followers.remove(backlog)

    def close(self) -> None:
        """End all iterations once they have had what waits for them; called once when the run has ended."""
        with self._lock:
            self._closed = True
            backlogs = [*self._followers, *(handler.backlog for handler in self._handlers)]
        for backlog in backlogs:
            backlog.close()

    def drain(self, timeout: float) -> bool:
        """Wait until every callback has been called with what waits for it; tell whether all have, once closed."""
        until = time.monotonic() + timeout
        with self._lock:
            handlers = list(self._handlers)
        left = [handler for handler in handlers if not handler.join(until - time.monotonic())]
        return not left


@dataclass
class _Missed:
    """Events that are not kept for a listener, since too many wait for it: which they are, and where to read them."""

    first: StreamEvent
    last: StreamEvent
    after: int
    upto: int

    def event(self) -> StreamEvent:
        first, last = self.first["seq"], self.last["seq"]
        data = {"first_seq": first, "last_seq": last, "after": self.after, "upto": self.upto}
        return {**self.last, "event_type": "events_missed", "data": data}


class _Backlog:
    """Events that wait for one listener, in order, and the number of those that were dropped."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[StreamEvent | _Missed] = deque()
        self._position = 0
        self._asleep = False
        self._closed = False

    def put(self, event: StreamEvent, position: int) -> None:
        """Add an event, at this place of the record."""
        with self._lock:
            if self._closed:
                return
            newest = self._waiting[-1] if self._waiting else None
            if len(self._waiting) < WAITING:
                self._waiting.append(event)
                self._position = position
            elif isinstance(newest, _Missed):
                newest.last, newest.upto = event, position
            else:
                self._waiting.append(_Missed(event, event, self._position, position))
            wake, self._asleep = self._asleep, False
        if wake:
            self._wake()

    def take(self) -> StreamEvent | _Missed | None:
        """Return what is next; None where nothing waits, and then the listener is woken by what comes."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._asleep = True
            return None

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        with self._lock:
            return self._closed and not self._waiting

    def close(self, *, now: bool = False) -> None:
        """Let nothing more in; with ``now`` what waits is dropped."""
        with self._lock:
            self._closed = True
            if now:
                self._waiting.clear()
        self._wake()


class _Handler:
    """A callback and the thread that calls it: in the context of the cell that gave it, so that it prints there."""

    def __init__(self, kind: str, function: Callable[[StreamEvent], Any]) -> None:
        self.kind = kind
        self._function = function
        self._failures = 0
        self._news = threading.Event()
        self.backlog = _Backlog(self._news.set)
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="cmbagent-callback", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; a callback that waits itself is not waited for."""
        if threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            self._news.clear()
            item = self.backlog.take()
            if item is not None:
                self._call(item.event() if isinstance(item, _Missed) else item)
            elif self.backlog.ended:
                return
            else:
                self._news.wait()

    def _call(self, event: StreamEvent) -> None:
        if self._failures >= PATIENCE:
            return
        try:
            outcome = self._function(event)
            if inspect.iscoroutine(outcome):
                outcome.close()
                raise TypeError("an async callback was given; use `async for event in run.stream()` instead")
            self._failures = 0
        except Exception as error:
            self._failures += 1
            LOG.warning("a callback for %s failed (%s: %s)", event["event_type"], type(error).__name__, error)
