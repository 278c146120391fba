"""Cells of a composed notebook: which component each belongs to, and which are left out.

A component is a path, ``fit`` or, in a composition of compositions, ``study/fit``; the empty one is the
composition's own. What a condition decided is in ``.taken.json`` in the folder of the composition that it is of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmbagent_nb.skills.notebook import SHOWS

TAKEN = ".taken.json"


def component(cell: Any) -> str:
    """Return the component that a cell belongs to."""
    return str(cell.metadata.get("cmbagent_nb", {}).get("component", ""))


def sets_up(cell: Any, other: Any) -> bool:
    """Tell whether a cell of parameters, imports or folders is one that ``other`` stands on."""
    mine, its = component(cell), component(other)
    return not mine or mine == its or its.startswith(f"{mine}/")


def is_left_out(cell: Any, folder: Path) -> bool:
    """Tell whether a condition decided against a cell's component; the cell that decides is always run."""
    parts = component(cell).split("/")
    decides = cell.metadata.get("cmbagent_nb", {}).get("decides", False)
    for depth, name in enumerate(parts):
        if decides and depth == len(parts) - 1:
            return False
        try:
            taken = json.loads(folder.joinpath(*parts[:depth], TAKEN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if taken.get(name) is False:
            return True
    return False


def is_composed(notebook: Any) -> bool:
    """Tell whether a notebook is a composition of skills."""
    return "composition" in notebook.metadata.get("cmbagent_nb", {})


def in_one_script(notebook: Any) -> tuple[list[str], list[str]]:
    """Return what must stand first in a script, and the code of a composition; below an ``if`` what is decided about.

    In a script the parts share a process, as they do when the notebook is run by hand.
    """
    import libcst as cst

    future: list[str] = []
    made: list[str] = []
    waiting: list[str] = []
    decided: tuple[str, str] = ("", "")

    def close() -> None:
        if waiting:
            module = cst.parse_module("\n\n".join(waiting) + "\n")
            block = cst.If(test=cst.Name(decided[1]), body=cst.IndentedBlock(body=module.body))
            made.append(cst.Module(body=[block]).code)
            waiting.clear()

    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or not cell.source.strip() or {"parameters", "outputs", SHOWS} & set(tags):
            continue
        lines = cell.source.splitlines()
        future += [line for line in lines if line.startswith("from __future__")]
        source = "\n".join(line for line in lines if not line.startswith("from __future__"))
        own = component(cell)
        inside = bool(decided[0]) and (own == decided[0] or own.startswith(f"{decided[0]}/"))
        if not inside:
            close()
            decided = ("", "")
        if cell.metadata.get("cmbagent_nb", {}).get("decides") and not inside:
            decided = (own, f"taken_{len(made)}")
            made.append(f"{source}\n{decided[1]} = taken")
        elif inside:
            waiting.append(source)
        else:
            made.append(source)
    close()
    return list(dict.fromkeys(future)), made
