"""From scripts that each ran in a process of their own to cells that share one kernel.

| a script may rely on | in the notebook |
|---|---|
| its own imports | the plain ones stand in one cell, each once; what they must come after stays in the step |
| ``__file__``, ``sys.argv``, ``__doc__`` | set at the top of its cell, where it uses them |
| ``sys.exit()`` ending it | ends the cell, and fails it if the status is not 0 |
| no figure, style or folder of another script | closed, reset and restored between cells, where it matters |
| a built-in name that an earlier script shadowed | the earlier cell's name is deleted first |
| ``asyncio.run(main())`` | ``await main()``, since a kernel has a loop; in a function, a thread with its own loop |

>>> made = make_cells([Script("step_1", "codebase/a.py", "import sys\\nprint('hello')\\nsys.exit(0)\\n")])
>>> made.imports, made.steps
('import sys', ["print('hello')"])
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from dataclasses import dataclass

import libcst as cst

from cmbagent_nb.skills.extracting.cell_ends import RUN_APART, end_quietly
from cmbagent_nb.skills.extracting.cell_imports import (
    Parts,
    Script,
    bound_names,
    merged,
    shared_imports,
    statement_text,
    take_apart,
    used_names,
)

_BUILTINS = frozenset(dir(builtins))
_CLEAN_FIGURES = """\
import matplotlib.pyplot

matplotlib.pyplot.close("all")  # figures and styles of earlier steps are not this one's
matplotlib.rc_file_defaults()"""
_APART = f"""\
def {RUN_APART}(work):
    \"\"\"asyncio.run, where a loop runs already.\"\"\"
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()"""


@dataclass(frozen=True)
class Cells:
    """The cell of imports and the cells of the steps."""

    imports: str
    steps: list[str]


def make_cells(scripts: list[Script]) -> Cells:
    """Return one cell of imports and one cell for each script."""
    parts = [take_apart(script) for script in scripts]
    keep = shared_imports(parts)
    lines: list[str] = []
    cells: list[str] = []
    bound_before: set[str] = set()
    blank = cst.Module([])
    for part in parts:
        stay: list[cst.SimpleStatementLine] = []
        for line in part.imports:
            text = statement_text(blank, line)
            if text in keep:
                lines.extend([text] if text not in lines else [])
            else:
                stay.append(line)
        body = part.module.with_changes(body=[*stay, *part.module.body], header=[])
        code, needs_argv = end_quietly(body)
        cells.append(_dress(part, code, needs_argv, bound_before, first=not cells))
        bound_before |= bound_names(ast.parse(part.script.code))
    return Cells("\n".join(merged(lines)), cells)


def _dress(part: Parts, code: str, needs_argv: bool, bound_before: set[str], *, first: bool) -> str:
    """Add the lines before a step's code by which it finds what a script of its own would find."""
    tree = ast.parse(part.script.code)
    used = used_names(tree)
    head: list[str] = []
    free = (used - bound_names(tree)) & _BUILTINS & bound_before
    if free:
        lines = [f"globals().pop({name!r}, None)  # an earlier step's; built in here" for name in sorted(free)]
        head.append("\n".join(lines))
    if not first and re.search(r"\b(matplotlib|pyplot|plt|seaborn)\b", part.script.code):
        head.append(_CLEAN_FIGURES)
    if f"{RUN_APART}(" in code:
        head.append(_APART)
    if "__file__" in used:
        head.append(f"import os\n\n__file__ = os.path.abspath({part.script.path!r})")
    if needs_argv:
        head.append(f"import sys\n\nsys.argv = [{part.script.path!r}]")
    if "__doc__" in used and part.docstring:
        head.append(f"__doc__ = {part.docstring!r}")
    about = [f"# {line}" if line else "#" for line in textwrap.dedent(part.docstring).strip().splitlines()]
    pieces = ["\n".join(about), *head, code]
    return "\n\n".join(piece for piece in pieces if piece)
