"""Records every action of a run as one event.

=====================  ==========================================================================
one row an action      inserted when it starts (``running``), updated when it ends
parent                 the span around it, by a context variable: tasks and threads inherit it
order                  taken when it starts, from one counter a run: a total order
place                  ``recorder.located_at(...)`` names node, attempt and agent for all that is inside
no harm                nothing here raises into the run or waits; faults are counted in ``faults``
capture off            messages and fine-grained events stop; those in ``KEPT`` stay
=====================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from cmbagent_nb.ids import new_id
from cmbagent_nb.logs import get_logger

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.writer import Writer

log = get_logger(__name__)

#: Events that are written even when capture is turned off: resume and lineage stand on them.
KEPT = frozenset({"code_exec", "file_gen", "approval", "retry", "state_transition", "skill", "error"})

#: Events whose depth is remembered, so that one that has ended can still be given as a parent.
REMEMBERED = 10_000


class _Current:
    def __repr__(self) -> str:
        return "CURRENT"


#: The parent of a new event unless another is given: the span around it.
CURRENT = _Current()
Parent = str | None | _Current


@dataclass(frozen=True, slots=True)
class Location:
    """The place in a run where something happens."""

    recorder: Recorder = field(repr=False)
    node_id: str
    attempt: int = 1
    agent: str | None = None


_where: ContextVar[Location | None] = ContextVar("cmbagent_where", default=None)
_span: ContextVar[Span | None] = ContextVar("cmbagent_span", default=None)


def current_location() -> Location | None:
    """Return the place in a run that the caller is in, or None outside of a run."""
    return _where.get()


def current_recorder() -> Recorder | None:
    """Return the recorder of the run that the caller is in, or None outside of a run."""
    where = _where.get()
    return None if where is None else where.recorder


def current_span() -> Span | None:
    """Return the span that the caller is in, or None."""
    return _span.get()


class Span:
    """An action under way. Set :attr:`outputs`, :attr:`subtype` and :attr:`meta` before it ends.

    An exception that leaves the block makes it ``failed`` (``cancelled`` for a cancellation) and goes on.
    """

    __slots__ = (
        "_ended",
        "_row",
        "_started",
        "_token",
        "agent",
        "depth",
        "error",
        "event_type",
        "id",
        "meta",
        "node_id",
        "outputs",
        "parent",
        "recorded",
        "recorder",
        "status",
        "subtype",
    )

    def __init__(self, recorder: Recorder, event_type: str, node_id: str | None, agent: str | None) -> None:
        self.recorder = recorder
        self.event_type = event_type
        self.node_id = node_id
        self.agent = agent
        self.id = new_id()
        self.parent: Span | None = None
        self.depth = 0
        self.subtype: str | None = None
        self.outputs: Any = None
        self.meta: dict[str, Any] | None = None
        self.status = "completed"
        self.error: str | None = None
        self.recorded = False
        self._started = time.perf_counter()
        self._ended = False
        self._row: dict[str, Any] = {}
        self._token: Token[Span | None] | None = None

    @property
    def reference(self) -> str | None:
        """The id to store in other rows: None when capture is off and this event is not written."""
        return self.id if self.recorded else None

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the span started."""
        return (time.perf_counter() - self._started) * 1e3

    def fail(self, error: str | BaseException) -> None:
        """Mark the action as failed without an exception."""
        self.status, self.error = "failed", _error_text(error)

    def __enter__(self) -> Span:
        self._token = _span.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if self._token is not None:
            try:
                _span.reset(self._token)
            except ValueError:  # left in another context than it was entered in
                _span.set(self.parent)
        if error is not None:
            if isinstance(error, asyncio.CancelledError | concurrent.futures.CancelledError | GeneratorExit):
                self.status = "cancelled"
            else:
                self.fail(error)
        self.recorder._end(self)
        return False


class Recorder:
    """Turns what happens in one run into rows of ``execution_events`` and ``messages``.

    Parameters
    ----------
    writer
        Takes the rows; it neither blocks nor raises.
    first_order
        The number of the first event; a resumed run goes on from its last one.
    enabled
        False (``CMBAGENT_CAPTURE=0``) stops messages and all events but those in ``KEPT``.
    roles
        The role of each agent by its name, for ``agent_role``; may be filled later.
    """

    def __init__(
        self,
        writer: Writer,
        run_id: str,
        session_id: str,
        *,
        first_order: int = 1,
        enabled: bool = True,
        roles: Mapping[str, str] | None = None,
    ) -> None:
        self.writer = writer
        self.run_id = run_id
        self.session_id = session_id
        self.enabled = enabled
        self.roles: dict[str, str] = dict(roles or {})
        self.faults = 0
        #: The ``execution_order`` of the newest event.
        self.newest = first_order - 1
        #: Looks up what a tool gave when the run was recorded: (call, place, agent) to its result or None.
        self.recall: Callable[[Any, Location, str], Any] = lambda call, where, agent: None
        #: Keeps what a tool gave: (call, place, agent, result).
        self.keep_result: Callable[[Any, Location, str, Any], None] = lambda call, where, agent, result: None
        #: Changes the status of a sub-agent's node: (connection, node, status). The state machine is above this room.
        self.change_node: Callable[[Connection, str, str], None] = lambda connection, node, status: None
        self._order = itertools.count(first_order)
        self._depths: dict[str, int] = {}

    @contextmanager
    def located_at(self, node_id: str, attempt: int = 1, agent: str | None = None) -> Iterator[Location]:
        """Say where in the run everything inside the block happens."""
        where = Location(self, node_id, attempt, agent)
        before = _where.get()
        token = _where.set(where)
        try:
            yield where
        finally:
            try:
                _where.reset(token)
            except ValueError:  # left in another context than it was entered in
                _where.set(before)

    def current_location(self) -> Location | None:
        """Return the place in this run that the caller is in."""
        where = _where.get()
        return where if where is not None and where.recorder is self else None

    def current(self) -> Span | None:
        """Return the span of this run that the caller is in."""
        span = _span.get()
        return span if span is not None and span.recorder is self else None

    def span(
        self,
        event_type: str,
        *,
        subtype: str | None = None,
        agent: str | None = None,
        role: str | None = None,
        inputs: Any = None,
        meta: dict[str, Any] | None = None,
        parent: Parent = CURRENT,
    ) -> Span:
        """Start an action; use it as ``with recorder.span(...) as span:``."""
        where = self.current_location()
        agent = agent or (where.agent if where else None)
        span = Span(self, event_type, where.node_id if where else None, agent)
        span.subtype, span.meta = subtype, meta
        try:
            self._start(span, where, role, inputs, parent)
        except Exception as error:
            self._fault(error)
        return span

    def record(
        self,
        event_type: str,
        *,
        subtype: str | None = None,
        agent: str | None = None,
        role: str | None = None,
        inputs: Any = None,
        outputs: Any = None,
        meta: dict[str, Any] | None = None,
        parent: Parent = CURRENT,
        status: str = "completed",
        error: str | None = None,
    ) -> str:
        """Record something that takes no time; return its event's id."""
        span = self.span(event_type, subtype=subtype, agent=agent, role=role, inputs=inputs, meta=meta, parent=parent)
        span.outputs, span.status, span.error = outputs, status, error
        span._started = time.perf_counter()
        self._end(span, instantaneous=True)
        return span.id

    def handoff(
        self,
        from_agent: str,
        to_agent: str,
        reason: str = "",
        context_passed: Any = None,
    ) -> str:
        """Record that one agent hands over to another, and what it passes on."""
        inputs = {"from": from_agent, "to": to_agent, "reason": reason, "context_passed": context_passed}
        return self.record("handoff", agent=from_agent, inputs=inputs)

    def message(
        self,
        *,
        sender: str,
        recipient: str,
        content: str,
        event_id: str | None = None,
        role: str | None = None,
        reasoning: str | None = None,
        tool_calls: Any = None,
        code_generated: str | None = None,
        execution_result: Any = None,
        duration_ms: float | None = None,
        tokens: int | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Record what one agent said to another."""
        if not self.enabled:
            return
        try:
            where = self.current_location()
            span = self.current()
            self.writer.insert(
                "messages",
                {
                    "run_id": self.run_id,
                    "session_id": self.session_id,
                    "node_id": where.node_id if where else None,
                    "event_id": event_id or (span.reference if span else None),
                    "sender": sender,
                    "recipient": recipient,
                    "content": content,
                    "agent_role": role or self.roles.get(sender),
                    "reasoning": reasoning,
                    "tool_calls": tool_calls,
                    "code_generated": code_generated,
                    "execution_result": execution_result,
                    "created_at": time.time(),
                    "duration_ms": duration_ms,
                    "tokens": tokens,
                    "meta": meta,
                },
            )
        except Exception as error:
            self._fault(error)

    def write(self, change: Callable[[Connection], Any]) -> None:
        """Let the writer make ``change`` in its own transaction; a failure is a fault, not an error."""

        def settled(future: concurrent.futures.Future[Any]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._fault(error)

        try:
            self.writer.call(change, touches=[self.run_id]).add_done_callback(settled)
        except Exception as error:
            self._fault(error)

    def _start(self, span: Span, where: Location | None, role: str | None, inputs: Any, parent: Parent) -> None:
        around = self.current()
        span.parent = around
        above = around
        while above is not None and not above.recorded:
            above = above.parent
        if isinstance(parent, _Current):
            parent_id = above.id if above is not None else None
            span.depth = above.depth + 1 if above is not None else 0
        else:
            # With capture off the parent may not be written: a link to nothing would cost the writer a second try.
            parent_id = parent if self.enabled or parent in self._depths else None
            span.depth = 0 if parent is None else self._depths.get(parent, 0) + 1
        if not (self.enabled or span.event_type in KEPT):
            return
        span.recorded = True
        self.newest = order = next(self._order)
        self._depths[span.id] = span.depth
        if len(self._depths) > REMEMBERED:
            del self._depths[next(iter(self._depths))]
        span._row = {
            "id": span.id,
            "run_id": self.run_id,
            "session_id": self.session_id,
            "node_id": span.node_id,
            "parent_event_id": parent_id,
            "event_type": span.event_type,
            "event_subtype": span.subtype,
            "agent_name": span.agent,
            "agent_role": role or (self.roles.get(span.agent) if span.agent else None),
            "attempt": where.attempt if where else None,
            "status": "running",
            "started_at": time.time(),
            "ended_at": None,
            "duration_ms": None,
            "inputs": inputs,
            "outputs": None,
            "error": None,
            "meta": dict(span.meta) if span.meta is not None else None,
            "execution_order": order,
            "depth": span.depth,
        }
        self.writer.draft("execution_events", span._row)

    def _end(self, span: Span, *, instantaneous: bool = False) -> None:
        if span._ended or not span.recorded:
            return
        span._ended = True
        try:
            # The clock may be set back meanwhile; what is counted from the start does not depend on it.
            taken = 0.0 if instantaneous else span.elapsed_ms
            values: dict[str, Any] = {
                "status": span.status,
                "ended_at": span._row["started_at"] + taken / 1e3,
                "duration_ms": taken,
            }
            # What stays as it was is not written again: an index would be brought up to date for nothing.
            subtype = span.subtype or _subtype(span)
            if subtype != span._row["event_subtype"]:
                values["event_subtype"] = subtype
            if span.outputs is not None:
                values["outputs"] = span.outputs
            if span.error is not None:
                values["error"] = span.error
            if _differ(span.meta, span._row["meta"]):
                values["meta"] = span.meta
            self.writer.amend("execution_events", span._row, values)
        except Exception as error:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        self.faults += 1
        if self.faults == 1:
            log.warning("an event of run %s could not be recorded: %r", self.run_id, error)


_PAIRED = frozenset({"agent_call", "model_call", "tool_call", "code_exec"})


def _subtype(span: Span) -> str | None:
    if span.event_type not in _PAIRED:
        return None
    return "complete" if span.status == "completed" else "error"


def _differ(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except Exception:  # an array, for instance, does not say
        return True


def _error_text(error: str | BaseException) -> str:
    if isinstance(error, str):
        return error
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
