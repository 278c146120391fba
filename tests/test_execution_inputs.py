"""Kernel variables as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cmbagent_nb.errors import InputError
from cmbagent_nb.execution.inputs import store_inputs


def test_each_kind_is_stored_and_described(tmp_path: Path) -> None:
    frame = pd.DataFrame({"ell": [2, 3], "cl": [1.5, 2.5]})
    frame.attrs["units"] = "muK^2"
    source = tmp_path / "table.csv.gz"
    source.write_bytes(b"gz")
    folder = tmp_path / "work" / "input"
    stored = {
        item["name"]: item
        for item in store_inputs(
            {"df": frame, "s": frame["cl"], "a": np.eye(2), "o": {"x": [1, np.float64(2.5)]}, "n": 3, "f": source},
            folder,
        )
    }
    assert {item["path"] for item in stored.values()} == {
        "input/df.parquet", "input/s.parquet", "input/a.npy", "input/o.json", "input/n.json", "input/f.csv.gz",
    }  # fmt: skip
    assert pd.read_parquet(folder / "df.parquet").equals(frame)
    assert (np.load(folder / "a.npy") == np.eye(2)).all()
    assert json.loads((folder / "o.json").read_text()) == {"x": [1, 2.5]}
    assert "cl (float64)" in stored["df"]["description"] and "muK^2" in stored["df"]["description"]
    assert "pandas.read_parquet('input/df.parquet')" in stored["df"]["description"]
    assert [path.name for path in folder.parent.iterdir()] == ["input"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "object"),
        ({"x": lambda: 1}, "function"),
        ({1: 2}, "keys"),
        (np.array([{}]), "objects"),
        (pd.DataFrame({"a": [1, "x", object()]}), "DataFrame"),
        (Path("/no/such/file.csv"), "not a file"),
        (pd.Timestamp("2020-01-01"), "Timestamp"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(tmp_path: Path, value: Any, why: str) -> None:
    """Nothing half-made is left."""
    with pytest.raises(InputError, match="bad_one") as caught:
        store_inputs({"good": 1, "bad_one": value}, tmp_path / "work" / "input")
    assert why in str(caught.value)
    assert not (tmp_path / "work" / "input").exists() and not list((tmp_path / "work").iterdir())


def test_a_loop_in_the_data_is_refused(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="deeply"):
        store_inputs({"loop": loop}, tmp_path / "input")


def test_names_must_be_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        store_inputs({"../x": 1}, tmp_path / "input")
