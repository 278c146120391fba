"""Values become JSON text and come back."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cmbagent_nb.store.json import clean, from_json, from_json_all, to_json

texts = st.text(st.characters(blacklist_categories=()))  # lone surrogates too
numbers = st.integers() | st.floats() | st.integers(min_value=-(10**40), max_value=10**40)
leaves = st.none() | st.booleans() | numbers | texts | st.binary() | st.sampled_from(["$map", "$float", "null", '"$'])
keys = texts | st.integers() | st.floats() | st.booleans() | st.none() | st.sampled_from(["$map", "$int", "$bytes"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner), max_leaves=20
)


def mended(value: Any) -> Any:
    """Return what the documentation promises for a value."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    return [mended(item) for item in value] if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, NaN being equal to itself and 1 not to True or 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(sorted(map(repr, one)), sorted(map(repr, other))) and all(
            same(item, back) for item, back in zip(one.values(), other.values(), strict=True)
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (one, math.copysign(1, one)) == (
            other,
            math.copysign(1, other),
        )
    return bool(one == other)


@given(st.lists(st.none() | st.just("") | values.map(to_json), max_size=6))
def test_texts_read_together_are_what_they_are_one_by_one(found: list[str | None]) -> None:
    assert same(from_json_all(found), [from_json(text) for text in found])


def test_of_texts_read_together_one_that_is_no_json_is_told() -> None:
    for odd in ("1,2", "[1", "]", "1],[2"):
        with pytest.raises(ValueError, match=r"\w"):
            from_json_all(["1", odd])


@given(values)
def test_round_trip(value: Any) -> None:
    """Every mix of values comes back, and the text is JSON that any reader takes and UTF-8 can hold."""
    text = to_json(value)
    assert same(from_json(text), mended(value))
    json.loads(text, parse_constant=pytest.fail)
    text.encode("utf-8")
    assert "\x00" not in text


def test_other_kinds_have_their_plain_form() -> None:
    """Objects of science and of Python become what a reader of the record expects."""

    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Point:
        x: float
        label: Path

    class Reply(BaseModel):
        code: str
        scores: list[float]

    value = {
        "point": Point(math.inf, Path("a") / "b"),
        "reply": Reply(code="x = 1", scores=[math.nan]),
        "numpy": [np.float64(1.5), np.int32(7), np.array([[1, 2]]), np.bool_(True), np.float32("nan")],
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "colour": Colour.RED,
        "id": uuid.UUID(int=5),
        "set": {3, 1, 2},
        "path": PurePosixPath("data/x.csv"),
        "span": datetime.timedelta(seconds=90),
    }
    back = from_json(to_json(value))
    assert back["point"] == {"x": math.inf, "label": "a/b"}
    assert back["reply"]["code"] == "x = 1"
    assert math.isnan(back["reply"]["scores"][0])
    assert back["numpy"][:4] == [1.5, 7, [[1, 2]], True]
    assert math.isnan(back["numpy"][4])
    assert back["when"] == "2026-01-02T00:00:00+00:00"
    assert (back["colour"], back["set"], back["path"], back["span"]) == ("red", [1, 2, 3], "data/x.csv", 90.0)
    assert back["id"] == "00000000-0000-0000-0000-000000000005"


def test_it_never_raises() -> None:
    """A circle, a depth beyond measure and a lying object have a text all the same."""

    class Liar:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        @property
        def model_dump(self) -> Any:
            raise ValueError("no")

    circle: list[Any] = []
    circle.append(circle)
    deep: Any = float("nan")
    for _ in range(5000):
        deep = [deep]
    for value in (circle, deep, Liar(), {"x": Liar()}, {Liar(): 1}, object(), "x" * 10):
        assert isinstance(from_json(to_json(value)), str | list | dict)


def test_text_that_only_looks_like_a_tag_is_kept() -> None:
    """What a model writes cannot be taken for a tag, nor break the reader."""
    for value in ({"$float": "nan"}, {"$bytes": "!"}, {"$map": 3}, {"$int": None}, {"$float": [1]}):
        assert from_json(to_json(value)) == value
    assert from_json('{"$bytes": "not base64!"}') == {"$bytes": "not base64!"}
    assert from_json(None) is None
    assert from_json("") is None


def test_clean_text() -> None:
    """Plain columns take any text."""
    assert clean("a\x00b\ud800é") == "a\ufffdb\ufffdé"
