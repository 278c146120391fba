"""Converts a model call to plain data for storage, and hashes it for replay.

=============  ==================================================================================
``request``    model, options, system prompts, messages, full tool schemas, full reply schema
hash           of all of that; ids of tool calls are numbered, and the work directory is a token,
               so that the same run elsewhere or again has the same hashes
``reply``      text, tool calls, reasoning, usage, finish reason: enough to make the response again;
               and ``tool_results``, what the tools gave that it called
=============  ==================================================================================

Hashes are taken before anything is masked.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.llm.reading.escapes import whole

if TYPE_CHECKING:
    from ag2.events import ModelResponse

WORK_DIR = "{work_dir}"

_NOT_OPTIONS = frozenset(
    {
        "model", "api_key", "base_url", "host", "http_client", "timeout", "max_retries", "default_headers",
        "default_query", "organization", "project", "websocket_base_url", "credentials",
    }
)  # fmt: skip
_VOLATILE = frozenset({"created_at", "id", "parent_id", "response_id", "tool_call_id"})


def describe_request(
    messages: Sequence[Any],
    prompt: Sequence[str],
    *,
    provider: str,
    model: str,
    options: Mapping[str, Any],
    tools: Iterable[Any],
    reply_schema: Any,
) -> dict[str, Any]:
    """Return a model call as plain data."""
    system = [str(item) for item in prompt]
    if reply_schema is not None and reply_schema.system_prompt:
        system.append(reply_schema.system_prompt)
    schema = None
    if reply_schema is not None:
        schema = {"name": reply_schema.name, "schema": reply_schema.json_schema}
    return {
        "provider": provider,
        "model": model,
        "options": dict(options),
        "system": system,
        "messages": _messages(messages),
        "tools": [_tool(tool) for tool in tools],
        "reply_schema": schema,
    }


def request_text(request: Mapping[str, Any]) -> str:
    """Return a request as JSON text, always in the same order."""
    return json.dumps(request, sort_keys=True, ensure_ascii=False, default=repr)


def request_hash(text: str, work_dir: Path | None) -> str:
    """Return the hash of a request's text, the same wherever the work directory is."""
    if work_dir is not None:
        for path in names_of(work_dir):
            text = text.replace(json.dumps(path, ensure_ascii=False)[1:-1], WORK_DIR)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def names_of(work_dir: Path) -> list[str]:
    """Return what the work directory may be called in a text, the longest first."""
    return sorted({str(work_dir), str(work_dir.absolute()), str(work_dir.resolve())}, key=len, reverse=True)


def options_of(config: Any) -> dict[str, Any]:
    """Return what is set in an AG2 configuration beside its model and connection."""
    if not dataclasses.is_dataclass(config):
        return {}
    options: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        plain = value is None or isinstance(value, str | int | float | bool | list | tuple | dict)
        if item.name in _NOT_OPTIONS or not plain or value is None:
            continue
        if item.default is not dataclasses.MISSING and value == item.default:
            continue
        options[item.name] = value
    return options


def describe_reply(response: ModelResponse, reasoning: str | None, usage: Mapping[str, int]) -> dict[str, Any]:
    """Return a model's response as plain data."""
    return {
        "text": response.content,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments, "vendor": dict(call.vendor_metadata)}
            for call in response.tool_calls.calls
        ],
        "reasoning": reasoning,
        "finish_reason": response.finish_reason,
        "provider": response.provider,
        "model": response.model,
        "response_id": response.response_id,
        "metadata": dict(response.metadata),
        "usage": dict(usage),
    }


def without_surrogates(value: Any) -> Any:
    """Return messages, prompts or tools with U+FFFD for each lone surrogate; the same object if there is none.

    No request can carry one, and they come from everywhere: names of files, output of code, earlier replies.
    """
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list | tuple):
        items = [without_surrogates(item) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        pairs = [(without_surrogates(key), without_surrogates(item)) for key, item in value.items()]
        before = value.items()
        same = all(key is old and item is held for (key, item), (old, held) in zip(pairs, before, strict=True))
        return value if same else dict(pairs)
    if not _is_record(value):
        return value
    names = [item.name for item in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else vars(value)
    changed = {name: new for name in names if (new := without_surrogates(old := getattr(value, name))) is not old}
    if not changed:
        return value
    made = copy.copy(value)
    for name, item in changed.items():
        object.__setattr__(made, name, item)
    return made


def _is_record(value: Any) -> bool:
    """Tell whether a value is an event, a part of one or a tool's schema, which are looked into."""
    if type(value).__module__.partition(".")[0] != "ag2" or isinstance(value, type | BaseException):
        return False
    return dataclasses.is_dataclass(value) or hasattr(value, "__dict__")


def restore_reply(reply: Mapping[str, Any]) -> ModelResponse:
    """Make the response again from what :func:`describe_reply` kept; it spends no tokens."""
    from ag2.events import ModelMessage, ModelResponse, ToolCallEvent, ToolCallsEvent

    text = reply.get("text")
    return ModelResponse(
        message=None if text is None else ModelMessage(text, metadata=dict(reply.get("metadata") or {})),
        tool_calls=ToolCallsEvent(
            [
                ToolCallEvent(
                    call["name"],
                    id=call["id"],
                    arguments=call["arguments"],
                    vendor_metadata=dict(call.get("vendor") or {}),
                )
                for call in reply.get("tool_calls") or ()
            ]
        ),
        model=reply.get("model"),
        provider=reply.get("provider"),
        finish_reason=reply.get("finish_reason"),
        response_id=reply.get("response_id"),
    )


def last_text(request: Mapping[str, Any]) -> str:
    """Return the text of the newest message of a request."""
    messages = request["messages"]
    return str(messages[-1].get("content") or "") if messages else ""


def _messages(events: Sequence[Any]) -> list[dict[str, Any]]:
    from ag2.events import ModelRequest, ModelResponse, ToolErrorEvent, ToolResultsEvent, UsageEvent, is_conversational
    from ag2.events.task_events import TaskEvent
    from ag2.events.tool_events import ToolCallsEvent, ToolEvent

    # AG2's events take A | B for something else. A task is what a sub-agent did: its answer is a tool's result.
    told = (ToolEvent, ToolCallsEvent, UsageEvent, TaskEvent)
    numbers: dict[str, int] = {}

    def number(identifier: str) -> int:
        return numbers.setdefault(identifier, len(numbers) + 1)

    described: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, ModelRequest):
            described.append({"role": "user", "content": content_of(event.parts)})
        elif isinstance(event, ModelResponse):
            calls = [
                {"call": number(call.id), "name": call.name, "arguments": call.arguments}
                for call in event.tool_calls.calls
            ]
            described.append({"role": "assistant", "content": event.content, "tool_calls": calls})
        elif isinstance(event, ToolResultsEvent):
            for result in event.results:
                item = {"role": "tool", "call": number(result.parent_id), "name": result.name}
                item["content"] = content_of(result.result.parts)
                item["failed"] = isinstance(result, ToolErrorEvent)
                described.append(item)
        elif isinstance(event, told) or not is_conversational(event):
            continue  # told by the response and the results, or not sent to a model
        else:
            described.append({"role": type(event).__name__, "content": _steady(event.to_dict())})
    return described


def content_of(parts: Iterable[Any]) -> Any:
    """Return the parts of a message or of a tool's result: one text where all are texts."""
    from ag2.events import BinaryInput, DataInput, TextInput

    items: list[Any] = []
    for part in parts:
        if isinstance(part, TextInput):
            items.append(part.content)
        elif isinstance(part, DataInput):
            items.append(json.dumps(part.data, ensure_ascii=False, default=repr))
        elif isinstance(part, BinaryInput):
            digest = hashlib.sha256(part.data).hexdigest()
            items.append({"media_type": str(part.media_type), "sha256": digest, "size": len(part.data)})
        else:
            items.append({"type": type(part).__name__, **_steady(part.to_dict())})
    if all(isinstance(item, str) for item in items):
        return "\n".join(items)
    return items


def _tool(tool: Any) -> dict[str, Any]:
    function = getattr(tool, "function", None)
    if function is not None:
        return {"name": function.name, "description": function.description, "parameters": function.parameters}
    described = dataclasses.asdict(tool) if dataclasses.is_dataclass(tool) and not isinstance(tool, type) else {}
    return {"name": str(getattr(tool, "type", type(tool).__name__)), **described}


def _steady(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _steady(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list | tuple):
        return [_steady(item) for item in value]
    return value
