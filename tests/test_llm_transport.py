"""Model calls over HTTP to servers that know less, are busy, stall, or are reached through proxies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cmbagent_nb import doctor
from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.errors import CMBAgentError, ModelCallFailed, ModelError
from cmbagent_nb.llm import capabilities, proxies, rate_limits, retry
from cmbagent_nb.llm.capabilities import Capabilities
from cmbagent_nb.llm.providers import available
from cmbagent_nb.llm.rate_limits import asked_wait
from cmbagent_nb.llm.servers import is_chat
from cmbagent_nb.settings import Settings
from cmbagent_nb.store.waiting import WAITING, waiting_text, waits
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer, Status, in_turn, system_prompt
from tests.recorded_run import RecordedRun, in_loop, recorded_run
from tests.team import APPROVED, Team, code, plan


class Answer(BaseModel):
    value: int


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "_known", {})
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", 0.01)


def look(path: str) -> str:
    """Look at a file."""
    return f"{path} has 3 rows"


def ask(run: RecordedRun, gateway: Any, **options: Any) -> Any:
    async def work() -> Any:
        with run.recorder.located_at("step_1", agent="engineer"):
            agent = Agent("engineer", "You are an engineer.", config=gateway.config(), middleware=[Capture], **options)
            return await agent.ask("do it")

    return in_loop(work())


# ---- servers that know less


def refuses(wanted: Callable[[dict[str, Any]], bool], refusal: Status, answer: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda request: refusal if wanted(request) else answer


def wants(request: dict[str, Any]) -> str:
    return str((request.get("response_format") or {}).get("type", ""))


REFUSALS = [
    Status(400, message="This response_format type is unavailable now"),
    Status(422, message="[{'type': 'literal_error', 'loc': ['body', 'response_format', 'type']}]"),
    Status(400, message="Invalid request"),
    Status(400, body="Bad Request"),
    Status(501, message="not implemented"),
    Status(500, message="failed to parse grammar"),
    Status(400, message="json_schema is not supported by this model"),
    Status(422, body='{"detail":[{"msg":"Input should be text or json_object"}]}'),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=range(len(REFUSALS)))
@pytest.mark.parametrize("knows", ["json_object", ""])
def test_a_server_without_json_schema_is_asked_as_it_can_be(tmp_path: Path, refusal: Status, knows: str) -> None:
    """The schema is then in the prompt; the second call is right at once."""
    handler = refuses(lambda request: wants(request) not in ("", knows), refusal, {"value": 3})
    with OpenAIServer(handler) as server, recorded_run(tmp_path) as run:
        gateway = run.gateway(server.url)
        assert json.loads(ask(run, gateway, response_schema=Answer).body) == {"value": 3}
        refused = server.count - 1
        assert refused == (1 if knows else 2)
        assert wants(server.requests[-1].json) == knows
        assert '"value"' in system_prompt(server.requests[-1].json)
        ask(run, gateway, response_schema=Answer)
        assert server.count == refused + 2
        assert [call["status"] for call in run.events("model_call")] == ["completed", "completed"]


@pytest.mark.parametrize(
    "refusal",
    [
        Status(400, message="test-model does not support tools"),
        Status(422, message="Extra inputs are not permitted: tools"),
        Status(400, message='"auto" tool choice requires --enable-auto-tool-choice'),
        Status(400, message="Invalid request"),
    ],
)
def test_a_server_without_tools_is_asked_without_them(tmp_path: Path, refusal: Status) -> None:
    with (
        OpenAIServer(refuses(lambda request: bool(request.get("tools")), refusal, "fine")) as server,
        recorded_run(tmp_path) as run,
    ):
        gateway = run.gateway(server.url)
        for _ in range(2):
            assert ask(run, gateway, tools=[look]).body == "fine"
        assert server.count == 3


#: A field of each schema by which it is told where its name is not sent.
FIELDS = {"steps": "Plan", "approved": "Review"}


def test_a_plan_of_three_steps_meets_one_refusal(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server that knows only ``json_object``; other models of the server are not taken for the same."""
    titles = ["One", "Two", "Three"]
    plain = Team(
        plan=plan(*({"title": title} for title in titles)),
        review=APPROVED,
        steps={title: code(f"print({title!r})\n") for title in titles},
    )
    refused: list[str] = []

    def handler(request: dict[str, Any]) -> Any:
        if wants(request) == "json_schema":
            refused.append(request["model"])
            return REFUSALS[0]
        schema = json.loads(system_prompt(request).rpartition("\n")[2])
        name = next((name for field, name in FIELDS.items() if field in schema["properties"]), "Code")
        return plain({**request, "response_format": {"json_schema": {"name": name}}})

    monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Count to three.").wait(120)
        assert run.status == "completed", run.error
        assert refused == ["test-model"]


def test_a_refusal_for_another_reason_is_told_and_changes_nothing(tmp_path: Path) -> None:
    long = Status(400, message="This model's maximum context length is 4096 tokens")
    with OpenAIServer(lambda request: long) as server, recorded_run(tmp_path) as run:
        with pytest.raises(ModelCallFailed, match="maximum context length"):
            ask(run, run.gateway(server.url), response_schema=Answer, tools=[look])
        assert server.count == 1
        assert capabilities._known == {}


BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.just([{"role": "user", "content": "x"}])},
    optional={
        "response_format": st.just({"type": "json_schema", "json_schema": {"name": "A", "schema": {"type": "object"}}}),
        "tools": st.just([{"type": "function"}]),
        "tool_choice": st.just("auto"),
        "temperature": st.just(0.5),
        "max_tokens": st.just(10),
    },
)


TEXTS = [*(item.message for item in REFUSALS), "tools", "temperature", "?"]


@given(BODIES, st.lists(st.sampled_from(TEXTS), max_size=30))
def test_adapting_ends_and_never_loses_a_message(body: dict[str, Any], texts: list[str]) -> None:
    """Whatever a server refuses: a form is tried once, and after a few there is none left."""
    form, seen = Capabilities(), []
    for text in texts + ["Invalid request"] * 10:
        adapted = form.adapt(body)
        assert adapted not in seen
        assert [item for item in adapted["messages"] if item["role"] == "user"] == body["messages"]
        seen.append(adapted)
        following = form.after(400, text, adapted)
        if following is None:
            break
        form = following
    else:
        raise AssertionError("it does not end")


# ---- servers that are busy


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached. Please try again in 10s.", 10),
        ("Please retry in 15.25s.", 15.25),
        ('{"retryDelay": "17s"}', 17),
        ("too many requests, retry after 30", 30),
        ("Try again in about 5 minutes", 300),
        ("limit resets in 1h3m", 3780),
        ("try again in 450ms", 0.45),
        ("Please try again later.", None),
        ("the limit of 40,000 tokens per minute", None),
        ("try again in a while, 3 of 7", None),
    ],
)
def test_the_wait_that_a_text_asks_for(text: str, seconds: float | None) -> None:
    found = asked_wait({}, text)
    assert found == (None if seconds is None else pytest.approx(seconds + 0.5))


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_waits(text: str) -> None:
    found = asked_wait({"retry-after": text, "x-ratelimit-reset-requests": text}, text)
    assert found is None or found >= 0


def test_a_limit_is_waited_for_as_long_as_the_text_says_by_all_together(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parallel steps wait once, the wait is an event, and none of them fails."""
    until: list[float] = []
    titles = ["One", "Two", "Three"]
    team = Team(
        plan=plan(*({"title": title} for title in titles)),
        review=APPROVED,
        steps={title: code(f"print({title!r})\n") for title in titles},
    )

    def handler(request: dict[str, Any]) -> Any:
        schema = str((request.get("response_format") or {}).get("json_schema", {}).get("name", ""))
        if schema.lower() not in ("plan", "review"):
            if not until:
                until.append(time.monotonic() + 2)
            if time.monotonic() < until[0]:
                return Status(429, message="Rate limit reached. Please try again in 2s.")
        return team(request)

    monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
    with OpenAIServer(handler) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Count to three.").wait(120)
        assert run.status == "completed", run.error
        assert server.count <= 2 + 3 + 3  # plan, review, three steps, and at most one refusal each
    waited = run.events().query("event_type == 'retry' and event_subtype == 'rate_limit'")
    assert len(waited) >= 1
    assert set(waited.status) == {"completed"}
    assert (waited.duration_ms >= 1000).all()


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_server_that_says_nothing_is_waited_for_longer_each_time(tmp_path: Path, status: int) -> None:
    """More often than other failures are tried."""
    busy = Status(status, message="overloaded")
    with OpenAIServer(in_turn(*[busy] * 6, "fine")) as server, recorded_run(tmp_path) as run:
        assert ask(run, run.gateway(server.url)).body == "fine"
        assert server.count == 7
        waits = [event["inputs"]["seconds"] for event in run.events("retry")]
        assert len(waits) == 6


def test_a_limit_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmbagent_nb.llm.gateway.PATIENCE", 0.05)
    with (
        OpenAIServer(lambda request: 429) as server,
        recorded_run(tmp_path) as run,
        pytest.raises(ModelCallFailed, match=r"status 429.*Try again later"),
    ):
        ask(run, run.gateway(server.url))


# ---- servers that stall


def test_a_server_that_sends_nothing_is_asked_again_once(tmp_path: Path) -> None:
    release = threading.Event()

    def stalls(request: dict[str, Any]) -> Any:
        release.wait(60)
        return "late"

    settings: dict[str, Any] = {"first_byte_timeout": 0.3}
    with OpenAIServer(in_turn(stalls, "fine")) as server, recorded_run(tmp_path) as run:
        assert ask(run, run.gateway(server.url, **settings)).body == "fine"
        first, _ = run.events("model_call")
        assert "sent nothing for 0.3 s" in first["error"]
        release.set()
    release.clear()
    with OpenAIServer(stalls) as server, recorded_run(tmp_path / "again") as run:
        with pytest.raises(ModelCallFailed, match=r"after 2 tries.*CMBAGENT_FIRST_BYTE_TIMEOUT"):
            ask(run, run.gateway(server.url, **settings))
        assert server.count == 2
        release.set()


def test_what_is_waited_for_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the view's first line, in ``status`` and in its JSON, from the record alone."""
    from cmbagent_nb.render.parts import status_line
    from cmbagent_nb.store import waiting

    monkeypatch.setattr(waiting, "SLOW_CALL", 0.0)
    asked, answer = threading.Event(), threading.Event()

    def slow(request: dict[str, Any]) -> Any:
        asked.set()
        answer.wait(60)
        return code("print(1)\n")

    monkeypatch.setenv("CMBAGENT_MODEL", "openai:test-model")
    with OpenAIServer(slow) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Print one.")
        try:
            assert asked.wait(60)
            workspace._core.writer.barrier().result(30)
            rows = workspace._core.db.rows(WAITING, run=run.id)
            assert "waiting for the model for" in waiting_text(waits(rows), time.time())
            assert "waiting for the model for" in status_line(run.snapshot())
        finally:
            answer.set()
        assert run.wait(60).status == "completed"
    assert "waiting" not in status_line(run.snapshot())


# ---- proxies


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"http_proxy": "127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"ALL_PROXY": "socks4://127.0.0.1:9", "HTTP_PROXY": "ftp://127.0.0.1:9"},
    ],
)
def test_this_machines_servers_are_never_reached_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None, variables: dict[str, str]
) -> None:
    """A run, ``auto`` and ``doctor`` agree."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with OpenAIServer(lambda request: "fine") as server, recorded_run(tmp_path) as run:
        assert ask(run, run.gateway(server.url)).body == "fine"
        assert [str(choice.spec) for choice in available({}, Settings(base_url=server.url))] == ["openai:test-model"]
        found = {check.name: check for check in doctor.examine(tmp_path, {"CMBAGENT_BASE_URL": server.url}).checks}
        assert found["model"].status == "ok"


def test_a_socks_proxy_says_what_to_install(monkeypatch: pytest.MonkeyPatch, no_proxies: None, tmp_path: Path) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://ada:secret7@proxy.example.org:1080")
    monkeypatch.setattr(proxies, "SOCKS_PACKAGE", "no_package_has_this_name")
    with pytest.raises(ModelError, match="pip install socksio") as raised:
        proxies.proxy_for("https://api.openai.com/v1")
    assert "secret7" not in str(raised.value)
    assert proxies.proxy_for("http://localhost:11434") is None
    with recorded_run(tmp_path) as run, pytest.raises(CMBAgentError, match="pip install socksio"):
        ask(run, run.gateway("http://model.example.org/v1"))


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("https://api.openai.com/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.openai.com/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://gpu.lab:8000/v1", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("http://gpu.lab:8000/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": ".lab"}, None),
        ("http://127.9.9.9:8000/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://[::1]:8000/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://127.0.0.1.example.org/v1", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
    ],
)
def test_the_proxy_of_an_address(
    monkeypatch: pytest.MonkeyPatch, no_proxies: None, url: str, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxies.proxy_for(url) == proxy


# ---- which of a server's models


@pytest.mark.parametrize(
    ("name", "about", "chats"),
    [
        ("nomic-embed-text:latest", {}, False),
        ("text-embedding-3-large", {}, False),
        ("BAAI/bge-m3", {}, False),
        ("intfloat/e5-mistral-7b-instruct", {}, False),
        ("BAAI/bge-reranker-v2-m3", {}, False),
        ("openai/whisper-large-v3", {}, False),
        ("tts-1-hd", {}, False),
        ("dall-e-3", {}, False),
        ("black-forest-labs/FLUX.1-dev", {}, False),
        ("omni-moderation-latest", {}, False),
        ("all-minilm:l6-v2", {}, False),
        ("my-model", {"details": {"family": "nomic-bert"}}, False),
        ("my-model", {"type": "embedding"}, False),
        ("my-model", {"capabilities": ["embedding"]}, False),
        ("my-model", {"capabilities": {"completion_chat": False, "embeddings": True}}, False),
        ("my-model", {"supported_generation_methods": ["embedContent"]}, False),
        ("embedded-systems-coder", {"capabilities": ["completion", "tools"]}, True),
        ("qwen3:8b", {"details": {"family": "qwen3"}}, True),
        ("meta-llama/Llama-3.3-70B-Instruct", {"type": "chat"}, True),
        ("gemma3:27b", {"capabilities": ["completion", "vision"]}, True),
        ("mistral-small-3.2", {"object": "model"}, True),
        ("deepseek-r1:14b", {}, True),
        ("gpt-oss:20b", {}, True),
        ("phi4", {}, True),
    ],
)
def test_which_models_can_chat(name: str, about: dict[str, Any], chats: bool) -> None:
    assert is_chat(name, about) is chats


def test_auto_passes_over_models_that_do_not_chat() -> None:
    models = ["nomic-embed-text", "whisper-1", "bge-reranker-v2-m3", "qwen3-8b"]
    with OpenAIServer(lambda request: "fine", models=models) as server:
        (choice,) = available({}, Settings(base_url=server.url))
        assert str(choice.spec) == "openai:qwen3-8b"
    with OpenAIServer(lambda request: "fine", models=models[:2]) as server:
        assert available({}, Settings(base_url=server.url)) == []


def test_an_unknown_model_is_told_with_those_that_the_server_has(tmp_path: Path) -> None:
    models = ["qwen3-8b", "nomic-embed-text"]
    told = r"The server has qwen3-8b, nomic-embed-text \(does not chat\)\."
    with (
        OpenAIServer(lambda request: 404, models=models) as server,
        recorded_run(tmp_path) as run,
        pytest.raises(ModelCallFailed, match=told),
    ):
        ask(run, run.gateway(server.url))
