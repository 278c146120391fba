"""The notebooks run headless from start to end, and the demonstration says what came out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from cmbagent_nb import demo
from cmbagent_nb.errors import ExecutionFailed, WorkDirError

ROOT = Path(__file__).parent.parent
OTHERS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb") if path.name != demo.NOTEBOOK)
KEY = "sk-planted-in-the-environment-0123456789"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a demonstration and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "here"
    command = [sys.executable, "-m", "cmbagent_nb.demo", "--dir", str(folder), "--next", "make lab"]
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_demonstration_tells_what_ran_and_what_to_do_next(ran: tuple[Path, str]) -> None:
    folder, said = ran
    assert "planck-desi: planning_and_control, completed (recorded replies, no model was called)" in said
    assert re.search(r"right at attempt 2", said), "one step is to fail first, for a real reason"
    assert str(folder / demo.NOTEBOOK) in said
    assert said.rstrip().endswith("Next: make lab")


def test_the_demonstration_finds_the_right_numbers(ran: tuple[Path, str]) -> None:
    _, said = ran
    numbers = {float(number) for number in re.findall(r"[a-z_0-9] (-?\d+\.?\d*)", said)}

    def close(value: float, to: float) -> bool:
        return any(abs(number - value) < to for number in numbers)

    assert close(207.6, 0.1), "chi2 of Planck TT"
    assert close(0.297, 0.001), "Omega_m of DESI DR2"
    assert close(101.54, 0.1), "h r_d of DESI DR2"


def test_the_demonstration_keeps_a_skill_and_runs_it_again(ran: tuple[Path, str]) -> None:
    _, said = ran
    kept = said.split("Kept as a skill")[1]
    assert "3 of 3 files" in kept
    assert re.search(r"run again with H0=70.0: completed in \d+ s, chi2 \d+", kept)


def test_the_demonstration_lists_only_files_that_are_there(ran: tuple[Path, str]) -> None:
    _, said = ran
    block = said.split("Files made, in ")[1].splitlines()
    work_dir = Path(block[0])
    names = [match[1] for line in block[1:] if (match := re.fullmatch(r"    (\S+) \([\d.]+ kB\)", line))]
    assert {"plots/tt.png", "plots/joint.png", "data/planck_tt.json"} <= set(names)
    assert all((work_dir / name).stat().st_size for name in names)


def test_the_executed_notebook_has_results_and_no_widget_state(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    path = folder / demo.NOTEBOOK
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1_000_000
    assert "<svg" in path.read_text()


def test_no_key_is_in_what_the_demonstration_leaves(ran: tuple[Path, str]) -> None:
    folder, said = ran
    assert KEY not in said
    leaked = [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not leaked


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_notebook_runs(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    demo.execute(ROOT / "notebooks" / name, target, tmp_path)
    cells = nbformat.read(target, as_version=4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")


def test_a_notebook_that_fails_is_told_with_its_error(tmp_path: Path) -> None:
    source = tmp_path / "bad.ipynb"
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    with pytest.raises(ExecutionFailed, match="ZeroDivisionError"):
        demo.execute(source, tmp_path / "out.ipynb", tmp_path)


def test_only_a_folder_of_an_earlier_demonstration_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(WorkDirError, match="not empty"):
        demo.fresh(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    place = demo.fresh(tmp_path / "demo")
    (place / "old.txt").write_text("old")
    assert [path.name for path in demo.fresh(place).iterdir()] == [demo.MARK]


def test_the_notebooks_are_committed_without_outputs() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert not [cell for cell in cells if cell.get("outputs")], path.name
