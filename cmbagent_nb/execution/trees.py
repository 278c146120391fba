"""Makes and removes folder trees of any depth: the standard library fails at some hundreds."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from cmbagent_nb.ids import new_id


def make_folders(folder: Path) -> None:
    """Make a folder and those around it."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, if it is there.

    Raises
    ------
    OSError
        Something in it cannot be removed.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    if not folder.is_dir():
        return
    try:
        shutil.rmtree(folder)
    except RecursionError:
        _flatten(folder)


def _flatten(folder: Path) -> None:
    """Remove a tree by moving each folder up to its top first: no path gets long, and nothing recurses."""
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        with os.scandir(current) as found:
            items = list(found)
        for item in items:
            if item.is_dir(follow_symlinks=False):
                place = folder / new_id()
                with contextlib.suppress(OSError):
                    os.chmod(item.path, 0o700)  # noqa: PTH101
                os.rename(item.path, place)  # noqa: PTH104
                waiting.append(place)
            else:
                os.unlink(item.path)  # noqa: PTH108
        if current != folder:
            current.rmdir()
    folder.rmdir()
