"""Stores the results of tools with the reply that called them, so that no tool runs twice.

A tool looks at files, which change, or changes something itself. Run again on a resume or in a replay it may give
something else, and the next question would not be the one whose reply is on the tape.

====================  ==================================================================================
where it is kept      in the reply that called the tool, ``reply["tool_results"]``, whether or not the next reply
                      came; only a tool that was under way when its process died is run again
what is kept          the text that the model was given, with the work directory as a token
what is not           files and pictures, secrets, and what a tool gave that asked a model itself: it is run
                      again, and its own replies are on the tape
====================  ==================================================================================

Runs recorded earlier have it in the next reply of the agent; they are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.capture.recorder import Recorder
from cmbagent_nb.llm.request import WORK_DIR, content_of, names_of

if TYPE_CHECKING:
    from ag2.events import ToolCallEvent, ToolResultEvent


def describe_result(call: ToolCallEvent, result: Any, work_dir: Path | None) -> dict[str, Any] | None:
    """Return what a tool gave as plain data; None when it is more than a text."""
    from ag2.events import ToolErrorEvent, ToolResultEvent

    if not isinstance(result, ToolResultEvent) or result.result.metadata:  # an error is one, too
        return None
    text = content_of(result.result.parts)
    if not isinstance(text, str):
        return None
    kept = _placeless(text, work_dir)
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "text": kept,
        "placed": kept != text,
        "failed": isinstance(result, ToolErrorEvent),
    }


def restore_result(call: ToolCallEvent, kept: Mapping[str, Any], work_dir: Path | None) -> ToolResultEvent:
    """Make the result of a call again from what :func:`describe_result` kept."""
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
