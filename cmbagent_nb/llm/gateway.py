"""The gateway: every model call of a run goes through here, and none is lost or counted twice.

======================  =====================================================================
one call, one event     each HTTP call is one ``model_call`` event; a try that failed is an
                        event of its own, and at most ``retry.TRIES`` are made
barrier before effect   the reply is in the database and the journal before the agent gets it
tape                    a reply that is on the tape is given again (subtype ``replayed``): no call
hooks                   ``before_call`` can stop a call before it is made: budgets, policies
never a hang            each try ends within ``call_timeout``
never a raw error       what cannot be helped is a ``ModelCallFailed`` that says what to do
======================  =====================================================================

A playbook answers through the same gateway, so that its runs leave the same record; its events
say ``source: playbook`` and cost nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.capture.recorder import Recorder, Span, current_span, current_where
from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.ids import new_id
from cmbagent_nb.llm import http, prices
from cmbagent_nb.llm.call import BeforeCall, CallInfo, under_way
from cmbagent_nb.llm.playbook import Playbook, PlaybookConfig
from cmbagent_nb.llm.providers import check, provider_config, without_retries
from cmbagent_nb.llm.request import (
    describe_reply,
    describe_request,
    last_text,
    options_of,
    request_hash,
    restore_reply,
)
from cmbagent_nb.llm.retry import TRIES, call_failed, understand
from cmbagent_nb.llm.spec import PLAYBOOK, PROVIDERS, ModelSpec
from cmbagent_nb.llm.tape import JOURNAL_KIND, Stored, Tape

if TYPE_CHECKING:
    from ag2.events import ModelResponse

    from cmbagent_nb.settings import Settings
    from cmbagent_nb.store.writer import Writer

#: Characters of a text that an event keeps; the whole is in ``model_replies``.
TEXT_LIMIT = 4000
#: Tokens that a reply is expected to have before any has come.
EXPECTED_REPLY = 1000
#: Characters for a token, on the safe side.
TOKEN_SIZE = 3.0


class Gateway:
    """All model calls of one run.

    Parameters
    ----------
    spec
        The run's model, or the playbook that stands in for one. A playbook answers all agents,
        whatever model they name.
    before_call
        Called before each call is made; raising stops it.
    work_dir
        The run's work directory, which is a token in the hashes of requests.
    tape
        Replies that are given again instead of being asked for.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        settings: Settings,
        recorder: Recorder,
        writer: Writer,
        journal: Path | None = None,
        before_call: Iterable[BeforeCall] = (),
        work_dir: Path | None = None,
        tape: Tape | None = None,
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.recorder = recorder
        self.writer = writer
        self.journal = journal
        self.before_call = list(before_call)
        self.work_dir = work_dir
        self.tape = tape or Tape()
        self.playbook = Playbook.load(spec.name) if spec.is_playbook else None
        self.source = "playbook" if spec.is_playbook else "live"
        #: Calls that were answered, that failed, and that the tape answered.
        self.calls = 0
        self.failed_calls = 0
        self.replayed_calls = 0
        self.tokens = 0
        self.known_cost_usd = 0.0
        self.unknown_cost_calls = 0
        self._reserved = 0.0
        self._reply_tokens = 0
        self._ordinals: Counter[tuple[str, int, str]] = Counter()

    @property
    def cost_usd(self) -> float | None:
        """What the calls have cost in US dollars; None when the price of any is unknown."""
        return None if self.unknown_cost_calls else self.known_cost_usd

    def config(self, agent_model: str | None = None) -> GatewayConfig:
        """Return the AG2 model configuration of an agent: the run's model, or the agent's own.

        Raises
        ------
        UnknownModel, MissingKey, MissingExtra
            The agent's own model cannot be called.
        """
        if self.playbook is not None:
            return GatewayConfig(self, PLAYBOOK, self.playbook.name, PlaybookConfig(self.playbook))
        spec = ModelSpec.parse(agent_model) if agent_model else self.spec
        if spec.is_playbook:
            playbook = Playbook.load(spec.name)
            return GatewayConfig(self, PLAYBOOK, playbook.name, PlaybookConfig(playbook))
        check(spec, self.settings)
        return GatewayConfig(self, spec.provider, spec.name, None, spec)

    def wrap(self, config: Any) -> GatewayConfig:
        """Return a user's own AG2 configuration, with its calls going through here.

        In a run by a playbook the playbook answers, whatever the configuration.
        """
        if self.playbook is not None or isinstance(config, GatewayConfig):
            return self.config() if not isinstance(config, GatewayConfig) else config
        provider = str(getattr(config.provider, "value", config.provider))
        return GatewayConfig(self, provider, str(config.model), without_retries(config))

    def warm(self) -> None:
        """Import what the first call needs, which takes a second; call it from a thread."""
        _warm(self.spec.provider)

    async def answer(self, client: GatewayClient, messages: Sequence[Any], context: Any, options: Any) -> ModelResponse:
        """Answer one call: from the tape, the playbook or the model."""
        where = self.recorder.here()
        if where is not None:
            return await self._answer(client, messages, context, options)
        with self.recorder.at("run"):
            return await self._answer(client, messages, context, options)

    async def _answer(
        self, client: GatewayClient, messages: Sequence[Any], context: Any, options: dict[str, Any]
    ) -> ModelResponse:
        where = self.recorder.here()
        assert where is not None  # noqa: S101 - answer() sees to it
        config = client.config
        agent = _agent(context) or where.agent or "agent"
        request = describe_request(
            messages,
            context.prompt,
            provider=config.provider_name,
            model=config.model,
            options=options_of(config.inner) if config.inner is not None else {},
            tools=options["tools"],
            reply_schema=options["response_schema"],
        )
        hashed = request_hash(request, self.work_dir)
        key = (where.node_id, where.attempt, agent)
        self._ordinals[key] += 1
        ordinal = self._ordinals[key]
        tokens = int(len(json.dumps(request, ensure_ascii=False, default=repr)) / TOKEN_SIZE)
        info = CallInfo(
            agent=agent,
            node_id=where.node_id,
            attempt=where.attempt,
            ordinal=ordinal,
            provider=config.provider_name,
            model=config.model,
            request_hash=hashed,
            prompt_tokens=tokens,
            estimated_usd=self._estimate(config, tokens),
            spent_usd=0.0,
            tools=tuple(str(tool["name"]) for tool in request["tools"]),
            schema=request["reply_schema"]["name"] if request["reply_schema"] else None,
        )
        stored = self.tape.take(where.node_id, where.attempt, agent, ordinal, hashed)
        if stored is not None:
            return self._replay(info, request, stored)
        reserved = info.estimated_usd or 0.0
        self._reserved += reserved
        try:
            return await self._call(client, info, request, messages, context, options, reserved)
        finally:
            self._reserved -= reserved

    async def _call(
        self,
        client: GatewayClient,
        info: CallInfo,
        request: dict[str, Any],
        messages: Sequence[Any],
        context: Any,
        options: dict[str, Any],
        reserved: float,
    ) -> ModelResponse:
        for tried in range(1, TRIES + 1):
            await self._ask_leave(info, reserved)
            inner = await client.inner()
            failure = None
            with self._span(info, request, tried) as span, under_way(info):
                seen = http.Exchange()
                token = http.exchange.set(seen)
                try:
                    response, reasoning = await self._try(inner, messages, context, options)
                    http.exchange.reset(token)
                except CMBAgentError:
                    self.failed_calls += 1
                    raise
                except Exception as error:
                    self.failed_calls += 1
                    failure = understand(error, seen, provider=info.provider, timeout=self.settings.call_timeout)
                    again = failure.again and tried < TRIES
                    span.fail(failure.reason if failure.status is None else f"{failure.status}: {failure.reason}")
                    span.meta = {**(span.meta or {}), "http_status": failure.status, "retried": again}
                    cause = error
                else:
                    self._keep(span, info, request, response, reasoning or _reasoning_in(seen))
            if failure is None:
                await self.writer.settled()
                return response
            if not again:
                raise call_failed(failure, model=f"{info.provider}:{info.model}", tries=tried) from cause
            await asyncio.sleep(failure.pause(tried))
        raise AssertionError("a call ends within its tries")

    async def _ask_leave(self, info: CallInfo, reserved: float) -> None:
        """Let every hook see the call, with what the run has spent and what other calls may cost."""
        import dataclasses

        spent = self.known_cost_usd + self._reserved - reserved
        asked = dataclasses.replace(info, spent_usd=spent)
        for hook in self.before_call:
            await hook(asked)

    async def _try(
        self, inner: Any, messages: Sequence[Any], context: Any, options: dict[str, Any]
    ) -> tuple[ModelResponse, str | None]:
        from ag2.events import ModelReasoning

        thoughts: list[str] = []

        async def think(event: ModelReasoning) -> None:
            thoughts.append(event.content)

        with context.stream.where(ModelReasoning).sub_scope(think):
            async with asyncio.timeout(self.settings.call_timeout or None):
                response: ModelResponse = await inner(messages, context, **options)
        return response, "".join(thoughts) or None

    def _keep(
        self, span: Span, info: CallInfo, request: dict[str, Any], response: ModelResponse, reasoning: str | None
    ) -> None:
        """Store a reply with its cost, and put what matters of it into the event and the messages."""
        usage = prices.tokens_of(response.usage, info.provider)
        priced = response.model or info.model
        cost = prices.cost(info.provider, priced, usage)
        if cost is None and priced != info.model:
            cost = prices.cost(info.provider, info.model, usage)
        self.calls += 1
        self.tokens += usage["total_tokens"]
        self._reply_tokens += usage["completion_tokens"]
        if cost is None:
            self.unknown_cost_calls += 1
        else:
            self.known_cost_usd += cost
        fields = _fields(response.content)
        reasoning = reasoning or fields.get("reasoning")
        reply = describe_reply(response, reasoning, usage)
        now = time.time()
        key = {
            "node_id": info.node_id,
            "attempt": info.attempt,
            "ordinal": info.ordinal,
            "agent_name": info.agent,
            "event_id": span.reference,
            "request_hash": info.request_hash,
        }
        run_id, session_id = self.recorder.run_id, self.recorder.session_id
        self.writer.insert(
            "model_replies",
            {
                "id": new_id(),
                "run_id": run_id,
                **key,
                "request": request,
                "reply": reply,
                "usage": usage,
                "created_at": now,
            },
        )
        if self.journal is not None:
            self.writer.journal(self.journal, JOURNAL_KIND, {**key, "reply": reply, "usage": usage, "cost_usd": cost})
        self.writer.insert(
            "cost_records",
            {
                "run_id": run_id,
                "session_id": session_id,
                "node_id": info.node_id,
                "event_id": span.reference,
                "provider": info.provider,
                "model": priced,
                "agent_name": info.agent,
                "prompt_tokens": usage["prompt_tokens"],
                "completion_tokens": usage["completion_tokens"],
                "total_tokens": usage["total_tokens"],
                "cached_tokens": usage["cached_tokens"],
                "cost_usd": cost,
                "created_at": now,
            },
        )
        calls = _tool_calls(reply)
        span.outputs = {
            "text": _bounded(response.content),
            "tool_calls": calls,
            "finish_reason": response.finish_reason,
            "usage": usage,
            "cost_usd": cost,
        }
        self._say(span, info, request, reply, fields, usage["total_tokens"])

    def _replay(self, info: CallInfo, request: dict[str, Any], stored: Stored) -> ModelResponse:
        self.replayed_calls += 1
        reply = dict(stored.reply)
        with self._span(info, request, 1) as span:
            span.subtype = "replayed"
            span.meta = {**(span.meta or {}), "source": "replay"}
            span.outputs = {"text": _bounded(reply.get("text")), "tool_calls": _tool_calls(reply)}
        return restore_reply(reply)

    def _span(self, info: CallInfo, request: dict[str, Any], tried: int) -> Span:
        return self.recorder.span(
            "model_call",
            agent=info.agent,
            inputs={
                "provider": info.provider,
                "model": info.model,
                "message": _bounded(last_text(request)),
                "schema": info.schema,
                "tools": list(info.tools),
                "request_hash": info.request_hash,
            },
            meta={
                "source": "playbook" if info.provider == PLAYBOOK else "live",
                "ordinal": info.ordinal,
                "try": tried,
            },
        )

    def _say(
        self,
        span: Span,
        info: CallInfo,
        request: dict[str, Any],
        reply: dict[str, Any],
        fields: dict[str, str],
        tokens: int,
    ) -> None:
        """Record what was asked and what was answered as messages."""
        asker = _asker(self.recorder)
        last = request["messages"][-1] if request["messages"] else {}
        if last.get("role") == "user" and isinstance(last.get("content"), str):
            self.recorder.message(sender=asker, recipient=info.agent, content=last["content"], event_id=span.reference)
        self.recorder.message(
            sender=info.agent,
            recipient=asker,
            content=reply["text"] or "",
            event_id=span.reference,
            reasoning=reply["reasoning"],
            tool_calls=_tool_calls(reply) or None,
            code_generated=fields.get("python_code"),
            duration_ms=span.elapsed_ms,
            tokens=tokens,
        )

    def _estimate(self, config: GatewayConfig, prompt_tokens: int) -> float | None:
        expected = self._reply_tokens // self.calls if self.calls else EXPECTED_REPLY
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": expected}
        return prices.cost(config.provider_name, config.model, usage)


class GatewayConfig:
    """An AG2 model configuration whose calls go through a gateway."""

    def __init__(self, gateway: Gateway, provider: str, model: str, inner: Any, spec: ModelSpec | None = None) -> None:
        self.gateway = gateway
        self.provider_name = provider
        self.inner = inner
        self._model = model
        self._spec = spec

    @property
    def provider(self) -> str:
        """Name the provider."""
        return self.provider_name

    @property
    def model(self) -> str:
        """Name the model."""
        return self._model

    def copy(self) -> GatewayConfig:
        """Return itself: there is nothing to change."""
        return self

    def create(self) -> GatewayClient:
        """Make a client; what it needs is imported and opened with its first call."""
        return GatewayClient(self)

    def create_files_client(self) -> Any:
        """Refuse: files go to models as text in prompts."""
        raise NotImplementedError("cmbagent_nb does not upload files to providers")

    async def open(self) -> Any:
        """Make the provider's own client, on the loop that runs."""
        if self.inner is None and self._spec is not None:
            await asyncio.to_thread(_warm, self.provider_name)
            return provider_config(self._spec, settings=self.gateway.settings).create()
        return self.inner.create()


class GatewayClient:
    """The client that AG2 calls."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self._inner: Any = None

    async def inner(self) -> Any:
        """Return the provider's client, made on first use."""
        if self._inner is None:
            self._inner = await self.config.open()
        return self._inner

    async def __call__(
        self,
        messages: Sequence[Any],
        context: Any,
        *,
        tools: Iterable[Any] = (),
        response_schema: Any = None,
        serializer: Any = None,
    ) -> ModelResponse:
        """Answer one call."""
        options = {"tools": list(tools), "response_schema": response_schema, "serializer": serializer}
        return await self.config.gateway.answer(self, list(messages), context, options)


_warmed: set[str] = set()


def _warm(provider: str) -> None:
    if provider in _warmed:
        return
    importlib.import_module("ag2")
    if provider in PROVIDERS:
        importlib.import_module(f"ag2.config.{provider}")
        importlib.import_module(PROVIDERS[provider].package)
        importlib.import_module("genai_prices")
        http.warm()
    _warmed.add(provider)


def _agent(context: Any) -> str | None:
    from ag2.utils import AGENT_CONTEXT_DEPENDENCY_KEY

    name = getattr(context.dependencies.get(AGENT_CONTEXT_DEPENDENCY_KEY), "name", None)
    return str(name) if name else None


def _asker(recorder: Recorder) -> str:
    """Return who asked: the agent whose turn is around this agent's turn, or the workflow."""
    span = current_span()
    turns = 0
    while span is not None and span.recorder is recorder:
        if span.event_type == "agent_call":
            turns += 1
            if turns == 2:
                return span.agent or "workflow"
        span = span.parent
    return "workflow"


def _bounded(text: Any) -> Any:
    if not isinstance(text, str) or len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]} [... {len(text) - TEXT_LIMIT} more characters]"


def _tool_calls(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": call["name"], "arguments": call["arguments"]} for call in reply.get("tool_calls") or ()]


def _fields(text: str | None) -> dict[str, str]:
    """Return the text fields of a structured reply; none when it is not one."""
    body = (text or "").strip()
    if body.startswith("```"):
        body = body.strip("`").removeprefix("json").strip()
    if not body.startswith("{"):
        return {}
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return {key: value for key, value in data.items() if isinstance(value, str) and value}


def _reasoning_in(seen: http.Exchange) -> str | None:
    """Return the reasoning of an OpenAI-compatible answer, which AG2 drops unless it is streamed."""
    try:
        message = seen.body["choices"][0]["message"]
        text = message.get("reasoning_content") or message.get("reasoning")
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) and text else None
