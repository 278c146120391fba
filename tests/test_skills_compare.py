"""When two files count as the same, and when not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cmbagent_nb.skills.verifying.compare import Comparison, compare


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    if isinstance(value, pd.DataFrame):
        {".csv": value.to_csv, ".parquet": value.to_parquet}[path.suffix](path)
    elif isinstance(value, Image.Image):
        value.save(path)
    elif path.suffix == ".npy":
        np.save(path, value)
    elif path.suffix == ".npz":
        np.savez(path, **value)
    elif isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def compared(tmp_path: Path, name: str, old: Any, new: Any) -> Comparison:
    write(tmp_path / "old" / name, old)
    write(tmp_path / "new" / name, new)
    return compare(
        name, tmp_path / "old" / name, tmp_path / "new" / name, (str(tmp_path / "old"), str(tmp_path / "new"))
    )


def picture(colour: tuple[int, int, int], *, compress: int = 6) -> bytes:
    import io

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG", compress_level=compress)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.json", {"chi2": 207.6, "n": 215}, {"n": 215, "chi2": 207.6 * (1 + 1e-9)}),
        ("a.json", {"x": [1.0, 1e-18]}, {"x": [1.0, -2e-18]}),
        ("a.json", {"x": float("nan")}, {"x": float("nan")}),
        ("a.json", {"chi2": 1.5, "elapsed_s": 0.5}, {"chi2": 1.5, "elapsed_s": 0.7}),
        (
            "a.csv",
            pd.DataFrame({"x": [1.0, None], "k": ["a", "b"]}),
            pd.DataFrame({"x": [1.0000000001, None], "k": ["a", "b"]}),
        ),
        ("a.parquet", pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": [1.0, 2.0 + 1e-9]})),
        ("a.npy", np.array([1.0, np.nan]), np.array([1.0 + 1e-9, np.nan])),
        ("a.npz", {"x": np.arange(3.0)}, {"x": np.arange(3.0) * (1 + 1e-9)}),
        ("a.png", picture((1, 2, 3)), picture((1, 2, 3), compress=0)),
        (
            "a.svg",
            '<svg><dc:date>1</dc:date><g id="p1"/><use href="#p1"/></svg>',
            '<svg><dc:date>2</dc:date><g id="q"/><use href="#q"/></svg>',
        ),
    ],
)
def test_the_same(tmp_path: Path, name: str, old: Any, new: Any) -> None:
    """Rounding, compression, dates and made-up ids make no difference."""
    result = compared(tmp_path, name, old, new)
    assert result.equal, result.detail


def test_folders_in_texts_make_no_difference(tmp_path: Path) -> None:
    """Where a file was made may stand in it."""
    assert compared(tmp_path, "a.txt", f"in {tmp_path}/old/x", f"in {tmp_path}/new/x").equal


@pytest.mark.parametrize(
    ("name", "old", "new", "detail"),
    [
        ("a.json", {"chi2": 207.6}, {"chi2": 207.7}, "chi2"),
        ("a.json", {"n": 1}, {"n": 2}, "n: 1 became 2"),
        ("a.json", {"n": True}, {"n": 1}, "n"),
        ("a.json", {"a": 1}, {"b": 1}, "keys a, b"),
        ("a.json", [1, 2], [1], "entries"),
        ("a.json", {"x": 1.0}, {"x": None}, "x"),
        ("a.csv", pd.DataFrame({"x": [1.0]}), pd.DataFrame({"x": [1.1]}), "column x"),
        ("a.csv", pd.DataFrame({"x": [1.0]}), pd.DataFrame({"y": [1.0]}), "columns"),
        ("a.csv", pd.DataFrame({"k": ["a"]}), pd.DataFrame({"k": ["b"]}), "column k"),
        ("a.parquet", pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"x": [1]}), "rows"),
        ("a.npy", np.arange(3.0), np.arange(4.0), "became"),
        ("a.npy", np.arange(3), np.arange(3) + 1, "values differ"),
        ("a.npz", {"x": np.arange(3.0)}, {"y": np.arange(3.0)}, "in one only"),
        ("a.png", picture((1, 2, 3)), picture((1, 2, 4)), "64 of 64 pixels"),
        ("a.txt", "one\ntwo\n", "one\nthree\n", "line 2"),
        ("a.txt", "one\n", "one\n\n", "lines"),
        ("a.bin", b"\x00\x01", b"\x00\x02", "bytes"),
        ("a.json", {"a": 1}, "not json", "cannot be read"),
        ("a.svg", '<svg><g id="p1"/></svg>', '<svg><g id="p1"/><g id="p2"/></svg>', "drawing"),
    ],
)
def test_different(tmp_path: Path, name: str, old: Any, new: Any, detail: str) -> None:
    """A real difference is found, and the report says where."""
    result = compared(tmp_path, name, old, new)
    assert not result.equal
    assert detail in result.detail


def test_a_missing_file_is_no_match(tmp_path: Path) -> None:
    """Neither a file that the skill did not make nor one that the run lost."""
    write(tmp_path / "there.txt", "x")
    assert "did not make" in compare("a.txt", tmp_path / "there.txt", tmp_path / "gone.txt").detail
    assert "not there" in compare("a.txt", tmp_path / "gone.txt", tmp_path / "there.txt").detail


#: Pulls of a fit as two processors made them: one of them is nearly zero and differs by 2e-6 of itself.
PULLS = [-0.21699053969840643, -0.4109148272708592, 0.004826161830952726, 1.3647263698368757, -1.6734897616867468,
         0.31, 0.92, -0.58, 0.11, -1.02, 0.77, -0.36]  # fmt: skip
ELSEWHERE = [-0.21699055969840643, -0.4109148072708592, 0.004826150036818618, 1.3647263774499816, -1.6734897492675134,
             0.31, 0.92, -0.58, 0.11, -1.02, 0.77, -0.36]  # fmt: skip
Z = [0.07 + 0.1 * n for n in range(12)]


def text_of(column: list[float], before: str = "# z pull\n") -> str:
    return before + "".join(f"{z:.18e} {value:.18e}\n" for z, value in zip(Z, column, strict=True))


AS_FILES: dict[str, tuple[str, Any]] = {
    "table": ("a.csv", lambda column: pd.DataFrame({"z": Z, "pull": column})),
    "parquet": ("a.parquet", lambda column: pd.DataFrame({"z": Z, "pull": column})),
    "array": ("a.npy", np.array),
    "rows": ("a.npy", lambda column: np.array([Z, column]).T),
    "lines of an array": ("a.npy", lambda column: np.array([[1e6 * z for z in Z], column])),
    "list": ("a.json", lambda column: {"pull": column}),
    "records": ("a.json", lambda column: [{"z": z, "pull": value} for z, value in zip(Z, column, strict=True)]),
    "lists": ("a.json", lambda column: [[z, value] for z, value in zip(Z, column, strict=True)]),
    "lists of columns": ("a.json", lambda column: [[1e6 * z for z in Z], column]),
    "text": ("a.txt", text_of),
    "data": ("a.dat", text_of),
}


@pytest.mark.parametrize("form", AS_FILES)
def test_a_difference_near_zero_is_compared_with_its_column(tmp_path: Path, form: str) -> None:
    """What another processor makes of it is the same; what the effect of a parameter may be, is not."""
    name, make = AS_FILES[form]
    result = compared(tmp_path, name, make(PULLS), make(ELSEWHERE))
    assert result.equal, result.detail
    for change in (0.0049, -0.004826161830952726, 0.0):
        other = [*PULLS[:2], change, *PULLS[3:]]
        assert not compared(tmp_path, name, make(PULLS), make(other)).equal, change


OUTLIER = [1e5, *PULLS[1:]]
SHORT = PULLS[:4]
WITHOUT_SIGN = [abs(value) for value in PULLS]
TAIL = [*PULLS[:6], *(1e-9 * value for value in PULLS[:6])]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OUTLIER, [1e5, *PULLS[1:2], 0.00482, *PULLS[3:]]),
        (WITHOUT_SIGN, [abs(value) for value in ELSEWHERE]),
        (SHORT, ELSEWHERE[:4]),
        (TAIL, [*PULLS[:6], *(1.1e-9 * value for value in PULLS[:6])]),
        ([-1e10, 1e10, 0.5], [-1e10, 1e10, 0.6]),
        ([0.9, 0.4, 1e-9] * 4, [0.9, 0.4, 2e-9] * 4),
        ([0.0] * 12, [0.0] * 11 + [1e-30]),
    ],
    ids=["an outlier", "one sign", "few numbers", "a small part", "two sizes", "p-values", "zeros"],
)
def test_small_numbers_that_are_no_differences_are_compared_by_themselves(
    tmp_path: Path, old: list[float], new: list[float]
) -> None:
    assert not compared(tmp_path, "a.npy", np.array(old), np.array(new)).equal
    assert not compared(tmp_path, "a.json", {"x": old}, {"x": new}).equal
    assert not compared(tmp_path, "a.csv", pd.DataFrame({"x": old}), pd.DataFrame({"x": new})).equal
