"""The other providers over real HTTP: one event a call, failed tries are tried again, tokens are counted alike."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent

from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.errors import ModelCallFailed
from cmbagent_nb.llm import prices, rate_limits, retry
from cmbagent_nb.llm.providers import installed
from cmbagent_nb.llm.servers import chat_models, ollama_models
from tests.recorded_run import in_loop, recorded_run

ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [{"type": "text", "text": "fine"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 0},
}
OLLAMA = {
    "model": "qwen3",
    "created_at": "2026-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": "fine", "thinking": "hm"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 100,
    "eval_count": 5,
}

GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 100,
        "candidatesTokenCount": 5,
        "totalTokenCount": 105,
        "cachedContentTokenCount": 90,
    },
    "modelVersion": "gemini-3.8-flash",
}


class Server:
    """A server that gives its answers in turn: a status, or the JSON of a reply."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.paths: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                owner.paths.append(self.path)
                answer = owner.answers.pop(0)
                if isinstance(answer, int):
                    self.reply(answer, {"error": {"type": "scripted", "message": "scripted failure"}})
                else:
                    self.reply(200, answer)

            def do_GET(self) -> None:
                self.reply(200, {"models": [{"name": "qwen3:8b"}, {"name": "llama3.1:8b"}]})

            def reply(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing on stderr."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(rate_limits, "FIRST_WAIT", 0.01)
    made = Server()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", made.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", made.url)
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    monkeypatch.setenv("OLLAMA_HOST", made.url)
    thread = threading.Thread(target=made.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join(10)


@pytest.mark.parametrize(
    ("model", "package", "reply"),
    [
        ("anthropic:claude-sonnet-5-5", "anthropic", ANTHROPIC),
        ("gemini:gemini-3.8-flash", "google.genai", GEMINI),
        ("ollama:qwen3", "ollama", OLLAMA),
    ],
)
def test_calls_of_other_providers(tmp_path: Path, server: Server, model: str, package: str, reply: Any) -> None:
    """The same record as that of an OpenAI model."""
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    server.answers = [500, 529, reply]
    with recorded_run(tmp_path) as run:
        gateway = run.gateway(model=model)

        async def work() -> Any:
            with run.recorder.located_at("step_1", agent="engineer"):
                return await Agent("engineer", "Work.", config=gateway.config(), middleware=[Capture]).ask("go")

        assert in_loop(work()).body == "fine"
        calls = run.events("model_call")
        assert [call["status"] for call in calls] == ["failed", "failed", "completed"]
        assert [call["meta"].get("http_status") for call in calls] == [500, 529, None]
        assert len(server.paths) == 3
        (row,) = run.rows("cost_records")
        assert (row["prompt_tokens"], row["total_tokens"]) == (100, 105)
        counts = {"prompt_tokens": 100, "cached_tokens": row["cached_tokens"], "completion_tokens": 5}
        assert row["cost_usd"] == gateway.cost_usd == prices.cost(*model.split(":"), counts)
        assert (row["cached_tokens"], row["cost_usd"] > 0) == ((0, False) if package == "ollama" else (90, True))
        reasoning = run.rows("messages")[-1]["reasoning"]
        assert reasoning == ("hm" if package == "ollama" else None)


@pytest.mark.parametrize(
    ("model", "package"),
    [("anthropic:claude-x", "anthropic"), ("gemini:gone", "google.genai"), ("ollama:gone", "ollama")],
)
def test_a_model_that_is_not_there(tmp_path: Path, server: Server, model: str, package: str) -> None:
    """One call, and what to check."""
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    server.answers = [404]
    with recorded_run(tmp_path) as run:

        async def work() -> None:
            with run.recorder.located_at("step_1"):
                await Agent("engineer", config=run.gateway(model=model).config()).ask("go")

        with pytest.raises(ModelCallFailed, match=f"{model} failed with status 404.*name of the model"):
            in_loop(work())
        assert len(run.events("model_call")) == len(server.paths) == 1


def test_the_models_that_ollama_has(server: Server) -> None:
    """By its own list; none when nothing answers."""
    assert chat_models(ollama_models(url=server.url)) == ["qwen3:8b", "llama3.1:8b"]
    assert ollama_models(url="http://127.0.0.1:9", timeout=0.2) == []
