"""Converts a parsed reply into AG2's response, and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cmbagent_nb.llm.reading.body import REFUSED, Reply, finish, texts
from cmbagent_nb.llm.reading.escapes import whole
from cmbagent_nb.llm.reading.reasoning import split_reasoning
from cmbagent_nb.llm.reading.tool_calls import Call, calls_in, read_call, unique

if TYPE_CHECKING:
    from ag2.events import ModelResponse

#: Where a tool call says why it cannot be made.
FAULT = "fault"


def read_response(
    response: ModelResponse,
    reply: Reply | None,
    *,
    thoughts: str = "",
    structured: bool,
    messages: Sequence[Any] = (),
    tools: Sequence[str] = (),
) -> tuple[ModelResponse, str]:
    """Return the response with what was read of the answer, and the reasoning that was set aside.

    Parameters
    ----------
    reply
        The answer as it was read where it came in; None where a provider's package brought it in another way
        (streamed, from a playbook), so that it is read from its response.
    thoughts
        The reasoning that the provider's package told.
    structured
        Whether the answer is an object.
    messages
        The conversation so far, whose tool calls have ids that are taken.
    tools
        The tools that the model was offered.
    """
    from ag2.events import ModelMessage, ToolCallsEvent

    read = reply if reply is not None else _of(response, thoughts)
    text, set_apart = split_reasoning(read.text, structured=structured)
    reasoning = "\n\n".join(part for part in (read.reasoning or whole(thoughts), set_apart) if part)
    if read.finish_reason == REFUSED and read.refusal:
        text = read.refusal
    calls = list(read.calls)
    if not calls:
        text, calls = calls_in(text, tools)
    made = copy.copy(response)
    metadata = dict(response.metadata)
    made.message = ModelMessage(text, metadata=metadata) if text or metadata else None
    made.tool_calls = ToolCallsEvent(_calls(response, unique(calls, _taken(messages))))
    made.finish_reason = read.finish_reason
    made.model = whole(response.model) if isinstance(response.model, str) and response.model else None
    return made, reasoning


def _of(response: ModelResponse, thoughts: str) -> Reply:
    ended = finish(response.finish_reason)
    return Reply(
        text=texts(response.content),
        reasoning=whole(thoughts),
        calls=tuple(
            read_call(call.id, call.name, call.arguments, cut=ended == "length") for call in response.tool_calls.calls
        ),
        finish_reason=ended,
    )


def _calls(response: ModelResponse, calls: Sequence[Call]) -> list[Any]:
    """Return the calls as AG2's events; what its own events carry for the provider stays with them."""
    from ag2.events import ToolCallEvent

    own = response.tool_calls.calls
    events = []
    for index, call in enumerate(calls):
        event = copy.copy(own[index]) if len(own) == len(calls) else ToolCallEvent(call.name)
        event.id, event.name, event.arguments = call.id, call.name, call.arguments
        event._serialized_arguments = None
        if call.fault:
            event.vendor_metadata = {**event.vendor_metadata, FAULT: call.fault}
        events.append(event)
    return events


def _taken(messages: Sequence[Any]) -> set[str]:
    from ag2.events import ModelResponse

    return {call.id for message in messages if isinstance(message, ModelResponse) for call in message.tool_calls.calls}
