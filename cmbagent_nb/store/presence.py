"""Which files of a run are there: a work dir can be moved, and files in it deleted; the record of them stays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any


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
