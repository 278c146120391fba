"""What counts as a result of a skill: figures, displayed values and tables, computed numbers; and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.verifying import shown, unseeded
from cmbagent_nb.skills.verifying.computed import Computed, complaint
from cmbagent_nb.skills.verifying.look import Look
from cmbagent_nb.skills.verifying.named import absent, files_in
from tests.held import create, extract, verify_again
from tests.skill_runs import Home, Step, make_run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("results") / "home")
    yield opened
    opened.close()


def make(home: Home, folder: Path, name: str, *sources: str) -> Skill:
    new: Any = nbformat.v4
    cells = [new.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    path = folder / f"{name}.ipynb"
    path.write_text(nbformat.writes(new.new_notebook(cells=cells)), encoding="utf-8")
    return create(home.db, home.writer, home.path, path)


def test_figures_and_values_are_results(home: Home, tmp_path: Path) -> None:
    """An inline figure and a displayed value are compared, show the effect of each parameter, and verify again."""
    skill = make(
        home,
        tmp_path,
        "seeded",
        "n = 100\nseed = 3",
        "import numpy as np\nimport matplotlib.pyplot as plt\n"
        "x = np.random.default_rng(seed).normal(size=n); plt.plot(x); print('done')",
        "x.mean()",
    )
    found = (skill.status, skill.info.verification["summary"])
    assert found == ("active", "2 of 2 displayed results reproduced"), skill.info.verification
    assert set(skill.info.verification["liveness"]["alive"]) == {"n", "seed"}
    again = verify_again(skill)
    assert (again.status, len([item for item in again.info.verification["shown"] if item["equal"]])) == ("active", 3)


def test_what_depends_on_the_order_of_a_set_is_not_reproduced(home: Home, tmp_path: Path) -> None:
    """A hash seed belongs to one process: kernels that were forked from one would all give the same order."""
    skill = make(
        home,
        tmp_path,
        "order",
        "n = 12",
        "import numpy as np\nnames = {f'key{number}' for number in range(n)}\nlengths = np.arange(n) * 1.5",
        "float(sum(weight * int(name[3:]) for weight, name in zip(lengths, names)))",
    )
    assert skill.status == "draft", skill.info.verification
    assert "cell 3" in skill.info.verification["reason"]


def test_unseeded_numbers_are_not_reproduced(home: Home, tmp_path: Path) -> None:
    """The reason names the results that differ, and the call that has no seed."""
    skill = make(
        home,
        tmp_path,
        "unseeded",
        "n = 100",
        "import numpy as np\nimport matplotlib.pyplot as plt\nx = np.random.default_rng().normal(size=n)\nplt.plot(x)",
        "print('done')\nx.mean()",
    )
    reason = skill.info.verification["reason"]
    assert skill.status == "draft"
    assert "cell 2: figure" in reason
    assert "cell 2, line 3: np.random.default_rng() has no seed" in reason


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("bare", "print('done')", "no result that can be compared"),
        ("echo", "print(f'{n} points')\nfor i in range(n):\n    print('step', i)", "no result that can be compared"),
        (
            "caught",
            "try:\n    print(open('gone.csv').read())\nexcept Exception as e:\n    print('An error occurred:', e)",
            "An error occurred",
        ),
    ],
)
def test_without_a_result_nothing_is_verified(home: Home, tmp_path: Path, name: str, code: str, reason: str) -> None:
    """Printed words, the echo of a parameter, and an error that was caught are no results."""
    skill = make(home, tmp_path, name, "n = 5", code)
    assert skill.status == "draft"
    assert reason in skill.info.verification["reason"]


def test_a_run_that_failed_quietly_is_no_source(home: Home) -> None:
    """Neither is one whose task names a file that is not there."""
    caught = "try:\n    open('input/gone.csv')\nexcept Exception as error:\n    print(f'An error occurred: {error}')\n"
    run = make_run(home, "Fit the data", [Step(caught)])
    skill = extract(home.db, home.writer, home.path, run, name="quiet")
    assert (skill.status, "says that something failed" in skill.info.verification["reason"]) == ("draft", True)
    code = "import json\njson.dump({'x': 1.5}, open('data/x.json', 'w'))\n"
    run = make_run(home, "Read input/sne.csv and write data/x.json", [Step(code)])
    skill = extract(home.db, home.writer, home.path, run, name="absent")
    assert skill.status == "draft"
    assert "the run's task names input/sne.csv" in skill.info.verification["reason"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("print('done')", False),
        ("print(f'n = {n}')", False),
        ("print('time', time.time() - start)", False),
        ("print(np.mean(x))", True),
        ("print(f'chi2 = {chi2:.2f}')", True),
        ("print(m * c**2)", True),
        ("print('=' * 60)", False),
        ("for i, row in enumerate(x):\n    print('row', i)", False),
        ("for i, row in enumerate(x):\n    print('row', row)", True),
        ("try:\n    1 / 0\nexcept Exception as e:\n    print('failed', e)", False),
        ("def main():\n    print(chi2)\nmain()", True),
        ("def main():\n    print('finished 3 steps')\nmain()", False),
    ],
)
def test_what_is_computed(source: str, expected: bool) -> None:
    """A number counts where the code computed it."""
    before = (
        "import time\nimport numpy as np\nn = 5\nm, c = 2, 3\nx = np.arange(n)\nchi2 = x.sum()\nstart = time.time()"
    )
    assert Computed([before, source]).prints(source) is expected


@pytest.mark.parametrize(
    "call",
    [
        "np.random.default_rng()", "np.random.normal()", "random.random()", "np.random.RandomState()", "os.urandom(4)",
        "df.sample(frac=0.5)", "train_test_split(x)", "stats.norm.rvs(size=3)", "torch.rand(3)", "secrets.token_hex(3)",
        "uuid.uuid4()", "datetime.now()", "time.time()", "default_rng(None)", "random.Random()", "KMeans(3)",
    ],
)  # fmt: skip
def test_unseeded_calls_are_found(call: str) -> None:
    """Each is named with its place; with a seed, nothing is found."""
    imports = (
        "import numpy as np\nimport random, os, time, uuid, secrets, torch\nfrom datetime import datetime\n"
        "from scipy import stats\nfrom numpy.random import default_rng\nfrom sklearn.cluster import KMeans\n"
        "from sklearn.model_selection import train_test_split"
    )
    [found] = unseeded.find([("cell 1", imports), ("cell 2", f"x = 1\ny = {call}")])
    assert (found.cell, found.line) == ("cell 2", 2)
    seeds = "np.random.seed(1)\nrandom.seed(1)\ntorch.manual_seed(1)"
    seeded = ["np.random.normal()", "random.random()", "stats.norm.rvs(3)", "np.random.default_rng(4)", "KMeans(3)"]
    assert not unseeded.find([("1", imports), ("2", seeds), *(("3", item) for item in seeded)])


def test_complaints_are_told_from_results() -> None:
    """A line that says that something failed, and one that only has such a word."""
    failed = ["Error: no data", "Traceback (most recent call last):", "FileNotFoundError: x", "Failed to fit"]
    failed += ["Could not read a.csv", "❌ An error occurred: x", "file not found: a", "ERROR while reading"]
    for text in failed:
        assert complaint(f"fine\n{text}"), text
    for text in ("standard error: 0.3", "errors 1.2 3.4", "error bars of 5 points", "chi2 = 3.4"):
        assert not complaint(text), text


def test_files_that_a_task_names(tmp_path: Path) -> None:
    """Those that are there are not missed, wherever they are; URLs and patterns are no files."""
    task = "Read `sne.csv` (see https://x.org/b.csv), write data/chi2.json and plots/*.png, as in e.g. c.txt."
    assert files_in(task) == ["sne.csv", "data/chi2.json"]
    (tmp_path / "sne.csv").write_text("x\n1\n")
    assert absent(task, ["chi2.json"], tmp_path) == []
    assert absent(task, [], tmp_path) == ["data/chi2.json"]


PLOTLY = "application/vnd.plotly.v1+json"
STYLED = '<table id="T_{0}"><td id="T_{0}_r0">1</td></table>'
BUNDLES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"text/plain": "0.5"}, {"text/plain": "0.5"}, True),
    ({"text/plain": "0.5"}, {"text/plain": "0.6"}, False),
    ({"text/plain": "1.5 <A at 0x7f0000000010>"}, {"text/plain": "1.5 <A at 0x7f0000000020>"}, True),
    ({"text/latex": r"$\chi^2 = 1.25$"}, {"text/latex": r"$\chi^2 = 1.26$"}, False),
    ({"application/json": {"x": [1.0]}}, {"application/json": {"x": [1.0 + 1e-9]}}, True),
    ({PLOTLY: {"data": [{"y": [1.0]}]}}, {PLOTLY: {"data": [{"y": [2.0]}]}}, False),
    ({"text/html": STYLED.format("ab12c")}, {"text/html": STYLED.format("ff00d")}, True),
    ({"text/html": "<table><td>1</td></table>"}, {"text/html": "<table><td>2</td></table>"}, False),
    ({"image/svg+xml": '<svg><g id="a"/></svg>'}, {"image/svg+xml": '<svg><g id="b"/></svg>'}, True),
    ({"image/svg+xml": '<svg><g id="a"/></svg>'}, {"image/svg+xml": "<svg/>"}, False),
]  # fmt: skip


def notebook(data: dict[str, Any]) -> Any:
    new: Any = nbformat.v4
    cell = new.new_code_cell("f(x)", id="one", outputs=[new.new_output("execute_result", data=data)])
    return new.new_notebook(cells=[cell])


@pytest.mark.parametrize(("old", "now", "same"), BUNDLES)
def test_displayed_results_are_compared_by_their_kind(old: dict[str, Any], now: dict[str, Any], same: bool) -> None:
    """Each by what says most of it; each is a result."""
    before, after = shown.collect(notebook(old)), shown.collect(notebook(now))
    [found] = shown.compare_all(before, after, Look())
    assert (found.equal, found.counts) == (same, True), found


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=5), st.integers(0, 4))
def test_a_changed_number_is_never_overlooked(numbers: list[float], place: int) -> None:
    """What is printed differs where one number differs by more than rounding."""
    changed = list(numbers)
    place %= len(numbers)
    changed[place] = changed[place] * 1.01 + 0.5
    old, now = (" ".join(f"{number:.4f}" for number in items) for items in (numbers, changed))
    same = Look().same_line("line", f"values: {old}", f"values: {now}")
    assert same is (old == now)


def test_a_name_is_not_taken_over(home: Home, tmp_path: Path) -> None:
    """Another notebook of a name that exists is refused, also where only the case differs; the same one is not."""
    code = "import json\njson.dump({'y': x * 1.5}, open('y.json', 'w'))"
    first = make(home, tmp_path, "mine", "x = 2.5", code)
    (tmp_path / "b").mkdir()
    with pytest.raises(SkillError, match="a skill mine already"):
        make(home, tmp_path / "b", "mine", "x = 3.5", code)
    with pytest.raises(SkillError, match="only in its case"):
        make(home, tmp_path / "b", "MINE", "x = 3.5", code)
    for name in ("con", "NUL.txt", "a.", "a ", "ﬁt", "é"):
        with pytest.raises(SkillError, match="cannot be the name"):
            create(home.db, home.writer, home.path, tmp_path / "mine.ipynb", name=name)
    options: dict[str, Any] = {"version_of": "mine", "liveness_s": 0}
    other = create(home.db, home.writer, home.path, tmp_path / "b" / "mine.ipynb", **options)
    again = create(home.db, home.writer, home.path, tmp_path / "mine.ipynb", liveness_s=0)
    assert [first.version, other.version, again.version] == [1, 2, 3]
    run = make_run(home, "Something else", [Step("import json\njson.dump({'z': 0.5}, open('data/z.json', 'w'))")])
    with pytest.raises(SkillError, match="--version-of mine"):
        extract(home.db, home.writer, home.path, run, name="mine")
    one = extract(home.db, home.writer, home.path, run, name="z", liveness_s=0)
    two = extract(home.db, home.writer, home.path, run, name="z", liveness_s=0)
    assert (one.version, two.version) == (1, 2)


def test_a_notebook_may_be_run_and_saved(home: Home, tmp_path: Path) -> None:
    """As Jupyter saves it, it is the same; changed code is said with its difference, and has two ways out."""
    import json

    skill = make(home, tmp_path, "saved", "x = 2.5", "import json\njson.dump({'y': x * 1.5}, open('y.json', 'w'))")
    verified = skill.notebook.read_text()
    book = json.loads(verified)
    for number, cell in enumerate(book["cells"]):
        cell["id"] = f"other{number}"
        cell["metadata"] = {**cell["metadata"], "collapsed": False, "tags": [*cell["metadata"].get("tags", []), "x"]}
        cell["execution_count"], cell["outputs"] = 7, [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    book["cells"].append(
        {"cell_type": "code", "id": "empty", "metadata": {}, "source": [], "outputs": [], "execution_count": None}
    )
    book["metadata"] |= {"widgets": {"x": 1}, "language_info": {"name": "python", "version": "3.99"}}
    skill.notebook.write_text(json.dumps(book, indent=1))
    assert skill.run().metrics == {"y": pytest.approx(3.75)}
    book["cells"][1]["source"] = [line.replace("1.5", "2.5") for line in book["cells"][1]["source"]]
    skill.notebook.write_text(json.dumps(book, indent=1))
    with pytest.raises(SkillError, match="skill edit saved@1") as failure:
        skill.run()
    assert any(line.startswith("+") and "2.5" in line for line in failure.value.data["diff"])
    newer = skill.edit(reason="more", liveness_s=0)
    assert (newer.version, newer.run().metrics["y"]) == (2, pytest.approx(6.25))
    assert skill.run().metrics["y"] == pytest.approx(3.75)
    assert skill.notebook.read_text() == verified
