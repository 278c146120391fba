r"""Finds the object that a reply answers with, among drafts, fences, examples and prose.

=========================================  ===================================================================
reasoning                                  is set apart first; nothing in it counts
several objects that have the form         the last one counts: what comes before are drafts
an object after it that was meant to have  the reply is unreadable: the draft before it is not the answer
the form and is cut or broken
an object within one by another name       is taken, when it is the only one that has the form
=========================================  ===================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from cmbagent_nb.llm.reading.escapes import PYTHON, whole
from cmbagent_nb.llm.reading.lenient import Effort, NotJSON, Unreadable, after_space, read_value
from cmbagent_nb.llm.reading.reasoning import split_reasoning

_START = re.compile(r"\{(?=\s*(?:[\"'}]|[A-Za-z_$][\w$]*\s*:|//|/\*|#))")
_FENCED = re.compile(r"\A```[\w+-]*[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL)
#: What may stand around the whole of an answer.
_DRESS = re.compile(r"```[\w+-]*|\s")
_NAME = re.compile(r"[\"']?([A-Za-z_$][\w$]*)[\"']?\s*:")


@dataclass(frozen=True)
class Holds:
    """Says in the annotation of a field what its text is, so that its backslashes are read by that."""

    kind: str


#: The annotation of fields that hold a Python script.
HOLDS_PYTHON = Holds(PYTHON)


@dataclass(frozen=True)
class Candidate:
    """An object in a reply: its value, or why it cannot be read."""

    start: int
    end: int
    value: dict[str, Any] | None = None
    fault: NotJSON | None = None


def find_json(text: str, kinds: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the last JSON object in ``text`` that is not empty, or the empty one if there is no other.

    >>> find_json('Here it is:\\n```json\\n{"a": 1}\\n```\\nDone.')
    {'a': 1}

    Raises
    ------
    Unreadable
        There is none.
    """
    answer = _answer(text)
    found = list(candidates(answer, kinds))
    objects = [item.value for item in found if item.value is not None]
    if objects:
        return next((value for value in reversed(objects) if value), objects[-1])
    raise _no_object(answer, found)


def read_structured(text: str, form: type[BaseModel], *, cut: bool = False) -> BaseModel:
    """Return the answer in ``text`` in its form; ``cut`` tells that the text ended at the length limit.

    Raises
    ------
    Unreadable
        There is no object, or it does not have the form; the text says which and where, in words for the model.
    """
    answer = _answer(text)
    found = list(candidates(answer, kinds_of(form), frozenset(form.model_fields)))
    required = {name for name, field in form.model_fields.items() if field.is_required()}
    for item in reversed(found):
        if item.value is None:
            ends = item.fault is not None and item.fault.position >= len(answer)
            if item.fault is not None and (ends or _names(answer, item) & (required or set(form.model_fields))):
                raise Unreadable(f"The reply is not valid JSON: {item.fault.where(answer)}.")
            continue
        fitted = _fitted(item.value, form)
        if fitted is not None:
            if _is_draft(answer, item, found, cut=cut):
                raise Unreadable("The reply ends before its answer is complete: what is there may be a draft.")
            return fitted
        if required & set(item.value):
            raise _unfit(item.value, form)
    values = [item.value for item in found if item.value is not None]
    if not values:
        raise _no_object(answer, found)
    raise _unfit(max(reversed(values), key=lambda value: len(set(value) & set(form.model_fields))), form)


def candidates(
    text: str, kinds: Mapping[str, str] | None = None, fields: frozenset[str] = frozenset()
) -> Iterator[Candidate]:
    """Find the objects in ``text`` that are in no other object, in order, also those that cannot be read.

    What is within the braces of one that cannot be read, and begins with one of ``fields``, is part of it.
    """
    closing: dict[int, int] | None = None
    effort = Effort(text)
    position = 0
    while (match := _START.search(text, position)) is not None:
        position = match.end()
        try:
            value, end = read_value(text, match.start(), kinds)
        except NotJSON as error:
            if not effort.spend(error, match.start()):
                raise Unreadable("The reply is not valid JSON, and has too many pieces that look like it.") from None
            item = Candidate(match.start(), max(error.position, match.end()), fault=error)
            if fields and (name := _NAME.match(text, after_space(text, position))) and name[1] in fields:
                closing = _pairs(text) if closing is None else closing
                position = closing.get(match.start(), position)
            yield item
        else:
            yield Candidate(match.start(), end, value)
            position = end


def _pairs(text: str) -> dict[int, int]:
    """Return where the braces close that do, whatever they stand in."""
    pairs, opened = {}, list[int]()
    for match in re.finditer("[{}]", text):
        if match[0] == "{":
            opened.append(match.start())
        elif opened:
            pairs[opened.pop()] = match.end()
    return pairs


def kinds_of(form: type[BaseModel]) -> dict[str, str]:
    """Return what the strings of a form's fields hold, by the names of those that say so, at any depth."""
    kinds: dict[str, str] = {}
    seen: set[type[BaseModel]] = set()
    left: list[Any] = [form]
    while left:
        kind = left.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind in seen:
                continue
            seen.add(kind)
            for name, field in kind.model_fields.items():
                for mark in field.metadata:
                    if isinstance(mark, Holds):
                        kinds[name] = mark.kind
                left.append(field.annotation)
        else:
            left.extend(getattr(kind, "__args__", ()))
    return kinds


def _answer(text: str) -> str:
    """Return the text that may hold the answer, without reasoning and dress."""
    answer, thoughts = split_reasoning(whole(text))
    answer = answer.strip().lstrip("\ufeff").strip()
    if not answer:
        if thoughts:
            raise Unreadable("The reply is empty: it holds only reasoning, and no answer after it.")
        raise Unreadable("The reply is empty.")
    fenced = _FENCED.match(answer)
    inner = fenced[1].strip() if fenced else answer
    if inner[:1] not in "[\"'-0123456789tfn":
        return answer
    try:
        value, end = read_value(inner, 0)
    except NotJSON:
        return answer
    if after_space(inner, end) < len(inner):
        return answer
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return inner
    if isinstance(value, str) and value.lstrip()[:1] == "{":  # an object that was written as a string once more
        return value
    raise Unreadable(f"The reply is JSON, but {_kind(value)} and not an object.")


def _is_draft(text: str, item: Candidate, found: list[Candidate], *, cut: bool) -> bool:
    """Tell whether more was to come after an object, in a text that was cut."""
    if cut and (_DRESS.sub("", text[: item.start]) or _DRESS.sub("", text[item.end :])):
        return True
    before, start = "", 0
    for other in found:
        if other.value is not None and other.end <= item.start:
            before += text[start : other.start]
            start = other.end
    before += text[start : item.start]
    after = text[item.end :]
    fences = before.count("```") % 2, after.count("```")  # one that is open here may be left open
    return after.rstrip().endswith("{") or (fences[1] > fences[0] and sum(fences) % 2 == 1)


def _no_object(answer: str, found: list[Candidate]) -> Unreadable:
    faults = [item.fault for item in found if item.fault is not None]
    if faults:
        return Unreadable(f"The reply is not valid JSON: {faults[0].where(answer)}.")
    if "{" in answer:
        try:
            read_value(answer, answer.index("{"))
        except NotJSON as error:
            return Unreadable(f"The reply is not valid JSON: {error.where(answer)}.")
    return Unreadable("The reply has no JSON object in it.")


def _names(text: str, item: Candidate) -> set[str]:
    """Return the names of fields at the beginning of an object that cannot be read."""
    return set(_NAME.findall(text, item.start, item.end + 1))


def _fitted(value: dict[str, Any], form: type[BaseModel]) -> BaseModel | None:
    """Return an object in its form; also the only one within it, for some models name the form around it."""
    direct = _validated(value, form)
    if direct is not None and (set(value) & set(form.model_fields) or not value):
        return direct
    inner = [fitted for item in _inside(value) if (fitted := _validated(item, form)) is not None]
    return inner[0] if len(inner) == 1 else None


def _inside(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in value.values():
        held = item[0] if isinstance(item, list) and len(item) == 1 else item
        if isinstance(held, dict) and held:
            yield held
            yield from _inside(held)


def _validated(value: dict[str, Any], form: type[BaseModel]) -> BaseModel | None:
    try:
        return form.model_validate(value)
    except ValidationError:
        return None


def _unfit(value: dict[str, Any], form: type[BaseModel]) -> Unreadable:
    try:
        form.model_validate(value)
    except ValidationError as error:
        return Unreadable(_problems(error))
    return Unreadable("The reply does not have the form asked for: none of its fields is there.")


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
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
