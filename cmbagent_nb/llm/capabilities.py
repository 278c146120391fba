"""Adapts a request to what its server accepts: an option that was refused once is not sent again.

OpenAI-compatible servers differ in what they know. A request that is refused for a parameter is sent again without
it, and what worked is remembered for the server and the model, so that only the first call of a process finds out.

| refused | sent instead |
|---|---|
| ``response_format: json_schema`` | ``json_object`` and the schema in the prompt, then the schema alone |
| ``tools`` | no tools: the agent answers from its prompt |
| ``max_tokens`` | ``max_completion_tokens`` |
| ``temperature``, ``seed``, ``parallel_tool_calls`` and the like | without it |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

#: Statuses of a request that is not accepted as it is.
REFUSED = frozenset({400, 404, 405, 415, 422, 500, 501})
#: Texts of refusals that are about something else than the form of the request.
_OTHER = re.compile(
    r"context.?(length|window|size)|too (long|large|many tokens)|maximum.{0,20}tokens|quota|billing|api.?key"
    r"|content.?(policy|filter)|model.{0,40}(not found|does not exist|not exist)|no such model|unknown model"
    r"|rate.?limit|safety",
    re.IGNORECASE,
)
_FORMAT = re.compile(r"response.?format|json.?schema|json.?object|structured|guided|grammar|\bschema\b", re.IGNORECASE)
_TOOLS = re.compile(r"\btools?\b|tool.?choice|function.?call|\bfunctions?\b", re.IGNORECASE)
_OPTIONAL = (
    "temperature", "top_p", "seed", "parallel_tool_calls", "tool_choice", "reasoning_effort", "store", "metadata",
    "presence_penalty", "frequency_penalty", "stream_options", "service_tier",
)  # fmt: skip

SCHEMA, OBJECT, PROMPT = "json_schema", "json_object", "prompt"


@dataclass(frozen=True)
class Capabilities:
    """Options that a server and model are known to accept: all, until one was refused."""

    form: str = SCHEMA
    tools: bool = True
    completion_limit: bool = False
    without: frozenset[str] = field(default_factory=frozenset)

    def adapt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body in the form that the server takes."""
        adapted = {name: value for name, value in body.items() if name not in self.without}
        if not self.tools:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                adapted.pop(name, None)
        if self.completion_limit and "max_tokens" in adapted:
            adapted["max_completion_tokens"] = adapted.pop("max_tokens")
        asked = body.get("response_format")
        if self.form != SCHEMA and isinstance(asked, Mapping) and asked.get("type") == SCHEMA:
            adapted["messages"] = _with_schema(body["messages"], asked.get(SCHEMA) or {})
            del adapted["response_format"]
            if self.form == OBJECT:
                adapted["response_format"] = {"type": OBJECT}
        return adapted

    def after(self, status: int, text: str, body: Mapping[str, Any]) -> Capabilities | None:
        """Return what to try after a request in this form was refused; None when its form is not the reason."""
        if status not in REFUSED or _OTHER.search(text):
            return None
        asked = body.get("response_format")
        has_format = isinstance(asked, Mapping) and asked.get("type") in (SCHEMA, OBJECT) and self.form != PROMPT
        has_tools = bool(body.get("tools")) and self.tools
        named = [name for name in _OPTIONAL if name in body and name not in self.without and _names(text, name)]
        if "max_tokens" in body and not self.completion_limit and "max_completion_tokens" in text:
            return replace(self, completion_limit=True)
        if has_format and _FORMAT.search(text):
            return replace(self, form=OBJECT if self.form == SCHEMA else PROMPT)
        if has_tools and _TOOLS.search(text):
            return replace(self, tools=False)
        if named:
            return replace(self, without=self.without | set(named))
        if status not in (400, 422, 501):
            return None
        # The text says nothing that is understood: what fewest servers know is left out first.
        if has_format:
            return replace(self, form=OBJECT if self.form == SCHEMA else PROMPT)
        return replace(self, tools=False) if has_tools else None


def _names(text: str, parameter: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(parameter)}(?!\w)", text) is not None


def _with_schema(messages: list[Any], schema: Mapping[str, Any]) -> list[Any]:
    """Return messages whose system prompt ends with the schema that the reply is to follow."""
    text = (
        "Answer with one JSON object that follows this JSON schema, and with nothing before or after it:\n"
        + json.dumps(schema.get("schema", schema), ensure_ascii=False)
    )
    first = messages[0] if messages else {}
    if first.get("role") in ("system", "developer") and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


#: What is known of servers and their models, for this process.
_known: dict[tuple[str, str], Capabilities] = {}


def known(server: str, model: str) -> Capabilities:
    """Return what a server's model is known to take."""
    return _known.get((server, model), Capabilities())


def remember(server: str, model: str, found: Capabilities) -> None:
    """Remember what a server's model took."""
    _known[server, model] = found
