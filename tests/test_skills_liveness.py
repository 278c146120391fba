"""Parameters are shown to be alive or dropped, and dead code is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest

from cmbagent_nb.skills.extracting.dead_code import prune
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.verifying.liveness import Baseline, prove
from cmbagent_nb.skills.verifying.other_files import changed_copies
from cmbagent_nb.skills.verifying.other_values import other_values
from cmbagent_nb.skills.verifying.rehearsal import fork_stage
from tests.held import extract
from tests.skill_runs import Home, Step, make_run


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    opened = Home.open(tmp_path / "home")
    yield opened
    opened.close()


MIXED = """\
import json
import matplotlib.pyplot as plt
import pandas as pd

SCALE = 2.0
KIND = "alpha"
CUTOFF = 1e9
STRICT = 4
COLOUR_STEPS = 3
df = pd.read_csv("input/table.csv")
chosen = df[(df["kind"] == KIND) & (df["value"] < CUTOFF)]
if STRICT != 4:
    raise ValueError("only 4 will do")
never = COLOUR_STEPS * 0
with open("data/sum.json", "w") as file:
    json.dump({"sum": SCALE * float(chosen["value"].sum()) + never}, file)
fig, ax = plt.subplots(figsize=(2, 2))
BINS = 6
ax.hist(df["value"], bins=BINS)
fig.savefig("plots/values.png")
"""
TABLE = "kind,value\n" + "".join(f"{('alpha', 'beta')[n % 2]},{n}.5\n" for n in range(20))


def test_each_parameter_is_alive_or_dropped(home: Home) -> None:
    """Numbers, words, pictures, files and names, a limit that nothing comes near; a factor of 0 is dropped."""
    run_id = make_run(home, "Sum the values of kind alpha.", [Step(MIXED)], {"table.csv": TABLE})
    skill = extract(home.db, home.writer, home.path, run_id, name="mixed")
    assert skill.status == "active", skill.info.verification
    report = skill.info.verification["liveness"]
    assert {item.name for item in skill.parameters} == {
        "SCALE", "KIND", "CUTOFF", "STRICT", "BINS", "table_file", "sum_file", "values_file",
    }  # fmt: skip
    assert report["alive"]["SCALE"].startswith("with 1.8, data/sum.json changes: sum: ")
    assert "pixels differ" in report["alive"]["BINS"]
    assert report["alive"]["KIND"].startswith("with 'beta', data/sum.json changes")
    assert report["alive"]["table_file"].startswith("with a changed copy, ")
    assert report["alive"]["sum_file"] == "the file appears as data/sum_renamed.json"
    assert report["alive"]["CUTOFF"].startswith("with -1000000000.0, ")
    assert report["dropped"] == {"COLOUR_STEPS": "nothing changes with 2, 4, 6, 10, 67, 0"}
    assert "only 4 will do" in report["unproven"]["STRICT"]
    code = skill.notebook.read_text()
    assert "COLOUR_STEPS = 3" in code
    assert "COLOUR_STEPS: int" not in code


def test_time_that_is_over_is_told(home: Home) -> None:
    """What was not tried is unproven and stays; 0 leaves the tries out."""
    run_id = make_run(home, "Write.", [Step("N = 3\nopen('data/n.txt', 'w').write(str(N))\n")])
    skill = extract(home.db, home.writer, home.path, run_id, name="short", liveness_s=1e-9)
    unproven = skill.info.verification["liveness"]["unproven"]
    assert set(unproven) == {"n_file", "N"}
    assert unproven["N"].endswith("and all tries may take 1e-09 s")
    assert [item.name for item in skill.parameters] == ["N", "n_file"]
    assert (
        extract(home.db, home.writer, home.path, run_id, name="none", liveness_s=0).info.verification["liveness"] == {}
    )


def cells(*sources: str) -> Any:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    book.cells[0].metadata["tags"] = ["parameters"]
    return book


def test_forks_leave_nothing_behind_and_know_nothing_of_each_other(tmp_path: Path) -> None:
    """Each try has its own names and folder; one that hangs is ended with what it started."""
    code = """\
import subprocess, sys, time
open("n.txt", "w").write(str(n))
assert "seen" not in globals()
seen = 1
print("n is", n)
if n == 9:
    raise SystemExit(0)
if n == 4:
    input()
if n == 5:
    import rehearsal_child
if n == 6:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(60)
"""
    before = set(psutil.Process().children(recursive=True))
    with fork_stage(cells("n = 1", code)) as stage:
        for n in (1, 2):
            folder = tmp_path / f"{n}"
            folder.mkdir()
            tried = stage.run({"n": n}, folder, 20)
            assert (tried.status, tried.printed) == ("completed", f"n is {n}\n"), tried.error
            assert (folder / "n.txt").read_text() == str(n)
        assert stage.run({"n": 9}, tmp_path, 20).status == "completed"
        assert stage.run({"n": 4}, tmp_path, 20).error.startswith("EOFError")
        assert stage.run({"n": 5}, tmp_path, 20).error.startswith("ModuleNotFoundError")
        assert stage.run({"n": 6}, tmp_path, 1.5).status == "timeout"
        assert stage.run({"n": 1}, tmp_path / "none", 5).error.startswith("FileNotFoundError")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_cells_with_magics_are_tried_in_forks(tmp_path: Path) -> None:
    """A magic and a displayed value are the same there as in a kernel."""
    book = cells("n = 2\nm = 3", "%pwd\nopen('n.txt', 'w').write(str(n))", "n * 1.5")
    base, assets, scratch = tmp_path / "base", tmp_path / "assets", tmp_path / "scratch"
    for folder in (base, assets, scratch):
        folder.mkdir()
    (base / "n.txt").write_text("2")
    with fork_stage(book) as stage:
        folder = tmp_path / "try"
        folder.mkdir()
        tried = stage.run({"n": 4}, folder, 60)
    assert [item.content for item in tried.shown][-1] == "6.0", tried
    found = prove(book, [Parameter("n", "int", 2)], assets, Baseline(base, {"n.txt": "n.txt"}, [], 1.0), scratch)
    assert (found.alive, found.note) == ({"n": "with 3, n.txt changes: line 1: '2' became '3'"}, "")


@pytest.mark.parametrize(
    ("parameter", "words", "first"),
    [
        (Parameter("n", "int", 0), (), 1),
        (Parameter("n", "int", 1000), (), 900),
        (Parameter("x", "float", 0.0), (), 0.1),
        (Parameter("b", "bool", True), (), False),
        (Parameter("when", "str", "2001-01-31"), (), "2001-03-12"),
        (Parameter("method", "str", "linear"), (), "nearest"),
        (Parameter("kind", "str", "Adelie"), ("Gentoo", "bill_length"), "Gentoo"),
        (Parameter("p0", "list", [1.0, 2.0]), (), [0.95, 1.9]),
        (Parameter("levels", "list", ["A", "B"]), (), ["A"]),
        (Parameter("option", "str", "one", choices=("one", "two")), (), "two"),
    ],
)
def test_other_values_are_near_and_of_the_same_type(parameter: Parameter, words: Any, first: Any) -> None:
    """The first is the likeliest to show an effect; none is the default."""
    found = other_values(parameter, words)
    assert found[0] == first
    assert parameter.default not in found
    assert {type(item) for item in found} == {type(parameter.default)}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather", ".npy", ".npz", ".json", ".txt", ".png"])
def test_changed_copies_keep_their_form(tmp_path: Path, suffix: str) -> None:
    """They can be read as the file can, and are not the same."""
    frame = pd.DataFrame({"x": np.arange(8), "y": np.linspace(0, 1, 8), "name": list("abcdabcd")})
    path = tmp_path / f"file{suffix}"
    writers: dict[str, Any] = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
        ".feather": lambda: frame.to_feather(path),
        ".npy": lambda: np.save(path, np.arange(6.0)),
        ".npz": lambda: np.savez(path, a=np.arange(6), b=np.ones(3)),
        ".json": lambda: path.write_text('{"a": 1.5, "b": [2, 3]}'),
        ".txt": lambda: path.write_text("".join(f"word {n}.25\n" for n in range(8))),
        ".png": lambda: __import__("PIL.Image").Image.new("RGB", (4, 4), "red").save(path),
    }
    writers[suffix]()
    copies = 0
    for number, write in enumerate(changed_copies(path)):
        target = tmp_path / f"{number}{suffix}"
        if write(target):
            copies += 1
            assert target.read_bytes() != path.read_bytes()
            if suffix in {".csv", ".parquet", ".feather"}:
                read = getattr(pd, f"read_{suffix[1:]}")
                assert list(read(target).columns) == list(frame.columns)
    assert copies >= 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "import os\nimport numpy as np\nx = np.ones(3)\nx\nprint(x)\n",
            "import numpy as np\nx = np.ones(3)\nprint(x)\n",
        ),
        ("def a():\n    return b()\ndef b():\n    return 1\nprint(b())\n", "def b():\n    return 1\nprint(b())\n"),
        ("def loop(n):\n    return loop(n - 1)\nprint(1)\n", "print(1)\n"),
        ("A = 1\nB = A + 1\nprint(2)\n", "print(2)\n"),
        ("df = load()\ndf.head()\ndf.shape\nsave(df)\n", "df = load()\nsave(df)\n"),
    ],
)
def test_dead_code_is_left_out(code: str, expected: str) -> None:
    """Step by step: what only dead code uses is dead, too."""
    assert prune(code)[0] == expected


@pytest.mark.parametrize(
    "code",
    [
        "import matplotlib.backends\nprint(1)\n",
        "from mpl_toolkits.mplot3d import Axes3D\nprint(1)\n",
        "from __future__ import annotations\nprint(1)\n",
        "A = 1\nprint(globals()['A'])\n",
        "A = make()\nprint(1)\n",
        "@register\ndef hook():\n    pass\nprint(1)\n",
        "def f():\n    global N\n    return N\nN = 3\nprint(f())\n",
        '"""What this is."""\nprint(1)\n',
        "N = 3\nN += 1\nprint(N)\n",
        "import json as j\nclass A:\n    x = j.dumps(1)\nprint(A.x)\n",
        "def main():\n    pass\nif __name__ == '__main__':\n    main()\n",
    ],
)
def test_what_may_have_an_effect_stays(code: str) -> None:
    """When in doubt, nothing is left out."""
    assert prune(code) == (code, [])
