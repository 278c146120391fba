"""Converts paths for the record, relative to the workspace, and reports which files of a run are missing.

A workspace that was copied or moved finds its runs where it lies now, and never writes to the place it came from.
Paths outside of the workspace stay absolute. A database on a server may serve several workspaces: there all are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: The columns that hold paths, in any table.
COLUMNS = frozenset({"work_dir", "notebook"})

#: The tables that have such columns.
TABLES = frozenset({"workflow_runs", "skill_executions", "skills"})


def to_record(home: Path, path: str | Path) -> str:
    """Return what is stored for a path.

    >>> to_record(Path("/w"), "/w/runs/planck"), to_record(Path("/w"), "/elsewhere"), to_record(Path("/w"), "runs/x")
    ('runs/planck', '/elsewhere', 'runs/x')
    >>> to_record(Path("/w"), "/w/runs/../../elsewhere")
    '/elsewhere'
    """
    place = Path(path)
    if not place.is_absolute():
        return str(path)
    if ".." in place.parts:
        place = place.resolve()
    for base in (home, home.resolve()):
        if place.is_relative_to(base):
            return place.relative_to(base).as_posix()
    return str(place)


def from_record(home: Path, stored: Any) -> Any:
    """Return the path that a stored one means here.

    >>> from_record(Path("/w"), "runs/planck"), from_record(Path("/w"), "/elsewhere"), from_record(Path("/w"), None)
    ('/w/runs/planck', '/elsewhere', None)
    """
    if not stored or os.path.isabs(stored):  # noqa: PTH117 (this is asked for each row of a list)
        return stored
    return str(home / stored)


def row_to_record(home: Path, table: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row as it is stored."""
    if table not in TABLES or not COLUMNS.intersection(row):
        return row
    return {name: to_record(home, value) if name in COLUMNS and value else value for name, value in row.items()}


def is_missing(work_dir: str | None, path: str | None) -> bool:
    """Tell whether a file of a run is not where it was published.

    >>> is_missing("/", "no/such/file"), is_missing(None, "data/a.json")
    (True, True)
    """
    return not (work_dir and path and os.path.exists(os.path.join(work_dir, path)))  # noqa: PTH110, PTH118


def mark_missing(work_dir: str | None, files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return files with ``missing`` set; none is looked for in a folder that is gone."""
    there = bool(work_dir) and os.path.isdir(work_dir or "")  # noqa: PTH112
    return [{**item, "missing": not there or is_missing(work_dir, item["file_path"])} for item in files]
