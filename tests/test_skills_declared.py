"""What a parameters cell declares: every value stays a parameter, and what is derived comes after them."""

from __future__ import annotations

import datetime
import enum
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.declared import read_declared, set_default
from cmbagent_nb.skills.extracting.written import written
from cmbagent_nb.skills.model import Parameter

IMPORTS = """\
import datetime as dt
import math
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Optional
import numpy as np
class Mode(Enum):
    FAST = 1
    SLOW = 2
"""


def names(source: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the names that a cell leaves, as a skill runs it: its parameters, other values, what is derived."""
    found = read_declared(IMPORTS + source)
    scope: dict[str, Any] = {}
    exec(found.source, scope)
    by_name = {item.name: item for item in found.parameters}
    scope |= {name: by_name[name].check(value) for name, value in (given or {}).items()}
    exec(found.derived, scope)
    return scope


def by_hand(source: str) -> dict[str, Any]:
    """Return the names that the cell leaves as it stands."""
    scope: dict[str, Any] = {}
    exec(IMPORTS + source, scope)
    return scope


@pytest.mark.parametrize(
    ("line", "type_", "given", "meant"),
    [
        ("x = 10**6", "int", 5, "5"),
        ("x = 0.1**2", "float", "0.5", "0.5"),
        ("x = -1.5e-3", "float", 2, "2.0"),
        ("x = float('inf')", "float", 3.0, "3.0"),
        ("x = np.pi / 2", "float", 1.0, "1.0"),
        ("x = int(1e3)", "int", 7, "7"),
        ("x = math.sqrt(2)", "float", 1.5, "1.5"),
        ("x = None", "any", "a", "'a'"),
        ("x: str | None = None", "str", "a", "'a'"),
        ("x: Optional[int] = None", "int", "4", "4"),
        ("x: 'float | None' = 2", "float", None, "None"),
        ("x: Literal['a', 'b'] = 'a'", "str", "b", "'b'"),
        ("x: Annotated[int, 'how many'] = 3", "int", 4, "4"),
        ("x = {'a': 1, 'b': [2, 3]}", "dict", {"a": 9}, "{'a': 9}"),
        ("x = dict(a=1, b=2.5)", "dict", '{"a": 2}', "{'a': 2}"),
        ("x = {1: 'a', 2: 'b'}", "str", "{3: 'c'}", "{3: 'c'}"),
        ("x = [1, 2, 3]", "list", [4], "[4]"),
        ("x = (1, 2)", "list", (4, 5), "(4, 5)"),
        ("x = ((0, 1), (2, 3))", "list", [[4, 5]], "((4, 5),)"),
        ("x = [(0, 'a'), (1, 'b')]", "list", "[(2, 'c')]", "[(2, 'c')]"),
        ("x = {3, 1}", "list", [5], "{5}"),
        ("x = frozenset({'a'})", "list", ["b"], "frozenset({'b'})"),
        ("x = 1 + 2j", "str", "3j", "3j"),
        ("x = complex(1, 2)", "str", 4j, "4j"),
        ("x = b'ab'", "str", "b'cd'", "b'cd'"),
        ("x = True", "bool", False, "False"),
        ("x = r'\\d+'", "str", "a", "'a'"),
        ("x = '''one\ntwo'''", "str", "a", "'a'"),
        ("x = 'a' 'b' + 'c'", "str", "a", "'a'"),
        ("x = date(2024, 1, 31)", "str", "2024-02-29", "date(2024, 2, 29)"),
        ("x = dt.datetime(2024, 1, 31, 12)", "str", datetime.datetime(2025, 1, 1), "datetime(2025, 1, 1)"),
        ("x = date.fromisoformat('2024-01-31')", "str", datetime.date(2025, 1, 1), "date(2025, 1, 1)"),
        ("x: Optional[date] = None", "str", "2024-02-29", "date(2024, 2, 29)"),
        ("x = timedelta(days=2)", "float", 60, "timedelta(minutes=1)"),
        ("x = Path('data') / 'cat.csv'", "str", "other/a.csv", "Path('other/a.csv')"),
        ("x = Path('out')", "str", Path("there"), "Path('there')"),
        ("x = Decimal('1.10')", "str", "2.20", "Decimal('2.20')"),
        ("x = Fraction(1, 3)", "str", "2/3", "Fraction(2, 3)"),
        ("x = Mode.FAST", "str", "SLOW", "Mode.SLOW"),
        ("x = np.float64(2.5)", "float", 3, "np.float64(3)"),
        ("x = range(3)", "int", 5, "range(5)"),
        ("x = range(2, 9, 3)", "list", [1, 4], "range(1, 4)"),
    ],
)
def test_every_kind_of_value_stays_a_parameter(line: str, type_: str, given: Any, meant: str) -> None:
    """Its default is what was written, and another value is of the kind that was declared."""
    [parameter] = read_declared(IMPORTS + line).parameters
    assert (parameter.name, parameter.type) == ("x", type_)
    written = by_hand(line)["x"]
    assert _same(names(line)["x"], written)
    assert type(names(line)["x"]).__name__ == type(written).__name__
    changed = names(line, {"x": given})["x"]
    expected = eval(meant, by_hand(line))
    assert _same(changed, expected)
    assert type(changed).__name__ == type(expected).__name__
    assert Parameter.from_dict(parameter.as_dict()) == parameter


def _same(one: Any, other: Any) -> bool:
    """Compare values; members of an enumeration that was defined twice by their names."""
    return one.name == other.name if isinstance(one, enum.Enum) else bool(one == other)


def test_arrays_are_given_as_lists() -> None:
    """So are the arguments of a grid."""
    assert names("x = np.array([1.0, 2.0])", {"x": [3]})["x"].tolist() == [3.0]
    assert names("x = np.linspace(0, 1, 3)", {"x": [0, 2, 3]})["x"].tolist() == [0.0, 1.0, 2.0]
    assert isinstance(names("x = np.array([1.0])")["x"], np.ndarray)


def test_each_name_of_a_statement_is_a_parameter() -> None:
    """Several targets, several names for one value, several statements on a line."""
    found = read_declared("x, y = 1, (2, 3)  # two\na = b = 3; c = 4\n")
    assert {item.name: item.default for item in found.parameters} == {"x": 1, "y": [2, 3], "a": 3, "b": 3, "c": 4}
    scope = names("x, y = 1, (2, 3)\na = b = 3; c = 4", {"y": [5], "a": 9})
    assert (scope["x"], scope["y"], scope["a"], scope["b"], scope["c"]) == (1, (5,), 9, 3, 4)


DERIVED = """\
lmax: int = 100  # highest multipole
nbins = lmax // 10
# where it goes
outfile = f"spectrum_{lmax}.json"
step = 2
half, third = lmax / 2, 3
if step > 1:
    label = "coarse"
else:
    label = "fine"
step_2 = step * 2; last = 7
def scale(x, by=step):
    return x * by * nbins
"""


@pytest.mark.parametrize("given", [{}, {"lmax": 200}, {"step": 1}, {"third": 5, "last": 8, "lmax": 30}])
def test_derived_values_are_those_of_the_edited_cell(given: dict[str, int]) -> None:
    """They are computed after the parameters, as when the cell is edited and run."""
    edited = DERIVED
    for name, value in given.items():
        edited = set_default(edited, name, value)
    scope, expected = names(DERIVED, given), by_hand(edited)
    for name in ("lmax", "nbins", "outfile", "step", "half", "third", "label", "step_2", "last"):
        assert scope[name] == expected[name], name
    assert scope["scale"](2) == expected["scale"](2)


def test_what_is_derived_is_said() -> None:
    """So is what is no parameter, with the reason; comments go with their values."""
    found = read_declared(DERIVED + "now = clock()\n")
    assert [item.name for item in found.parameters] == ["lmax", "step", "third", "last"]
    assert found.notes[0].startswith("nbins, outfile, half")
    assert "# where it goes\noutfile" in found.derived
    assert found.parameters[0].help == "highest multipole"
    [reason] = read_declared("import os\nseed = os.getpid()\n").notes
    assert reason == "seed is no parameter: it is computed: os.getpid()"


def test_a_value_that_is_set_twice_is_the_last() -> None:
    """Unless something between reads the first; a change after the setting is made after the parameters."""
    assert [item.default for item in read_declared("n = 1\nn = 2").parameters] == [2]
    scope = names("n = 1\nm = n\nn = 2")
    assert (scope["n"], scope["m"]) == (2, 1)
    assert names("n = 3\nn = n * 2", {"n": 5})["n"] == 10


def test_help_comes_from_comments_and_texts() -> None:
    """Beside the value, above it alone, or below it as documentation tools read it; not a heading of several."""
    source = "# heading\na = 1\nb = 2\n\n# the third\nc = 3\n\nd = 4\n'''the fourth'''\ne: 'the fifth' = 5\n"
    found = {item.name: item.help for item in read_declared(source).parameters}
    assert found == {"a": "", "b": "", "c": "the third", "d": "the fourth", "e": "the fifth"}


def test_magics_beside_parameters() -> None:
    """They stay where they are; the parameters are read as usual."""
    found = read_declared("%matplotlib inline\nn = 3  # how many\nfiles = !ls\nm = n + 1")
    assert [item.name for item in found.parameters] == ["n"]
    assert found.source.startswith("%matplotlib inline\nn = 3")
    assert found.derived == "m = n + 1"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("x = date(2024, 1, 1)", "yesterday"),
        ("x = 1 + 2j", "one"),
        ("x = Decimal('1')", "one"),
        ("x = {1: 2}", "[1]"),
        ("x = Mode.FAST", "MEDIUM"),
        ("x: Literal['a', 'b'] = 'a'", "c"),
        ("x: Optional[int] = None", "many"),
        ("x = {'a': 1}", "not a mapping"),
    ],
)
def test_values_that_are_none_of_the_kind_are_refused(line: str, value: Any) -> None:
    """By name, before anything runs."""
    [parameter] = read_declared(IMPORTS + line).parameters
    with pytest.raises(SkillError, match=r"(?i)parameter x"):
        parameter.check(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_any_literal_comes_back(values: list[Any]) -> None:
    """Whatever is written as a literal is a parameter, and the code works with what was written."""
    source = "\n".join(f"p{number} = {written(value)}" for number, value in enumerate(values))
    found = read_declared(source)
    assert len(found.parameters) == len(values)
    scope: dict[str, Any] = {}
    exec(found.source, scope)
    for item in found.parameters:
        scope[item.name] = item.check(item.default)
    exec(found.derived, scope)
    expected: dict[str, Any] = {}
    exec(source, expected)
    for number in range(len(values)):
        one, other = scope[f"p{number}"], expected[f"p{number}"]
        assert (one == other or _infinite(one, other)) and type(one) is type(other)


def _infinite(one: Any, other: Any) -> bool:
    return isinstance(one, float) and isinstance(other, float) and math.isinf(one) and one == other
