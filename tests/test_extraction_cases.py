"""The evaluation set of skill extraction: that its lists say what stands in its code, and that its cases run."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from cmbagent_nb.workspace import Workspace
from tests.extraction.runs import HALVES, PARAMETER_KINDS, Case, Expected, cases, record

CASES = cases()
NAMES = [case.name for case in CASES]


def plain(value: Any) -> Any:
    """Return a value such that equal ones of one kind are equal, and True is not 1."""
    if isinstance(value, list | tuple):
        return ("list", *map(plain, value))
    if isinstance(value, set):
        return ("list", *sorted(map(plain, value)))
    if isinstance(value, dict):
        return ("dict", *((key, plain(item)) for key, item in value.items()))
    return (isinstance(value, bool), value)


def literals(code: str) -> Iterator[Any]:
    """Yield every literal of a script: constants, what is made of them, templates of f-strings."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            yield ast.unparse(node)[2:-1]
        elif isinstance(node, ast.Call):
            if node.keywords and all(word.arg for word in node.keywords):
                values = {word.arg: _literal(word.value) for word in node.keywords}
                yield values
                if values.get("action") == "store_true":
                    yield False
            yield [_literal(item) for item in node.args]
        elif isinstance(node, ast.expr) and (value := _literal(node)) is not None:
            yield value


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None


def test_there_are_enough_of_each_kind_in_both_halves() -> None:
    halves = Counter(case.half for case in CASES)
    assert set(halves) == set(HALVES) and len(CASES) >= 44
    assert abs(halves["tune"] - halves["heldout"]) <= 2
    kinds = {half: {kind for case in CASES if case.half == half for kind in case.kinds} for half in HALVES}
    assert kinds["tune"] == kinds["heldout"]
    assert len(kinds["tune"]) >= 12


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_is_listed_stands_in_the_code(case: Case) -> None:
    scripts = case.scripts()
    there = {plain(value) for code in scripts.values() for value in literals(code)}
    for item in (*case.parameters, *case.optional):
        assert item.names and item.kind in PARAMETER_KINDS, item
        assert any(plain(value) in there for value in item.values), f"{item.value!r} stands nowhere in {case.name}"
    for item in (*case.parameters, *case.not_parameters):
        assert item.why, item
    used = "\n".join(scripts.values())
    inputs = [item for item in case.parameters if item.kind == "input"]
    assert len(inputs) == len(case.inputs()), "every input is listed"
    for name in case.inputs():
        assert any(f"{name}." in str(item.value) for item in inputs) and f"{name}." in used


def test_a_value_that_is_listed_twice_has_two_names() -> None:
    for case in CASES:
        keys = Counter((plain(item.value), item.kind, item.names[0]) for item in case.parameters)
        twice = [key for key, count in keys.items() if count > 1]
        assert not twice, (case.name, twice)


@pytest.mark.full
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_case_completes_and_its_files_are_listed(case: Case, workspace: Workspace) -> None:
    run = record(workspace, case)
    assert run.status == "completed", run.error
    attempts = run.steps()["attempts"].max()
    assert (attempts > 1) == ("retry" in case.kinds)
    made = {
        path.relative_to(run.work_dir).as_posix()
        for name in ("data", "plots")
        for path in (run.work_dir / name).rglob("*")
        if path.is_file()
    }
    listed = [item for item in (*case.parameters, *case.optional) if item.kind == "output"]
    assert made and not [path for path in made if not any(_names(item, path) for item in listed)]


def _names(item: Expected, path: str) -> bool:
    for value in item.values:
        pattern = re.sub(r"\\\{.*?\\\}", "[^/]*", re.escape(str(value)))
        if re.fullmatch(rf"(\./)?(data/|plots/)?{pattern}", path):
            return True
    return False
