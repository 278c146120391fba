"""Reads the JSON of a provider's answer, whatever its dialect, and makes it safe for the provider's package.

==============================  ===========================================================================
OpenAI and all that imitate it  ``choices``; content as a text, a list of parts or an object; reasoning in
                                ``reasoning_content``, ``reasoning``, ``thinking``, ``reasoning_details``
Anthropic                       ``content`` is a list of blocks
Gemini                          ``candidates``, or ``promptFeedback`` alone
Ollama                          ``message`` and ``done``
an ``error`` in a 200           has the status that it means
==============================  ===========================================================================

Counts of tokens that cannot be are not told: a negative number, 10**30, a text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cmbagent_nb.llm.reading.escapes import whole
from cmbagent_nb.llm.reading.lenient import LONGEST_INTEGER
from cmbagent_nb.llm.reading.tool_calls import Call, read_call

#: More tokens than any call can have.
MOST_TOKENS = 10**9
LENGTH, REFUSED, EMPTY = "length", "content_filter", "no_choices"

_LENGTH = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"})
_REFUSED = frozenset(
    {
        "content_filter", "refusal", "safety", "recitation", "prohibited_content", "blocklist", "spii", "image_safety",
        "content_filtered", "guardrail_intervened", "sensitive", "moderation",
    }
)  # fmt: skip
#: Statuses of errors that come in a 200, by words in their type or code.
_STATUSES = (
    (("insufficient_quota", "rate_limit", "rate limit", "too_many", "resource_exhausted", "throttl"), 429),
    (("overloaded", "unavailable", "capacity"), 503),
    (("authentication", "invalid_api_key", "unauthorized", "unauthenticated", "api key"), 401),
    (("permission", "forbidden"), 403),
    (("not_found", "not found", "does not exist"), 404),
    (("timeout", "timed out"), 504),
    (("invalid_request", "invalid_argument", "bad_request", "context_length", "context length", "failed_precond"), 400),
)
#: The status of an error that says nothing more.
_BAD_GATEWAY = 502


@dataclass(frozen=True)
class Reply:
    """The answer of a model."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: str | None = None
    #: What the model or the provider's filter says instead of an answer.
    refusal: str = ""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it was read: the reply or an error's status, and the JSON for the provider's package."""

    reply: Reply | None
    body: dict[str, Any]
    status: int | None = None


def read_body(content: bytes, status: int = 200) -> Answer | None:
    """Read the content of an HTTP answer; None for anything else, which is left to the provider's package."""
    try:
        body = json.loads(
            content.decode("utf-8-sig", "replace"), parse_int=_integer, parse_constant=lambda _: None, strict=False
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or status >= 400:
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = body.get("error") or first.get("error")
    if error:
        return _error(error)
    if "choices" in body:
        return _openai(body, first)
    if isinstance(body.get("content"), list) and ("stop_reason" in body or body.get("type") == "message"):
        return _anthropic(body)
    if "candidates" in body or "promptFeedback" in body:
        return _gemini(body)
    if isinstance(body.get("message"), dict) and ("done" in body or "model" in body):
        return _ollama(body)
    return None


def finish(reason: Any) -> str | None:
    """Return a finish reason in the one form for all providers.

    >>> finish("MAX_TOKENS"), finish("refusal"), finish("stop")
    ('length', 'content_filter', 'stop')
    """
    if not isinstance(reason, str) or not reason:
        return None
    name = reason.lower()
    return LENGTH if name in _LENGTH else REFUSED if name in _REFUSED else reason


def count(value: Any) -> int | None:
    """Return a number of tokens, None when it cannot be one.

    >>> count(12), count(3.0), count(-1), count(10**30), count("many")
    (12, 3, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MOST_TOKENS else None


def texts(content: Any) -> str:
    """Return the text of content in any form, without the reasoning in it."""
    pieces = _Pieces()
    pieces.add(content)
    return whole("".join(pieces.text))


def _integer(digits: str) -> Any:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float("inf")


def _counts(usage: Any) -> dict[str, Any]:
    """Return a provider's usage with every number in it a count."""
    if not isinstance(usage, Mapping):
        return {}
    counts: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, Mapping):
            counts[name] = _counts(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            counts[name] = count(value) or 0
    return counts


def _error(error: Any) -> Answer:
    details = error if isinstance(error, Mapping) else {"message": str(error)}
    message = details.get("message")
    said = whole(message if isinstance(message, str) else json.dumps(error, default=str))
    status = next((code for name in ("code", "status", "http_status") if (code := _status(details.get(name)))), None)
    if status is None:
        for text in (f"{details.get('code')} {details.get('type')} {details.get('status')}".lower(), said.lower()):
            status = next((code for words, code in _STATUSES if any(word in text for word in words)), status)
            if status is not None:
                break
    plain = {"message": said, **{name: details[name] for name in ("type", "code", "status") if name in details}}
    return Answer(None, {"error": plain}, status or _BAD_GATEWAY)


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


@dataclass
class _Pieces:
    """Collects the parts of an answer."""

    text: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: list[tuple[Any, Any, Any]] = field(default_factory=list)

    def add(self, content: Any) -> None:
        """Take content in any form: a text, a part, a list of parts, an object that is the answer itself."""
        if isinstance(content, str):
            self.text.append(content)
        elif isinstance(content, list):
            for part in content:
                self.add(part)
        elif isinstance(content, Mapping):
            self._add_part(content)
        elif content is not None:
            self.text.append(json.dumps(content))

    def think(self, content: Any) -> None:
        """Take reasoning in any form, once."""
        text = _texts(content)
        if text.strip() and text not in self.thoughts:
            self.thoughts.append(text)

    def _add_part(self, part: Mapping[str, Any]) -> None:
        kind = part.get("type")
        if part.get("thought") is True:  # Gemini's
            self.think(part.get("text"))
        elif kind in ("thinking", "reasoning", "reasoning_content", "reasoning.text", "thought"):
            self.think(next((part[name] for name in (kind, "thinking", "reasoning", "text", "content", "summary")
                             if part.get(name)), None))  # fmt: skip
        elif kind == "refusal":
            self.refusals.append(_texts(part.get("refusal") or part.get("text")))
        elif kind in ("tool_use", "function_call", "tool_call"):
            function = part["function"] if isinstance(part.get("function"), Mapping) else part
            arguments = function.get("input", function.get("arguments"))
            self.calls.append((part.get("id"), function.get("name"), arguments))
        elif isinstance(part.get("functionCall"), Mapping):
            call = part["functionCall"]
            self.calls.append((call.get("id"), call.get("name"), call.get("args")))
        elif isinstance(part.get("text"), str) and (kind is None or isinstance(kind, str)) and len(part) <= 6:
            self.text.append(part["text"])
        elif kind is None or not isinstance(kind, str):
            self.text.append(json.dumps(part))

    def reply(self, reason: Any) -> Reply:
        """Return all of it as a reply."""
        ended = finish(reason)
        refusal = whole("\n".join(item for item in self.refusals if item)).strip()
        return Reply(
            text=whole("".join(self.text)),
            reasoning=whole("\n\n".join(self.thoughts)),
            calls=tuple(read_call(*call, cut=ended == LENGTH) for call in self.calls),
            finish_reason=REFUSED if refusal else ended,
            refusal=refusal,
        )


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_texts(item) for item in content)
    if isinstance(content, Mapping):
        return _texts(
            next((content[name] for name in ("text", "thinking", "content", "summary") if name in content), "")
        )
    return ""


def _openai(body: dict[str, Any], choice: Mapping[str, Any]) -> Answer:
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    pieces = _Pieces()
    pieces.add(message.get("content"))
    for name in ("reasoning_content", "reasoning", "thinking", "reasoning_details"):
        pieces.think(message.get(name))
    if isinstance(message.get("refusal"), str):
        pieces.refusals.append(message["refusal"])
    called = message.get("tool_calls")
    for call in called if isinstance(called, list) else ():
        if isinstance(call, Mapping):
            inner = call.get("function")
            inner = inner if isinstance(inner, Mapping) else call
            pieces.calls.append((call.get("id"), inner.get("name"), inner.get("arguments", inner.get("input"))))
    if isinstance(message.get("function_call"), Mapping) and not pieces.calls:
        call = message["function_call"]
        pieces.calls.append((None, call.get("name"), call.get("arguments")))
    reply = pieces.reply(choice.get("finish_reason") if choice else EMPTY)
    plain: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.calls:
        plain["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.calls
        ]
    answer = {
        "id": _text(body.get("id")) or "none",
        "object": "chat.completion",
        "created": 0,
        "model": _text(body.get("model")),
        "choices": [{"index": 0, "message": plain, "finish_reason": reply.finish_reason or "stop"}],
        "usage": _openai_usage(body.get("usage")),
    }
    return Answer(reply, answer)


def _openai_usage(usage: Any) -> dict[str, Any] | None:
    if not isinstance(usage, Mapping):
        return None

    def told(*places: str) -> int:
        """Return the first count found at one of these places, as ``name`` or ``details.name``."""
        for place in places:
            outer, _, inner = place.partition(".")
            value = usage.get(outer)
            found = count(value.get(inner) if isinstance(value, Mapping) else value)
            if found is not None:
                return found
        return 0

    prompt, completion = told("prompt_tokens", "input_tokens"), told("completion_tokens", "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": max(told("total_tokens"), prompt + completion),
        "prompt_tokens_details": {"cached_tokens": told("prompt_tokens_details.cached_tokens")},
        "completion_tokens_details": {"reasoning_tokens": told("completion_tokens_details.reasoning_tokens")},
    }


def _anthropic(body: dict[str, Any]) -> Answer:
    pieces = _Pieces()
    pieces.add([block for block in body["content"] if isinstance(block, Mapping)])
    reason = body.get("stop_reason")
    if reason == "refusal":
        details = body.get("stop_details")
        said = _texts(details.get("explanation")) if isinstance(details, Mapping) else ""
        pieces.refusals.append(said or "".join(pieces.text) or "the model refused to answer")
    usage = {"input_tokens": 0, "output_tokens": 0, **_counts(body.get("usage"))}
    blocks = [block for block in body["content"] if isinstance(block, Mapping) and isinstance(block.get("type"), str)]
    return Answer(pieces.reply(reason), {**_whole(body), "content": _whole(blocks), "usage": usage})


def _gemini(body: dict[str, Any]) -> Answer:
    listed = body.get("candidates")
    chosen = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
    pieces = _Pieces()
    content = chosen.get("content")
    pieces.add(content.get("parts") if isinstance(content, Mapping) else None)
    feedback = body.get("promptFeedback")
    blocked = feedback.get("blockReason") if isinstance(feedback, Mapping) else None
    if blocked and not pieces.text and not pieces.calls:
        said = feedback.get("blockReasonMessage") if isinstance(feedback, Mapping) else None
        pieces.refusals.append(_texts(said) or f"the prompt was blocked ({blocked})")
    reply = pieces.reply(chosen.get("finishReason") if chosen else EMPTY)
    if reply.finish_reason == REFUSED and not reply.refusal and not reply.text:
        said = _texts(chosen.get("finishMessage")) or f"the answer was withheld ({chosen.get('finishReason')})"
        reply = Reply("", reply.reasoning, reply.calls, REFUSED, said)
    plain = _whole(body)
    if "usageMetadata" in body:
        plain["usageMetadata"] = _counts(body["usageMetadata"])
    plain["candidates"] = plain["candidates"][:1] if isinstance(listed, list) else []
    return Answer(reply, plain)


def _ollama(body: dict[str, Any]) -> Answer:
    message = body["message"]
    pieces = _Pieces()
    pieces.add(message.get("content"))
    pieces.think(message.get("thinking"))
    called = message.get("tool_calls")
    for call in called if isinstance(called, list) else ():
        inner = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(inner, Mapping):
            pieces.calls.append((call.get("id"), inner.get("name"), inner.get("arguments")))
    reply = pieces.reply(body.get("done_reason"))
    plain = {
        "model": _text(body.get("model")),
        "message": {
            "role": "assistant",
            "content": reply.text,
            "tool_calls": [
                {"function": {"name": call.name, "arguments": json.loads(call.arguments)}} for call in reply.calls
            ]
            or None,
        },
        "done": True,
        "done_reason": reply.finish_reason,
        "prompt_eval_count": count(body.get("prompt_eval_count")) or 0,
        "eval_count": count(body.get("eval_count")) or 0,
    }
    return Answer(reply, plain)


def _text(value: Any) -> str:
    return whole(value) if isinstance(value, str) else ""


def _whole(value: Any) -> Any:
    """Return a value with no lone surrogate and no number that JSON does not know."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, Mapping):
        return {whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else copy.copy(value)
