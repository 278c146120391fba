# ruff: noqa: E501 (notebooks in a line each)
"""Kinds of notebook that people have: a verified skill does what the edited notebook does, any other says why.

Each kind is a folder as it lies on somebody's disk. A skill is made of its notebook; where it is verified, the skill with
other values is held against the notebook itself, edited and run by hand in a copy of that folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.declared import set_default
from cmbagent_nb.skills.extracting.surroundings import accessed, copy_file
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.running.engine import execute
from cmbagent_nb.skills.verifying.look import Look
from cmbagent_nb.skills.verifying.shown import Shown, collect, compare_all
from tests.held import create
from tests.skill_runs import Home


@dataclass(frozen=True)
class Kind:
    """A notebook among its files, other values for its parameters, and what is expected of it."""

    name: str
    cells: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    #: Values to try, and the same as they are written into the notebook by hand where that differs.
    values: dict[str, Any] = field(default_factory=dict)
    #: Why it is no verified skill, as a part of the reason; empty for one that is verified.
    reason: str = ""
    #: Parts of its notes.
    notes: tuple[str, ...] = ()
    assets: tuple[str, ...] | None = None
    full: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    #: Which cell has the parameters.
    tagged: int = 0


SAVE = "import json\nfrom pathlib import Path\n"
DATA = {f"project/data/part_{number}.csv": f"x,y\n{number},2\n3,{number}\n" for number in range(3)}

KINDS = (
    Kind(
        "derived values and a name made of them",
        ("lmax: int = 40\nnbins = lmax // 10\nout = f'spectrum_{lmax}.json'",
         SAVE + "Path(out).write_text(json.dumps({'lmax': lmax, 'nbins': nbins}))"),
        values={"lmax": 80}, notes=("nbins, out are computed",), full=False,
    ),
    Kind(
        "none, tuples and dates as parameters",
        ("from datetime import date\nlabel: str | None = None\nshape = (2, 3)\nday = date(2024, 1, 1)\ncuts = {'a': 1}\nn = 10**2",
         SAVE + "text = f'{label} {shape + (1,)} {day:%d.%m.%Y} {cuts} {n}'\nPath('o.txt').write_text(text)"),
        values={"label": "x", "shape": [5, 6], "day": "2025-02-03", "cuts": {"b": 2}, "n": 7}, full=False,
    ),
    Kind(
        "folders read by patterns",
        ("scale = 2",
         SAVE + "import glob\nrows = [line for name in sorted(glob.glob('data/*.csv')) for line in open(name).readlines()[1:]]\n"
         "Path('n.json').write_text(json.dumps([scale * len(rows), rows]))"),
        files=DATA, values={"scale": 5}, assets=("data/part_0.csv", "data/part_1.csv", "data/part_2.csv"), full=False,
    ),
    Kind(
        "folders gone through",
        ("scale = 2",
         SAVE + "import os\nfound = [Path(p.path).read_text() for p in sorted(os.scandir('data'), key=lambda p: p.name)]\n"
         "more = sorted(p.name for p in Path('data').iterdir())\nPath('n.json').write_text(json.dumps([found * scale, more]))"),
        files=DATA, values={"scale": 1},
    ),
    Kind(
        "an empty folder",
        ("scale = 2", SAVE + "total = sum(1 for _ in Path('data').glob('*.csv'))\nPath('n.json').write_text(str(total * scale))"),
        files={"project/data/.keep": ""}, reason="finds nothing in data/*.csv", full=False,
    ),
    Kind(
        "results of yesterday, a folder above, modules there",
        ("n = 3\ntarget = '../results/out.json'",
         "import sys\nsys.path.append('..')\nfrom tools.shapes import area\n" + SAVE
         + "rows = Path('../data/cat.csv').read_text().split()\n"
         "Path(target).write_text(json.dumps({'n': n, 'area': area(n), 'rows': rows}))"),
        files={"results/out.json": '{"n": 3}', "tools/__init__.py": "", "tools/shapes.py": "def area(r):\n    return 3 * r * r\n",
               "data/cat.csv": "x\n1\n"},
        values={"n": 5}, assets=("data/cat.csv", "tools/__init__.py", "tools/shapes.py"), full=False,
    ),
    Kind(
        "a cache of yesterday",
        ("n = 3",
         SAVE + "cache = Path('cache.json')\nif not cache.exists():\n    cache.write_text(json.dumps(list(range(n))))\n"
         "Path('sum.json').write_text(json.dumps(sum(json.loads(cache.read_text()))))"),
        files={"project/cache.json": "[0, 1, 2]"}, values={"n": 6}, notes=("cache.json was there",), full=False,
    ),
    Kind(
        "a cache that a module keeps",
        ("n = 3", "from kept import numbers\n" + SAVE + "Path('sum.json').write_text(json.dumps(sum(numbers(n))))"),
        files={"project/store.json": "[0, 1, 2]",
               "project/kept.py": "import json, os\ndef numbers(n):\n    if not os.path.isfile('store.json'):\n"
               "        json.dump(list(range(n)), open('store.json', 'w'))\n    return json.load(open('store.json'))\n"},
        values={"n": 6}, assets=("kept.py",), notes=("store.json was there",), full=False,
    ),
    Kind(
        "a result of yesterday that is only looked for",
        ("n = 3", SAVE + "if not Path('kept.json').exists():\n    Path('kept.json').write_text(json.dumps(n))\n"
         "Path('o.txt').write_text(str(n))"),
        files={"project/kept.json": "3"}, values={"n": 6}, assets=(), notes=("kept.json was there",),
    ),
    Kind(
        "two caches beside data",
        ("n = 3", SAVE + "parts = [len(Path(f'{name}.csv').read_text()) for name in 'abcd']\ndef kept(name, make):\n"
         "    path = Path(name)\n    if not path.exists():\n        path.write_text(json.dumps(make()))\n    return json.loads(path.read_text())\n"
         "Path('o.txt').write_text(str((parts, kept('x.json', lambda: n), kept('y.json', lambda: n * 100))))"),
        files={**{f"project/{name}.csv": "abc" for name in "abcd"}, "project/x.json": "3", "project/y.json": "300"},
        values={"n": 6}, assets=("a.csv", "b.csv", "c.csv", "d.csv"), notes=("x.json, y.json was there",),
    ),
    Kind(
        "a cache in a database of keys",
        ("n = 3", "import dbm.dumb\nwith dbm.dumb.open('shelf') as db:\n    if 'x' not in db:\n        db['x'] = str(sum(range(n)))\n"
         "    open('sum.txt', 'wb').write(db['x'])"),
        files={"project/shelf.dir": "'x', (0, 1)\n", "project/shelf.dat": "3"}, values={"n": 6}, assets=(),
        notes=("shelf.dat, shelf.dir was there",),
    ),
    Kind(
        "files that other values of a parameter read",
        ("k = 1", SAVE + "place = Path(f'calib_{k:02d}.json')\ncalib = json.loads(place.read_text()) if place.exists() else 1\n"
         "Path('o.txt').write_text(str(calib * k))"),
        files={"project/calib_01.json": "5", "project/calib_03.json": "7", "project/other_03.json": "9"}, values={"k": 3},
        assets=("calib_01.json", "calib_03.json"), notes=("calib_03.json",), full=False,
    ),
    Kind(
        "files that are read on a condition",
        ("high = False", SAVE + "place = Path('high.txt' if high else 'low.txt')\n"
         "Path('o.txt').write_text(place.read_text() * 2 if place.exists() else '0')"),
        files={"project/high.txt": "11", "project/low.txt": "22", "project/other.txt": "33"}, values={"high": True},
        assets=("high.txt", "low.txt"), notes=("high.txt",),
    ),
    Kind(
        "an absolute path that is written",
        ("n = 10", SAVE + "Path('@FOLDER/kept.json').write_text(json.dumps(n))"),
        files={"kept.json": "10"}, reason="kept.json, outside of its folder", full=False,
    ),
    Kind(
        "absolute paths as parameters",
        ("n = 10\nsource = '@FOLDER/far/in.txt'\ntarget = '@FOLDER/far/out.txt'",
         "open(target, 'w').write(open(source).read() * n)"),
        files={"far/in.txt": "ab", "far/out.txt": "old"}, values={"n": 3}, notes=("source was", "target was"), full=False,
    ),
    Kind(
        "a local module",
        ("n = 4", "from helpers import twice\nopen('o.txt', 'w').write(str(twice(n)))"),
        files={"project/helpers.py": "from more import TWO\ndef twice(x):\n    return TWO * x\n", "project/more.py": "TWO = 2\n"},
        values={"n": 9}, assets=("helpers.py", "more.py"),
    ),
    Kind(
        "a path made by an expression",
        ("factor = 2.0", "import pandas as pd\nfrom pathlib import Path\ntable = pd.read_csv(Path('data') / 'part_0.csv')\n"
         "(table * factor).to_csv('scaled.csv', index=False)"),
        files=DATA, values={"factor": 3.0}, assets=("data/part_0.csv",),
    ),
    Kind(
        "magics",
        ("%matplotlib inline\nn = 4", "%load_ext autoreload\n%autoreload 2\n%env KIND=x\nimport os",
         "names = !echo one two\nopen('o.txt', 'w').write(f'{n} {names[0]} {os.environ[\"KIND\"]}')", "%%time\nm = n + 1",
         "%%writefile note.txt\nfixed", "open('m.txt', 'w').write(str(m))"),
        values={"n": 8}, notes=("starts other programs",),
    ),
    Kind(
        "packages installed in a cell",
        ("n = 4", "!pip install a-package-that-nobody-has\n%pip install another-one", "open('o.txt', 'w').write('x' * n)"),
        values={"n": 2}, notes=("!pip install a-package-that-nobody-has is not run",),
    ),
    Kind(
        "a figure that is saved, a table that is shown",
        ("n = 20", "import numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt",
         "x = np.linspace(0, 1, n)\nplt.plot(x, x**2)\nplt.savefig('curve.png')\nplt.show()", "pd.DataFrame({'x': x}).describe()"),
        values={"n": 30},
    ),
    Kind(
        "figures and values that are only shown",
        ("n = 20\nseed = 3", "import numpy as np\nimport matplotlib.pyplot as plt\nx = np.random.default_rng(seed).normal(size=n)",
         "plt.plot(x)\nprint('done')", "x.mean()"),
        values={"n": 30, "seed": 4}, full=False,
    ),
    Kind(
        "a table with a style",
        ("rows: int = 3", "import pandas as pd\nframe = pd.DataFrame({'a': range(rows), 'b': [0.5] * rows})",
         "frame.style.format(precision=2).highlight_max()", "frame.describe()"),
        values={"rows": 5},
    ),
    Kind(
        "a plotly figure",
        ("n = 4", "import plotly.graph_objects as go\ngo.Figure(go.Scatter(x=list(range(n)), y=[i * i for i in range(n)]))"),
        values={"n": 6},
    ),
    Kind(
        "widgets that move a value",
        ("n = 4", "import ipywidgets\n@ipywidgets.interact(k=(0, 10))\ndef shown(k=3):\n    return k * n",
         "open('o.txt', 'w').write('x' * n)"),
        values={"n": 6},
    ),
    Kind(
        "dates in names of files",
        ("n = 4", "from datetime import date\nopen(f'out_{date.today()}.txt', 'w').write('x' * n)"), values={"n": 6},
    ),
    Kind(
        "parameters with conditions and loops beside them",
        ("import math\nsteps = [0.1, 0.2]\nn = int(1e1)\nif n > 5:\n    label = 'many'\nelse:\n    label = 'few'\n"
         "grid = [math.floor(s * n) for s in steps]", "open('o.txt', 'w').write(f'{label} {grid}')"),
        values={"n": 3, "steps": [1.0]},
    ),
    Kind(
        "parameters read beside them by functions and commands",
        ("class Shape:\n    def size(self):\n        return [n] * 2\nshape = Shape()",
         "n = 3\ncount = 0\ndef more():\n    global count\n    count += 1\nmore()\nsize = shape.size()\n!echo {n} > s.txt\nm = eval('n + 1')",
         "open('o.txt', 'w').write(f'{n} {count} {size} {m}')"),
        values={"n": 5, "count": 10}, tagged=1, full=False,
    ),
    Kind(
        "nested functions and classes",
        ("depth = 3", SAVE + "class Tree:\n    def __init__(self, d):\n        self.sub = [Tree(d - 1)] * 2 if d else []\n"
         "    def size(self):\n        def inner(t):\n            return 1 + sum(map(inner, t.sub))\n        return inner(self)",
         "Path('size.json').write_text(json.dumps(Tree(depth).size()))"),
        values={"depth": 5},
    ),
    Kind(
        "random numbers without a seed",
        ("n = 5", "import random\nopen('r.txt', 'w').write(str([random.random() for _ in range(n)]))"), reason="r.txt",
    ),
    Kind(
        "a download that fails",
        ("n = 5", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/data.csv').read()"),
        reason="URLError", notes=("it connects to http://127.0.0.1:9/data.csv",),
    ),
    Kind(
        "a file of words that stand in the code",
        ("n = 5", "open('o.txt', 'w').write('all done' if n else 'nothing')"), reason="o.txt holds no computed result",
    ),
    Kind(
        "an error that is caught",
        ("n = 5", "try:\n    rows = open('missing.csv').read()\n    print(len(rows) * n)\n"
         "except Exception as error:\n    print(f'An error occurred: {error}')"),
        reason="caught an error and made no file", full=False,
    ),
    Kind(
        "a file that is not there",
        ("n = 5", "rows = open('missing.csv').read()\nopen('o.txt', 'w').write(rows * n)"), reason="--bring FILE",
    ),
    Kind(
        "a shell that writes elsewhere",
        ("n = 5", "!echo {n} > '@FOLDER/kept.txt'"), files={"kept.txt": "old"}, reason="status",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("kinds") / "home")
    yield opened
    opened.close()


def laid_out(kind: Kind, folder: Path) -> Path:
    """Write a kind's folder and return its notebook, in the folder ``project``."""
    for name, text in kind.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    new: Any = nbformat.v4
    cells = [new.new_code_cell(item.replace("@FOLDER", str(folder))) for item in kind.cells]
    cells[kind.tagged].metadata["tags"] = ["parameters"]
    place = folder / "project" / "book.ipynb"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(nbformat.writes(new.new_notebook(cells=cells)), encoding="utf-8")
    return place


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of each file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def by_hand(kind: Kind, folder: Path, skill: Skill) -> tuple[dict[str, bytes], list[Shown]]:
    """Edit the notebook and run it in a copy of its folder, without the results of yesterday; return what it makes and shows."""
    copy = folder.with_name("by hand")
    shutil.copytree(folder, copy)
    made = skill.info.postconditions["files"]
    for name in {Path(path).name for path in made}:
        for old in copy.rglob(name):
            old.unlink()
    notebook: Any = nbformat.read(str(copy / "project" / "book.ipynb"), 4)
    source = notebook.cells[kind.tagged].source
    for name, value in kind.values.items():
        written = {"shape": tuple(value) if isinstance(value, list) else value}.get(name, value)
        source = set_default(source, name, written)
    source = source.replace("day = '2025-02-03'", "day = date(2025, 2, 3)")
    for cell in notebook.cells:
        lines = (source if cell is notebook.cells[kind.tagged] else cell.source).replace(str(folder), str(copy))
        cell.source = "\n".join("pass" if line.startswith(("!pip", "%pip")) else line for line in lines.splitlines())
    before = contents(copy)
    executed = execute(notebook, copy / "project")
    assert executed.status == "completed", executed.error
    after = contents(copy)
    made_now = {
        Path(path).name: (copy / path).read_bytes()
        for path in after
        if after[path] != before.get(path) and "__pycache__" not in path
    }
    return made_now, [item for item in collect(executed.notebook) if item.is_result]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.name, marks=[pytest.mark.full] if kind.full else []) for kind in KINDS]
)
def test_a_verified_skill_is_right_and_others_say_why(home: Home, tmp_path: Path, kind: Kind) -> None:
    """Nothing that lies in the folder is changed, whatever comes of it."""
    folder = tmp_path / "disk"
    place = laid_out(kind, folder)
    before = contents(folder)
    name = "".join(letter if letter.isalnum() else "_" for letter in kind.name)
    skill = create(home.db, home.writer, home.path, place, name=name, liveness_s=2, **kind.options)
    assert contents(folder) == before
    report = skill.info.verification
    for note in kind.notes:
        assert any(note in text for text in report["notes"]), report["notes"]
    if kind.reason:
        assert (skill.status, kind.reason in report["reason"]) == ("draft", True), report
        return
    assert skill.status == "active", report
    if kind.assets is not None:
        assert sorted(contents(skill.info.assets)) == list(kind.assets)
    execution = skill.run(**kind.values)
    assert execution.status == "completed", execution.error
    expected, shown = by_hand(kind, folder, skill)
    assert expected or shown
    now = [item for item in collect(nbformat.read(str(execution.notebook), 4)) if item.is_result]
    for found in compare_all(shown, now, Look.at((str(folder), str(execution.work_dir)))):
        assert found.equal, found
    for path, content in expected.items():
        [made] = [item for item in execution.work_dir.rglob(path) if item.is_file()]
        assert made.read_bytes() == content, path


def test_writes_elsewhere_are_allowed_on_request(home: Home, tmp_path: Path) -> None:
    """Values are tried then, and what lay there is put back as verification left it."""
    kind = Kind("allowed", ("n = 10", "open('@FOLDER/kept.json', 'w').write(str(n))\nopen('o.txt', 'w').write(str(n))"))
    place = laid_out(kind, tmp_path / "disk")
    kept = tmp_path / "disk" / "kept.json"
    kept.write_text("old")
    skill = create(home.db, home.writer, home.path, place, name="allowed", allow_outside_writes=True)
    assert skill.status == "active", skill.info.verification
    assert "n" in skill.info.verification["liveness"]["alive"]
    assert kept.read_text() == "10"
    assert any("outside of its folder, whenever it runs" in text for text in skill.info.verification["notes"])


def test_a_second_cell_of_parameters_is_told(home: Home, tmp_path: Path) -> None:
    """Values are given after the first: what the second sets stays as it is."""
    place = laid_out(Kind("second", ("n = 2", "m = 3", "open('o.txt', 'w').write(str(n * m))")), tmp_path / "disk")
    notebook: Any = nbformat.read(str(place), 4)
    notebook.cells[1].metadata["tags"] = ["parameters"]
    place.write_text(nbformat.writes(notebook), encoding="utf-8")
    skill = create(home.db, home.writer, home.path, place, name="second", liveness_s=0)
    assert [item.name for item in skill.parameters] == ["n"]
    assert any("only the first of the cells tagged" in text for text in skill.info.verification["notes"])


def test_files_can_be_brought_along(home: Home, tmp_path: Path) -> None:
    """Also a folder; one that is not there is told."""
    kind = Kind("brought", ("n = 2", "import os\nopen('o.txt', 'w').write(str(n * os.path.getsize('far/a.bin')))"))
    place = laid_out(kind, tmp_path / "disk")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.bin").write_bytes(b"12345")
    with pytest.raises(SkillError, match="no file nowhere"):
        create(home.db, home.writer, home.path, place, name="brought", bring=["nowhere"])
    skill = create(home.db, home.writer, home.path, place, name="brought", bring=[tmp_path / "far"], liveness_s=2)
    assert (skill.status, skill.run(n=3).path("o.txt").read_text()) == ("active", "15"), skill.info.verification


def test_progress_is_told_from_the_beginning_to_the_end(home: Home, tmp_path: Path) -> None:
    """Before the notebook is read, and while parameters are tried."""
    place = laid_out(KINDS[0], tmp_path / "disk")
    told: list[tuple[int, int, str]] = []
    create(
        home.db, home.writer, home.path, place, name="told", on_progress=lambda *what: told.append(what), liveness_s=30
    )
    texts = [text for _, _, text in told]
    assert texts[0] == "reading the notebook"
    for part in ("copying", "first run", "verifying", "trying"):
        assert any(text.startswith(part) for text in texts), texts
    assert all(0 <= done <= total for done, total, _ in told)


def test_an_edit_of_a_skill_that_reads_above_its_folder(home: Home, tmp_path: Path) -> None:
    """The copy has its place among the skill's files, and its parameters are those of the skill."""
    kind = next(item for item in KINDS if item.name.startswith("results of yesterday"))
    skill = create(home.db, home.writer, home.path, laid_out(kind, tmp_path / "disk"), name="above", liveness_s=0)
    assert skill.status == "active", skill.info.verification
    copy = tmp_path / "copy" / "edited.ipynb"
    copy.parent.mkdir()
    copy.write_text(skill.notebook.read_text().replace("area(n)", "area(n + 1)"))
    newer = skill.edit(copy, liveness_s=0)
    assert newer.status == "active", newer.info.verification
    assert [item.as_dict() for item in newer.parameters] == [item.as_dict() for item in skill.parameters]
    assert json.loads(newer.run(n=1).path("results/out.json").read_text())["area"] == 12


def test_what_c_libraries_read_is_brought_along(home: Home, tmp_path: Path) -> None:
    """No audit hook sees them open files; the time of last access does, where the file system keeps it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    probe = tmp_path / "probe" / "a"
    probe.parent.mkdir()
    (tmp_path / "a").write_text("x")
    copy_file(tmp_path / "a", probe)
    probe.read_text()
    if not accessed(probe.parent):
        pytest.skip("this file system keeps no time of last access")
    code = "import pyarrow.parquet as pq\nt = pq.read_table('data/x.parquet', memory_map=True)\n"
    kind = Kind("arrow", ("n = 2", code + "open('o.txt', 'w').write(str(sum(t['x'].to_pylist()) * n))"))
    place = laid_out(kind, tmp_path / "disk")
    (place.parent / "data").mkdir()
    for name in ("x", "other"):
        pq.write_table(pa.table({"x": [1, 2, 3]}), place.parent / "data" / f"{name}.parquet")
    skill = create(home.db, home.writer, home.path, place, name="arrow", liveness_s=0)
    assert skill.status == "active", skill.info.verification
    assert list(contents(skill.info.assets)) == ["data/x.parquet"]
    assert skill.run(n=3).path("o.txt").read_text() == "18"
