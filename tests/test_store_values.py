"""Rows prepared together are what they are one by one, and what is to be masked is masked."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cmbagent_nb.redaction import _SHAPES, Redactor, has_mark
from cmbagent_nb.store.values import prepare, prepare_alike

KEY = "0123456789-planted-key"
SCRUB = Redactor({"PLANTED_KEY": KEY}).scrub

ODD = st.one_of(
    st.none(),
    st.text(),
    st.sampled_from([KEY, f"a {KEY}", "https://ada:secret@x.org", "https://x.org", "\ud800", "\x00", "null", '"$']),
)
JSON = st.recursive(
    st.one_of(ODD, st.integers(), st.floats(), st.booleans(), st.binary(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "event_type": st.one_of(ODD, st.just(PurePosixPath("a/b")), st.integers(), st.just(KeyError("x"))),
    "error": st.one_of(ODD, st.just(ValueError(KEY)), st.just(PurePosixPath("a/b")), st.just([1, KEY])),
    "started_at": st.one_of(st.none(), st.floats(), st.integers(-9, 9), st.just("1.5")),
    "depth": st.one_of(st.none(), st.integers(-9, 9), st.just(2.0), st.just("7"), st.booleans()),
    "trusted": st.one_of(st.none(), st.booleans(), st.integers(0, 1)),
    "task_embedding": st.one_of(st.none(), st.binary(max_size=4), st.just(bytearray(b"x"))),
    "inputs": JSON,
    "meta": JSON,
}
ROW = st.tuples(*COLUMNS.values()).map(lambda values: dict(zip(COLUMNS, values, strict=True)))


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=6))
def test_rows_prepared_together_are_what_they_are_one_by_one(rows: list[dict[str, Any]]) -> None:
    singly = [tuple(prepare("skills", row, SCRUB)[1]) for row in rows]
    together = prepare_alike("skills", rows, SCRUB)
    plain = [tuple(prepare("skills", row, lambda text: text)[1]) for row in rows]
    assert (together is None) == (singly != plain)
    if together is not None:
        assert together == singly
        assert [list(map(type, row)) for row in together] == [list(map(type, row)) for row in singly]
        assert not any(isinstance(value, float) and math.isnan(value) for row in together for value in row)


MARKS = [mark for _, marks, _ in _SHAPES for mark in marks]


@settings(max_examples=150, deadline=None)
@given(st.text("-_AJx/:skgh", max_size=12), st.sampled_from(["", *MARKS]), st.text("-_AJx/:skgh", max_size=12))
def test_each_mark_is_found_and_nothing_else(before: str, mark: str, after: str) -> None:
    """What is asked first of every text finds whatever any of the shapes begins with, wherever it stands."""
    text = before + mark + after
    assert has_mark(text) == any(known in text for known in MARKS)
