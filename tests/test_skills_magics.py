"""Cells with IPython's own syntax are read as the kernel reads them: nothing of a skill is lost for a magic."""

from __future__ import annotations

import ast

import pytest

from cmbagent_nb.skills.extracting.calls import documented
from cmbagent_nb.skills.magics import parsed, plain_python, without_installs
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.notebook import without_values
from cmbagent_nb.skills.running.names import needed, share_names


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\nx = 1",
        "!ls -l\nx = 1",
        "files = !ls\nx = len(files)",
        "%load_ext autoreload\n%autoreload 2\nx = 1",
        "%env KIND=x\nx = 1",
        "x = 1\nx?",
        "?print\nx = 1",
        "%run other.py\nx = 1",
        "%%time\nx = 1",
        "%%capture out\nx = 1",
        "%%timeit -n 1\nx = 1",
        "if True:\n    !ls\nx = 1",
        "x = %time 1 + 1",
        "%cd ..\nx = 1",
    ],
)
def test_magics_are_python(source: str) -> None:
    """What a cell binds and needs is known."""
    tree = parsed(source)
    assert tree is not None
    assert "x" in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert share_names([source, "print(x)"])


def test_plain_cells_and_other_languages_stay_as_they_are() -> None:
    """A shell's cell is one call; what is no code in any reading is told apart."""
    assert plain_python("x = 1") == "x = 1"
    assert parsed("%%bash\nfor f in *; do echo $f; done") is not None
    assert parsed("x <- 3 +") is None


def test_installing_lines_are_left_out() -> None:
    """Also within a block; other commands stay."""
    source = (
        "!pip install camb\n%pip install -q astropy\n!ls\nif new:\n    !conda install -y x\n!python -m pip install y"
    )
    cell, lines = without_installs(source)
    assert len(lines) == 4
    assert "!ls" in cell.splitlines()
    assert parsed(cell) is not None


def test_a_timed_assignment_binds_no_more_than_it_says() -> None:
    assert needed([ast.parse(plain_python("%time y = x"))]) <= {"x"}


def test_help_is_taken_from_docstrings() -> None:
    """In the three usual forms; nothing where there is none."""
    numpy = "Fit.\n\nParameters\n----------\nlmax : int\n    Highest multipole\n    of the fit.\nn\n    How many."
    assert (documented(numpy, "lmax"), documented(numpy, "n")) == ("Highest multipole of the fit", "How many")
    google = "Fit.\n\nArgs:\n    lmax (int, optional): Highest multipole.\n    n: How many.\n\nReturns:\n    float: it"
    assert (documented(google, "lmax"), documented(google, "n")) == ("Highest multipole", "How many")
    sphinx = "Fit.\n\n:param int lmax: highest\n    multipole\n:param n: how many\n:returns: it"
    assert (documented(sphinx, "lmax"), documented(sphinx, "n")) == ("highest multipole", "how many")
    assert documented("Fit lmax.", "lmax") == documented("", "lmax") == ""


def test_prose_has_names_in_place_of_values() -> None:
    """Numbers within others, small ones and plain words stay."""
    parameters = [
        Parameter("lmax", "int", 2508), Parameter("tau", "float", 0.05), Parameter("k", "int", 3),
        Parameter("kind", "str", "linear"), Parameter("plot_file", "str", "plots/tt.png", kind="output"),
    ]  # fmt: skip
    text = "Up to 2508 (not 12508 or 2508.5), tau 0.05, 3 linear fits; save plots/tt.png."
    assert without_values(text, parameters) == (
        "Up to `lmax` (not 12508 or 2508.5), tau `tau`, 3 linear fits; save `plot_file`."
    )
