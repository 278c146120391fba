"""Routes every model call of a run: none is lost or counted twice.

======================  =====================================================================
one call, one event     each HTTP call is one ``model_call`` event; a try that failed is an
                        event of its own, and at most ``retry.TRIES`` are made
barrier before effect   the reply is in the database and the journal before the agent gets it
tape                    a reply that is on the tape is given again (subtype ``replayed``): no call;
                        what its tools gave is given again with it
hooks                   ``before_call`` can stop a call before it is made: budgets, policies
never a hang            each try ends within ``call_timeout``
never a raw error       what cannot be helped is a ``ModelCallFailed`` that says what to do
======================  =====================================================================

A playbook answers through the same gateway, so that its runs leave the same record; its events
say ``source: playbook`` and cost nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.capture.recorder import Location, Recorder, Span
from cmbagent_nb.errors import CMBAgentError, ReplayDiffers
from cmbagent_nb.llm import http, prices
from cmbagent_nb.llm.client import GatewayClient, GatewayConfig, warm
from cmbagent_nb.llm.cost_ledger import Called, Ledger
from cmbagent_nb.llm.model_call import BeforeCall, CallInfo, under_way
from cmbagent_nb.llm.playbook import Playbook, PlaybookConfig
from cmbagent_nb.llm.providers import check, offered, without_retries
from cmbagent_nb.llm.rate_limits import PATIENCE, RateLimit, rate_limit
from cmbagent_nb.llm.reading.body import EMPTY, LENGTH
from cmbagent_nb.llm.reading.response import read_response
from cmbagent_nb.llm.request import (
    describe_request,
    options_of,
    request_hash,
    request_text,
    restore_reply,
    without_surrogates,
)
from cmbagent_nb.llm.results import describe_result, restore_result, tools_around
from cmbagent_nb.llm.retry import NO_ANSWER, Failure, call_failed, understand
from cmbagent_nb.llm.spec import PLAYBOOK, ModelSpec
from cmbagent_nb.llm.tape import Tape
from cmbagent_nb.redaction import redactor

if TYPE_CHECKING:
    from ag2.events import ModelResponse, ToolCallEvent, ToolResultEvent

    from cmbagent_nb.settings import Settings
    from cmbagent_nb.store.writer import Writer

#: Characters for a token when the size of a prompt is estimated, on the safe side.
TOKEN_SIZE = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A call as AG2 makes it, with its description."""

    info: CallInfo
    request: dict[str, Any]
    messages: Sequence[Any]
    context: Any
    options: dict[str, Any]


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
    replay
        Only the tape answers: a call that is not on it raises ``ReplayDiffers``.
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
        replay: bool = False,
    ) -> None:
        redactor().refresh()  # a key that was set a moment ago is masked from the first row on
        self.spec = spec
        self.settings = settings
        self.recorder = recorder
        self.writer = writer
        self.before_call = list(before_call)
        self.work_dir = work_dir
        self.tape = tape if tape is not None else Tape()
        self.playbook = Playbook.load(spec.name) if spec.is_playbook else None
        self.replay = replay
        self.source = "replay" if replay else "playbook" if spec.is_playbook else "live"
        self.ledger = Ledger(recorder, writer, journal)
        self.recorder.recall = self._recall
        self.recorder.keep_result = self._keep_result
        self._unsettled = False
        self._called: dict[tuple[str, int, str, str], Called] = {}
        self._asking: set[tuple[str | None, str]] = set()
        self._reserved = 0.0
        self._ordinals: Counter[tuple[str, int, str]] = Counter()

    @property
    def calls(self) -> int:
        """Number of calls that a model or a playbook answered."""
        return self.ledger.calls

    @property
    def failed_calls(self) -> int:
        """Number of tries that failed."""
        return self.ledger.failed_calls

    @property
    def replayed_calls(self) -> int:
        """Number of calls that the tape answered."""
        return self.ledger.replayed_calls

    @property
    def tokens(self) -> int:
        """Tokens of all calls, prompts and replies together."""
        return self.ledger.tokens

    @property
    def cost_usd(self) -> float | None:
        """Cost of the calls in US dollars; None when the price of any is unknown."""
        return None if self.ledger.unknown_cost_calls else self.ledger.known_cost_usd

    def config(self, agent_model: str | None = None) -> GatewayConfig:
        """Return the AG2 model configuration of an agent: the run's model, or the agent's own.

        Raises
        ------
        UnknownModel, MissingKey, MissingExtra
            The agent's own model cannot be called.
        """
        if self.playbook is not None:
            return self._of_playbook(self.playbook)
        spec = ModelSpec.parse(agent_model) if agent_model else self.spec
        if spec.is_playbook:
            return self._of_playbook(Playbook.load(spec.name))
        if not self.replay:
            check(spec, self.settings)
        return GatewayConfig(self, provider=spec.provider, model=spec.name, spec=spec)

    def wrap(self, config: Any) -> GatewayConfig:
        """Return a user's own AG2 configuration, with its calls going through here.

        In a run by a playbook the playbook answers, whatever the configuration.
        """
        if isinstance(config, GatewayConfig):
            return config
        if self.playbook is not None:
            return self._of_playbook(self.playbook)
        provider = str(getattr(config.provider, "value", config.provider))
        return GatewayConfig(self, provider=provider, model=str(config.model), inner=without_retries(config))

    def _of_playbook(self, playbook: Playbook) -> GatewayConfig:
        return GatewayConfig(self, provider=PLAYBOOK, model=playbook.name, inner=PlaybookConfig(playbook))

    def warm(self) -> None:
        """Import what the first call needs, which takes a second; call it from a thread."""
        warm(self.spec.provider)

    async def answer(
        self, client: GatewayClient, messages: Sequence[Any], context: Any, options: dict[str, Any]
    ) -> ModelResponse:
        """Answer one call: from the tape, the playbook or the model."""
        messages = without_surrogates(list(messages))
        options = without_surrogates(options)
        prompt = list(context.prompt)
        if (clean := without_surrogates(prompt)) is not prompt:
            context.prompt[:] = clean
        where = self.recorder.current_location()
        if where is None:
            with self.recorder.located_at("run") as where:
                return await self._answer(client, where, self._describe(client, where, messages, context, options))
        return await self._answer(client, where, self._describe(client, where, messages, context, options))

    def _describe(
        self, client: GatewayClient, where: Location, messages: Sequence[Any], context: Any, options: dict[str, Any]
    ) -> Asked:
        config = client.config
        agent = _agent(context) or where.agent or "agent"
        request = describe_request(
            messages,
            context.prompt,
            provider=config.provider,
            model=config.model,
            options=options_of(config.inner),
            tools=options["tools"],
            reply_schema=options["response_schema"],
        )
        text = request_text(request)
        prompt_tokens = int(len(text) / TOKEN_SIZE)
        expected = {"prompt_tokens": prompt_tokens, "completion_tokens": self.ledger.expected_reply}
        key = (where.node_id, where.attempt, agent)
        self._ordinals[key] += 1
        info = CallInfo(
            agent=agent,
            node_id=where.node_id,
            attempt=where.attempt,
            ordinal=self._ordinals[key],
            provider=config.provider,
            model=config.model,
            request_hash=request_hash(text, self.work_dir),
            prompt_tokens=prompt_tokens,
            estimated_usd=prices.cost(config.provider, config.model, expected),
            spent_usd=0.0,
            tools=tuple(str(tool["name"]) for tool in request["tools"]),
            schema=request["reply_schema"]["name"] if request["reply_schema"] else None,
        )
        return Asked(info, request, messages, context, options)

    async def _answer(self, client: GatewayClient, where: Location, asked: Asked) -> ModelResponse:
        info = asked.info
        self._asking |= tools_around(self.recorder)
        stored = self.tape.take(where.node_id, where.attempt, info.agent, info.ordinal, info.request_hash)
        if stored is not None:
            self.ledger.replayed(info, asked.request, dict(stored.reply))
            if stored.id and not self.replay:
                self._calls(info, Called(stored.id, stored.reply, list(stored.reply.get("tool_results") or ())))
            return restore_reply(stored.reply)
        if self.replay:
            raise ReplayDiffers(
                f"call {info.ordinal} of {info.agent} in {info.node_id}, attempt {info.attempt}, is not on the tape",
                "Its prompt is another than in the recorded run, or the recorded run made no such call.",
                node_id=info.node_id,
                agent=info.agent,
                attempt=info.attempt,
                ordinal=info.ordinal,
            )
        if self._unsettled:  # what tools gave is stored before anything comes of it: no tool is run twice
            self._unsettled = False
            await self.writer.settled()
        reserved = info.estimated_usd or 0.0
        self._reserved += reserved
        try:
            limit, began = rate_limit(f"{info.provider} {self.settings.base_url}", info.model), time.monotonic()
            for tried in itertools.count(1):
                await self._wait_for(limit, info)
                await self._ask_leave(info, reserved)
                outcome, failure = await self._try(await client.inner(), asked, tried)
                if outcome is not None:
                    if outcome.finish_reason == LENGTH:
                        client.raise_limit(outcome.usage.completion_tokens)
                    limit.passed()
                    await self.writer.settled()
                    return outcome
                assert failure is not None
                if failure.status in (400, 422) and client.drop_limit():
                    continue
                if failure.limited and time.monotonic() - began + limit.met(failure.retry_after) < PATIENCE:
                    continue
                if not failure.again or failure.limited or tried >= failure.tries:
                    if failure.status == 404:
                        failure = await self._with_offer(failure, client)
                    raise call_failed(failure, model=f"{info.provider}:{info.model}", tries=tried)
                await asyncio.sleep(failure.pause(tried))
        finally:
            self._reserved -= reserved
        raise AssertionError("a call ends within its tries")

    async def _wait_for(self, limit: RateLimit, info: CallInfo) -> None:
        """Wait until the rate limit of the model's server lets the call through; the wait is an event of its own."""
        if limit.wait <= 0:
            return
        waits = {"model": f"{info.provider}:{info.model}", "seconds": round(limit.wait, 1)}
        with self.recorder.span("retry", subtype="rate_limit", agent=info.agent, inputs=waits):
            await limit.open()

    async def _with_offer(self, failure: Failure, client: GatewayClient) -> Failure:
        """Add to a failure for an unknown model which models the server has."""
        if client.config.spec is None:
            return failure
        offer = await asyncio.to_thread(offered, client.config.spec, self.settings)
        return dataclasses.replace(failure, next_step=f"{offer} {failure.next_step}".strip())

    async def _ask_leave(self, info: CallInfo, reserved: float) -> None:
        """Let every hook see the call, with what the run has spent and what calls under way may cost."""
        spent = self.ledger.known_cost_usd + self._reserved - reserved
        for hook in self.before_call:
            await hook(dataclasses.replace(info, spent_usd=spent))

    async def _try(self, inner: Any, asked: Asked, tried: int) -> tuple[ModelResponse | None, Failure | None]:
        """Make one try, which is one event: return the reply, or why there is none."""
        info, patience = asked.info, self.settings.first_byte_timeout
        with self.ledger.span(info, asked.request, tried) as span, under_way(info), http.watched(patience) as seen:
            try:
                response, thoughts = await self._send(inner, asked)
            except CMBAgentError:
                self.ledger.failed_calls += 1
                raise
            except Exception as error:
                self.ledger.failed_calls += 1
                failure = understand(error, seen, provider=info.provider, timeout=self.settings.call_timeout)
                _mark_failed(span, failure, again=failure.limited or (failure.again and tried < failure.tries))
                return None, failure
            structured = asked.options["response_schema"] is not None
            response, reasoning = read_response(
                response,
                seen.reply,
                thoughts=thoughts,
                structured=structured,
                messages=asked.messages,
                tools=info.tools,
            )
            if response.finish_reason == EMPTY:
                self.ledger.failed_calls += 1
                _mark_failed(span, NO_ANSWER, again=tried < NO_ANSWER.tries)
                return None, NO_ANSWER
            called = self.ledger.reply(span, info, asked.request, response, reasoning or None)
            self._calls(info, called)
            return response, None

    def _calls(self, info: CallInfo, called: Called) -> None:
        """Remember which tools a reply calls, until they have given something."""
        for call in called.reply.get("tool_calls") or ():
            self._called[info.node_id, info.attempt, info.agent, call["id"]] = called

    def _keep_result(self, call: ToolCallEvent, where: Location, agent: str, result: Any) -> None:
        """Write down what a tool gave, so that it is not run again; what asked a model itself is."""
        called = self._called.pop((where.node_id, where.attempt, agent, call.id), None)
        if called is None or (where.node_id, call.id) in self._asking:
            return
        described = describe_result(call, result, self.work_dir)
        if described is not None and self.writer.scrub(described["text"]) == described["text"]:
            self.ledger.tool_result((where.node_id, where.attempt, agent), called, described)
            self._unsettled = True

    def _recall(self, call: ToolCallEvent, where: Location, agent: str) -> ToolResultEvent | None:
        """Return what a tool gave in the run that is gone through again; None when it has to be run."""
        kept = self.tape.result(where.node_id, where.attempt, agent, call.id, call.name, call.arguments)
        return None if kept is None else restore_result(call, kept, self.work_dir)

    async def _send(self, inner: Any, asked: Asked) -> tuple[ModelResponse, str]:
        if asked.info.provider == PLAYBOOK:
            return await inner(asked.messages, asked.context, **asked.options), ""
        from ag2.events import ModelReasoning

        thoughts: list[str] = []

        async def think(event: ModelReasoning) -> None:
            thoughts.append(str(event.content))

        with asked.context.stream.where(ModelReasoning).sub_scope(think):
            async with asyncio.timeout(self.settings.call_timeout or None):
                response: ModelResponse = await inner(asked.messages, asked.context, **asked.options)
        return response, "".join(thoughts)


def _mark_failed(span: Span, failure: Failure, *, again: bool) -> None:
    span.fail(failure.reason if failure.status is None else f"{failure.status}: {failure.reason}")
    span.meta = {**(span.meta or {}), "http_status": failure.status, "retried": again}


def _agent(context: Any) -> str | None:
    from ag2.utils import AGENT_CONTEXT_DEPENDENCY_KEY

    name = getattr(context.dependencies.get(AGENT_CONTEXT_DEPENDENCY_KEY), "name", None)
    return str(name) if name else None
