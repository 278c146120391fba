r"""Reads the tool calls of a reply: arguments that are an object, and an id for each.

====================================  ===================================================================
arguments that are JSON               stay as they are
nearly JSON, or Python literals       are understood: single quotes, ``True``, trailing commas, comments
cut, broken, no object                are never completed: the call is not made, and the model gets the reason
an id that is empty or there already  is replaced, so that each call gets its own result
calls that a server left in the text  are taken out of it, if they are of tools that there are
====================================  ===================================================================
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cmbagent_nb.llm.reading.escapes import PYTHON, whole
from cmbagent_nb.llm.reading.lenient import NotJSON, after_space, read_value

#: What arguments of these names hold.
_KINDS = dict.fromkeys(("code", "python", "python_code", "script", "source"), PYTHON)
#: The only argument of a call whose arguments cannot be read, so that the conversation stays valid.
UNREAD = "arguments_as_written"
_LONGEST_UNREAD = 4000
_WRITTEN = re.compile(r"\A([^{]*?)((?:<(tool_call|function_call)>.*</\3>\s*)+)\Z", re.DOTALL)
_ONE_WRITTEN = re.compile(r"\s*<(tool_call|function_call)>\s*(?=\{)")


@dataclass(frozen=True)
class Call:
    """A tool call: its arguments as JSON, and why it cannot be made, if it cannot."""

    id: str
    name: str
    arguments: str
    fault: str = ""


def read_call(call_id: Any, name: Any, arguments: Any, *, cut: bool = False) -> Call:
    """Read one call; ``cut`` tells that the reply ended at the length limit."""
    own_id = call_id if isinstance(call_id, str) else "" if call_id is None else str(call_id)
    own_name = whole(name).partition("<|")[0].strip().removeprefix("functions.") if isinstance(name, str) else ""
    text, fault = read_arguments(arguments)
    if fault and cut:
        fault += " The reply was cut at the length limit: ask for less in one call."
    return Call(whole(own_id), own_name, text, fault)


def read_arguments(given: Any) -> tuple[str, str]:
    """Return arguments as the JSON of an object, and what is wrong with them in words for the model.

    >>> read_arguments("{'path': 'a', 'all': True}")
    ('{"path": "a", "all": true}', '')
    >>> read_arguments('{"path": "a"')[1]  # doctest: +ELLIPSIS
    'The arguments of this call are not valid JSON: it ends too early at line 1, column 13. Make the call again, ...'
    """
    text = given if isinstance(given, str) else "" if given is None else json.dumps(given)
    text = whole(text).strip().lstrip("\ufeff").strip()
    if not text:
        return "{}", ""
    for _ in range(3):  # an object may have been written as a string, and that once more
        body = _unfenced(text)
        try:
            value, end = read_value(body, 0, _KINDS)
        except NotJSON as error:
            return _unread(text, f"are not valid JSON: {error.where(body)}")
        if after_space(body, end) < len(body):
            rest = NotJSON("something follows the object", after_space(body, end))
            return _unread(text, f"are not valid JSON: {rest.where(body)}")
        if not isinstance(value, str):
            break
        text = value.strip()
        if not text:
            return "{}", ""
    if value is None:
        return "{}", ""
    if not isinstance(value, dict):
        return _unread(text, "are not a JSON object")
    if not _is_finite(value):
        return _unread(text, "have NaN or an infinity in them, which JSON does not know")
    if isinstance(given, str) and _same(given, value):
        return given, ""
    return json.dumps(value, ensure_ascii=False), ""


def calls_in(text: str, tools: Collection[str]) -> tuple[str, list[Call]]:
    """Return the text without the calls of ``tools`` that end it, and those calls; a server should have read them.

    >>> calls_in('Let me see. <tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>', ["look"])
    ('Let me see.', [Call(id='', name='look', arguments='{"at": 1}', fault='')])
    """
    written = _WRITTEN.match(text) if tools and text.rstrip().endswith("_call>") else None
    if written is None:
        return text, []
    calls, position = [], written.end(1)
    while (opening := _ONE_WRITTEN.match(text, position)) is not None:
        try:
            value, end = read_value(text, opening.end(), _KINDS)
        except NotJSON:
            return text, []
        closing = re.compile(rf"\s*</{opening[1]}>\s*").match(text, end)
        if closing is None or value.get("name") not in tools:
            return text, []
        calls.append(read_call(None, value["name"], value.get("arguments", value.get("parameters"))))
        position = closing.end()
    return (written[1].strip(), calls) if position == len(text) else (text, [])


def unique(calls: Iterable[Call], taken: Iterable[str] = ()) -> list[Call]:
    """Give a new id to each call whose own is empty, or was seen before in the reply or the conversation."""
    seen = set(taken)
    found = []
    for call in calls:
        named = call
        while not named.id.strip() or named.id in seen:
            named = replace(named, id=secrets.token_hex(5)[:9])  # nine letters and digits: every provider takes them
        seen.add(named.id)
        found.append(named)
    return found


def _unread(text: str, what: str) -> tuple[str, str]:
    kept = text if len(text) <= _LONGEST_UNREAD else f"{text[:_LONGEST_UNREAD]}…"
    fault = f"The arguments of this call {what}. Make the call again, with one JSON object as its arguments."
    return json.dumps({UNREAD: kept}, ensure_ascii=False), fault


def _unfenced(text: str) -> str:
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text.partition("\n")[2].removesuffix("```").strip()
    return text


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _same(text: str, value: Any) -> bool:
    try:
        text.encode()
        return bool(json.loads(text) == value)
    except (ValueError, RecursionError):
        return False
