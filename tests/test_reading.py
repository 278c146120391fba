"""Reading replies: whatever models and servers do to a valid one, the value read is the value meant, or the reason."""

from __future__ import annotations

import inspect
import json
import random
import textwrap
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.agents.replies import Code, Report, Review
from cmbagent_nb.llm.reading.body import read_body
from cmbagent_nb.llm.reading.escapes import PYTHON, TEXT, decode, whole
from cmbagent_nb.llm.reading.lenient import NotJSON, Unreadable, read_value
from cmbagent_nb.llm.reading.reasoning import split_reasoning
from cmbagent_nb.llm.reading.structured import read_structured
from cmbagent_nb.llm.reading.tool_calls import Call, calls_in, read_arguments, read_call, unique
from tests.mutated_replies import (
    CODE,
    PLAN,
    PROSE,
    SCRIPTS,
    TAGS,
    TEXTS,
    a_case,
    a_value,
    undoubled,
)


def raw(text: str) -> str:
    """Return a text as it stands within the quotes of JSON."""
    return json.dumps(text)[1:-1]


def check(seed: int) -> bool:
    """Read the case of a seed: never another value than the one that is meant. Tell whether it was read."""
    case = a_case(seed)
    value = a_value_of(seed, case.form)
    meant = case.form.model_validate(case.meant if case.meant is not None else value).model_dump()
    if case.draft:
        assert "DRAFT" in split_reasoning(case.text)[1], (seed, case.names)
    try:
        read = read_structured(case.text, case.form, cut=case.meant is None).model_dump()
    except Unreadable as error:
        assert str(error)
        return False
    if case.meant is None:
        read["confidence"] = meant["confidence"]  # what a mutation before the cut has made of it
    assert read == meant, (seed, case.names)
    return True


def a_value_of(seed: int, form: Any) -> dict[str, Any]:
    rng = random.Random(seed)
    assert rng.choice([Review, Any, Report, Code, Code, PLAN]) is form or form.__name__ == "Verdict"
    return a_value(rng, form)


def test_mutated_replies() -> None:
    """Nearly all that are whole are read, none wrongly."""
    unread = [seed for seed in range(400) if not check(seed) and a_case(seed).meant is not None]
    assert len(unread) <= 4, [a_case(seed).names for seed in unread]


@pytest.mark.full
def test_many_mutated_replies() -> None:
    unread = [seed for seed in range(10_000, 16_000) if not check(seed) and a_case(seed).meant is not None]
    assert len(unread) <= 30, [a_case(seed).names for seed in unread]


# ---- backslashes


@pytest.mark.parametrize("code", CODE)
def test_a_script_that_is_doubled_is_left_as_it_is(code: str) -> None:
    assert decode(raw(code), PYTHON) == code


@pytest.mark.parametrize("text", PROSE)
def test_markdown_that_is_doubled_is_left_as_it_is(text: str) -> None:
    assert decode(raw(text), TEXT) == text


@pytest.mark.parametrize("module", [json, inspect, textwrap, random, json.decoder, pytest.importorskip("re")])
def test_real_scripts_are_left_as_they_are(module: ModuleType) -> None:
    source = inspect.getsource(module)
    assert decode(raw(source), PYTHON) == source


@pytest.mark.parametrize("code", SCRIPTS)
def test_a_script_that_is_not_doubled_is_what_was_meant(code: str) -> None:
    reply = undoubled(json.dumps({"filename": "a.py", "python_code": code}))
    assert read_structured(reply, Code) == Code(filename="a.py", python_code=code)


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_that_is_not_doubled_is_what_was_meant(text: str) -> None:
    assert read_structured(undoubled(json.dumps({"markdown": text})), Report) == Report(markdown=text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"$\frac{a}{b}$, $\beta$, $\theta_0$, $\nu$", r"$\frac{a}{b}$, $\beta$, $\theta_0$, $\nu$"),
        (r"\alpha and \Omega_m", r"\alpha and \Omega_m"),
        (r"\theta,\nabla,\rho without dollars", r"\theta,\nabla,\rho without dollars"),
        (r"$\text{a} \to b \neq c \times d \right)$", r"$\text{a} \to b \neq c \times d \right)$"),
        (
            r"\begin{align}\na &= \rho \\\n\tau &= \nu\n\end{align}",
            "\\begin{align}\na &= \\rho \\\\\n\\tau &= \\nu\n\\end{align}",
        ),
        (r"$$\nu = 3$$", r"$$\nu = 3$$"),
        (r"$$\nu = 3\n$$", "$$\nu = 3\n$$"),
        (r"a list:\n- up\n\t- to", "a list:\n- up\n\t- to"),
        (r"\nup to\not here\n\ntext\tto", "\nup to\not here\n\ntext\tto"),
        (r"in C:\Users\new\table.csv", r"in C:\Users\new\table.csv"),
        (r"match `\bword\b`, `\n` and `a\tb`", r"match `\bword\b`, `\n` and `a\tb`"),
        (r"split at \s+\t\d or [^\n]+", r"split at \s+\t\d or [^\n]+"),
        (r"It\'s 5 $ and 6 $\nu$.", r"It's 5 $ and 6 $\nu$."),
        (r"```python\nprint(\"a\nb\")\n```\n", "```python\nprint(\"a\\nb\")\n```\n"),
        (r"\u00e9 \ud83d\ude00 \u03b1 \upsilon", "é 😀 α \\upsilon"),
        (r"Case A:\nThe value\nB:\nnext", "Case A:\nThe value\nB:\nnext"),
        (r"the frequency \nu of a \to b and \tau", r"the frequency \nu of a \to b and \tau"),
        (r"it is \nmid-range \nnot \nup", "it is \nmid-range \nnot \nup"),
        (r"$\\alpha$\nu\tto", "$\\alpha$\nu\tto"),
        (r"a \u000crac{1}{2}", "a \\frac{1}{2}"),
    ],
)  # fmt: skip
def test_backslashes_of_a_text(written: str, meant: str) -> None:
    assert decode(written, TEXT) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"re.compile(r'\bx\b|\d+\t')\nu = 1", "re.compile(r'\\bx\\b|\\d+\\t')\nu = 1"),
        (r"open('C:\temp\new.csv')\n", "open('C:\\temp\\new.csv')\n"),
        (r"x = \"\"\ny = ''\ntau = 1\n\tau = 2", "x = \"\"\ny = ''\ntau = 1\n\tau = 2"),
        (r"print(\'it\')\nprint(\"it\'s\")", "print('it')\nprint(\"it\\'s\")"),
        (r"x = 1 + \\n    2\nprint(x)", "x = 1 + \\\n    2\nprint(x)"),
        (r"plt.xlabel(r\"$\theta$ [rad]\")  # $\nu$\n", "plt.xlabel(r\"$\\theta$ [rad]\")  # $\\nu$\n"),
        (r"import re\\nprint(\"a\\\\nb\")\\n", 'import re\nprint("a\\nb")\n'),
        (r"'''\nfirst\tsecond\n'''", "'''\nfirst\tsecond\n'''"),
        (r"s = 'a\u0000b\u001b[0m'", "s = 'a\\u0000b\\u001b[0m'"),
        (r"print('\r', end='')\r\nx = 1\r\n", "print('\\r', end='')\r\nx = 1\r\n"),
    ],
)  # fmt: skip
def test_backslashes_of_a_script(written: str, meant: str) -> None:
    assert decode(written, PYTHON) == meant


NO_CONTROLS = st.text(st.characters(exclude_characters="\b\f\r", codec="utf-8"))


@given(NO_CONTROLS)
def test_any_text_comes_back(text: str) -> None:
    """What is doubled rightly is what was meant, save for what no Markdown has."""
    assert decode(raw(text), TEXT) == text


@given(st.text(st.sampled_from("\\ntbrfu0a$`'\"{}[]()#\n x")))
def test_no_text_breaks_the_decoding(text: str) -> None:
    for kind in (TEXT, PYTHON):
        assert isinstance(decode(text, kind), str)


# ---- lenient JSON


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_json_is_read_as_json(value: Any) -> None:
    text = json.dumps(value)
    assert read_value(text, 0) == (json.loads(json.dumps(value)), len(text))


@given(st.text(st.sampled_from("{}[]\"':,\\/*#ab1 \n-.eE"), max_size=60))
def test_no_text_breaks_the_lenient_reader(text: str) -> None:
    try:
        _value, end = read_value(text, 0)
    except NotJSON as error:
        assert 0 <= error.position <= len(text)
    else:
        assert 0 < end <= len(text)


@pytest.mark.parametrize("text", ["{" * 200_000, '{"a":' * 50_000, '{"' * 50_000, "{/*" * 50_000, "[" * 200_000,
                                  '{"a": "<think>' * 20_000, "`" * 100_000, "$" * 50_000, "\\" * 100_001])  # fmt: skip
def test_hostile_texts_end(text: str) -> None:
    """In a moment, whatever they are."""
    with pytest.raises(Unreadable):
        read_structured(text, Review)
    assert isinstance(decode(text, TEXT), str) and isinstance(decode(text, PYTHON), str)
    split_reasoning(text, structured=False)


# ---- reasoning and candidates


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_a_review_is_not_taken_from_the_thoughts(opening: str, closing: str) -> None:
    thought = 'We {"approved": false}.'
    text = f'{opening}{thought}{closing}{{"approved": true}}'
    assert read_structured(text, Review) == Review(approved=True)
    assert "false" in split_reasoning(text)[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<think>{"approved": false}', "only reasoning"),
        ('{"approved": false}\n</think>\n', "only reasoning"),
        ('{"approved": false}. No: {"approved": tr', "not valid JSON"),
        ('{"approved": false}. No: {"approved": "perhaps"}', "approved"),
        ('{"approved": false, "why": "saw {"approved": true} there"}', "not valid JSON"),
        ('{"approved": false}. So:\n```json\n', "may be a draft"),
        ('[{"approved": true}, {"approved": false}]', "a list"),
    ],
)
def test_a_draft_is_never_taken_for_the_answer(text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_structured(text, Review)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Use the `<think>` tag.\n", "Use the `<think>` tag.\n"),
        ("```python\nprint('<think>')\n```\nand </b>", "```python\nprint('<think>')\n```\nand </b>"),
        ("See [think](http://x) and <analysis>x</analysis>", "See [think](http://x) and <analysis>x</analysis>"),
        ("<think>a <think>b</think> c</think>\n\nIt is 42.", "It is 42."),
        ("It <b>is</b> 42.</s>", "It <b>is</b> 42."),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>", "42"),
        ("<think>hm</think><answer>42</answer>", "42"),
    ],
)
def test_reasoning_of_a_text(text: str, answer: str) -> None:
    assert split_reasoning(text, structured=False)[0] == answer


# ---- tool calls


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ('{"a": "x", "n": 1}', {"a": "x", "n": 1}),
        ("{'a': 'x', 'all': True, 'none': None}", {"a": "x", "all": True, "none": None}),
        ('```json\n{"a": 1,}\n```', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}), (None, {}), ("null", {}), ('""', {}),
        ('\ufeff{"a": 1} // so', {"a": 1}),
        (r'{"pattern": "\d+\.csv", "text": "\bword"}', {"pattern": r"\d+\.csv", "text": r"\bword"}),
        ('{"a": "\ud83d"}', {"a": "\ufffd"}),
    ],
)  # fmt: skip
def test_arguments_that_are_understood(given_: Any, meant: dict[str, Any]) -> None:
    text, fault = read_arguments(given_)
    assert (json.loads(text), fault) == (meant, "")


@pytest.mark.parametrize(
    "given_",
    ['{"a": "x"', '{"a": "x', "{'a': 'x'", "[1]", "3", "go", '{"a": 1} {"b": 2}', '{"a": NaN}', "{" * 10_000, "{a}",
     '{"n": ' + "1" * 5000],
)  # fmt: skip
def test_arguments_that_are_not_are_told(given_: str) -> None:
    text, fault = read_arguments(given_)
    assert isinstance(json.loads(text), dict) and "Make the call again" in fault


def test_calls_that_are_only_written_about_stay() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    for text in [f"{call} is how.", '{"a": "' + call + '"}', call.replace('"f"', '"g"'), call[:-20] + "</tool_call>"]:
        assert calls_in(text, ["f"]) == (text, [])
    assert [made.name for made in calls_in(call * 2, ["f"])[1]] == ["f", "f"]


def test_each_call_has_an_id_of_its_own() -> None:
    calls = [Call("", "f", "{}"), Call("", "f", "{}"), Call("a", "f", "{}"), Call("a", "f", "{}"), Call("b", "f", "{}")]
    ids = [call.id for call in unique(calls, taken={"b"})]
    assert len(set(ids)) == 5 and ids[2] == "a" and "" not in ids and "b" not in ids
    assert read_call(None, None, '{"x"', cut=True).fault.endswith("ask for less in one call.")


# ---- bodies


def body(message: Any, *, finish: Any = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}).encode()


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ("42", "42", ""),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
          {"type": "text", "text": "42"}], "42", "hm"),
        ([{"type": "reasoning", "text": "hm"}, "4", {"type": "output_text", "text": "2"}], "42", "hm"),
        ({"type": "text", "text": "42"}, "42", ""),
        ({"approved": True}, '{"approved": true}', ""),
        (None, "", ""), ([], "", ""), (42, "42", ""), ([None, [["42"]]], "42", ""),
        ("\ud83d", "\ufffd", ""),
    ],
)  # fmt: skip
def test_content_in_every_form(content: Any, text: str, reasoning: str) -> None:
    answer = read_body(body({"content": content}))
    assert answer is not None and answer.reply is not None
    assert (answer.reply.text, answer.reply.reasoning) == (text, reasoning)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "reasoning_details"])
@pytest.mark.parametrize("value", ["hm", [{"type": "reasoning.text", "text": "hm"}], {"content": "hm"}])
def test_reasoning_in_every_field(name: str, value: Any) -> None:
    answer = read_body(body({"content": "42", name: value, "reasoning_content": "hm"}))
    assert answer is not None and answer.reply is not None and answer.reply.reasoning == "hm"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429, "message": "slow down"}, 429), ({"code": "502", "message": "x"}, 502),
        ({"type": "overloaded_error", "message": "x"}, 503), ({"code": "insufficient_quota", "message": "x"}, 429),
        ({"type": "invalid_request_error", "message": "context length"}, 400), ("Rate limit reached", 429),
        ({"type": "authentication_error"}, 401), ("boom", 502), ({"message": {"a": 1}}, 502), ([1], 502),
    ],
)  # fmt: skip
def test_an_error_in_a_200_has_its_status(error: Any, status: int) -> None:
    answer = read_body(json.dumps({"error": error}).encode())
    assert answer is not None and answer.reply is None and answer.status == status
    assert answer.body["error"]["message"]


@pytest.mark.parametrize("count", [-1, 10**30, "many", None, 1.5, float("nan"), float("inf"), {}, [], True])
def test_usage_that_cannot_be(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 7, "total_tokens": count, "prompt_tokens_details": count}
    answer = read_body(body({"content": "42"}, usage=usage))
    assert answer is not None and answer.body["usage"]["completion_tokens"] == 7
    told = answer.body["usage"]["prompt_tokens"]
    assert told == (1 if count == 1.5 else 0) and answer.body["usage"]["total_tokens"] == 7 + told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


CALL = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"content": "a", "tool_calls": [CALL], "reasoning": "r", "refusal": None}
ANSWERS = [
    {
        "choices": [{"message": MESSAGE, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 1}},
        "id": "i",
        "model": "m",
    },
    {
        "type": "message",
        "content": [{"type": "text", "text": "a"}, {"type": "tool_use", "input": {}}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1},
    },
    {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}], "usageMetadata": {"x": 1}},
    {"message": MESSAGE, "done": True, "eval_count": 1},
]


@given(data=st.data())
def test_no_body_breaks_the_reader(data: st.DataObject) -> None:
    """Any value in any place of an answer of each dialect: read, or left to the provider's package."""
    made: Any = data.draw(st.sampled_from(ANSWERS))
    made = json.loads(json.dumps(made))
    place = made
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(JSON)
        break
    answer = read_body(json.dumps(made).encode())
    if answer is not None and answer.reply is not None:
        assert whole(answer.reply.text) == answer.reply.text
        json.dumps(answer.body, allow_nan=False)
        assert all(isinstance(json.loads(call.arguments), dict) for call in answer.reply.calls)


def test_integers_that_python_refuses() -> None:
    text = body({"content": "42"}, created=0).replace(b'"created": 0', b'"created": ' + b"9" * 4301)
    answer = read_body(text)
    assert answer is not None and answer.reply is not None and answer.reply.text == "42"
    assert isinstance(read_structured('{"approved": true, "confidence": ' + "9" * 4301 + "}", Review), Review)


def test_a_code_span_that_ends_a_line_of_a_docstring_keeps_its_line_break() -> None:
    for source in ('"""Units.\n\n``quetta``  :math:`10`\n``ronna``\n"""\n', 'b"""\\\n86)C``\n`\nend\n"""\n'):
        assert decode(json.dumps(source)[1:-1], PYTHON) == source


def test_what_is_between_two_code_spans_is_none() -> None:
    """A long span is one, too; the line breaks after it are line breaks."""
    long = "FlatLambdaCDM(H0=67.4, Om0=0.315, Tcmb0=2.7255, Neff=3.046, m_nu=[0.0, 0.0, 0.06], Ob0=0.0493)"
    text = f"* The model is `{long}`.\n* See `fit.py`.\n\nThe result is `chi2`\nand `n`."
    assert decode(json.dumps(text)[1:-1], TEXT) == text


def test_the_last_digit_of_a_unicode_escape_is_no_drive() -> None:
    r"""What is written as ``\u03bc:\n\u2022`` holds no path."""
    for text in ("Values of μ:\n• one\n• two", "Values of λ:\ndata.csv", "La durée:\nété.csv, ê:\té"):
        for numbers in (True, False):
            assert decode(json.dumps(text, ensure_ascii=numbers)[1:-1], TEXT) == text
