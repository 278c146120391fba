"""Results of cells that are kept: what the key holds, what comes back, what is never kept, what a cell depends on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from cmbagent_nb.skills.learning import in_kernel
from cmbagent_nb.skills.learning.cache import mark, prune
from cmbagent_nb.skills.learning.change import make
from cmbagent_nb.skills.learning.dataflow import Cell, flow, of_notebook
from cmbagent_nb.skills.learning.recommend import Recommendation
from cmbagent_nb.skills.running.engine import Executed, execute

FIRST = """\
import numpy as np
import pandas as pd
data = {"x": np.arange(n, dtype="int16"), "odd": (1, 2.5, None, "é"), "deep": [{"a": float("nan")}]}
table = pd.DataFrame({"a": [1.5, 2.5], "when": pd.to_datetime(["2020-01-01", "2021-01-01"])}, index=["p", "q"])
series = table["a"].rename("b")
scalar = np.float32(1.25)
open("data/made.txt", "w").write(f"{n} {open('input/in.txt').read()}")
print("worked out")
"""
SECOND = """\
assert data["x"].dtype == "int16" and len(data["x"]) == n, data
assert data["odd"] == (1, 2.5, None, "é") and data["deep"][0]["a"] != data["deep"][0]["a"]
assert list(table.index) == ["p", "q"] and str(table["when"].dtype).startswith("datetime64")
assert series.name == "b" and scalar.dtype == "float32" and other == "anything"
open("data/end.txt", "w").write(open("data/made.txt").read() + other)
"""


def notebook(*codes: str, kept: str = "first", versions: dict[str, str] | None = None) -> Any:
    new = nbformat.v4
    cells = [
        new.new_code_cell("n = 3\nother = 'anything'", id="parameters", metadata={"tags": ["parameters"]}),
        new.new_code_cell("import json", id="imports", metadata={"tags": ["imports"]}),
        *(new.new_code_cell(code, id=name) for name, code in zip(("first", "second", "third"), codes, strict=False)),
    ]
    made = new.new_notebook(cells=cells, metadata={"cmbagent_nb": {"versions": versions or {"numpy": ""}}})
    for cell, own in zip(made.cells, of_notebook(made), strict=True):
        if cell.id == kept:
            assert own.plain, own.hindrances
            mark(cell, own)
    return made


def run(made: Any, folder: Path, store: Path, text: str = "in", **parameters: Any) -> tuple[Executed, bool]:
    """Run a notebook in a new folder; also tells whether a cell came from kept results."""
    for name in ("input", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "input" / "in.txt").write_text(text)
    done = execute(made, folder, parameters=parameters, results=store)
    assert done.status == "completed", done.error
    return done, any("from_results" in cell.metadata.get("cmbagent_nb", {}) for cell in done.notebook.cells)


def test_what_comes_back_is_what_was_made(tmp_path: Path) -> None:
    """Names of all kinds, files and what was printed come back; another value, file or code is worked out anew."""
    store = tmp_path / "store"
    made = notebook(FIRST, SECOND)
    first, used = run(made, tmp_path / "1", store)
    assert not used
    entries = list(store.glob("??/*/entry.json"))
    assert len(entries) == 1
    assert not list(store.rglob("*.pkl"))
    second, used = run(made, tmp_path / "2", store, other="anything")
    assert used
    assert (tmp_path / "2/data/end.txt").read_text() == "3 inanything"
    printed = [cell.outputs for cell in (first.notebook.cells[3], second.notebook.cells[3])]
    assert "worked out" in str(printed[1])
    assert run(made, tmp_path / "3", store, n=4)[1] is False
    assert run(made, tmp_path / "4", store, text="out")[1] is False
    assert run(notebook(FIRST + "\nmore = 1", SECOND), tmp_path / "5", store)[1] is False
    # a damaged result is removed, and the cell runs
    next(entries[0].parent.joinpath("files").iterdir()).write_text("9 changed")
    assert run(made, tmp_path / "6", store)[1] is False
    assert (tmp_path / "6/data/end.txt").read_text() == "3 inanything"
    assert prune(store, largest=0) >= 2
    assert not list(store.glob("??/*/entry.json"))


def test_what_would_not_come_back_is_not_kept(tmp_path: Path) -> None:
    """A removed file, a changed input, shared objects, an object of a class, the folder's own name: nothing is kept."""
    store = tmp_path / "store"
    use = "print(len(str(value)))"
    for number, code in enumerate(
        (
            "import os\nos.remove('input/in.txt')\nvalue = n",
            "a = [1]\nvalue = [a, a]",
            "import threading\nvalue = threading.Lock()",
            "from pathlib import Path\nvalue = str(Path('data').absolute())",
        )
    ):
        assert run(notebook(code, use), tmp_path / str(number), store)[1] is False
        assert not list(store.glob("??/*/entry.json")), code
    anew = notebook("n = (n, n)\nvalue = n", use)
    assert [run(anew, tmp_path / f"anew{number}", store)[1] for number in (1, 2)] == [False, True]
    prune(store, largest=0)
    changed = notebook("value = [1]", "value.append(2)", "assert value == [1, 2]", kept="second")
    run(changed, tmp_path / "changed", store)
    assert not list(store.glob("??/*/entry.json"))


@pytest.mark.parametrize(
    "code",
    [
        "import time\nx = time.time()",
        "from datetime import datetime\nx = datetime.now()",
        "import numpy as np\nx = np.random.normal(size=3)",
        "import numpy as np\nx = np.random.default_rng().normal()",
        "import random\nx = random.random()",
        "import uuid\nx = uuid.uuid4()",
        "import requests\nx = requests.get('a')",
        "import subprocess\nx = subprocess.run(['ls'])",
        "import os\nx = os.environ['HOME']",
        "x = open('/etc/passwd').read()",
        "x = eval('1')",
        "from math import *\nx = pi",
        "def f():\n    return 1\nx = f",
        "x = (",
    ],
)
def test_cells_that_depend_on_more_than_is_seen(code: str) -> None:
    """Clocks, chance without a seed, the network, processes, the environment, places outside: told, with the reason."""
    later = "print(x, f)" if "def f" in code else "print(x)"
    found = flow([Cell("a", code), Cell("b", later)])[0]
    assert not found.plain
    assert all(found.hindrances)


def test_what_cells_hand_to_one_another() -> None:
    """Values, definitions with what they use in turn, parameters also by way of earlier cells' files."""
    cells = [
        Cell("p", "n = 3\nm = 4\nk = 5", "parameters"),
        Cell("i", "import numpy as np", "preamble"),
        Cell("a", "scale = m\ndef f(x):\n    return g(x) * scale\ndef g(x):\n    return np.sqrt(x)"),
        Cell("b", "y = [f(i) for i in range(n)]\nz = sum(y)"),
        Cell("c", "for i in y:\n    total = i + z\nz = 0\nprint(z)"),
        Cell("d", "import numpy as np\nrng = np.random.default_rng(k)\ny = rng.normal()"),
    ]
    found = {item.id: item for item in flow(cells)}
    assert found["b"].needs == ("n", "scale")
    assert found["b"].depends == {"n", "m"}
    assert found["b"].code
    assert found["b"].leaves == ("y", "z")
    assert found["b"].plain
    assert found["c"].leaves == ()
    assert found["d"].plain
    assert found["d"].depends == {"n", "m", "k"}
    changed = flow([*cells[:2], Cell("a", cells[2].code.replace("sqrt", "cbrt")), *cells[3:]])
    assert changed[3].code != found["b"].code


def test_digests_are_of_values(tmp_path: Path) -> None:
    """Equal values have equal digests, others not; a path brings its file's content; what has none says so."""
    place = tmp_path / "file.txt"
    place.write_text("one")
    first = in_kernel.digests({"a": [1, 2.0], "b": (1, 2.0), "p": str(place), "f": print}, ["a", "b", "p", "f", "gone"])
    assert first["a"] != first["b"]
    assert first["f"] is None is first["gone"]
    place.write_text("two")
    second = in_kernel.digests({"a": [1, 2.0], "p": str(place)}, ["a", "p"])
    assert second["a"] == first["a"]
    assert [one == two for one, two in zip(first["p"] or [], second["p"] or [], strict=True)] == [True, False]
    assert in_kernel.digests({"a": [1, 2]}, ["a"]) != {"a": first["a"]}
    assert json.dumps(first)


def test_a_slow_part_takes_in_what_it_stands_on() -> None:
    """The slow statement and what makes its random generator become a cell that needs the seed alone."""
    code = (
        "def f(g):\n    return g.normal(size=9)\nrng = np.random.default_rng(seed)\nx = f(rng)  # slow\nprint(x, label)"
    )
    new = nbformat.v4
    about = {"tags": ["step"], "cmbagent_nb": {"node_id": "step_1", "fresh_kernel": True}}
    book = new.new_notebook(
        cells=[
            new.new_code_cell("seed = 1\nlabel = 'a'", id="parameters", metadata={"tags": ["parameters"]}),
            new.new_code_cell("import numpy as np", id="imports", metadata={"tags": ["imports"]}),
            new.new_code_cell(code, id="step_1", metadata=about),
        ],
        metadata={"cmbagent_nb": {"steps": [{"node_id": "step_1", "code_hash": "0"}]}},
    )
    change = {"cache": {"cell": "step_1"}}
    wanted = Recommendation("slow_cell", "step_1", "slow", change=change)
    skill = SimpleNamespace(parameters=[], preconditions={})
    made = make(
        skill,  # type: ignore[arg-type] # as much of a skill as is looked at
        book,
        [wanted],
        lambda divided: {cell.id: 2.0 if "slow" in cell.source else 0.0 for cell in divided.cells},
    )
    assert made.applied == [wanted]
    cells = made.notebook.cells[2:]
    assert [cell.source for cell in cells] == [
        "def f(g):\n    return g.normal(size=9)",
        "rng = np.random.default_rng(seed)\nx = f(rng)  # slow",
        "print(x, label)",
    ]
    kept = [cell.metadata["cmbagent_nb"].get("cached") for cell in cells]
    assert (kept[0], kept[2]) == (None, None)
    assert (kept[1]["needs"], kept[1]["leaves"]) == (["seed"], ["x"])
    assert kept[1]["code"]
    assert [cell.metadata["cmbagent_nb"]["fresh_kernel"] for cell in cells] == [True, False, False]
    # cells of a step that share names are no scripts of their own any more
    assert "code_hash" not in made.notebook.metadata["cmbagent_nb"]["steps"][0]
