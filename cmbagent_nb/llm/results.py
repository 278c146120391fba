"""What tools gave: kept with the reply that has seen it, so that a tool is not run again for that reply.

A tool looks at files, which change. Run again on a resume or in a replay it may give something else, and the
next question would not be the one whose reply is on the tape.

====================  ==================================================================================
where it is kept      in the next reply of the agent, ``reply["tool_results"]``: what no stored reply has
                      seen nothing depends on, and its tool is run again
what is kept          the text that the model was given, with the work directory as a token
what is not           files and pictures, and what a tool gave that asked a model itself: it is run
                      again, and its own replies are on the tape
====================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.capture.recorder import Recorder
from cmbagent_nb.llm.request import WORK_DIR, content_of, names_of

if TYPE_CHECKING:
    from ag2.events import ToolCallEvent, ToolResultEvent


def describe_results(
    messages: Sequence[Any], work_dir: Path | None, without: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return what the tools gave that the last reply in ``messages`` called, as plain data.

    ``without`` are the ids of calls whose tools have to run again.
    """
    from ag2.events import ModelResponse, ToolErrorEvent, ToolResultsEvent

    found: list[Any] = []
    for event in reversed(messages):
        if isinstance(event, ToolResultsEvent):
            found = [*event.results, *found]
        elif isinstance(event, ModelResponse):
            calls = {call.id: call for call in event.tool_calls.calls}
            break
    else:
        return []
    described = []
    for result in found:
        call, text = calls.get(result.parent_id), content_of(result.result.parts)
        if call is None or call.id in without or result.result.metadata or not isinstance(text, str):
            continue
        kept = _placeless(text, work_dir)
        described.append(
            {
                "id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "text": kept,
                "placed": kept != text,
                "failed": isinstance(result, ToolErrorEvent),
            }
        )
    return described


def restore_result(call: ToolCallEvent, kept: Mapping[str, Any], work_dir: Path | None) -> ToolResultEvent:
    """Make the result of a call again from what :func:`describe_results` kept."""
    from ag2.events import ToolErrorEvent, ToolResultEvent
    from ag2.events.tool_events import ToolResult

    text = str(kept["text"])
    if kept["placed"] and work_dir is not None:
        text = text.replace(WORK_DIR, str(work_dir))
    if kept["failed"]:
        error = RuntimeError(text.strip().rpartition("\n")[2])
        return ToolErrorEvent(parent_id=call.id, name=call.name, error=error, result=ToolResult(text))
    return ToolResultEvent(parent_id=call.id, name=call.name, result=ToolResult(text))


def tools_around(recorder: Recorder) -> set[tuple[str | None, str]]:
    """Return the tool calls that are under way around the caller, by their node and id."""
    found = set()
    span = recorder.current()
    while span is not None:
        if span.event_type == "tool_call" and span.meta:
            found.add((span.node_id, str(span.meta.get("tool_call_id"))))
        span = span.parent
    return found


def _placeless(text: str, work_dir: Path | None) -> str:
    if work_dir is None or WORK_DIR in text:
        return text
    for name in names_of(work_dir):
        text = text.replace(name, WORK_DIR)
    return text
