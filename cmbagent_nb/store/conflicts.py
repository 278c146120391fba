"""Finds files of a run that were written by several steps without a dependency between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cmbagent_nb.store.json import from_json

#: Selects the rows of a run that :func:`conflict_lines` takes.
CONFLICTING = "SELECT file_path, node_id, version, meta FROM files WHERE run_id = :run AND meta LIKE :mark"


def rivals(meta: Any) -> list[str]:
    """Return the steps that published the path of a file as well, independent of the step that made it."""
    held = from_json(meta) if isinstance(meta, str) and meta else meta
    found = held.get("conflict") if isinstance(held, Mapping) else None
    return [str(name) for name in found] if isinstance(found, list) else []


def conflict_lines(files: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each path that independent steps published: which steps, and where each version is.

    Scripts of the same name are left out. ``files`` are rows of the table, every version of a file among them.
    """
    by_path: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in sorted(files, key=lambda item: (str(item["file_path"]), item["version"])):
        if rivals(row["meta"]) and not row["file_path"].startswith(("codebase/", "steps/")):
            by_path.setdefault(row["file_path"], {})[str(row["node_id"])] = row
    return [_line(path, found) for path, found in by_path.items()]


def _line(path: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    *others, used = found
    kept = "".join(f"; that of {node_id} is {_source(found[node_id])}" for node_id in others)
    steps = f"{', '.join(others)} and {used}" if others else used
    return f"{path} was written by {steps}, which do not depend on each other. The version of {used} is used{kept}."


def _source(row: Mapping[str, Any]) -> str:
    meta = from_json(row["meta"]) if isinstance(row["meta"], str) else row["meta"]
    return str(meta.get("source") or row["file_path"])
