"""What a variable means besides its numbers reaches the agents' code, or the variable is refused by its name."""

from __future__ import annotations

import datetime
import enum
import json
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cmbagent_nb.errors import InputError
from cmbagent_nb.execution.inputs import store_inputs

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stored(value: Any, folder: Path) -> tuple[dict[str, Any], Path]:
    """Store a variable; returns what is said of it, and its file."""
    (item,) = store_inputs({"x": value}, folder / "input")
    return item, folder / item["path"]


def frame_of(value: Any, folder: Path) -> tuple[str, pd.DataFrame]:
    item, path = stored(value, folder)
    return item["description"], pd.read_parquet(path)


# ---- arrays


def test_a_mask_of_floats_is_nan_and_said(tmp_path: Path) -> None:
    item, path = stored(np.ma.masked_equal([1.0, -999.0], -999.0), tmp_path)
    assert np.isnan(np.load(path)).tolist() == [False, True]
    assert "masked" in item["description"] and "NaN where it is masked (1 of 2 masked)" in item["description"]
    assert [path.name for path in (tmp_path / "input").iterdir()] == ["x.npy"]


@MANY
@given(data=st.data())
def test_masked_arrays_come_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["f8", ">f4", "i4", "bool", "c16", "U3", "M8[s]", "m8[ns]", "u1"]))
    array = data.draw(hnp.arrays(dtype, 5, elements={"allow_nan": True} if dtype in ("f8", ">f4") else None))
    mask = data.draw(hnp.arrays(bool, 5))
    folder = tmp_path_factory.mktemp("in")
    _, path = stored(np.ma.array(array, mask=mask), folder)
    found = np.load(path)
    assert found.dtype == array.dtype
    second = folder / "input" / "x_mask.npy"
    if second.exists():
        assert np.load(second).tolist() == mask.tolist()
    elif mask.any():
        gaps = np.isnat(found) if found.dtype.kind in "Mm" else np.isnan(found)
        assert gaps.tolist() == mask.tolist()
    kept = ~mask
    assert all(a == b or (a != a and b != b) for a, b in zip(found[kept].tolist(), array[kept].tolist(), strict=True))


def test_a_mask_beside_genuine_gaps_is_a_second_file(tmp_path: Path) -> None:
    item, _ = stored(np.ma.array([np.nan, 2.0, 3.0], mask=[False, True, False]), tmp_path)
    assert np.load(tmp_path / "input/x_mask.npy").tolist() == [False, True, False]
    assert "input/x_mask.npy" in item["description"]


@pytest.mark.parametrize(
    "array",
    [
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", ">f8")]), np.rec.array([(1, "z")], names="n,s"),
        np.array([1 + 2j]), np.array([1], dtype=np.longdouble), np.array(["a", "bc"]), np.array([b"x"]),
        np.array(["2020-01-01"], dtype="M8[D]"), np.array([5], dtype="m8[ms]"), np.array([1.5], dtype="f2"),
        np.array([1, 2], dtype=">i2"), np.zeros((0, 3)),
        np.array([(1, [1.0, 2.0])], dtype=[("a", "i4"), ("v", "f8", 2)]),
    ],
)  # fmt: skip
def test_arrays_come_back_with_their_types(tmp_path: Path, array: Any) -> None:
    _, path = stored(array, tmp_path)
    found = np.load(path)
    assert found.dtype.fields == np.asarray(array).dtype.fields if array.dtype.names else found.dtype == array.dtype
    assert found.tobytes() == np.asarray(array).tobytes()


class Named(np.ndarray):
    """A class of arrays that may mean anything."""


Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no\nrepresentation")

    __str__ = __repr__


REFUSED = [
    {1, 2}, frozenset({1}), b"x", 1 + 2j, Decimal("1.1"), Fraction(1, 3), datetime.date(2020, 1, 2),
    datetime.datetime(2020, 1, 2), datetime.timedelta(1), {1: "a"}, {("a", 1): 2}, [Path("a")], Point(1, 2), Colour.RED,
    Level.LOW, np.ma.masked, [1.0, np.ma.masked], np.datetime64("2020-01-01T00:00:00.000000001"),
    [np.timedelta64(1, "s")],
    {"t": np.array(["2020-01-01"], dtype="M8[ns]")}, [np.ma.array([1, 2], mask=[0, 1])],
    np.array([{}, 1], dtype=object),
    np.zeros(3).view(Named), pd.Timestamp("2020-01-01"), pd.NA, pd.NaT, pd.Index([1]), {"a": pd.DataFrame()},
    Bad(), [Bad()],
    range, object(), pd.Categorical(["a"]), np.array((1, 2.0), dtype=[("a", "i4"), ("b", "f8")])[()],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_no_file_can_hold_is_refused_by_name_in_a_line(tmp_path: Path, number: int) -> None:
    with pytest.raises(InputError, match="'x'") as refused:
        stored(REFUSED[number], tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "input").exists()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda part: (
        st.lists(part, max_size=4) | st.tuples(part, part) | st.dictionaries(st.text(max_size=4), part, max_size=4)
    ),
    max_leaves=12,
)


@MANY
@given(value=PLAIN)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    def lists(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: lists(item) for key, item in part.items()}
        return [lists(item) for item in part] if isinstance(part, list | tuple) else part

    try:
        item, path = stored(value, tmp_path_factory.mktemp("in"))
    except InputError as error:
        assert "surrogates" in str(error) or "utf-8" in str(error)
        return
    assert json.loads(path.read_text(encoding="utf-8")) == lists(value)
    if "tuples" not in item["description"]:
        assert json.loads(path.read_text(encoding="utf-8")) == value


# ---- frames

KINDS: dict[str, Any] = {
    "int": [1, 2], "float": [1.5, np.nan], "text": ["a", None], "bool": [True, False],
    "Int64": pd.array([1, None], dtype="Int64"), "boolean": pd.array([True, None], dtype="boolean"),
    "Float32": pd.array([1.5, None], dtype="Float32"), "string": pd.array(["a", None], dtype="string"),
    "utc": pd.to_datetime(["2020-01-01", "2020-06-01"]).tz_localize("UTC"),
    "berlin": pd.to_datetime(["2020-01-01", "2020-06-01"]).tz_localize("Europe/Berlin"),
    "seconds": pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"])).astype("datetime64[s]"),
    "delta": pd.to_timedelta([1, 2], unit="s"), "ordered": pd.Categorical(["b", "a"], ["b", "a", "c"], ordered=True),
    "period": pd.period_range("2020-01", periods=2, freq="M"), "interval": pd.interval_range(0, 2),
    "decimal": [Decimal("1.10"), Decimal("2.25")], "bytes": [b"a", b"b"], "date": [datetime.date(2020, 1, 2)] * 2,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_columns_come_back(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"c": pd.Series(KINDS[kind]), "n": [1, 2]}, index=pd.Index([3, 5], name="row"))
    frame["c"] = pd.Series(KINDS[kind]).array
    _, back = frame_of(frame, tmp_path)
    pd.testing.assert_frame_equal(back, frame, check_dtype=kind not in ("seconds", "text"))


def test_good_frames_are_stored_whatever_their_dress(tmp_path: Path) -> None:
    frame = pd.DataFrame({"flux": np.array([1.5, 2.5], dtype=">f8"), "id": np.array([1, 2], dtype=">i4")})
    frame.attrs = {"t": datetime.datetime(2020, 1, 2), "units": {"flux": "Jy"}, 1: Path("a"), "bad": Bad()}
    said, back = frame_of(frame, tmp_path)
    assert back["flux"].tolist() == [1.5, 2.5] and back["id"].tolist() == [1, 2]
    assert back.attrs["units"] == {"flux": "Jy"} and back.attrs["t"].startswith("2020-01-02")
    assert "byte order" in said and "stored as text" in said and "bad" in said


def test_names_of_columns_are_made_unique_texts_and_said(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2, 3, 4, 5]], columns=["a", "a", 1, "1", "a.1"])
    said, back = frame_of(frame, tmp_path)
    assert list(back.columns) == ["a", "a.2", "1", "1.1", "a.1"]
    assert back.iloc[0].tolist() == [1, 2, 3, 4, 5]
    assert "second column" in said and "texts now" in said
    wide = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", "lo"), ("x", "hi")]))
    assert list(frame_of(wide, tmp_path / "two")[1].columns) == ["x / lo", "x / hi"]


def test_indexes_come_back(tmp_path: Path) -> None:
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None])
    frame = pd.DataFrame({"v": [1.0, 2.0]}, index=levels)
    pd.testing.assert_frame_equal(frame_of(frame, tmp_path / "1")[1], frame)
    times = pd.DataFrame({"v": [1]}, index=pd.DatetimeIndex(["2020-01-01"], tz="Asia/Kolkata", name="t"))
    pd.testing.assert_frame_equal(frame_of(times, tmp_path / "2")[1], times, check_freq=False)
    said, back = frame_of(pd.DataFrame({"v": [1, 2]}, index=pd.Index([1, "b"], name="v")), tmp_path / "3")
    assert back.index.name == "v.1" and back.index.tolist() == ["1", "b"] and "is text" in said


def test_what_is_changed_in_columns_is_said(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "mixed": [1, "a"], "sparse": pd.arrays.SparseArray([0, 1]), "z": [1 + 2j, 3j],
            "numbers": pd.Categorical([2, 1], [2, 1, 3], ordered=True), "gaps": pd.Series([1, None], dtype=object),
        }
    )  # fmt: skip
    said, back = frame_of(frame, tmp_path)
    assert back["mixed"].tolist() == ["1", "a"] and back["sparse"].tolist() == [0, 1]
    assert back["z.real"].tolist() == [1, 0] and back["z.imag"].tolist() == [2, 3]
    assert back["numbers"].tolist() == [2, 1] and str(back["gaps"].dtype) == "Int64"
    for words in (
        "'mixed' held int, str and is text",
        "was sparse",
        "z.real and z.imag",
        "categorical (ordered)",
        "Int64",
    ):
        assert words in said


@pytest.mark.parametrize(
    "bad", [[[1], [2]], [{"a": 1}, {"b": 2}], [{1}, {2}], [object(), 1], [np.zeros(2), np.ones(2)]]
)
def test_columns_that_no_text_can_tell_are_refused_by_name(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(InputError, match="'odd'"):
        stored(pd.DataFrame({"odd": pd.Series(bad, dtype=object)}), tmp_path)


def test_a_series_keeps_its_name(tmp_path: Path) -> None:
    said, back = frame_of(pd.Series([1.0], name="flux", index=[7]), tmp_path / "a")
    assert "Series named 'flux'" in said and back["flux"].to_dict() == {7: 1.0}
    said, back = frame_of(pd.Series([1.0], name=0), tmp_path / "b")
    assert list(back.columns) == ["0"] and "texts now" in said


# ---- other libraries, where they are installed


def test_quantities_of_astropy(tmp_path: Path) -> None:
    units = pytest.importorskip("astropy.units")
    item, path = stored([1.0, 2.0] * units.km / units.s, tmp_path / "a")
    assert np.load(path).tolist() == [1.0, 2.0] and "unit: km / s" in item["description"]
    item, path = stored(5 * units.Mpc, tmp_path / "b")
    assert np.load(path).tolist() == [5.0] and "Mpc" in item["description"] and "single value" in item["description"]


def test_tables_of_astropy(tmp_path: Path) -> None:
    table = pytest.importorskip("astropy.table")
    made = table.Table(
        {"z": np.ma.array([0.5, 9.0], mask=[0, 1]), "n": np.ma.array([1, 2], mask=[1, 0]), "s": ["a", "b"]}
    )
    made["z"].unit = "km/s"
    made["f"] = np.array([1, 2], dtype=">i4")
    made.meta["when"] = datetime.datetime(2020, 1, 2)
    said, back = frame_of(made, tmp_path)
    assert back["z"].isna().tolist() == [False, True] and back["n"].isna().tolist() == [True, False]
    assert back["f"].tolist() == [1, 2] and back["s"].tolist() == ["a", "b"]
    assert back.attrs["units"] == {"z": "km / s"} and "z in km / s" in said and "masked values" in said
    made["v"] = np.zeros((2, 3))
    with pytest.raises(InputError, match="'v'"):
        stored(made, tmp_path / "two")


def test_quantities_of_pint(tmp_path: Path) -> None:
    registry = pytest.importorskip("pint").UnitRegistry()
    item, path = stored(np.array([1.0, 2.0]) * registry.meter, tmp_path / "a")
    assert np.load(path).tolist() == [1.0, 2.0] and "unit: meter" in item["description"]
    item, _ = stored(3 * registry.second, tmp_path / "b")
    assert "second" in item["description"]


def test_arrays_of_xarray(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    array = xarray.DataArray([1.0, 2.0], dims="t", coords={"t": [10.0, 20.0]}, name="flux", attrs={"units": "Jy"})
    item, path = stored(array, tmp_path / "a")
    assert xarray.open_dataarray(path).identical(array) and "units Jy" in item["description"]
    with pytest.raises(InputError, match="'x'"):
        stored(xarray.DataArray(np.array([{}, 1], dtype=object)), tmp_path / "b")


def test_sparse_matrices(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    _, path = stored(sparse.eye(3, format="lil"), tmp_path)
    assert sparse.load_npz(path).toarray().tolist() == np.eye(3).tolist()
