"""Cells of a composed notebook: which component each belongs to, and which are left out.

A component is a path, ``fit`` or, in a composition of compositions, ``study/fit``; the empty one is the
composition's own. What a condition decided is in ``.taken.json`` in the folder of the composition that it is of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
