"""Scripts as cells of one kernel: what they may rely on is still there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.skills.extracting.cell_imports import Script
from cmbagent_nb.skills.extracting.cells import make_cells


def run_cells(codes: list[str], folder: Path) -> tuple[dict[str, Any], str]:
    """Run cells in one namespace, as a kernel does; returns it and what was printed."""
    cells = make_cells(
        [Script(f"step_{number}", f"codebase/step_{number}.py", code) for number, code in enumerate(codes, 1)]
    )
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    here = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(printed):
            for source in (cells.imports, *cells.steps):
                exec(compile(source, "cell", "exec"), names)
    finally:
        os.chdir(here)
    return names, printed.getvalue()


def test_imports_stand_once_and_first() -> None:
    """Plain imports are shared; a backend is chosen where it was."""
    code = (
        "from __future__ import annotations\nimport json, math\nimport matplotlib\nmatplotlib.use('Agg')\n"
        "import matplotlib.pyplot as plt\nx = 1\nimport csv\n"
    )
    cells = make_cells([Script("step_1", "codebase/a.py", code), Script("step_2", "codebase/b.py", code)])
    assert cells.imports.splitlines() == [
        "from __future__ import annotations",
        "import json, math",
        "import matplotlib",
        "matplotlib.use('Agg')",
        "import matplotlib.pyplot as plt",
        "import csv",
    ]
    assert cells.steps[0] == "x = 1"


def test_names_of_one_module_are_imported_in_one_line() -> None:
    """However the scripts divided them."""
    codes = ["from os import path, sep\n", "from __future__ import annotations\nfrom os import sep, getcwd as here\n"]
    cells = make_cells([Script(f"step_{number}", "codebase/a.py", code) for number, code in enumerate(codes)])
    assert cells.imports == "from __future__ import annotations\nfrom os import path, sep, getcwd as here"


def test_imports_that_depend_on_what_is_before_them_stay() -> None:
    """After a call, in a condition, of a module of the run, with a star, or of a name that means two things."""
    first = "import os\nos.environ['X'] = '1'\nimport json\n"
    second = "from os.path import *\nimport tools\nfrom datetime import datetime\n"
    second += "try:\n    import csv\nexcept ImportError:\n    csv = None\n"
    third = "import datetime\n"
    cells = make_cells(
        [
            Script("step_1", "codebase/a.py", first),
            Script("step_2", "codebase/b.py", second, frozenset({"tools"})),
            Script("step_3", "codebase/c.py", third),
        ]
    )
    assert cells.imports == "import os"
    assert "import json" in cells.steps[0]
    for line in ("from os.path import *", "import tools", "from datetime import datetime", "import csv"):
        assert line in cells.steps[1]
    assert "import datetime" in cells.steps[2]


@pytest.mark.parametrize(
    "ending",
    [
        "import sys\nprint('done')\nsys.exit(0)",
        "import sys\ndef main():\n    print('done')\n    return 0\nif __name__ == '__main__':\n    sys.exit(main())",
        "def main():\n    print('done')\nif __name__ == '__main__':\n    raise SystemExit(main())",
        "import sys\nprint('done')\nif True:\n    sys.exit()\nprint('never')",
        "from sys import exit\nprint('done')\nexit(0)\nprint('never')",
        "print('done')\nquit()",
    ],
)
def test_an_exit_ends_the_cell_and_not_the_kernel(tmp_path: Path, ending: str) -> None:
    """The next cell runs."""
    assert run_cells([ending, "print('next')"], tmp_path)[1] == "done\nnext\n"


@pytest.mark.parametrize("status", ["1", "'it went wrong'", "main()"])
def test_an_exit_with_a_bad_status_fails_the_cell(tmp_path: Path, status: str) -> None:
    """As it failed the script."""
    with pytest.raises(RuntimeError, match="ended with status"):
        run_cells([f"import sys\ndef main():\n    return 3\nsys.exit({status})"], tmp_path)


def test_a_script_finds_its_file_arguments_and_text(tmp_path: Path) -> None:
    """``__file__``, ``sys.argv`` and ``__doc__`` are those of the script."""
    code = '"""What it does."""\nimport os, sys\nr = (os.path.relpath(__file__), sys.argv, __doc__)\n'
    names, _ = run_cells(["x = 1", code], tmp_path)
    assert names["r"] == ("codebase/step_2.py", ["codebase/step_2.py"], "What it does.")


def test_a_built_in_name_is_given_back(tmp_path: Path) -> None:
    """An earlier step's variable does not hide what a later one has from Python."""
    names, _ = run_cells(["sum = 0\nlist = [1]\n", "r = sum(list((1, 2)))\n"], tmp_path)
    assert names["r"] == 3


def test_asyncio_runs_in_a_function_though_a_loop_runs(tmp_path: Path) -> None:
    """As it does in a kernel."""
    code = "import asyncio\nasync def go():\n    return 3\ndef main():\n    return asyncio.run(go())\nr = main()\n"

    async def in_a_kernel() -> dict[str, Any]:
        return run_cells([code], tmp_path)[0]

    assert asyncio.run(in_a_kernel())["r"] == 3


def test_text_of_a_script_is_kept(tmp_path: Path) -> None:
    """Texts over several lines are not indented when a cell is put into a try."""
    code = 'import sys\nTEXT = """one\n  two\n"""\nif not TEXT:\n    sys.exit(1)\nprint(TEXT, end="")\n'
    assert run_cells([code], tmp_path)[1] == "one\n  two\n"
