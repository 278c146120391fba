"""What agents can look at: their own folder and local documentation, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmbagent_nb.agents.tools import ANSWER, ToolBox


@pytest.fixture
def box(tmp_path: Path) -> ToolBox:
    root = tmp_path / "work"
    (root / "data").mkdir(parents=True)
    frame = pd.DataFrame({"ell": [2, 30], "cl": [1.5, np.nan], "who": ["a", "b"]})
    frame.to_csv(root / "data" / "t.csv", index=False)
    frame.to_csv(root / "data" / "s.csv", index=False, sep=";")
    frame.to_parquet(root / "data" / "t.parquet")
    np.save(root / "data" / "a.npy", np.arange(12.0).reshape(3, 4))
    np.savez(root / "data" / "z.npz", x=np.zeros(2), y=np.array(["a"]))
    np.save(root / "data" / "o.npy", np.array([{}]), allow_pickle=True)
    (root / "data" / "t.dat").write_text("# ell cl\n2 1.5e3\n30 7\n")
    (root / "data" / "j.json").write_text(json.dumps({"fit": {"chi2": 1.5, "v": [1, 2, 3]}}))
    (root / "notes.txt").write_text("The Answer\nis 42\n")
    (root / "x.bin").write_bytes(b"\0\1\2")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    return ToolBox(root)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("data/t.csv", ["2 rows × 3 columns", "ell: int64, 2 to 30", "cl: float64", "1 missing", "such as a, b"]),
        ("data/s.csv", ["2 rows × 3 columns", "';'"]),
        ("data/t.parquet", ["2 rows × 3 columns", "Parquet"]),
        ("data/a.npy", ["float64, shape (3, 4), 0 to 11"]),
        ("data/z.npz", ["x: array of float64", "y: array of <U1"]),
        ("data/o.npy", ["cannot be read", "Python objects"]),
        ("data/t.dat", ["comment: # ell cl", "2 rows × 2 columns", "7 to 1500"]),
        ("data/j.json", ["chi2: 1.5", "v: list of 3: [1, 2, 3]"]),
        ("notes.txt", ["text, begins:", "The Answer"]),
        ("x.bin", ["binary, begins with 00 01 02"]),
        ("t.csv", ["no file 't.csv'", "There is data/t.csv"]),
        ("nothing.csv", ["search_files"]),
    ],
)
def test_inspecting_a_file(box: ToolBox, path: str, words: list[str]) -> None:
    text = box.inspect_data(path)
    assert not [word for word in words if word not in text], text


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "link.txt", "data/../../secret.txt", "\0"])
def test_nothing_outside_is_seen(box: ToolBox, path: str) -> None:
    assert "not in the working directory" in box.inspect_data(path)


def test_searching_files(box: ToolBox) -> None:
    assert "data/j.json (" in box.search_files()
    assert "link.txt" not in box.search_files()
    assert box.search_files("*.txt", "answer") == "notes.txt:1: The Answer"
    assert "out of the working directory" in box.search_files("../*")
    assert "out of the working directory" in box.search_files("/etc/*")
    assert box.search_files("*.nothing").startswith("No file")
    assert box.search_files("**/*", "not there").startswith("No line")


def test_answers_are_bounded(box: ToolBox) -> None:
    (box.folder / "long.txt").write_text("match\n" * 10_000)
    assert len(box.search_files("**/*", "match")) < ANSWER + 200
    (box.folder / "deep.json").write_text(json.dumps({f"key{i}": {"x": list(range(100))} for i in range(5000)}))
    assert len(box.inspect_data("deep.json")) < ANSWER + 200


def test_documentation_by_name_is_looked_up_without_importing(box: ToolBox) -> None:
    assert "wave" not in sys.modules
    text = box.search_docs("wave.Wave_read.getnframes")
    assert "getnframes" in text
    assert "wave" not in sys.modules


def test_documentation_by_words(box: ToolBox) -> None:
    assert "planck2018_tt" in box.search_docs("planck TT band powers")
    assert "curve_fit" in box.search_docs("scipy curve_fit least squares")
    assert "says nothing" in box.search_docs("zzyzx qwertz")
    assert box.search_docs("  ") == "Say what to look for."


def test_documentation_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "lab.md").write_text("# Spectrometer\nThe flumox unit is 3 counts.\n")
    box = ToolBox(tmp_path, [tmp_path / "docs"])
    assert "3 counts" in box.search_docs("flumox unit")


def test_packages(box: ToolBox) -> None:
    assert "numpy " in box.list_packages("num")
    assert "No installed package" in box.list_packages("zzyzx")


def test_what_belongs_to_the_run_is_not_listed(tmp_path: Path) -> None:
    """It grows while agents look; the input is there to be seen, and names further down are the code's own."""
    for name in ("journal.jsonl", "steps/step_1/a.txt", "chats/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("found")
    for name in ("input/a.txt", "exit.json", "data/exit.json", "data/steps/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("found")
    box = ToolBox(tmp_path)
    assert [line.split()[0] for line in box.search_files().splitlines()] == [
        "data/exit.json",
        "data/steps/a.txt",
        "exit.json",
        "input/a.txt",
    ]
    assert "steps/step_1" not in box.search_files("**/*", "found")
    assert "No file" in box.search_files("steps/**/*")
