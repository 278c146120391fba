"""The first run of a notebook: where it lies, in a copy, with an eye on what it reads, lists, writes and connects to.

| read | brought along |
|---|---|
| a file of the notebook's folder or above it, also a module | as an asset, where it lay |
| the files of a folder that is listed, those that a pattern finds | the same |
| a file that the run itself writes | never: it is an output, also where one of yesterday was there |
| a file elsewhere | nothing: it is read from its place, which is told |
"""

from __future__ import annotations

import copy
import glob
import json
import os
import site
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.extracting.surroundings import PASSED_OVER, Surroundings, accessed, listing
from cmbagent_nb.skills.running.engine import Executed, OnProgress, execute

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: Bytes of the files of a listed folder that are brought along though they were not opened.
_MOST_LISTED = 64 * 2**20
_SYSTEM = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/", "/run/", "/var/lib/", "/System/", "/Library/")


@dataclass
class Seen:
    """Paths that a run read, listed and wrote, and hosts that it connected to, in order."""

    entries: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, log: Path) -> Seen:
        """Read it from the observer's log; a line that was cut off is passed over."""
        entries: list[tuple[str, str]] = []
        try:
            lines = log.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return cls()
        for line in lines:
            try:
                what, place = json.loads(line)
            except ValueError:
                continue
            entries.append((what, place))
        return cls(entries)

    def of(self, *kinds: str) -> list[str]:
        """Return the paths or addresses of some kinds, in order, each once."""
        return list(dict.fromkeys(place for what, place in self.entries if what in kinds))

    def reads_below(self, folder: Path) -> set[str]:
        """Return the files below a folder that were read, relative to it."""
        tops = {str(folder), str(folder.resolve())}
        return {
            place[len(top) + 1 :] for place in self.of("read", "update") for top in tops if place.startswith(f"{top}/")
        }


def with_observer(
    notebook: NotebookNode,
    *,
    root: Path | None = None,
    log: Path | None = None,
    lazy: dict[str, str] | None = None,
    without: Iterable[Path] = (),
    refuse: bool = True,
) -> NotebookNode:
    """Return a copy of a notebook whose first cell begins to observe.

    Parameters
    ----------
    root, log
        The run's folder, below which it may write, and where the notes go; the kernel's folder, and beside it.
    lazy, without
        Where files are copied from when they are asked for, by the folder of the copy, and what is never copied.
    refuse
        Whether writes outside are refused.
    """
    import nbformat

    text = (Path(__file__).parent / "observer.py").read_text(encoding="utf-8")
    config = {
        "root": str(root) if root is not None else None,
        "log": str(log) if log is not None else None,
        "passed": _passed(),
        "lazy": lazy,
        "without": sorted(map(str, without)),
        "refuse": refuse,
    }
    code = (
        f"(lambda scope: (exec(compile({text!r}, 'observer.py', 'exec'), scope), scope['watch']({config!r})) and None)"
    )
    new_code_cell: Any = nbformat.v4.new_code_cell
    cell = new_code_cell(f"{code}({{'__name__': 'observer'}})", id="observer", metadata={"tags": ["setup"]})
    watched = copy.deepcopy(notebook)
    watched.cells.insert(0, cell)
    return watched


def _passed() -> list[str]:
    """Return the beginnings of paths that are Python's, the packages' and the system's."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parents[2])]
    own += [*site.getsitepackages(), site.getusersitepackages()]
    own += [str(Path(item).resolve()) for item in own]
    home = Path.home()
    own += [
        str(home / name) for name in (".cache", ".config", ".local", ".astropy", ".matplotlib", ".ipython", ".jupyter")
    ]
    temporary = Path(tempfile.gettempdir())
    places = {str(item / name) for item in (temporary, temporary.resolve()) for name in ("cmbagent-", "ipykernel_")}
    return [*dict.fromkeys(own), *sorted(places), *_SYSTEM]


@dataclass
class FirstRun:
    """Outcome of the first run."""

    executed: Executed
    seen: Seen
    surroundings: Surroundings
    #: Files below the top: those that were there, those that the run wrote, those that it needs.
    existing: set[str]
    written: set[str]
    needed: set[str]
    #: Those of them that were read, and those that the user named.
    read: set[str]
    bring: set[str]
    #: Folders that were there.
    folders: set[str]
    #: Files that were there, and that the run changed after it had read them, or added to.
    updated: set[str]
    #: Files elsewhere that were read, and places elsewhere that it wrote to, or would have.
    read_outside: list[str]
    written_outside: list[str]
    #: Folders and patterns in which nothing was found.
    empty: list[str]

    @property
    def prints(self) -> str:
        """Printed output of the cells."""
        from cmbagent_nb.skills.verifying.verify import output

        return output(self.executed.notebook)


def run_first(
    notebook: NotebookNode,
    surroundings: Surroundings,
    log: Path,
    *,
    refuse: bool,
    bring: set[str] = frozenset(),  # type: ignore[assignment]
    fetch: bool = True,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
) -> FirstRun:
    """Run a notebook in the copy of its folder, and find what it needs and makes.

    Parameters
    ----------
    bring
        Paths below the copy's top that it needs in any case.
    fetch
        Whether what was not copied is copied when it is asked for.
    """
    top = surroundings.top
    before = listing(top)
    folders = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_dir()}
    lazy = {str(top.resolve()): str(surroundings.original)} if fetch else None
    watched = with_observer(notebook, root=top, log=log, lazy=lazy, without=surroundings.without, refuse=refuse)
    executed = execute(watched, surroundings.folder, timeout_s=timeout_s, on_progress=on_progress)
    executed.notebook.cells = [cell for cell in executed.notebook.cells if cell.get("id") != "observer"]
    seen, after = Seen.read(log), listing(top)

    def below(*kinds: str) -> list[str]:
        found = (surroundings.path_of(Path(place)) for place in seen.of(*kinds))
        return [path for path in found if path is not None]

    fetched = set(below("fetched")) - set(below("write", "update"))
    existing = set(before) | fetched
    written = {path for path in after if before.get(path) != after[path]} - fetched
    reads = (set(below("read")) | accessed(top)) & existing
    found, empty = _listed(surroundings, seen, existing, written)
    own = (f"{top}.tmp/", f"{top.resolve()}.tmp/")
    outside = [
        place for place in seen.of("read") if surroundings.path_of(Path(place)) is None and not place.startswith(own)
    ]
    return FirstRun(
        executed,
        seen,
        surroundings,
        existing,
        written,
        needed=((reads | found) - written) | bring,
        folders=folders,
        read=reads,
        bring=bring,
        updated=_updated(surroundings, seen, written & existing),
        read_outside=[place for place in outside if Path(place).is_file()],
        written_outside=seen.of("outside"),
        empty=empty,
    )


def _updated(surroundings: Surroundings, seen: Seen, candidates: set[str]) -> set[str]:
    """Return files that were read before they were written, or added to."""
    found, begun = set(), set()
    for what, place in seen.entries:
        path = surroundings.path_of(Path(place))
        if path not in candidates or path in begun or what not in ("read", "write", "update"):
            continue
        begun.add(path)
        if what != "write":
            found.add(path)
    return found


def _listed(
    surroundings: Surroundings, seen: Seen, existing: set[str], written: set[str]
) -> tuple[set[str], list[str]]:
    """Return the files that listings and patterns found, and the folders and patterns in which there was nothing."""
    found: set[str] = set()
    empty: list[str] = []
    budget = _MOST_LISTED
    # folders that libraries make for themselves where temporary files go are none of the notebook's
    own = (f"{surroundings.top}.tmp/", f"{surroundings.top.resolve()}.tmp/")
    for place in seen.of("glob"):
        if place.startswith(own):
            continue
        matches = [surroundings.path_of(Path(item)) for item in _matches(place)]
        inside = {path for path in matches if path is not None}
        files = (inside & existing) - written
        # A folder that a pattern found is there for its files.
        folders = {path for path in inside if (surroundings.top / path).is_dir()}
        files |= {path for path in existing - written if str(Path(path).parent) in folders}
        if not files and not inside & written and glob.has_magic(place) and not (matches and not inside):
            empty.append(_shown(surroundings, place))
        found |= files
    for place in seen.of("list"):
        if f"{place}/".startswith(own):
            continue
        folder = surroundings.path_of(Path(place))
        if folder is None:
            if Path(place).is_dir() and not any(Path(place).iterdir()):
                empty.append(place)
            continue
        inside = {path for path in existing - written if str(Path(path).parent) == (folder or ".")}
        deeper = f"{folder}/" if folder != "." else ""
        there = [path for path in existing | written if path.startswith(deeper)]
        if all(Path(path).name.startswith(".") for path in there):
            empty.append(_shown(surroundings, place))
        for path in sorted(inside, key=lambda item: (surroundings.top / item).stat().st_size):
            budget -= (surroundings.top / path).stat().st_size
            if budget < 0:
                break
            if not path.endswith(".ipynb"):
                found.add(path)
    return found, list(dict.fromkeys(empty))


def _matches(pattern: str) -> list[str]:
    return [item for item in glob.glob(pattern, recursive=True) if Path(item).name not in PASSED_OVER]  # noqa: PTH207


def _shown(surroundings: Surroundings, place: str) -> str:
    """Return a path as the notebook's code sees it: relative to its folder."""
    if surroundings.path_of(Path(place)) is None:
        return place
    return os.path.relpath(os.path.realpath(place), surroundings.folder.resolve())
