"""Finds the files a skill needs from outside: inputs of the run, and files of steps that are not in it.

| what the code read | in the skill |
|---|---|
| a file of ``input/`` | an asset, and a parameter where the code names it |
| a file that a chosen step made | nothing: the skill makes it |
| a file that another step made | an asset |
| a module of the run, such as ``codebase/tools.py`` | an asset beside the code |
| a file outside the run | an asset where the code names it; else read from its place |
| a data set of this package | nothing: the package has it |

What was read is what the launcher saw being opened; C libraries (parquet, HDF5, FITS) open files unseen, so
an input that the code names, or may find by listing a folder, counts as read too.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.record import RunRecord
from cmbagent_nb.skills.model import StepCode

#: A file outside the run that is larger than this is read from its place and not copied.
LARGEST_OUTSIDE = 256 * 2**20


@dataclass
class Needs:
    """Files and inputs that the chosen steps need."""

    #: Path in the skill's folder of assets → where the file is now.
    assets: dict[str, Path] = field(default_factory=dict)
    #: For each step: path as the code may write it → path in the assets.
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    #: For each step: modules of the run that it may import.
    modules: dict[str, frozenset[str]] = field(default_factory=dict)
    #: Files outside the run that stay where they are.
    outside: list[str] = field(default_factory=list)


def find_needs(record: RunRecord, chosen: list[StepCode]) -> Needs:
    """Find the files that the chosen steps read and do not make themselves."""
    needs = Needs()
    made: set[str] = set()
    for step in chosen:
        own: dict[str, str] = {}
        modules: set[str] = set()
        for read in [*step.reads, *_named(record, step)]:
            if read.startswith("package:"):
                continue
            if PurePosixPath(read).is_absolute():
                _outside(read, step, needs, own)
                continue
            source = _source(record, step, read)
            if read.endswith(".py") and source is not None and read != step.script:
                needs.assets[read] = source
                modules |= {PurePosixPath(read).stem, PurePosixPath(read).parts[0].removesuffix(".py")}
            elif read not in made and source is not None and not read.endswith(".py"):
                needs.assets[read] = source
                own[read] = read
        needs.inputs[step.node_id] = own
        needs.modules[step.node_id] = frozenset(modules)
        made |= set(step.made)
    return needs


def _named(record: RunRecord, step: StepCode) -> list[str]:
    """Return files that the step could have opened unseen: inputs and predecessors' files that its code speaks of."""
    inputs = record.work_dir / "input"
    there = [path.relative_to(record.work_dir).as_posix() for path in sorted(inputs.rglob("*")) if path.is_file()]
    before, todo = [], list(step.depends_on)
    while todo:
        other = record.step(todo.pop())
        if other is not None and other not in before:
            before.append(other)
            todo += other.depends_on
    there += sorted({path for other in before for path in other.made})
    known = {*step.reads, *step.made}
    return [path for path in there if path not in known and _speaks_of(step.code, path)]


def _speaks_of(code: str, path: str) -> bool:
    pure = PurePosixPath(path)
    if pure.name in code:
        return True
    lists = re.search(r"\b(glob|rglob|iterdir|listdir|scandir|walk)\b", code) is not None
    puts_together = re.search(r"""\bf["'][^"']*\{[^"']*["']""", code) is not None and pure.suffix in code
    return (lists or puts_together) and pure.parts[0] in code


def _outside(read: str, step: StepCode, needs: Needs, own: dict[str, str]) -> None:
    path = Path(read)
    if not path.is_file() or read not in step.code or path.stat().st_size > LARGEST_OUTSIDE:
        needs.outside.append(read)
        return
    name = f"input/{path.name}"
    number = 1
    while name in needs.assets and needs.assets[name] != path:
        number += 1
        name = f"input/{path.stem}_{number}{path.suffix}"
    needs.assets[name] = path
    own[read] = name


def _source(record: RunRecord, step: StepCode, read: str) -> Path | None:
    """Return the file that a step read, as it was when it read it."""
    makers = [other for other in record.steps if read in other.made and other.node_id != step.node_id]
    before = [other for other in makers if other.node_id in step.depends_on] or makers
    places = [Path(other.folder) / read for other in reversed(before)]
    if read.startswith("input/") or read not in step.made:
        places += [record.work_dir / read, Path(step.folder) / read]
    return next((place for place in places if place.is_file()), None)


def copy_assets(assets: dict[str, Path], folder: Path) -> None:
    """Copy the files into a skill's folder of assets."""
    for name, source in assets.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise SkillError(
                f"the input {name} cannot be copied ({error.strerror})",
                "Put the run's file back, or free some space.",
                path=name,
            ) from error
