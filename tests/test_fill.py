r"""Variables in the text of a task: filled where they are meant, and never into a formula."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import UsageError
from cmbagent_nb.notebook.task_variables import fill


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text\nof mine")

    __repr__ = __str__


class Odd:
    @property
    def value(self) -> int:
        raise KeyError("x")


SPACE: dict[str, Any] = {
    "x": pd.DataFrame({"k": [1, 2], "p": [0.5, 0.25]}),
    "T": 2.725, "p": 3, "a": "A", "b": "B", "v": "V", "i": 7, "m": 1.5, "n": 4, "lmax": 2000, "name": "Ann",
    "cfg": SimpleNamespace(lmax=30, _secret="s", table=np.arange(5)), "row": {"z": 0.5, "list": [1, 2, 3]},
    "array": np.zeros((100, 3)), "s": pd.Series([1.0, 2.0], name="flux"), "long": list(range(1000)),
    "broken": Broken(), "odd": Odd(), "np": np, "Broken": Broken, "chi2": 207.61364,
}  # fmt: skip

ITSELF = [
    r"Fit $y = \sqrt[3]{x}$ with $\bar{v} \xrightarrow[T]{p}$",
    r"$$\frac{a}{b} + {x}$$ and more",
    "$$\n\\sum_{i} {x}\n$$",
    r"\[ {x}^{2} \]",
    r"\(\bar{v}\)",
    r"\begin{align} {x} &= {a} \\ {b} \end{align}",
    r"\begin{equation*} {x} \end{equation*}",
    r"Report \Omega_{m} and \sqrt[3]{x}, \frac{a}{b}, \textbf{name}.",
    r"\frac{\bar{v}}{\sqrt{x}}",
    r"x^{n} and H_{i}^{m}",
    r"\Omega_{m}^{p}h^{n}",
    r"$\{x\}$ and \{x\}",
    r"$a\$ {x}$",
    "$ {x} = 3 $ and $ {v}_{p} $",
    r"$5 \times {x}$",
    "$x$-axis: ${v}$ and $p_{T}$",
    "```python\nprint(f'{x} {unknown}')\n```",
    "~~~\n{x}\n~~~",
    "```\n{unknown}",
    "Use `f\"{x}\"` and `d = {name}`.",
    '{"a": 1, "b": {"c": 2}}',
    "{a, b} and {1, 2} and {} and { x }",
    "{i: i for i in y}",
    "{{ data/fit.json#chi2 | .1f }}",
    r"\mathrm{a}\mathrm{b}",
    r"$\text{for } {x}$",
]  # fmt: skip


@pytest.mark.parametrize("task", ITSELF)
def test_formulas_code_and_other_braces_stay(task: str) -> None:
    assert fill(task, SPACE) == task


FILLED = {
    "Fit up to {lmax}.": "Fit up to 2000.",
    "{{lmax}} stays": "{lmax} stays",
    "$5 and {p} costs $6": "$5 and 3 costs $6",
    "$5 and {p} costs 6$": "$5 and 3 costs 6$",
    "It costs ${p} or ${n}.": "It costs $3 or $4.",
    "${p}-${n}": "$3-$4",
    r"\$5 {p} \$6": r"\$5 3 \$6",
    "$ {p} $": "$ 3 $",
    "one $ {p}\n\nand $ more": "one $ 3\n\nand $ more",
    "$x$ and {p} and $y$": "$x$ and 3 and $y$",
    r"$5 {p} and $y_{m}$": r"$5 3 and $y_{m}$",
    "{cfg.lmax}, {row['z']}, {row[\"list\"][-1]}": "30, 0.5, 3",
    "chi2 = {chi2:.1f}": "chi2 = 207.6",
    "Save data/cl_{lmax}.json and cl_{lmax}.npy": "Save data/cl_2000.json and cl_2000.npy",
    "`{lmax}` columns": "`2000` columns",
    '{"lmax": {lmax}}': '{"lmax": 2000}',
    "{a}{b}": "AB",
    "{row}": "{'z': 0.5, 'list': [1, 2, 3]}",
}


@pytest.mark.parametrize("task", FILLED)
def test_names_and_expressions_are_filled(task: str) -> None:
    assert fill(task, SPACE) == FILLED[task]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{x}", "x (a DataFrame of 2 rows and 2 columns: k, p)"),
        ("{array}", "array (a ndarray of shape (100, 3), of float64)"),
        ("{s}", "s (a Series of shape (2,), of float64, named flux)"),
        ("{long}", "long (a list of 1000 items)"),
        ("{cfg.table}", "cfg.table (a ndarray of shape (5,), of int64)"),
        ("{Broken}", "Broken (a type)"),
        ("{np}", "np (a module)"),
    ],
)
def test_tables_are_described_and_never_pasted(task: str, words: str) -> None:
    assert fill(task, SPACE) == words


def test_a_list_of_tables_is_described() -> None:
    text = fill("{l} {d}", {"l": [pd.DataFrame({"a": range(9)})], "d": {"t": np.zeros(9)}})
    assert text == "l (a list of 1 items) d (a dict with 1 keys: t)"


@pytest.mark.parametrize(
    "value",
    [1, 2.5, None, True, 1j, Decimal("1.10"), Fraction(1, 3), Path("a/b"), datetime.date(2020, 1, 2), np.float64(1.5)],
)
def test_small_values_are_put_in_as_they_are(value: Any) -> None:
    assert fill("{v}", {"v": value}) == str(value)


@pytest.mark.parametrize("task", ["{broken}", "{odd.value}", "{cfg.nothing}", "{row['q']}", "{cfg._secret}"])
def test_what_cannot_be_told_is_an_error_in_a_line(task: str) -> None:
    with pytest.raises(UsageError) as refused:
        fill(task, SPACE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task", ["up to {lmaxx}", "{cfgg.lmax}", r"$x$ {lmxa}"])
def test_a_misspelt_name_is_an_error(task: str) -> None:
    with pytest.raises(UsageError, match="Did you mean"):
        fill(task, SPACE)


@given(st.text(alphabet="ab{}$\\[]()_^ \n`~.'\"#:1x", max_size=60))
def test_any_text_is_filled_or_refused(text: str) -> None:
    try:
        done = fill(text, {"a": 1, "b": "two", "x": np.zeros(3)})
    except UsageError:
        return
    assert "[0. 0. 0.]" not in done


@given(
    st.lists(st.sampled_from([r"\sqrt[3]{x}", "{x}", "x^{2}", r"\frac{a}{b}", "a", " + ", r"\{", r"\$"]), min_size=1)
)
def test_nothing_within_dollars_is_ever_filled(parts: list[str]) -> None:
    for left, right in (("$$", "$$"), (r"\(", r"\)"), (r"\[", r"\]"), (r"\begin{a}", r"\end{a}")):
        formula = f"{left}{''.join(parts)}{right}"
        assert fill(f"See {formula}, {{a}}.", {"a": 1, "x": 2}) == f"See {formula}, 1."
    inner = "z" + "".join(parts).replace("\\", "\\") + "z"
    assert fill(f"See ${inner}$, {{a}}.", {"a": 1, "x": 2}) == f"See ${inner}$, 1."
