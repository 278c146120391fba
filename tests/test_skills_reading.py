"""Notebooks as programs save them: languages, marks, missing parts, old forms; what was repaired is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.reading import read


def book(*sources: str, **metadata: Any) -> dict[str, Any]:
    """Return a notebook as Jupyter saves it."""
    cells = [
        {
            "cell_type": "code",
            "metadata": {},
            "source": item,
            "outputs": [],
            "execution_count": None,
            "id": f"c{number}",
        }
        for number, item in enumerate(sources or ("x = 1",))
    ]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}


def saved(folder: Path, data: dict[str, Any] | str | bytes) -> Path:
    """Write a notebook's file."""
    path = folder / "book.ipynb"
    raw = data if isinstance(data, bytes) else (data if isinstance(data, str) else json.dumps(data)).encode()
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "display_name": "R"}}, "R"),
        ({"kernelspec": {"name": "ir"}, "language_info": {"name": "python"}}, "R"),
        ({"kernelspec": {"name": "conda-env-stats-r", "display_name": "R [conda env:stats]"}}, "R"),
        ({"kernelspec": None, "language_info": {"name": "R"}}, "R"),
        ({"language_info": {"name": "julia"}}, "julia"),
        ({"kernelspec": {"name": "julia-1.10", "display_name": "Julia 1.10"}}, "Julia"),
        ({"kernelspec": {"name": "xcpp17"}}, "C++"),
        ({"kernelspec": {"name": "scala"}}, "Scala"),
        ({"kernelspec": {"name": "apache_toree_scala"}}, "Scala"),
        ({"kernelspec": {"name": "octave"}}, "Octave"),
        ({"kernelspec": {"name": "bash"}}, "Bash"),
        ({"kernelspec": {"name": "bash_kernel"}}, "Bash"),
        ({"kernelspec": {"name": "sos", "language": "sos"}}, "sos"),
        ({"kernelspec": {"display_name": "R 4.3"}}, "R"),
        ({"kernelspec": {"name": "my-kernel", "language": "rust"}}, "rust"),
        ({"kernelspec": {"name": ".net-csharp"}}, "C#"),
    ],
)
def test_other_languages_are_refused_in_a_line(tmp_path: Path, metadata: dict[str, Any], language: str) -> None:
    """Whichever place the notebook says it in."""
    with pytest.raises(SkillError, match="skills are made of notebooks in Python") as refusal:
        read(saved(tmp_path, book(**metadata)))
    assert f"a notebook in {language}," in str(refusal.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kernelspec": None},
        {"kernelspec": {}},
        {"kernelspec": {"name": "python3"}},
        {"kernelspec": {"name": "conda-env-r-py", "display_name": "Python [conda env:r]", "language": "python"}},
        {"kernelspec": {"name": "sas-project", "display_name": "sas-project", "language": "python"}},
        {"kernelspec": {"name": "xpython"}, "language_info": None},
        {"kernelspec": {"name": "camb", "display_name": "camb"}},
        {"language_info": {"name": "ipython"}},
        {"language_info": {"version": "3"}, "kernelspec": "python3"},
    ],
)
def test_python_is_read_whatever_its_kernel_is_called(tmp_path: Path, metadata: dict[str, Any]) -> None:
    """Also without a kernel; the notebook is of the newest form then."""
    found = read(saved(tmp_path, book(**metadata))).notebook
    assert found.metadata.kernelspec.name
    assert (found.nbformat, found.nbformat_minor) == (4, 5)


@pytest.mark.parametrize(
    ("sources", "language"),
    [
        (("%%R\nx <- 1", "%%R\nx"), "R"),
        (("n = 3", "%load_ext rpy2.ipython", "%%R -i n\nplot(n)"), "R"),
        (("%%bash\nls", "%%sh\nls"), "Bash"),
        (("x <- c(1, 2)\ny = 3",), "R"),
        (("library(dplyr)\nx <- mtcars %>% head(3)",), "R"),
    ],
)
def test_languages_of_cells_are_refused(tmp_path: Path, sources: tuple[str, ...], language: str) -> None:
    """Cells in R have no place here; a notebook that is all shell is none in Python."""
    with pytest.raises(SkillError, match=f"a notebook in {language},"):
        read(saved(tmp_path, book(*sources)))


def test_cells_of_a_shell_and_comparisons_are_python(tmp_path: Path) -> None:
    """A bash cell among others is run; ``x < -1`` is no assignment."""
    found = read(saved(tmp_path, book("n = 3", "%%bash\nls", "n < -1", "%%html\n<b>x</b>")))
    assert len(found.notebook.cells) == 4


def _without(*keys: str) -> Any:
    def change(data: dict[str, Any]) -> None:
        for cell in data["cells"]:
            for key in keys:
                cell.pop(key, None)

    return change


def _markdown_with_outputs(data: dict[str, Any]) -> None:
    cell = {"cell_type": "markdown", "source": "# T", "metadata": {}, "outputs": [], "execution_count": 1}
    data["cells"].insert(0, cell)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without("metadata"), "without metadata"),
        (_without("id", "outputs", "execution_count"), ""),
        (lambda data: [cell.update(source=["x = 1\n", "y = 2"]) for cell in data["cells"]], ""),
        (_without("source"), "without source"),
        (_markdown_with_outputs, "outputs of a markdown cell"),
        (lambda data: [cell.update(id="same") for cell in data["cells"]], "equal ids"),
        (lambda data: [cell.update(id="not an id!") for cell in data["cells"]], ""),
        (lambda data: data.pop("metadata"), "metadata were missing"),
        (lambda data: data.pop("nbformat"), "did not say its form"),
        (lambda data: data.pop("nbformat_minor"), ""),
        (lambda data: data["cells"].append(None), "no cell"),
        (lambda data: data["cells"].append({"cell_type": "heading", "source": "x", "metadata": {}}), "heading"),
        (lambda data: data["cells"][0].update(outputs=[{"output_type": "nonsense"}], execution_count="7"), ""),
        (lambda data: data["cells"][0].update(metadata={"tags": "parameters"}), ""),
        (lambda data: data["cells"][0].update(metadata={"collapsed": "no", "tags": ["a", "a"]}), "against the form"),
        (lambda data: data.update(nbformat_minor=0), ""),
        (lambda data: data["metadata"].update(kernelspec=None), "kernelspec was empty"),
        (
            lambda data: data["cells"].insert(0, {"cell_type": "code", "source": "!pip install camb"}),
            "!pip install camb",
        ),
    ],
)
def test_what_is_missing_is_repaired_and_told(tmp_path: Path, change: Any, told: str) -> None:
    """Everything that a notebook needs is there afterwards."""
    data = book("x = 1", "y = 2")
    change(data)
    found = read(saved(tmp_path, data))
    assert any(told in text for text in found.repaired) if told else not found.repaired
    assert all(cell.get("id") for cell in found.notebook.cells)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_the_byte_order_are_left_out(tmp_path: Path, encoding: str) -> None:
    """Some editors write them."""
    found = read(saved(tmp_path, json.dumps(book("s = 'é'"), ensure_ascii=False).encode(encoding)))
    assert found.notebook.cells[0].source == "s = 'é'"
    assert "byte order mark" in found.repaired[0]


def test_other_encodings_and_commas_too_many(tmp_path: Path) -> None:
    """A comma within a text stays."""
    text = json.dumps(book("s = 'é,]'"), ensure_ascii=False)
    assert read(saved(tmp_path, text.encode("latin-1"))).notebook.cells[0].source == "s = 'é,]'"
    loose = text.replace('"metadata": {}, "cells"', '"metadata": {}, "cells"')[:-2] + ",]}"
    found = read(saved(tmp_path, loose))
    assert found.notebook.cells[0].source == "s = 'é,]'"
    assert "commas" in found.repaired[0]


def test_old_forms_are_converted(tmp_path: Path) -> None:
    """Their cells lie in worksheets, and their sources are called input."""
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Title"},
        {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "collapsed": False, "metadata": {"tags": ["parameters"]}},
    ]
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}
    found = read(saved(tmp_path, old))
    assert [cell.cell_type for cell in found.notebook.cells] == ["markdown", "code"]
    assert found.notebook.cells[1].source == "x = 1\ny = 2"
    assert "converted" in found.repaired[0]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ('{"cells": [\n  {"source": }\n]}', "not valid JSON in line 2"),
        ('{"cells": [\n<<<<<<< HEAD\n', "merge conflict"),
        ("[1, 2]", "not a notebook"),
        (b"\x89PNG\xff\xfe", "not a notebook"),
        ('{"cells": 3}', "not a notebook"),
        ("", "not valid JSON in line 1"),
        ('{"nbformat": 5, "cells": []}', "nbformat 5"),
        ("[" * 100_000, "not"),
    ],
)
def test_what_is_no_notebook_is_told(tmp_path: Path, data: Any, match: str) -> None:
    """In one line, with the place."""
    with pytest.raises(SkillError, match=match):
        read(saved(tmp_path, data))
