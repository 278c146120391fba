"""Reading replies: leniently in their dress, strictly in their form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.agents.parse import UnreadableError, find_json, read_reply
from cmbagent_nb.agents.replies import FORMS, Code, Report, Review, Verdict, json_schema, plan_model

STEP = {"title": "t", "agent": "engineer", "instructions": "i"}


@pytest.mark.parametrize(
    "text",
    [
        '{"approved": true}',
        '  \n{"approved": true}\n',
        '```json\n{"approved": true}\n```',
        'Here is my review:\n\n```\n{"approved": true}\n```\nBest regards',
        'Unlike {"approved": false} before:\n```json\n{"approved": true}\n```',
        'I think {this} is fine: {"approved": true} - that is all.',
        '{"Review": {"approved": true}}',
        '{"approved": "true", "recommendations": null, "mood": "good"}',
    ],
)
def test_a_reply_is_found_whatever_is_around_it(text: str) -> None:
    assert read_reply(text, Review) == Review(approved=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("Yes.", "no JSON object"),
        ("[1, 2]", "a list and not an object"),
        ('{"approved": tru', "not valid JSON"),
        ('{"approved": true, "x": "unfinished', "not valid JSON"),
        ("{}", "approved: is missing"),
        ('{"approved": "perhaps"}', "approved"),
        ("{" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_wrong_is_said_in_words(text: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        read_reply(text, Review)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), min_size=1))
def test_json_in_a_fence_comes_back(value: dict[str, Any]) -> None:
    assert find_json(f"Look:\n```json\n{json.dumps(value, indent=1)}\n```\n") == value


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        assert isinstance(find_json(text), dict)
    except UnreadableError as error:
        assert str(error)


def test_code_comes_out_of_its_fence() -> None:
    code = read_reply(json.dumps({"filename": "a.py", "python_code": "```python\nprint('`')\n```"}), Code)
    assert code == Code(filename="a.py", python_code="print('`')\n")
    report = read_reply(json.dumps({"title": "T", "markdown": "```markdown\n# T\n```"}), Report)
    assert report == Report(title="T", markdown="# T\n")


@pytest.mark.parametrize(
    "fenced",
    [
        "```python\r\nprint('`')\r\n```",
        "~~~python\nprint('`')\n~~~",
        "````python\nprint('`')\n````\n",
    ],
)
def test_code_comes_out_of_other_fences(fenced: str) -> None:
    assert read_reply(json.dumps({"filename": "a.py", "python_code": fenced}), Code).python_code == "print('`')\n"


@pytest.mark.parametrize("tag", ["rationale", "critique", "thought_process", "internal_monologue", "chain-of-thought"])
def test_a_draft_in_reasoning_of_another_name_is_no_answer(tag: str) -> None:
    text = f'{{"approved": false}}\n<{tag}>Or should it be {{"approved": true}}? No.</{tag}>'
    assert not read_reply(text, Review).approved


def test_reasoning_is_kept_in_every_form() -> None:
    for form, own in ((Review, {"approved": True}), (Verdict, {"achieved": False})):
        value: Any = form.model_validate(
            {**own, "reasoning": "because", "alternatives_considered": "one", "confidence": "high"}
        )
        assert (value.reasoning, value.alternatives_considered, value.confidence) == ("because", ["one"], 0.9)


def test_a_plan_knows_only_the_agents_of_now() -> None:
    form = plan_model(["engineer", "poet"])
    assert form.model_validate({"goal": "g", "steps": [{**STEP, "agent": "poet"}]})
    with pytest.raises(UnreadableError, match=r"steps\.0\.agent.*'engineer' or 'poet'.*'painter'"):
        read_reply(json.dumps({"goal": "g", "steps": [{**STEP, "agent": "painter"}]}), form)
    with pytest.raises(UnreadableError, match="steps"):
        read_reply('{"goal": "g", "steps": []}', form)


@pytest.mark.parametrize("form", [*FORMS.values(), plan_model(["engineer", "researcher"])])
def test_schemas_are_what_strict_providers_take(form: Any) -> None:
    """No defaults, every field required, nothing beyond the fields: or the provider refuses the call."""

    def look(schema: Any) -> None:
        if isinstance(schema, list):
            for item in schema:
                look(item)
        if not isinstance(schema, dict):
            return
        assert not {"default", "minLength", "minItems", "minimum", "maximum"} & set(schema)
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
        for key, item in schema.items():
            look(list(item.values()) if key in ("properties", "$defs") else item)

    schema = json_schema(form)
    look(schema)
    assert {"reasoning", "alternatives_considered", "confidence"} <= set(schema["properties"])


def test_a_field_may_be_called_title() -> None:
    """``title`` is a keyword of JSON schema and a field of ours."""
    assert "title" in json_schema(Report)["properties"]
    assert "title" in json_schema(plan_model(["engineer"]))["$defs"]["PlannedStep"]["properties"]
