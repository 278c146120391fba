"""Asking an agent: one conversation that ends with a reply in the form asked for, or says why not.

| invariant | how |
|---|---|
| a reply is used only if it has its form | it is read leniently, then checked by the form and by the caller |
| at most ``retries`` more questions | each says what was wrong, in the same conversation |
| nothing is lost when it fails | ``ReplyInvalid`` carries the last text and the reason |
| a refusal is not asked again | it is told in the words of the model or the provider |
| a reply that was cut is told so | the next one may be longer where the provider can be told |
| the loop does not wait for an import | ag2 is imported on a thread |
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from cmbagent_nb.agents.parse import UnreadableError, read_reply
from cmbagent_nb.agents.replies import json_schema
from cmbagent_nb.errors import ReplyInvalid
from cmbagent_nb.llm.reading.body import LENGTH, REFUSED
from cmbagent_nb.runtime import in_thread

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import AgentSpec
    from cmbagent_nb.agents.tools import ToolBox
    from cmbagent_nb.capture.recorder import Recorder
    from cmbagent_nb.llm.gateway import Gateway

T = TypeVar("T")

#: How often a reply that cannot be used is given back.
RETRIES = 2


@dataclass(frozen=True)
class Answer(Generic[T]):
    """An agent's reply."""

    value: T  #: in the form asked for; the text itself when none was
    event_id: str | None  #: the ``agent_call`` that gave it; None while nothing is recorded
    text: str  #: as the model wrote it
    messages: list[dict[str, str]] = field(default_factory=list)  #: the conversation: sender, recipient, content

    @property
    def asks(self) -> int:
        """Number of questions it took."""
        return len(self.messages) // 2


async def ask(
    spec: AgentSpec,
    prompt: str,
    *,
    reply: type[BaseModel] | None,
    gateway: Gateway,
    recorder: Recorder,
    tools: ToolBox,
    check: Callable[[Any], str | None] | None = None,
    retries: int = RETRIES,
) -> Answer[Any]:
    """Ask an agent and return its reply.

    Parameters
    ----------
    reply
        The form of the reply, from :mod:`cmbagent_nb.agents.replies`; None takes any text.
    recorder
        The recorder of the run; where the caller is not in a place of the run yet, the agent's turn is put
        into a place named after the agent.
    check
        Looks at a reply that has its form, and says in words for the model why it cannot be used. It is called in a
        thread of its own and may wait for files.
    retries
        How often a reply that cannot be used is given back with the reason.

    Raises
    ------
    ReplyInvalid
        No reply could be used; ``text`` and ``reason`` are those of the last one.
    """
    if recorder.current_location() is None:
        with recorder.located_at(spec.name, agent=spec.name):
            return await _ask(spec, prompt, reply, gateway, tools, check, retries)
    return await _ask(spec, prompt, reply, gateway, tools, check, retries)


async def _ask(
    spec: AgentSpec,
    prompt: str,
    reply: type[BaseModel] | None,
    gateway: Gateway,
    tools: ToolBox,
    check: Callable[[Any], str | None] | None,
    retries: int,
) -> Answer[Any]:
    build = await _builder()
    built = build(spec, gateway=gateway, tools=tools, form=reply)
    messages: list[dict[str, str]] = []
    question, conversation, text, reason = prompt, built.agent, "", ""
    options = built.options
    for _ in range(retries + 1):
        conversation = await conversation.ask(question, **options)
        options = {key: value for key, value in built.options.items() if key not in ("config", "prompt")}
        text = conversation.body or ""
        messages.append({"sender": "workflow", "recipient": spec.name, "content": question})
        messages.append({"sender": spec.name, "recipient": "workflow", "content": text})
        ended = conversation.response.finish_reason
        if ended == REFUSED:
            raise _refused(spec.name, text, messages)
        value, reason = await in_thread(_read, text, reply, check, ended == LENGTH)  # a check may read files
        if not reason:
            event_id = built.turns.events[-1] if built.turns.events else None
            return Answer(value=value, event_id=event_id, text=text, messages=messages)
        question = _again(reason, reply)
    raise ReplyInvalid(
        f"the agent {spec.name!r} gave {retries + 1} replies that cannot be used. The last: {reason}",
        "Try again, or take another model with --model.",
        agent=spec.name,
        text=text,
        reason=reason,
        messages=messages,
    )


def _read(
    text: str, reply: type[BaseModel] | None, check: Callable[[Any], str | None] | None, cut: bool
) -> tuple[Any, str]:
    value: Any = text
    if reply is not None:
        try:
            value = read_reply(text, reply, cut=cut)
        except UnreadableError as error:
            return None, f"{_CUT} {error}" if cut else str(error)
    elif cut:
        return None, _CUT
    elif not text.strip():
        return None, "The reply is empty."
    return value, (check(value) if check is not None else None) or ""


_CUT = "The reply was cut at the length limit before it was complete. Be shorter: leave out what is not asked for."


def _refused(agent: str, text: str, messages: list[dict[str, str]]) -> ReplyInvalid:
    said = " ".join(text.split())[:500] or "the provider's filter withheld the reply"
    return ReplyInvalid(
        f"the model refused to answer the agent {agent!r}: {said}",
        "Word the task in another way, or take another model with --model.",
        agent=agent,
        text=text,
        reason=said,
        messages=messages,
    )


def _again(reason: str, reply: type[BaseModel] | None) -> str:
    if reply is None:
        return f"Your reply cannot be used. {reason}\n\nGive the whole reply again."
    fields = ", ".join(f"`{name}`" for name in json_schema(reply)["properties"])
    return (
        f"Your reply cannot be used. {reason}\n\n"
        f"Give the whole reply again, corrected: one JSON object with the fields {fields}, and nothing around it."
    )


async def _builder() -> Callable[..., Any]:
    module = await asyncio.to_thread(importlib.import_module, "cmbagent_nb.agents.build")
    build: Callable[..., Any] = module.build
    return build
