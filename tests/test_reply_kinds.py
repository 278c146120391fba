"""What servers make of replies, over real HTTP: read, told to the model, or one line to the user."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cmbagent_nb.agents.replies import Code, Review
from cmbagent_nb.errors import CMBAgentError, ModelCallFailed, ReplyInvalid
from cmbagent_nb.llm import retry
from tests.openai_server import OpenAIServer, Status, in_turn, last_message, tool_results
from tests.test_agents_ask import Bench, bench

__all__ = ["bench"]

DRAFT = json.dumps({"filename": "draft.py", "python_code": 'print("DRAFT </think>")'})
FINAL = json.dumps({"filename": "final.py", "python_code": 'print("FINAL <think>")'})

TOOL_CALL = json.dumps({"name": "inspect_data", "arguments": {"path": "data/fit.json"}})


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)


def answer(message: Any, finish: Any = "stop", **more: Any) -> Status:
    """Return an answer of the server whose message is given as it goes over the wire."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return Status(200, body=json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage, **more}))


def calls(*made: tuple[Any, str, Any]) -> Status:
    """Return an answer that calls tools: each an id, a name and arguments."""
    called = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}}
        for call_id, name, given in made
    ]
    return answer({"content": None, "tool_calls": called}, "tool_calls")


# ---- M2: tool calls


@pytest.mark.parametrize(
    "given", ['{"path": "data/fit.json"', "the file", "[1]", '{"path": NaN}', '{"a": ' + "1" * 4301]
)
def test_arguments_that_are_no_json_are_told_to_the_model(bench: Bench, given: str) -> None:
    with OpenAIServer(in_turn(calls(("c", "inspect_data", given)), {"approved": True})) as server:
        assert bench.ask(server, "plan_reviewer", reply=Review).value.approved
    (told,) = tool_results(server.requests[1].json)
    assert "Make the call again, with one JSON object" in told and "Traceback" not in told
    sent = server.requests[1].json["messages"][-2]["tool_calls"][0]["function"]["arguments"]
    assert isinstance(json.loads(sent), dict), "servers read what was called"
    (tool,) = [event for event in bench.events() if event["event_type"] == "tool_call"]
    assert tool["status"] == "failed" and "arguments" in tool["error"]


@pytest.mark.parametrize(
    "given", ["{'path': 'data/fit.json'}", '{"path": "data/fit.json",}', {"path": "data/fit.json"}]
)
def test_arguments_that_can_be_understood_are(bench: Bench, given: Any) -> None:
    with OpenAIServer(in_turn(calls(("c", "inspect_data", given)), {"approved": True})) as server:
        bench.ask(server, "plan_reviewer", reply=Review)
    assert "chi2: 207.6" in tool_results(server.requests[1].json)[0]


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "function_call": {"name": "inspect_data", "arguments": '{"path": "data/fit.json"}'}},
        {"content": f"<think>hm</think><tool_call>\n{TOOL_CALL}\n</tool_call>"},
        {"tool_calls": [{"name": "functions.inspect_data", "arguments": {"path": "data/fit.json"}}]},
        {"content": [{"type": "tool_use", "id": "t", "name": "inspect_data", "input": {"path": "data/fit.json"}}]},
    ],
)
def test_calls_in_other_dialects(bench: Bench, message: Any) -> None:
    with OpenAIServer(in_turn(answer(message), {"approved": True})) as server:
        bench.ask(server, "plan_reviewer", reply=Review)
    assert "chi2: 207.6" in tool_results(server.requests[1].json)[0]


@pytest.mark.parametrize("name", ["no_such_tool", "", None, 3])
def test_a_call_of_no_tool_is_told(bench: Bench, name: Any) -> None:
    with OpenAIServer(in_turn(calls(("c", name, "{}")), {"approved": True})) as server:
        assert bench.ask(server, "plan_reviewer", reply=Review).value.approved
    assert len(tool_results(server.requests[1].json)) == 1


@pytest.mark.parametrize("ids", [("", ""), (None, None), ("a", "a")])
def test_each_call_gets_its_own_result(bench: Bench, ids: tuple[Any, Any]) -> None:
    """Also when the same ids come again in the next reply."""
    twice = calls(
        (ids[0], "inspect_data", '{"path": "data/fit.json"}'), (ids[1], "search_files", '{"pattern": "*.zz"}')
    )
    with OpenAIServer(in_turn(twice, twice, {"approved": True})) as server:
        bench.ask(server, "plan_reviewer", reply=Review)
    results = tool_results(server.requests[2].json)
    assert ["chi2" in result for result in results] == [True, False, True, False]
    sent = [item["tool_call_id"] for item in server.requests[2].json["messages"] if item["role"] == "tool"]
    assert len(set(sent)) == 4 and all(sent)


# ---- M3: reasoning


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"<think>First try: {DRAFT}. Wrong units.</think>{FINAL}"},
        {"content": f"First try: {DRAFT}. Wrong units.\n</think>\n\n```json\n{FINAL}\n```"},
        {"content": FINAL, "reasoning_content": f"First {DRAFT}"},
        {"content": FINAL, "reasoning": f"First {DRAFT}", "reasoning_content": f"First {DRAFT}"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]},
                {"type": "text", "text": FINAL},
            ]
        },
        {"content": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final<|message|>{FINAL}"},
    ],
)
def test_reasoning_is_set_aside_and_kept(bench: Bench, message: Any) -> None:
    with OpenAIServer(in_turn(answer(message))) as server:
        given = bench.ask(server, "engineer", reply=Code)
    assert server.count == 1 and given.value.filename == "final.py" and "DRAFT" not in given.text
    bench.writer.barrier().result(20)
    (said,) = bench.db.rows("SELECT content, reasoning, code_generated FROM messages WHERE sender = 'engineer'")
    assert "DRAFT" in said["reasoning"] and "DRAFT" not in said["content"]
    assert said["code_generated"] == 'print("FINAL <think>")'
    (kept,) = bench.db.rows("SELECT reply FROM model_replies")
    assert "DRAFT" in json.loads(kept["reply"])["reasoning"]


# ---- M5: what the provider says


@pytest.mark.parametrize("content", [FINAL[:30], None, f"<think>{DRAFT}", f"First {DRAFT}. But"])
def test_a_reply_that_was_cut_is_told_and_may_be_longer(bench: Bench, content: Any) -> None:
    with OpenAIServer(in_turn(answer({"content": content}, "length"), FINAL)) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"
    assert "cut at the length limit" in last_message(server.requests[1].json)
    assert "max_tokens" not in server.requests[0].json and server.requests[1].json["max_tokens"] >= 16_000


def test_a_limit_that_the_server_refuses_is_given_up(bench: Bench) -> None:
    """The call is made again without it, and counts as one."""

    def handler(request: dict[str, Any]) -> Any:
        if "max_tokens" in request:
            return Status(400, message="max_tokens is too large")
        return FINAL if len(request["messages"]) > 2 else answer({"content": FINAL[:9]}, "length")

    with OpenAIServer(handler) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"
    assert server.count == 3


def test_a_whole_object_before_the_limit_is_an_answer(bench: Bench) -> None:
    with OpenAIServer(in_turn(answer({"content": FINAL + "\n" * 50}, "length"))) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"


@pytest.mark.parametrize(
    ("message", "finish", "words"),
    [
        ({"content": None, "refusal": "I cannot help with that."}, "stop", "I cannot help with that"),
        ({"content": None, "refusal": "No."}, "content_filter", "No"),
        ({"content": None}, "content_filter", "filter"),
        ({"content": [{"type": "refusal", "refusal": "Not this."}]}, "stop", "Not this"),
    ],
)
def test_a_refusal_is_told_and_not_asked_again(bench: Bench, message: Any, finish: str, words: str) -> None:
    with OpenAIServer(lambda request: answer(message, finish)) as server, pytest.raises(ReplyInvalid) as caught:
        bench.ask(server, "engineer", reply=Code)
    assert server.count == 1 and words in str(caught.value) and "refused" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "count", "words"),
    [
        ({"choices": []}, 4, "no choice"),
        ({"choices": None}, 4, "no choice"),
        ({"error": {"message": "no credit left", "code": "insufficient_quota"}}, 1, "no credit left"),
        ({"error": {"message": "upstream failed", "code": 502}}, 4, "upstream failed"),
        ({"error": {"message": "wrong key", "type": "authentication_error"}}, 1, "wrong key"),
        ({"error": "something broke"}, 4, "502"),
        ({"choices": [{"error": {"message": "cut off", "code": 500}}]}, 4, "cut off"),
    ],
)
def test_what_the_provider_says_instead_of_a_reply(bench: Bench, body: Any, count: int, words: str) -> None:
    said = Status(200, body=json.dumps(body))
    with OpenAIServer(lambda request: said) as server, pytest.raises(ModelCallFailed) as caught:
        bench.ask(server, "engineer", reply=Code)
    assert server.count == count and words in str(caught.value) and "\n" not in str(caught.value)


def test_an_error_in_a_200_is_waited_for_like_its_status(bench: Bench) -> None:
    busy = Status(200, body=json.dumps({"error": {"message": "slow down", "code": 429}}))
    with OpenAIServer(in_turn(busy, FINAL)) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"
    failed, _ = [event for event in bench.events() if event["event_type"] == "model_call"]
    assert json.loads(failed["meta"])["http_status"] == 429


# ---- Q1 and C2: unusual values, texts that are no UTF-8


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": -5, "completion_tokens": 3}, {"prompt_tokens": 10**30, "completion_tokens": 3}, [], "none",
     {"prompt_tokens": "5", "completion_tokens": 3.0, "total_tokens": {}}],
)  # fmt: skip
def test_usage_that_cannot_be_keeps_the_reply(bench: Bench, usage: Any) -> None:
    with OpenAIServer(in_turn(answer({"content": FINAL}, usage=usage))) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"
    bench.writer.barrier().result(20)
    (cost,) = bench.db.rows("SELECT prompt_tokens, completion_tokens FROM cost_records")
    assert cost["prompt_tokens"] == 0 and cost["completion_tokens"] in (0, 3)


def test_integers_that_python_refuses(bench: Bench) -> None:
    body = answer({"content": FINAL.replace("}", ', "confidence": @}').replace("@", "9" * 4301)}, created=0).body or ""
    with OpenAIServer(in_turn(Status(200, body=body.replace('"created": 0', f'"created": {"9" * 4301}')))) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"


@pytest.mark.parametrize("text", ["no JSON \ud83d", "\udcff", '{"filename": "\ud83d"}'])
def test_what_no_request_can_carry_is_replaced(bench: Bench, text: str) -> None:
    """In a reply that goes back with the question, in a prompt, in what a tool gives."""
    (bench.folder / "data" / "odd.txt").write_bytes(b"\xff\xfe odd")
    tool = calls(("c", "search_files", json.dumps({"pattern": "**/*", "text": f"odd{text[-1]}"})))
    with OpenAIServer(in_turn(text, tool, {"approved": True})) as server:
        assert bench.ask(server, "plan_reviewer", f"Look at \udcff {text}.", reply=Review).value.approved
    assert server.count == 3 and "\ufffd" in json.dumps(server.requests[0].json, ensure_ascii=False)


def test_no_answer_makes_an_internal_error(bench: Bench) -> None:
    """A few odd answers, each the whole body: one line each."""
    odd = ["[]", "3", "null", '"x"', '{"choices": {}}', '{"choices": [3]}', '{"choices": [{"message": 3}]}', "{", ""]
    for body in odd:
        with OpenAIServer(in_turn(Status(200, body=body), *[FINAL] * 3)) as server:
            try:
                assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"
            except CMBAgentError as error:
                assert "\n" not in str(error) and server.count


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "text/html", "application/octet-stream"])
def test_json_that_is_called_otherwise(bench: Bench, kind: str) -> None:
    with OpenAIServer(in_turn(Status(200, body=answer({"content": FINAL}).body, content_type=kind))) as server:
        assert bench.ask(server, "engineer", reply=Code).value.filename == "final.py"
    assert server.count == 1
