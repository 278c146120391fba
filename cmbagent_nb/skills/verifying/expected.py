"""Keeps what a skill must make again beside it, so that it can be verified when its run is gone.

| kept in | |
|---|---|
| ``expected/`` | the files, with the times at which they were made |
| ``shown.json`` | what the cells showed and printed |

Files that are too large to be kept twice stay with the run alone, and the report says which.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from cmbagent_nb.skills.verifying import shown as results
from cmbagent_nb.skills.verifying.shown import Shown
from cmbagent_nb.skills.verifying.verify import Original

#: The folder beside a notebook with the files that it should make.
EXPECTED = "expected"
SHOWN = "shown.json"
#: Bytes of one file, and of all files, that are kept.
LARGEST, LARGEST_ALL = 256 * 2**20, 1024 * 2**20


def keep(folder: Path, originals: Iterable[Original], shown: Iterable[Shown], folders: Iterable[str] = ()) -> list[str]:
    """Keep files and displayed results in a skill's folder; returns the paths of the files that are too large.

    Parameters
    ----------
    folders
        Where they were made: these paths may stand in texts.
    """
    left_out, total = [], 0
    for item in originals:
        if not item.place.is_file():
            continue
        size = item.place.stat().st_size
        if size > LARGEST or total + size > LARGEST_ALL:
            left_out.append(item.path)
            continue
        total += size
        target = folder / EXPECTED / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(item.place, target)
    results.store(shown, folder / SHOWN, folders)
    return left_out


def kept(folder: Path) -> list[Original]:
    """Return the files that are kept in a skill's folder."""
    place = folder / EXPECTED
    paths = [path for path in sorted(place.rglob("*")) if path.is_file()]
    return [Original(path.relative_to(place).as_posix(), path) for path in paths]


def kept_shown(folder: Path) -> tuple[list[Shown], list[str]]:
    """Return the displayed results that are kept in a skill's folder, and the folders where they were made."""
    return results.load(folder / SHOWN)
