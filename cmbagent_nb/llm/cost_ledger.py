"""Records a run's model calls: the event, the reply, its cost and its messages, and the sums.

What an event holds is short; the whole request and reply are in ``model_replies``. A reply's
reasoning, given beside it or as its ``reasoning`` field, is kept with the message.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.capture.recorder import Recorder, Span, current_span
from cmbagent_nb.ids import new_id
from cmbagent_nb.llm import prices
from cmbagent_nb.llm.model_call import CallInfo
from cmbagent_nb.llm.reading.escapes import PYTHON
from cmbagent_nb.llm.reading.lenient import Unreadable
from cmbagent_nb.llm.reading.structured import find_json
from cmbagent_nb.llm.request import describe_reply, last_text
from cmbagent_nb.llm.spec import PLAYBOOK
from cmbagent_nb.llm.tape import JOURNAL_KIND, RESULT_KIND

if TYPE_CHECKING:
    from ag2.events import ModelResponse

    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Characters of a text that an event keeps.
TEXT_LIMIT = 4000
#: Tokens that a reply is expected to have before any has come.
EXPECTED_REPLY = 1000


def spent(db: Database, run_id: str) -> dict[str, Any]:
    """Add up what a run has spent so far."""
    row = db.rows(
        "SELECT COUNT(*) AS calls, COALESCE(SUM(total_tokens), 0) AS tokens,"
        " COALESCE(SUM(completion_tokens), 0) AS reply_tokens, COALESCE(SUM(cost_usd), 0.0) AS known,"
        " COUNT(*) - COUNT(cost_usd) AS unknown FROM cost_records WHERE run_id = :run",
        run=run_id,
    )[0]
    return {name: float(value) if name == "known" else int(value) for name, value in row.items()}


@dataclass
class Called:
    """A reply that called tools, and what they have given so far."""

    id: str
    reply: Mapping[str, Any]
    results: list[dict[str, Any]] = field(default_factory=list)


class Ledger:
    """Writes down the model calls of one run."""

    def __init__(self, recorder: Recorder, writer: Writer, journal: Path | None) -> None:
        self.recorder = recorder
        self.writer = writer
        self.journal = journal
        self.calls = 0
        self.failed_calls = 0
        self.replayed_calls = 0
        self.tokens = 0
        self.known_cost_usd = 0.0
        self.unknown_cost_calls = 0
        self._reply_tokens = 0

    def go_on_from(self, before: Mapping[str, Any]) -> None:
        """Take over the sums of the part of the run that an earlier process did, as :func:`spent` gives them."""
        self.calls += before["calls"]
        self.tokens += before["tokens"]
        self._reply_tokens += before["reply_tokens"]
        self.known_cost_usd += before["known"]
        self.unknown_cost_calls += before["unknown"]

    @property
    def expected_reply(self) -> int:
        """Estimated tokens of the next reply: the mean so far."""
        return self._reply_tokens // self.calls if self._reply_tokens else EXPECTED_REPLY

    def span(self, info: CallInfo, request: dict[str, Any], tried: int) -> Span:
        """Start the event of a call."""
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

    def reply(
        self,
        span: Span,
        info: CallInfo,
        request: dict[str, Any],
        response: ModelResponse,
        reasoning: str | None,
    ) -> Called:
        """Write down a reply; it is stored when the writer has settled. Returns what its tools' results go to."""
        usage = prices.tokens_of(response.usage, info.provider)
        model, cost = self._price(info, response, usage)
        self.calls += 1
        self.tokens += usage["total_tokens"]
        self._reply_tokens += usage["completion_tokens"]
        if cost is None:
            self.unknown_cost_calls += 1
        else:
            self.known_cost_usd += cost
        structured = info.schema or (response.content or "").lstrip().startswith(("{", "```"))
        fields = _fields(response.content) if structured else {}
        reply = describe_reply(response, reasoning or fields.get("reasoning"), usage)
        key = {
            "node_id": info.node_id,
            "attempt": info.attempt,
            "ordinal": info.ordinal,
            "agent_name": info.agent,
            "event_id": span.reference,
            "request_hash": info.request_hash,
        }
        reply_id = new_id()
        row = {"id": reply_id, "run_id": self.recorder.run_id, **key, "request": request, "reply": reply}
        self.writer.insert("model_replies", {**row, "usage": usage, "created_at": time.time()})
        if self.journal is not None:
            spent = {"usage": usage, "cost_usd": cost, "provider": info.provider, "model": model}
            self.writer.journal(self.journal, JOURNAL_KIND, {**key, "reply": reply, **spent})
        self.writer.insert("cost_records", self._cost_row(span, info, model, usage, cost))
        span.outputs = {
            "text": _bounded(response.content),
            "tool_calls": _tool_calls(reply),
            "finish_reason": response.finish_reason,
            "usage": usage,
            "cost_usd": cost,
        }
        self._say(span, info, request, reply, fields.get("python_code"))
        return Called(reply_id, reply)

    def tool_result(self, info: tuple[str, int, str], called: Called, result: dict[str, Any]) -> None:
        """Write down what a tool gave, with the reply that called it."""
        called.results.append(result)
        reply = {**called.reply, "tool_results": list(called.results)}
        self.writer.update("model_replies", called.id, {"reply": reply})
        if self.journal is not None:
            node_id, attempt, agent = info
            key = {"node_id": node_id, "attempt": attempt, "agent_name": agent}
            self.writer.journal(self.journal, RESULT_KIND, {**key, "result": result})

    def replayed(self, info: CallInfo, request: dict[str, Any], reply: dict[str, Any]) -> None:
        """Write down that the tape answered: no call was made and nothing was spent."""
        self.replayed_calls += 1
        with self.span(info, request, 1) as span:
            span.subtype = "replayed"
            span.meta = {"source": "replay", "ordinal": info.ordinal}
            span.outputs = {
                "text": _bounded(reply.get("text")),
                "tool_calls": _tool_calls(reply),
                "finish_reason": reply.get("finish_reason"),
            }

    def _price(self, info: CallInfo, response: ModelResponse, usage: dict[str, int]) -> tuple[str, float | None]:
        """Price a call by the model that answered, else by the one that was asked for."""
        model = response.model or info.model
        cost = prices.cost(info.provider, model, usage)
        if cost is None and model != info.model:
            cost = prices.cost(info.provider, info.model, usage)
        if cost == 0.0 and not usage["total_tokens"] and info.provider not in prices.FREE:
            cost = None  # the server told no usage: its cost is unknown, not zero
        return model, cost

    def _cost_row(
        self, span: Span, info: CallInfo, model: str, usage: dict[str, int], cost: float | None
    ) -> dict[str, Any]:
        return {
            "run_id": self.recorder.run_id,
            "session_id": self.recorder.session_id,
            "node_id": info.node_id,
            "event_id": span.reference,
            "provider": info.provider,
            "model": model,
            "agent_name": info.agent,
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "cached_tokens": usage["cached_tokens"],
            "cost_usd": cost,
            "created_at": time.time(),
        }

    def _say(
        self, span: Span, info: CallInfo, request: dict[str, Any], reply: dict[str, Any], code: str | None
    ) -> None:
        """Record what was asked and what was answered as messages."""
        asker = _asker(self.recorder)
        last = request["messages"][-1] if request["messages"] else {}
        if last.get("role") == "user":
            asked = last_text(request)
            self.recorder.message(sender=asker, recipient=info.agent, content=asked, event_id=span.reference)
        self.recorder.message(
            sender=info.agent,
            recipient=asker,
            content=reply["text"] or "",
            event_id=span.reference,
            reasoning=reply["reasoning"],
            tool_calls=_tool_calls(reply) or None,
            code_generated=code,
            duration_ms=span.elapsed_ms,
            tokens=reply["usage"]["total_tokens"],
        )


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
    try:
        data = find_json(text or "", {"python_code": PYTHON})
    except Unreadable:
        return {}
    return {key: value for key, value in data.items() if isinstance(value, str) and value}
