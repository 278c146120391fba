"""Turning an agent as data into an AG2 agent. This is where ag2 is imported, so import it late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ag2 import Agent, tool
from ag2.events import ToolErrorEvent
from ag2.events.tool_events import ToolResult
from ag2.middleware import BaseMiddleware, Middleware
from ag2.response import ResponseProto

from cmbagent_nb.agents.replies import json_schema
from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.capture.recorder import current_span
from cmbagent_nb.errors import ReplyInvalid
from cmbagent_nb.llm.http import shared_client
from cmbagent_nb.llm.reading.response import FAULT

if TYPE_CHECKING:
    from ag2.annotations import Context
    from ag2.events import BaseEvent, ModelResponse, ToolCallEvent
    from ag2.middleware.base import AgentTurn, LLMCall, ToolExecution, ToolResultType
    from pydantic import BaseModel

    from cmbagent_nb.agents.registry import AgentSpec
    from cmbagent_nb.agents.tools import ToolBox
    from cmbagent_nb.llm.gateway import Gateway

#: Model calls that an agent may make in one turn; each but the last was for a tool.
LONGEST_TURN = 25

#: AG2's configurations that take an HTTP client of the kind that we share.
SHARING = frozenset({"OpenAIConfig", "OpenAIResponsesConfig", "AnthropicConfig"})

AS_TOOL = (
    "Another agent asks you for help with its own work. Answer in plain text, shortly and to the point; the form of "
    "reply that is named above does not apply here."
)


class JsonForm(ResponseProto[str]):
    """Asks a provider for JSON of a form; reading it is left to us, since we are more lenient."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.name = model.__name__
        self.description = None
        self.json_schema = json_schema(model)
        self.system_prompt = None

    async def validate(self, response: str, context: Context, provider: Any = None) -> str:
        """Return the text as it is."""
        return response


@dataclass
class Turns:
    """Events of the turns of an agent that is being asked."""

    events: list[str | None] = field(default_factory=list)


class Watch(BaseMiddleware):
    """Notes the event of a turn, and ends one that calls tools without end."""

    def __init__(self, event: BaseEvent, context: Context, *, turns: Turns, agent: str) -> None:
        super().__init__(event, context)
        self._turns = turns
        self._agent = agent
        self._calls = 0

    async def on_turn(self, call_next: AgentTurn, event: BaseEvent, context: Context) -> ModelResponse:
        """Note the event that the capturing middleware around this one has begun."""
        span = current_span()
        self._turns.events.append(span.reference if span is not None else None)
        return await call_next(event, context)

    async def on_llm_call(self, call_next: LLMCall, events: Sequence[BaseEvent], context: Context) -> ModelResponse:
        """Count the model calls of the turn."""
        self._calls += 1
        if self._calls > LONGEST_TURN:
            raise ReplyInvalid(
                f"the agent {self._agent!r} called tools {LONGEST_TURN} times and gave no reply",
                "Try again, or take another model with --model.",
                agent=self._agent,
                text="",
                reason="no reply after many tool calls",
            )
        return await call_next(events, context)


class Answerable(BaseMiddleware):
    """Tells the model why a tool call cannot be made, instead of making it with arguments that nobody could read."""

    async def on_tool_execution(
        self, call_next: ToolExecution, event: ToolCallEvent, context: Context
    ) -> ToolResultType:
        """Answer a call whose arguments could not be read; make the others."""
        fault = event.vendor_metadata.get(FAULT)
        if not fault:
            return await call_next(event, context)
        return ToolErrorEvent(parent_id=event.id, name=event.name, error=ValueError(fault), result=ToolResult(fault))


@dataclass(frozen=True)
class Built:
    """An AG2 agent and what to pass with each of its turns."""

    agent: Any
    options: dict[str, Any]
    turns: Turns


def build(spec: AgentSpec, *, gateway: Gateway, tools: ToolBox, form: type[BaseModel] | None) -> Built:
    """Make the AG2 agent for one conversation.

    An agent that the user made keeps its prompt, tools and middleware; its model calls go through
    the gateway and its turns are recorded as any other's.
    """
    turns = Turns()
    options: dict[str, Any] = {"middleware": [Capture, Middleware(Watch, turns=turns, agent=spec.name), Answerable]}
    if form is not None:
        options["response_schema"] = JsonForm(form)
    if spec.agent is None:
        agent = _agent(spec, gateway, [*_functions(spec, tools), *_helpers(spec, gateway, tools)])
        return Built(agent, options, turns)
    agent = spec.agent
    if any(_is_capture(entry.middleware) for entry in agent.middleware):
        options["middleware"] = options["middleware"][1:]
    if spec.instructions.strip():
        options["prompt"] = [*agent.system_prompt, spec.instructions]
    own = agent.config
    keep = own is not None and not spec.model
    options["config"] = gateway.wrap(_with_shared_client(own)) if keep else gateway.config(spec.model)
    return Built(agent, options, turns)


def _with_shared_client(config: Any) -> Any:
    """Let a user's configuration use the loop's HTTP client, instead of opening one for each conversation."""
    if getattr(config, "http_client", "") is None and type(config).__name__ in SHARING:
        return config.copy(http_client=shared_client())
    return config


def _agent(
    spec: AgentSpec, gateway: Gateway, tools: list[Any], *, extra: Sequence[str] = (), middleware: Sequence[Any] = ()
) -> Any:
    config: Any = gateway.config(spec.model)
    return Agent(spec.name, [spec.instructions, *extra], config=config, tools=tools, middleware=middleware)


def _functions(spec: AgentSpec, tools: ToolBox) -> list[Any]:
    functions = tools.functions()
    return [tool(functions[name]) for name in spec.tools if name in functions]


def _helpers(spec: AgentSpec, gateway: Gateway, tools: ToolBox) -> list[Any]:
    """Make tools of the agents that this one may call; those call no further ones."""
    found = []
    for name in spec.tools:
        if not name.startswith("agent:") or spec.registry is None:
            continue
        helper = spec.registry[name.removeprefix("agent:")]
        agent = helper.agent
        if agent is None:
            own = _functions(helper, tools)
            agent = _agent(helper, gateway, own, extra=[AS_TOOL], middleware=[Capture, Answerable])
        found.append(agent.as_tool(description=helper.description, name=f"ask_{helper.name}"))
    return found


def _is_capture(middleware: Any) -> bool:
    return getattr(middleware, "cls", middleware) is Capture
