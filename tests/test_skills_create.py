"""Skills of any notebook with a cell of parameters, and edits of a skill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.handle import Skill
from tests.held import create
from tests.skill_runs import Home

PARAMETERS = """\
slope: float = 2  # steepness [m/s]
n_points = 20  # how many
table = "table.csv"
unused = 3
target = "out/line.json"
computed = n_points * 2
"""
CODE = """\
import json
from pathlib import Path

import helper

rows = Path(table).read_text().splitlines()[1:]
values = [slope * float(row) + helper.SHIFT for row in rows][:n_points]
Path("out").mkdir(exist_ok=True)
Path(target).write_text(json.dumps({"sum": sum(values), "n": len(values)}))
unused * 2
print(len(values), "points")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("create") / "home")
    yield opened
    opened.close()


def write(folder: Path, *sources: str, tags: tuple[str, ...] = ("parameters",), name: str = "line.ipynb") -> Path:
    """Write a notebook as Jupyter does, with outputs of an earlier run in it."""
    new: Any = nbformat.v4
    cells = [new.new_markdown_cell("# A line\n\nThe sum along a line."), *(new.new_code_cell(item) for item in sources)]
    cells[1].metadata["tags"] = list(tags)
    cells[-1].outputs = [new.new_output("stream", text="old")]
    path = folder / name
    path.write_text(nbformat.writes(new.new_notebook(cells=cells)), encoding="utf-8")
    (folder / "table.csv").write_text("x\n" + "".join(f"{number / 2}\n" for number in range(30)))
    (folder / "helper.py").write_text("SHIFT = 0.25\n")
    return path


@pytest.fixture(scope="module")
def skill(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Skill:
    folder = tmp_path_factory.mktemp("notebook")
    return create(home.db, home.writer, home.path, write(folder, PARAMETERS, CODE), tags=["lines"])


def test_a_notebook_becomes_a_skill(home: Home, skill: Skill) -> None:
    """Its parameters, its inputs brought along; what was declared stays, also where no effect is seen."""
    assert (skill.name, skill.status) == ("line", "active"), skill.info.verification
    found = {item.name: (item.type, item.default, item.kind, item.unit) for item in skill.parameters}
    assert found == {
        "slope": ("float", 2.0, "value", "m/s"),
        "n_points": ("int", 20, "value", ""),
        "unused": ("int", 3, "value", ""),
        "table": ("str", "table.csv", "input", ""),
        "target": ("str", "out/line.json", "output", ""),
    }
    report = skill.info.verification["liveness"]
    assert set(report["alive"]) == set(found) - {"unused"}
    assert (report["dropped"], list(report["unproven"])) == ({}, ["unused"])
    assert "computed is computed from the parameters, after them" in skill.info.verification["notes"]
    assert skill.info.verification["summary"] == "1 of 1 file reproduced"
    assert sorted(path.name for path in skill.info.assets.iterdir()) == ["helper.py", "table.csv"]
    assert (skill.info.description, "lines" in skill.info.tags) == ("The sum along a line.", True)
    assert skill.info.postconditions["ranges"]["out/line.json"]["n"] == [20, 20]
    cells = json.loads(skill.notebook.read_text())["cells"]
    assert [cell["metadata"].get("tags") for cell in cells if cell["cell_type"] == "code"] == [
        ["setup", "place"],
        ["parameters"],
        ["derived"],
        None,
    ]


def test_it_runs_with_other_values_and_files(skill: Skill, tmp_path: Path) -> None:
    """Named as in the cell; typed; the output under another name."""
    other = tmp_path / "other.csv"
    other.write_text("x\n1\n2\n")
    execution = skill.run(slope=1, table=str(other), target="out/new.json")
    assert execution.status == "completed", execution.error
    assert json.loads(execution.path("out/new.json").read_text()) == {"sum": 3.5, "n": 2}
    with pytest.raises(SkillError, match="is a whole number"):
        skill.run(n_points="many")


def test_an_edit_is_the_next_version(home: Home, skill: Skill, tmp_path: Path) -> None:
    """It needs the notebook alone: the inputs are the skill's; what is known of the parameters stays."""
    text = skill.notebook.read_text().replace("sum(values)", "max(values)").replace("float = 2 ", "float = 3 ")
    copy = tmp_path / "edited.ipynb"
    copy.write_text(text)
    newer = skill.edit(copy, reason="the largest, not the sum")
    assert (newer.name, newer.version, newer.status) == ("line", skill.version + 1, "active"), newer.info.verification
    assert {item.name: item.default for item in newer.parameters}["slope"] == 3.0
    assert newer.run().metrics["sum"] == pytest.approx(3 * 9.5 + 0.25)
    row = home.db.rows("SELECT parent_skill_id, meta FROM skills WHERE id = :id", id=newer.id)[0]
    assert (row["parent_skill_id"], json.loads(row["meta"])["reason"]) == (skill.id, "the largest, not the sum")


def test_an_executed_copy_can_be_edited(skill: Skill) -> None:
    """What papermill injected for that execution does not stand against the values of later ones."""
    executed = skill.run(slope=7.0)
    assert "injected-parameters" in executed.notebook.read_text()
    newer = skill.edit(executed.notebook, liveness_s=0)
    assert {item.name: item.default for item in newer.parameters}["slope"] == 2.0
    assert newer.run(n_points=2).metrics["sum"] == pytest.approx(skill.run(n_points=2).metrics["sum"])


def test_what_is_not_the_same_twice_stays_a_draft(home: Home, tmp_path: Path) -> None:
    """So does what does not run."""
    random = write(
        tmp_path, "n = 3", "import random\nopen('x.txt', 'w').write(str([random.random()] * n))", name="r.ipynb"
    )
    draft = create(home.db, home.writer, home.path, random)
    assert (draft.status, "x.txt" in draft.info.verification["reason"]) == ("draft", True)
    broken = write(tmp_path, "n = 3", "1 / (n - 3)", name="broken.ipynb")
    draft = create(home.db, home.writer, home.path, broken)
    assert (draft.status, "ZeroDivisionError" in draft.info.verification["reason"]) == ("draft", True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda book: book["cells"][1]["metadata"].clear(), "no cell of parameters"),
        (lambda book: book.update(nbformat=5), "nbformat 5"),
        (lambda book: book["metadata"].update(cmbagent_nb={"format": 99}), "only a newer cmbagent_nb can read"),
        (lambda book: book["metadata"].update(kernelspec={"language": "R", "name": "ir", "display_name": "R"}), "in R"),
        (lambda book: book.pop("cells"), "not a notebook"),
        (lambda book: book["cells"][1].update(source="n = "), "cannot be read as Python"),
        (lambda book: book["cells"][2].update(source="x <- c(1, 2)\nlibrary(dplyr)"), "in R"),
    ],
)
def test_bad_notebooks_are_told_before_anything_runs(home: Home, tmp_path: Path, change: Any, match: str) -> None:
    """The error names what is wrong and what to do; nothing is left."""
    folder = tmp_path / "inner"
    folder.mkdir()
    path = write(folder, "n = 3", "open('ran', 'w')", name="bad.ipynb")
    book = json.loads(path.read_text())
    change(book)
    path.write_text(json.dumps(book))
    with pytest.raises(SkillError, match=match):
        create(home.db, home.writer, home.path, path)
    assert not (home.path / "skills" / "bad").exists()
    assert list((home.path / "skills" / ".making").iterdir()) == []


def test_a_notebook_that_is_not_there(home: Home, tmp_path: Path) -> None:
    """It is told."""
    with pytest.raises(SkillError, match="no notebook"):
        create(home.db, home.writer, home.path, tmp_path / "none.ipynb")
