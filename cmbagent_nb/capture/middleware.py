"""Records agents' turns and tool calls as AG2 middleware.

=================  ================================================================================
``agent_call``     one for each turn of an agent, with what it was asked and what it answered
``tool_call``      one for each tool the model called, also when it failed or does not exist; one whose
                   result is known from the recorded run is not run (subtype ``replayed``)
``sub_agent``      an agent called inside another's turn, or inside a step of another agent: a node
                   ``step_1.researcher`` of its own under the step, to which its events belong
``handoff``        one for each such call, from the caller to the called agent
=================  ================================================================================

Give every agent ``middleware=[Capture]``. The recorder is found by the place (``recorder.located_at``) in
which the turn runs; outside of a run nothing is recorded. Model calls are recorded by the gateway,
since a middleware does not see the calls that AG2 makes by itself (summaries, for instance).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ag2.events import ModelResponse, TextInput, ToolErrorEvent, ToolNotFoundEvent, ToolResultEvent
from ag2.middleware import BaseMiddleware
from ag2.utils import AGENT_CONTEXT_DEPENDENCY_KEY

from cmbagent_nb.capture.recorder import Location, Recorder, Span, current_location, current_span
from cmbagent_nb.capture.subagents import sub_agent_node

if TYPE_CHECKING:
    from ag2.annotations import Context
    from ag2.events import BaseEvent, ToolCallEvent
    from ag2.middleware.base import AgentTurn, LLMCall, ToolExecution, ToolResultType

#: Characters of a text that an event keeps; the whole prompt and reply are in ``model_replies``.
TEXT_LIMIT = 4000


def agent_name(context: Context) -> str | None:
    """Return the name of the agent whose turn a context belongs to."""
    name = getattr(context.dependencies.get(AGENT_CONTEXT_DEPENDENCY_KEY), "name", None)
    return str(name) if name else None


def bounded(text: str | None, limit: int = TEXT_LIMIT) -> str | None:
    """Return ``text`` cut to ``limit`` characters, saying so at its end."""
    if text is None or len(text) <= limit:
        return text
    return f"{text[:limit]} [... {len(text) - limit} more characters]"


class Capture(BaseMiddleware):
    """Records the turns and the tool calls of the agent that it is given to."""

    async def on_turn(self, call_next: AgentTurn, event: BaseEvent, context: Context) -> ModelResponse:
        """Record a turn as an ``agent_call``."""
        where = current_location()
        if where is None:
            return await call_next(event, context)
        recorder = where.recorder
        agent = agent_name(context) or where.agent or "agent"
        with (
            _place(recorder, where, agent, event),
            recorder.span("agent_call", agent=agent, inputs={"message": bounded(_text(event))}) as span,
        ):
            response = await call_next(event, context)
            if response.response_force:  # a tool ended the turn: no call follows that would show the others
                self._unknown_tools(list(await context.stream.history.get_events()))
            span.outputs = {"text": bounded(response.content)}
            return response

    async def on_llm_call(self, call_next: LLMCall, events: Sequence[BaseEvent], context: Context) -> ModelResponse:
        """Record the tools that the last reply called and that do not exist."""
        self._unknown_tools(events)
        return await call_next(events, context)

    def _unknown_tools(self, events: Sequence[BaseEvent]) -> None:
        """Record calls of tools that do not exist, which AG2 tells to no middleware.

        They are looked for in the history, since a subscription costs every turn a third of a millisecond.
        """
        where = current_location()
        if where is None:
            return
        for event in reversed(events):
            if isinstance(event, ModelResponse) and not event.response_force:
                return
            if isinstance(event, ToolNotFoundEvent):
                where.recorder.record(
                    "tool_call",
                    inputs={"tool": event.name},
                    status="failed",
                    error=f"there is no tool {event.name!r}",
                    meta={"tool_call_id": event.parent_id},
                )

    async def on_tool_execution(
        self, call_next: ToolExecution, event: ToolCallEvent, context: Context
    ) -> ToolResultType:
        """Record a tool's execution as a ``tool_call``."""
        where = current_location()
        if where is None:
            return await call_next(event, context)
        agent = agent_name(context) or where.agent or "agent"
        with where.recorder.span(
            "tool_call",
            agent=agent,
            inputs={"tool": event.name, "arguments": _arguments(event)},
            meta={"tool_call_id": event.id},
        ) as span:
            kept = where.recorder.recall(event, where, agent)
            if kept is not None:
                span.subtype = "replayed"
            result: ToolResultType
            if kept is None:
                result = await call_next(event, context)
                where.recorder.keep_result(event, where, agent, result)
            else:
                result = kept
            if isinstance(result, ToolErrorEvent):
                span.fail(result.error if kept is None else str(result.error))
            elif isinstance(result, ToolResultEvent):
                span.outputs = {"result": bounded(_parts(result.result.parts))}
            return result


@contextmanager
def _place(recorder: Recorder, where: Location, agent: str, event: BaseEvent) -> Iterator[None]:
    """Put an agent's turn in its place: the node it works in, or a node of its own below another agent's."""
    caller = _caller(recorder, where, agent)
    if caller is None:
        with recorder.located_at(where.node_id, where.attempt, agent):
            yield
        return
    recorder.handoff(caller, agent, "called as a sub-agent", bounded(_text(event)))
    with sub_agent_node(recorder, where, agent) as node_id, recorder.located_at(node_id, where.attempt, agent):
        yield


def _caller(recorder: Recorder, where: Location, agent: str) -> str | None:
    """Return the agent that called this one, or None when the run's own code did."""
    span: Span | None = current_span()
    while span is not None and span.recorder is recorder:
        if span.event_type == "agent_call":
            return span.agent or where.agent
        span = span.parent
    in_step = where.node_id.startswith("step_") and not where.node_id.endswith("_approval")
    return where.agent if in_step and where.agent is not None and where.agent != agent else None


def _text(event: BaseEvent) -> str | None:
    parts = getattr(event, "parts", None)
    return _parts(parts) if parts else None


def _parts(parts: Sequence[Any]) -> str:
    return "\n".join(
        part.content if isinstance(part, TextInput) else str(getattr(part, "data", part)) for part in parts
    )


def _arguments(event: ToolCallEvent) -> Any:
    try:
        return event.serialized_arguments
    except ValueError:
        return event.arguments
