"""The forms of agents' replies: pydantic models whose JSON schema the model is given.

Every field has a default that says "nothing", or must be there; none is nullable, since providers
differ in what they make of null. Each form may carry the reasoning behind it, which is kept with
the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from cmbagent_nb.llm.reading.structured import HOLDS_PYTHON

_FENCE = re.compile(r"\A\s*(?P<fence>`{3,}|~{3,})([\w+-]*)[ \t]*\r?\n(.*?)(?:\r?\n)?(?P=fence)\s*\Z", re.DOTALL)
_FENCE_LINE = re.compile(r"^[ \t]*```(.*)$", re.MULTILINE)


def unfenced(text: Any) -> Any:
    """Take a script out of a code fence that is around the whole of it.

    >>> unfenced("```python\\nprint(1)\\n```")
    'print(1)\\n'
    """
    if isinstance(text, str) and (match := _FENCE.match(text)):
        return match[3].rstrip("\r\n") + "\n"
    return text


def unfenced_markdown(text: Any) -> Any:
    """Take Markdown out of a fence that is around the whole of it; a text that begins and ends with code stays.

    >>> unfenced_markdown("```markdown\\n# T\\n```")
    '# T\\n'
    >>> unfenced_markdown("```\\na\\n```\\nand\\n```\\nb\\n```")
    '```\\na\\n```\\nand\\n```\\nb\\n```'
    """
    match = _FENCE.match(text) if isinstance(text, str) else None
    if match is None:
        return text
    inner = _FENCE_LINE.findall(match[3])
    named = match[2].lower() in ("markdown", "md") and len(inner) % 2 == 0
    return unfenced(text) if named or (not match[2] and not inner) else text


def _as_list(value: Any) -> Any:
    return [] if value is None else [value] if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return "" if value is None else value


def _as_share(value: Any) -> float:
    """Return a share from 0 to 1; 0 for what says nothing, which is not worth asking again."""
    if isinstance(value, str):
        text = value.strip().lower()
        words = {"low": 0.3, "medium": 0.6, "high": 0.9}
        try:
            value = words[text] if text in words else float(text.removesuffix("%")) / (100 if text[-1:] == "%" else 1)
        except ValueError:
            return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    if 1 < value <= 100:
        value = value / 100
    return float(value) if 0 <= value <= 1 else 0.0


Text = Annotated[str, BeforeValidator(_as_text)]
Texts = Annotated[list[str], BeforeValidator(_as_list)]
Script = Annotated[str, BeforeValidator(unfenced), HOLDS_PYTHON]


class Reply(BaseModel):
    """Fields that every reply may carry beside its own."""

    model_config = ConfigDict(extra="ignore")

    reasoning: Text = Field("", description="Why, in a few sentences.")
    alternatives_considered: Texts = Field(default_factory=list, description="What else was considered.")
    confidence: Annotated[float, BeforeValidator(_as_share)] = Field(
        0.0, description="From 0 to 1; 0 when nothing can be said.", ge=0, le=1
    )


class Review(Reply):
    """A review of a plan."""

    approved: bool
    recommendations: Texts = Field(default_factory=list)


class Code(Reply):
    """A script that does a step."""

    filename: str = Field(min_length=1)
    explanation: Text = ""
    modification_summary: Text = ""
    python_code: Script = Field(min_length=1)


class Report(Reply):
    """A text in Markdown."""

    title: Text = ""
    markdown: Annotated[str, BeforeValidator(unfenced_markdown)]


class Verdict(Reply):
    """Whether a step reached its goal."""

    achieved: bool
    reason: Text = ""
    fix_suggestion: Text = ""


def plan_model(agent_names: Iterable[str]) -> type[Reply]:
    """Build the form of a plan for the agents that there are now; others are refused by its schema.

    >>> form = plan_model(["engineer"])
    >>> step = {"title": "t", "agent": "engineer", "instructions": "i", "depends_on": [1, "step_2"]}
    >>> form.model_validate({"goal": "g", "steps": [step]}).model_dump()["steps"][0]["depends_on"]
    [1, 'step_2']
    """
    agent: Any = Literal[tuple(agent_names)]
    step: Any = create_model(
        "PlannedStep",
        __config__=ConfigDict(extra="ignore"),
        title=(str, Field(min_length=1)),
        agent=(agent, Field(description="The name of the agent that does this step.")),
        instructions=(str, Field(min_length=1)),
        bullet_points=(Texts, Field(default_factory=list)),
        depends_on=(
            Annotated[list[int | str], BeforeValidator(_as_list)],
            Field(default_factory=list, description="Numbers of the steps whose results this one needs."),
        ),
        needs_approval=(bool, False),
        expected_outputs=(
            Texts,
            Field(default_factory=list, description="Files, or patterns of files, that the step must make."),
        ),
    )
    return create_model(
        "Plan",
        __base__=Reply,
        __doc__="A plan of steps.",
        goal=(str, ...),
        steps=(list[step], Field(min_length=1)),
    )


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema in the subset that all providers take: no defaults, no titles, no bounds.

    What is taken out is still checked when the reply comes in.

    >>> sorted(json_schema(Review)["properties"])
    ['alternatives_considered', 'approved', 'confidence', 'reasoning', 'recommendations']
    """
    schema: dict[str, Any] = _plain(model.model_json_schema())
    own = [name for name in schema["properties"] if name not in Reply.model_fields]
    order = [name for name in Reply.model_fields if name in schema["properties"]]
    schema["properties"] = {name: schema["properties"][name] for name in [*order[:1], *own, *order[1:]]}
    schema["required"] = list(schema["properties"])
    return schema


_LEFT_OUT = {"default", "title", "minLength", "maxLength", "minItems", "minimum", "maximum"}


def _plain(value: Any, *, names: bool = False) -> Any:
    """Leave out keywords; ``names`` tells that the keys here are names of fields, not keywords."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {
        key: _plain(item, names=key in ("properties", "$defs") and not names)
        for key, item in value.items()
        if names or key not in _LEFT_OUT
    }
    if not names and plain.get("type") == "object" and "properties" in plain:
        plain["required"] = list(plain["properties"])
        plain["additionalProperties"] = False
    return plain


#: The form of each kind of reply that an agent's YAML may name; a plan's is built for each call.
FORMS: dict[str, type[Reply]] = {"review": Review, "code": Code, "report": Report, "verdict": Verdict}
KINDS = ("plan", *FORMS, "text")
