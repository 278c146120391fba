"""Replies of the other providers over real HTTP: text, reasoning, tool calls and ends are read alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ag2 import Agent
from ag2.events import ModelResponse

from cmbagent_nb.capture.middleware import Capture
from cmbagent_nb.errors import ModelCallFailed
from cmbagent_nb.llm.providers import installed
from tests.recorded_run import in_loop, recorded_run
from tests.test_llm_providers import ANTHROPIC, GEMINI, OLLAMA, Server, server

__all__ = ["server"]

MODELS = {"anthropic": "anthropic:claude-sonnet-5-5", "gemini": "gemini:gemini-3.8-flash", "ollama": "ollama:qwen3"}
PACKAGES = {"anthropic": "anthropic", "gemini": "google.genai", "ollama": "ollama"}
DRAFT = '{"approved": false}'


def reply_of(provider: str, *, blocks: list[dict[str, Any]], ended: str, **more: Any) -> dict[str, Any]:
    """Return an answer of a provider; Ollama's has one block, which is its message."""
    if provider == "anthropic":
        return {**ANTHROPIC, "content": blocks, "stop_reason": ended, **more}
    if provider == "gemini":
        return {
            **GEMINI,
            "candidates": [{"content": {"role": "model", "parts": blocks}, "finishReason": ended}],
            **more,
        }
    return {**OLLAMA, "message": {"role": "assistant", **blocks[0]}, "done_reason": ended, **more}


def ask(tmp_path: Path, server: Server, provider: str, *answers: Any, tools: Any = ()) -> tuple[ModelResponse, Any]:
    """Ask an agent; return its last response and the reasoning of its last message."""
    if not installed(PACKAGES[provider]):
        pytest.skip(f"{PACKAGES[provider]} is not installed")
    server.answers = list(answers)
    with recorded_run(tmp_path) as run:
        gateway = run.gateway(model=MODELS[provider])

        async def work() -> Any:
            with run.recorder.located_at("step_1", agent="engineer"):
                agent = Agent("engineer", "Work.", config=gateway.config(), middleware=[Capture], tools=tools)
                return await agent.ask("go")

        response = in_loop(work()).response
        return response, run.rows("messages")[-1]["reasoning"]


@pytest.mark.parametrize(
    ("provider", "blocks"),
    [
        ("anthropic", [{"type": "thinking", "thinking": DRAFT, "signature": "s"},
                       {"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]),
        ("anthropic", [{"type": "text", "text": f"<thinking>{DRAFT}</thinking>fine"}]),
        ("gemini", [{"text": DRAFT, "thought": True}, {"text": "fi"}, {"text": "ne"}]),
        ("ollama", [{"content": "fine", "thinking": DRAFT}]),
        ("ollama", [{"content": f"{DRAFT}\n</think>\n\nfine"}]),
    ],
)  # fmt: skip
def test_reasoning_and_text(tmp_path: Path, server: Server, provider: str, blocks: Any) -> None:
    """All blocks of the text, and none of the thoughts."""
    ended = {"anthropic": "end_turn", "gemini": "STOP", "ollama": "stop"}[provider]
    response, reasoning = ask(tmp_path, server, provider, reply_of(provider, blocks=blocks, ended=ended))
    assert (response.content, reasoning) == ("fine", DRAFT)


@pytest.mark.parametrize(
    ("provider", "ended"), [("anthropic", "max_tokens"), ("gemini", "MAX_TOKENS"), ("ollama", "length")]
)
def test_a_reply_that_was_cut(tmp_path: Path, server: Server, provider: str, ended: str) -> None:
    block = {"anthropic": {"type": "text", "text": "half"}, "gemini": {"text": "half"}, "ollama": {"content": "half"}}
    response, _ = ask(tmp_path, server, provider, reply_of(provider, blocks=[block[provider]], ended=ended))
    assert (response.content, response.finish_reason) == ("half", "length")


@pytest.mark.parametrize(
    ("provider", "answer", "words"),
    [
        ("anthropic", {**ANTHROPIC, "content": [], "stop_reason": "refusal"}, "refused"),
        ("anthropic", {**ANTHROPIC, "content": [{"type": "text", "text": "I will not."}], "stop_reason": "refusal"},
         "I will not"),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "g"}, "SAFETY"),
        ("gemini", {"candidates": [{"finishReason": "RECITATION"}], "modelVersion": "g"}, "RECITATION"),
    ],
)  # fmt: skip
def test_a_refusal(tmp_path: Path, server: Server, provider: str, answer: Any, words: str) -> None:
    response, _ = ask(tmp_path, server, provider, answer)
    assert response.finish_reason == "content_filter" and words in str(response.content)


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "ollama"])
def test_two_calls_of_one_tool(tmp_path: Path, server: Server, provider: str) -> None:
    """Each gets its own result, also where the provider gives no ids or the same."""
    seen: list[str] = []

    async def look(at: str) -> str:
        """Look at it."""
        seen.append(at)
        return f"saw {at}"

    blocks = {
        "anthropic": [{"type": "tool_use", "id": "t", "name": "look", "input": {"at": at}} for at in "ab"],
        "gemini": [{"functionCall": {"name": "look", "args": {"at": at}}} for at in "ab"],
        "ollama": [
            {"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"at": at}}} for at in "ab"]}
        ],
    }[provider]
    ended = {"anthropic": ("tool_use", "end_turn"), "gemini": ("STOP", "STOP"), "ollama": ("stop", "stop")}[provider]
    last = {"anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}[provider]
    response, _ = ask(
        tmp_path, server, provider, reply_of(provider, blocks=blocks, ended=ended[0]), last, tools=[look]
    )  # fmt: skip
    assert response.content == "fine" and sorted(seen) == ["a", "b"]


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "ollama"])
@pytest.mark.parametrize("count", [-7, 10**30, 2**63])
def test_usage_that_cannot_be(tmp_path: Path, server: Server, provider: str, count: int) -> None:
    answer = json.loads(json.dumps({"anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}[provider]))
    places = {"anthropic": ("usage", "output_tokens"), "gemini": ("usageMetadata", "candidatesTokenCount")}
    if provider == "ollama":
        answer["eval_count"] = count
    else:
        answer[places[provider][0]][places[provider][1]] = count
    assert ask(tmp_path, server, provider, answer)[0].content == "fine"


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "ollama"])
def test_an_error_in_a_200(tmp_path: Path, server: Server, provider: str) -> None:
    """It is tried again like its status, and told in its words."""
    error = {"error": {"type": "api_error", "message": "busy, busy"}}
    last = {"anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}[provider]
    assert ask(tmp_path / "1", server, provider, error, last)[0].content == "fine"
    with pytest.raises(ModelCallFailed, match="busy, busy"):
        ask(tmp_path / "2", server, provider, *[error] * 4)
