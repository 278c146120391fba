"""The gateway over real HTTP: every call is one event, a reply is stored before it is used, nothing hangs."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent
from pydantic import BaseModel

from cmbagent_nb import redaction
from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.errors import ModelCallFailed
from cmbagent_nb.llm import rate_limits, retry
from cmbagent_nb.llm.model_call import CallInfo
from cmbagent_nb.redaction import redactor
from cmbagent_nb.store.journal import read_journal
from tests.openai_server import CUT, CUT_BODY, OpenAIServer, Reply, Status, in_turn
from tests.recorded_run import RecordedRun, in_loop, recorded_run


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", 0.01)


class Answer(BaseModel):
    value: int
    reasoning: str = ""
    python_code: str = ""


def ask(run: RecordedRun, gateway: Any, prompt: str = "do it", *, name: str = "engineer", **options: Any) -> Any:
    """Ask an agent of the run at step_1."""

    async def work() -> Any:
        with run.recorder.located_at("step_1", agent=name):
            agent = Agent(name, "You are an engineer.", config=gateway.config(), middleware=[Capture], **options)
            return await agent.ask(prompt)

    return in_loop(work())


def test_a_call_leaves_its_event_reply_cost_and_messages(tmp_path: Path) -> None:
    """All of it, with the same ids, tokens and price; and no key is needed for a server of one's own."""
    body = {"value": 3, "reasoning": "because", "python_code": "print(3)"}
    answer = Reply(body, prompt_tokens=1000, completion_tokens=100, cached_tokens=400, model="gpt-5-2025-08-07")
    with OpenAIServer(lambda request: answer) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url, "openai:gpt-5")
        reply = ask(run, gateway, response_schema=Answer)
        assert json.loads(reply.body) == body
        assert server.count == 1
        turn, call = run.events()
        assert (turn["event_type"], call["event_type"]) == ("agent_call", "model_call")
        assert call["parent_event_id"] == turn["id"]
        assert (call["node_id"], call["agent_name"], call["status"]) == ("step_1", "engineer", "completed")
        assert call["inputs"]["model"] == "gpt-5"
        assert (call["inputs"]["message"], call["inputs"]["schema"]) == ("do it", "Answer")
        assert call["meta"]["source"] == "live"
        price = (600 * 1.25 + 400 * 0.125 + 100 * 10) / 1e6
        assert call["outputs"]["cost_usd"] == pytest.approx(price)
        (cost,) = run.rows("cost_records")
        assert (cost["event_id"], cost["prompt_tokens"], cost["cached_tokens"]) == (call["id"], 1000, 400)
        assert (cost["completion_tokens"], cost["total_tokens"]) == (100, 1100)
        assert cost["cost_usd"] == pytest.approx(price)
        (stored,) = run.rows("model_replies")
        assert (stored["event_id"], stored["ordinal"], stored["masked"]) == (call["id"], 1, 0)
        assert stored["request"]["system"] == ["You are an engineer."]
        assert stored["request"]["messages"] == [{"role": "user", "content": "do it"}]
        assert stored["request"]["reply_schema"]["schema"]["properties"]["value"] == {
            "title": "Value",
            "type": "integer",
        }
        assert json.loads(stored["reply"]["text"]) == body
        asked, said = run.rows("messages")
        assert (asked["sender"], asked["recipient"], asked["content"]) == ("workflow", "engineer", "do it")
        assert (said["sender"], said["reasoning"], said["code_generated"]) == ("engineer", "because", "print(3)")
        assert said["tokens"] == 1100
        (line,) = [entry for entry in read_journal(run.journal) if entry.kind == "model_reply"]
        assert line.data["request_hash"] == stored["request_hash"] == call["inputs"]["request_hash"]
        assert (gateway.calls, gateway.tokens, gateway.source) == (1, 1100, "live")
        assert gateway.cost_usd == pytest.approx(price)
        assert server.requests[0].headers["authorization"] == "Bearer no-key"


def test_reasoning_beside_the_reply_is_kept(tmp_path: Path) -> None:
    """``reasoning_content`` of an OpenAI-compatible server goes into the message."""
    with (
        OpenAIServer(lambda request: Reply("yes", reasoning_content="hm, yes")) as server,
        recorded_run(tmp_path) as run,
    ):
        ask(run, run.gateway(server.url))
        assert run.rows("messages")[1]["reasoning"] == "hm, yes"


def test_the_price_of_an_unknown_model_is_unknown(tmp_path: Path) -> None:
    """Not zero: NULL in the record and None in the sum."""
    with OpenAIServer(lambda request: "x") as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)
        ask(run, gateway)
        assert run.rows("cost_records")[0]["cost_usd"] is None
        assert gateway.cost_usd is None


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (429, 429),
        (500, 500),
        (Status(503, retry_after=0), 503),
        (CUT, None),
        (CUT_BODY, None),
        (Status(200, body="<html>not an API</html>"), 200),
    ],
    ids=["429", "500", "503", "cut", "cut within the body", "not JSON"],
)
def test_a_failed_try_is_an_event_of_its_own_and_tried_again(tmp_path: Path, trouble: Any, status: int | None) -> None:
    """As many events as calls that the server counted, and then the reply."""
    with OpenAIServer(in_turn(trouble, trouble, "fine")) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)
        assert ask(run, gateway).body == "fine"
        calls = run.events("model_call")
        assert len(calls) == server.count == 3
        assert [call["status"] for call in calls] == ["failed", "failed", "completed"]
        assert [call["meta"]["try"] for call in calls] == [1, 2, 3]
        assert calls[0]["meta"]["http_status"] == status
        assert len({call["parent_event_id"] for call in calls}) == 1
        assert len(run.rows("model_replies")) == len(run.rows("cost_records")) == 1
        assert (gateway.calls, gateway.failed_calls) == (1, 2)


def test_retry_after_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is the one that the server asks for, not ours."""
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", 60.0)
    with OpenAIServer(in_turn(Status(429, retry_after=0.3), "fine")) as server, recorded_run(tmp_path) as run:
        ask(run, run.gateway(server.url))
        first, second = server.requests
        assert 0.3 <= second.at - first.at < 10


@pytest.mark.parametrize(
    ("trouble", "tries", "words"),
    [
        (500, 4, ("status 500", "after 4 tries", "try again later")),
        (CUT, 4, ("connection was cut", "check the network")),
        (Status(401, message="wrong key"), 1, ("status 401", "wrong key", "openai_api_key")),
        (404, 1, ("status 404", "name of the model")),
        (400, 1, ("status 400", "another model")),
        (Status(429, error_code="insufficient_quota"), 1, ("status 429", "billing")),
        (Status(429, retry_after=3600), 1, ("status 429", "60 minutes")),
    ],
    ids=["500", "cut", "401", "404", "400", "quota", "long pause"],
)
def test_what_cannot_be_helped_is_said_in_one_line(tmp_path: Path, trouble: Any, tries: int, words: Any) -> None:
    """The error names the model, the status and the next step; trying again stops where it is pointless."""
    with OpenAIServer(lambda request: trouble) as server, recorded_run(tmp_path) as run:
        with pytest.raises(ModelCallFailed) as raised:
            ask(run, run.gateway(server.url))
        text = str(raised.value).lower()
        assert all(word in text for word in (*words, "openai:test-model")), text
        assert "\n" not in text
        assert server.count == len(run.events("model_call")) == tries
        (turn,) = run.events("agent_call")
        assert turn["status"] == "failed"
        assert run.rows("model_replies") == []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """It is said that it cannot be reached."""
    with OpenAIServer(lambda request: "x") as server:
        url = server.url
    with recorded_run(tmp_path) as run, pytest.raises(ModelCallFailed, match="cannot be reached"):
        ask(run, run.gateway(url))


def test_a_server_that_never_answers_ends_with_the_time_limit(tmp_path: Path) -> None:
    """No hang: the call fails after ``call_timeout`` and is not made again."""
    release = threading.Event()

    def handler(request: Any) -> str:
        release.wait(30)
        return "late"

    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        with pytest.raises(ModelCallFailed, match=r"no answer within 0\.2 s"):
            ask(run, run.gateway(server.url, call_timeout=0.2))
        release.set()
        assert server.count == len(run.events("model_call")) == 1


def test_a_cancelled_call_is_one_cancelled_event(tmp_path: Path) -> None:
    """Cancelling a run in the middle of a call leaves the call as cancelled."""
    release = threading.Event()

    def handler(request: Any) -> str:
        release.wait(30)
        return "late"

    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:

        async def work() -> None:
            with run.recorder.located_at("step_1"):
                agent = Agent("engineer", config=run.gateway(server.url).config(), middleware=[Capture])
                task = asyncio.ensure_future(agent.ask("x"))
                await asyncio.to_thread(server.wait_for, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        in_loop(work())
        release.set()
        assert [event["status"] for event in run.events()] == ["cancelled", "cancelled"]


def test_the_reply_is_stored_before_the_agent_acts_on_it(tmp_path: Path) -> None:
    """When the tool runs that a reply asks for, the reply is in the database, seen from another connection."""
    seen: list[int] = []
    with OpenAIServer(in_turn(Reply(tool_calls=[("act", {})]), "done")) as server, recorded_run(tmp_path) as run:

        async def act() -> str:
            """Act."""
            seen.append(run.db.rows("SELECT count(*) AS n FROM model_replies")[0]["n"])
            return "acted"

        ask(run, run.gateway(server.url), tools=[act])
        assert seen == [1]


def test_a_hook_stops_a_call_before_it_is_made(tmp_path: Path) -> None:
    """The server sees nothing, and the hook saw what it needs to decide."""
    asked: list[CallInfo] = []

    async def refuse(call: CallInfo) -> None:
        asked.append(call)
        if call.ordinal == 2:
            raise PermissionError("not twice")

    with OpenAIServer(lambda request: "x") as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url, "openai:gpt-5", before_call=[refuse])
        ask(run, gateway)
        with pytest.raises(PermissionError):
            ask(run, gateway)
        assert server.count == len(run.events("model_call")) == 1
        first, second = asked
        assert (first.agent, first.node_id, first.attempt, first.model) == ("engineer", "step_1", 1, "gpt-5")
        assert first.prompt_tokens > 10
        assert first.estimated_usd is not None and first.estimated_usd > 0
        assert first.spent_usd == 0
        assert second.spent_usd == gateway.cost_usd


def test_two_loops_and_many_agents_share_connections(tmp_path: Path) -> None:
    """One client a loop: twenty agents, one after the other, use one connection."""
    ports: set[Any] = set()
    with OpenAIServer(lambda request: "x") as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)

        async def work() -> None:
            with run.recorder.located_at("step_1"):
                for number in range(20):
                    await Agent(f"agent_{number}", config=gateway.config()).ask("x")
                    ports.update(connection.getpeername() for connection in server.connections())

        in_loop(work())
        assert len(ports) == 1
        ask(run, gateway)
        assert server.count == 21


def test_a_key_in_a_reply_is_masked_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent gets what the model said; the record holds the mask, and says so."""
    secret = "planted-0123456789-key"
    redactor().refresh()  # the environment was read just now: a key set after that is known all the same
    monkeypatch.setattr(redaction, "FRESH", 3600.0)
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    with OpenAIServer(lambda request: f"your key is {secret}") as server, recorded_run(tmp_path) as run:
        assert secret in ask(run, run.gateway(server.url), f"my key is {secret}").body
        assert run.rows("model_replies")[0]["masked"] == 1
        assert server.requests[0].headers["authorization"] == f"Bearer {secret}"
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_an_agents_own_model_is_used(tmp_path: Path) -> None:
    """An agent that names a model gets it; the others get the run's."""
    with OpenAIServer(lambda request: "x") as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)

        async def work() -> None:
            with run.recorder.located_at("step_1"):
                await Agent("a", config=gateway.config("openai:other")).ask("x")
                await Agent("b", config=gateway.config()).ask("x")

        in_loop(work())
        assert [request.json["model"] for request in server.requests] == ["other", "test-model"]


def test_a_users_own_configuration_goes_through_the_gateway(tmp_path: Path) -> None:
    """Its calls are recorded as all others, and its package's own retries are turned off."""
    from ag2.config import OpenAIConfig

    from cmbagent_nb.llm.http import shared_client

    with OpenAIServer(in_turn(500, "x")) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)

        async def work() -> None:
            client = shared_client()
            config = OpenAIConfig("mine", api_key="k", base_url=server.url, temperature=0.5, http_client=client)
            with run.recorder.located_at("step_1"):
                await Agent("a", config=gateway.wrap(config)).ask("x")

        in_loop(work())
        first, second = run.events("model_call")
        assert (first["status"], second["status"], second["inputs"]["model"]) == ("failed", "completed", "mine")
        assert server.count == 2
        assert run.rows("model_replies")[0]["request"]["options"] == {"temperature": 0.5}
