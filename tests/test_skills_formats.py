"""Each format that scientists write: the same but for when it was made, and different where its content is."""

from __future__ import annotations

import gzip
import json
import pickle
import sqlite3
import tarfile
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.skills.verifying import fits
from cmbagent_nb.skills.verifying.compare import compare, method
from cmbagent_nb.skills.verifying.look import Look
from cmbagent_nb.skills.verifying.pairing import pair, pattern

Write = Callable[[Path, float, datetime], Any]


def figure(path: Path, value: float, when: datetime) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": str(when)}):
        drawn = Figure()
        drawn.subplots().plot([0, value, 1])
        kind = path.suffix[1:]
        metadata: dict[str, Any] = {"pdf": {"CreationDate": when}, "svg": {"Date": when.isoformat()}}.get(kind, {})
        drawn.savefig(path, metadata=metadata or None)
    if kind in ("eps", "ps"):
        text = path.read_text("latin-1")
        lines = [f"%%CreationDate: {when:%c}" if line.startswith("%%Creation") else line for line in text.split("\n")]
        path.write_text("\n".join(lines), "latin-1")


def sheet(path: Path, value: float, when: datetime) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (
            ("xl/worksheets/sheet1.xml", f"<c><v>{value!r}</v></c>"),
            ("docProps/core.xml", f"<dcterms:created>{when.isoformat()}</dcterms:created>"),
        ):
            archive.writestr(zipfile.ZipInfo(name, when.timetuple()[:6]), text)


def tape(path: Path, value: float, when: datetime) -> None:
    inner = path.with_name("table.csv")
    inner.write_text(f"x\n{value!r}\n")
    with tarfile.open(path, "w:gz") as archive:
        info = archive.gettarinfo(inner, "table.csv")
        info.mtime = int(when.timestamp())
        with inner.open("rb") as file:
            archive.addfile(info, file)


def zipped(path: Path, value: float, when: datetime) -> None:
    path.write_bytes(gzip.compress(f"x,y\n1,{value!r}\n".encode(), mtime=int(when.timestamp())))


def image(path: Path, value: float, when: datetime) -> None:
    """Write a FITS file: an image, and a table of two columns."""

    def header(*cards: str) -> bytes:
        text = "".join(card.ljust(80) for card in [*cards, "END"])
        return text.ljust(-(-len(text) // 2880) * 2880).encode()

    def block(data: bytes) -> bytes:
        return data.ljust(-(-len(data) // 2880) * 2880, b"\0")

    table = np.array([(1.5, b"ab"), (value, b"cd")], dtype=[("x", ">f8"), ("name", "S2")])
    path.write_bytes(
        header(
            "SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 1", "NAXIS1  = 2", f"DATE    = '{when:%Y-%m-%dT%H:%M:%S}'",
            "OBJECT  = 'M31'", f"CHECKSUM= '{when.timestamp()}'",
        )
        + block(np.array([value, 2.0], dtype=">f8").tobytes())
        + header(
            "XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 10", "NAXIS2  = 2", "PCOUNT  = 0",
            "GCOUNT  = 1", "TFIELDS = 2", "TTYPE1  = 'x'", "TFORM1  = 'D'", "TTYPE2  = 'name'", "TFORM2  = '2A'",
        )
        + block(table.tobytes())
    )  # fmt: skip


def database(path: Path, value: float, when: datetime) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE fit (chi2 REAL, created_at TEXT)")
    connection.execute("INSERT INTO fit VALUES (?, ?)", (value, when.isoformat()))
    if when.second % 2:  # other pages, the same rows
        connection.execute("PRAGMA user_version = 7")
    connection.commit()
    connection.close()


def matlab(path: Path, value: float, when: datetime) -> None:
    from scipy.io import savemat

    savemat(path, {"x": np.array([value, 1.0])})
    content = path.read_bytes()
    path.write_bytes(f"MATLAB 5.0 MAT-file, Created on: {when:%c}".encode().ljust(116)[:116] + content[116:])


def netcdf(path: Path, value: float, when: datetime) -> None:
    from scipy.io import netcdf_file

    with netcdf_file(str(path), "w") as file:
        file.history = f"made on {when.isoformat()}"
        file.createDimension("n", 2)
        file.createVariable("x", "d", ("n",))[:] = [value, 2.0]


def film(path: Path, value: float, when: datetime) -> None:
    import struct

    times = struct.pack(">II", int(when.timestamp()), int(when.timestamp()))
    path.write_bytes(b"\0\0\0\x20ftypisom\0\0\0\x6cmvhd\0\0\0\0" + times + bytes(20) + struct.pack(">d", value))


def text(form: str) -> Write:
    return lambda path, value, when: path.write_text(form.format(value=value, when=when))


FORMATS: dict[str, Write] = {
    "a.eps": figure, "a.ps": figure, "a.pdf": figure, "a.svg": figure, "a.png": figure, "a.xlsx": sheet,
    "a.tar.gz": tape, "a.csv.gz": zipped, "a.fits": image, "a.sqlite": database, "a.mat": matlab, "a.nc": netcdf,
    "a.mp4": film,
    "a.json": lambda path, value, when: path.write_text(json.dumps({"x": value, "when": when.isoformat()})),
    "a.jsonl": lambda path, value, when: path.write_text(json.dumps({"x": value, "t": when.timestamp()}) + "\n"),
    "a.yaml": text("x: {value!r}\nmade: {when:%Y-%m-%d}\n"),
    "a.toml": text("x = {value!r}\nmade = {when:%Y-%m-%dT%H:%M:%S}\n"),
    "a.csv": text("x,made\n{value!r},{when:%Y-%m-%d %H:%M:%S}\n"),
    "a.tsv": text("x\tmade\n{value!r}\t{when:%Y-%m-%d}\n"),
    "a.dat": text("# made on {when:%a %b %d %H:%M:%S %Y}\n1.0 {value:.6f}\n"),
    "a.txt": text("Report of {when:%d %B %Y}\nchi2 = {value:.4f}\n"),
    "a.md": text("Made {when:%Y/%m/%d}; it took {when.microsecond} ms\n\nchi2 = {value:.4f}\n"),
    "a.tex": text("\\date{{{when:%B %d, %Y}}}\n$\\chi^2 = {value:.4f}$\n"),
    "a.html": text('<p id="p{when.microsecond}">{when:%Y-%m-%d}</p><td>{value:.5f}</td>\n'),
    "a.xml": text("<a date='{when:%Y-%m-%dT%H:%M:%S}'>{value:.5f}</a>\n"),
    "a.npy": lambda path, value, when: np.save(path, np.array([value, 2.0])),
    "a.npz": lambda path, value, when: np.savez(path, x=np.array([value, 2.0])),
    "a.parquet": lambda path, value, when: pd.DataFrame({"x": [value], "created_at": [when]}).to_parquet(path),
    "a.feather": lambda path, value, when: pd.DataFrame({"x": [value], "when": [str(when)]}).to_feather(path),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_compared_by_its_content(tmp_path: Path, name: str) -> None:
    """Made on another day it is the same; with another number it is not."""
    now = datetime.now(UTC).replace(tzinfo=None)
    places = []
    for number, (value, when) in enumerate([(0.5, now - timedelta(days=400, seconds=1)), (0.5, now), (0.625, now)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        places.append(folder / name)
        FORMATS[name](places[-1], value, when)
    same, different = (compare(name, places[0], place) for place in places[1:])
    assert same.equal, same
    assert same.counts and not different.equal, different


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "a.root", "a", "a.npy"])
def test_a_format_without_a_comparison_says_so(tmp_path: Path, name: str) -> None:
    """Pickled objects are never loaded; bytes decide, and where they differ nothing is known."""
    old, new, same = tmp_path / f"1{name}", tmp_path / f"2{name}", tmp_path / f"3{name}"
    for place, value in ((old, 1), (new, 2), (same, 1)):
        if name.endswith(".npy"):
            np.save(place, np.array([{"x": value}], dtype=object), allow_pickle=True)
        else:
            place.write_bytes(pickle.dumps(Evil(value)))
    found = compare(name, old, new)
    assert (found.equal, found.undecided, found.counts) == (False, True, False)
    assert "no comparison of its own" in found.detail
    assert compare(name, old, same).equal
    assert not Evil.loaded


class Evil:
    """Notes that it was loaded."""

    loaded: list[int] = []  # noqa: RUF012

    def __init__(self, value: int) -> None:
        self.value = value

    def __setstate__(self, state: dict[str, Any]) -> None:
        Evil.loaded.append(1)


def test_what_a_fits_file_holds(tmp_path: Path) -> None:
    """Headers without dates, images and tables; what is cut off is said."""
    image(tmp_path / "a.fits", 0.5, datetime(2020, 1, 1))
    first, second = fits.read(tmp_path / "a.fits")
    assert ("DATE" in first.cards, first.cards["OBJECT"], first.data.tolist()) == (False, "M31", [0.5, 2.0])
    assert second.data["1:x"].ravel().tolist() == [1.5, 0.5]
    (tmp_path / "b.fits").write_bytes((tmp_path / "a.fits").read_bytes()[:2885])
    assert "cannot be read" in compare("a.fits", tmp_path / "a.fits", tmp_path / "b.fits").detail


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2001-03-04", "2001-03-05"),
        ("1600000000.5", "1600000001.5"),
        ("12:34:56", "12:34:57"),
        ("2020-01-01 0.5", "2020-01-01 0.6"),
    ],
)
def test_a_date_that_is_data_is_compared(old: str, new: str) -> None:
    """Only the present time, or what code that asks the clock writes, is passed over."""
    clock = datetime.now(UTC) + timedelta(hours=6)
    shifted = new if ":" not in new else f"{clock:%H}:34:57"
    assert not Look().same_text("", old, shifted)


FORMS = [
    "{:%Y-%m-%d}", "{:%Y%m%d}", "{:%Y%m%d_%H%M%S}", "{:%Y-%m-%dT%H:%M:%S}", "{:%d-%b-%Y}", "{:%Y_%m_%d}", "{:%d%m%Y}",
    "{:%Y-%m-%d_%H-%M-%S}", "{:%b-%d-%Y}", "{:%d.%m.%Y}",
]  # fmt: skip


@given(st.sampled_from(FORMS), st.datetimes(datetime(2015, 1, 1), datetime(2045, 1, 1)), st.integers(1, 4000))
def test_dated_names_are_paired(form: str, when: datetime, days: int) -> None:
    """Whatever the date: verified today, the skill verifies tomorrow."""
    later = when + timedelta(days=days, seconds=3)
    old, new = (f"plots/map_{form.format(item)}.png" for item in (when, later))
    assert pair([old, "data/a.csv"], [new, "data/a.csv"]) == {old: new, "data/a.csv": "data/a.csv"}
    assert pattern(old) == "plots/map_*.png"


@given(st.floats(1.5e9, 1.99e9), st.uuids(version=4), st.uuids(version=4))
def test_made_up_names_are_paired(seconds: float, first: Any, second: Any) -> None:
    """Times in seconds, UUIDs; process ids and random words where the code is known to make such."""
    names = [(f"a_{int(seconds)}.png", f"a_{int(time.time())}.png"), (f"b-{first}.csv", f"b-{second}.csv")]
    old, new = zip(*names, strict=True)
    assert pair(old, new) == dict(names)
    assert pair(["run_4711.log"], ["run_815.log"]) == {}
    assert pair(["run_4711.log"], ["run_815.log"], varies=True) == {"run_4711.log": "run_815.log"}
    assert pair(["c_9f3a1b.txt"], ["c_00ffee.txt"], varies=True) == {"c_9f3a1b.txt": "c_00ffee.txt"}


def test_other_names_are_no_pairs() -> None:
    """Numbers that mean something are not made up; two candidates for one name are none."""
    assert pair(["spectrum_100.json"], ["spectrum_200.json"]) == {}
    assert pair(["a_2026-11-30.png"], ["a_2026-12-01.png", "a_2026-12-02.png"]) == {}
    assert pair(["a_2026-11-30.png"], ["b_2026-12-01.png"]) == {}
    assert method("x.tar.gz")[0] == "members"
