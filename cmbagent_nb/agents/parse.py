"""Reading a reply: the JSON in it, whatever a model put around it, and what is wrong with it in words.

>>> find_json('Here it is:\\n```json\\n{"a": 1}\\n```\\nDone.')
{'a': 1}
>>> find_json('{"a": "two\\nlines"}')
{'a': 'two\\nlines'}
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError

_FENCED = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)```", re.DOTALL)
#: How many opening braces are tried in a text that is not JSON as a whole.
_TRIES = 20
_decoder = json.JSONDecoder(strict=False)


class UnreadableError(ValueError):
    """A reply that cannot be read; its text says why, in words for the model."""


def find_json(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``: the whole of it, the one in a fence, or the first that is complete."""
    stripped = text.strip()
    if not stripped:
        raise UnreadableError("The reply is empty.")
    fault: json.JSONDecodeError | None = None
    try:
        value = _decoder.decode(stripped)
    except json.JSONDecodeError as error:
        fault = error
    else:
        if isinstance(value, dict):
            return value
        raise UnreadableError(f"The reply is JSON, but {_kind(value)} and not an object.")
    for block in _FENCED.findall(stripped):
        found = _first_object(block.strip())
        if found is not None:
            return found
    found = _first_object(stripped)
    if found is not None:
        return found
    if "{" not in stripped:
        raise UnreadableError("The reply has no JSON object in it.")
    raise UnreadableError(f"The reply is not valid JSON: {fault.msg} at line {fault.lineno}, column {fault.colno}.")


def _first_object(text: str) -> dict[str, Any] | None:
    position = -1
    for _ in range(_TRIES):
        position = text.find("{", position + 1)
        if position < 0:
            return None
        try:
            value, _end = _decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            return value
    return None


def read_reply(text: str, form: type[BaseModel]) -> BaseModel:
    """Return the reply in ``text`` in its form.

    Raises
    ------
    UnreadableError
        There is no JSON object, or it does not have the form.
    """
    try:
        value = find_json(text)
    except RecursionError:
        raise UnreadableError("The reply is not valid JSON: it is nested too deeply.") from None
    if len(value) == 1:  # some models put the object into another one, by the name of its form
        (inner,) = value.values()
        if isinstance(inner, dict) and not set(value) & set(form.model_fields):
            value = inner
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise UnreadableError(_problems(error)) from None


def _problems(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=True)[:6]:
        place = ".".join(str(part) for part in item["loc"])
        given = "" if item["type"] == "missing" else f" (it is {_short(item['input'])})"
        what = "is missing" if item["type"] == "missing" else item["msg"][:1].lower() + item["msg"][1:]
        lines.append(f"{place}: {what}{given}")
    return "The reply does not have the form asked for: " + "; ".join(lines) + "."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}.get(type(value), "a number")
