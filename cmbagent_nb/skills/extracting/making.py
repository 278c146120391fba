"""Making a notebook that is right: it is built, verified, its parameters are tried, and what is wrong with it left out.

A notebook is tried with all parameters and one kernel first. If verification shows other results, it is tried with
less taken away and a fresh kernel for each step, as the run had it (libraries keep things in memory), then without
parameters: a skill with fewer of them that is right is better than one with more that is not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cmbagent_nb.skills.extracting.surroundings import kept_as_they_are
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.verifying import liveness
from cmbagent_nb.skills.verifying.shown import Shown
from cmbagent_nb.skills.verifying.verify import Original, Report, verify

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.running.engine import OnProgress

ALL = ("value", "input", "output")
#: Seconds of verification after which no other way is tried.
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Way:
    """One way to build the notebook."""

    #: Which kinds of parameters it has.
    kinds: tuple[str, ...] = ALL
    #: Whether each step has a kernel of its own.
    fresh: bool = False
    #: Whether code whose results reach no output is left out.
    pruned: bool = True
    #: What is said of it when it was needed.
    why: str = ""


#: What is tried, first to last.
WAYS = (
    Way(),
    Way(fresh=True, why="one kernel for all steps"),
    Way(fresh=True, pruned=False, why="code left out"),
    Way(kinds=(), fresh=True, pruned=False, why="parameters"),
)


@dataclass(frozen=True)
class Draft:
    """A notebook that is not verified yet, its parameters, and the code of its steps."""

    notebook: NotebookNode
    parameters: list[Parameter]
    codes: list[str]
    #: How it was built, so that it can be built once more with other words.
    way: Way = field(default_factory=Way)
    without: frozenset[str] = frozenset()


class Build(Protocol):
    """Builds the notebook in one way, without some of its parameters."""

    def __call__(self, way: Way, without: frozenset[str] = frozenset()) -> Draft:
        """Return the notebook."""
        ...


@dataclass(frozen=True)
class Reference:
    """Results that the notebook has to make again: files, and the output of its cells or of its run's steps."""

    originals: list[Original]
    shown: list[Shown]
    #: Where it was made: these paths may stand in texts.
    folders: tuple[str, ...]


class Maker:
    """Verifies and tries the ways to build one notebook."""

    def __init__(
        self,
        reference: Reference,
        assets: Path,
        making: Path,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        budget_s: float = liveness.BUDGET_S,
        observe: Callable[[NotebookNode], NotebookNode] = lambda notebook: notebook,
        check: Callable[[Path], str] = lambda work: "",
        outside: Iterable[Path] = (),
        keep_all: bool = False,
    ) -> None:
        """Take what the notebook has to make again, its inputs, and how it is watched.

        Parameters
        ----------
        observe
            Returns the notebook as it is run here.
        check
            Returns why a run that made the right things is still not right, or nothing.
        outside
            Files elsewhere that it may write; after the tries they are put back as verification left them.
        keep_all
            Whether parameters without an effect stay: they were declared, not guessed.
        """
        self.reference, self.assets, self.making = reference, assets, making
        self.timeout_s, self.on_progress, self.budget_s = timeout_s, on_progress, budget_s
        self.observe, self.check, self.outside, self.keep_all = observe, check, tuple(outside), keep_all

    def make(self, build: Build, ways: Iterable[Way] = WAYS) -> tuple[Draft, Report]:
        """Return the first notebook that is right, without its dead parameters; else the first, with what is wrong."""
        first: tuple[Draft, Report] | None = None
        tried: list[list[dict[str, object]]] = []
        spent = 0.0
        for way in ways:
            draft = build(way)
            if first is not None and (spent > _PATIENCE_S or draft.notebook.cells in tried):
                continue
            tried.append(draft.notebook.cells)
            draft, report = self._verified(build, way, draft)
            spent += report.duration_s
            if report.verified:
                if first is not None:
                    report.notes.append(f"with {way.why} it was not reproduced: {first[1].reason}")
                return draft, report
            first = first or (draft, report)
        assert first is not None
        return first

    def _verified(self, build: Build, way: Way, draft: Draft) -> tuple[Draft, Report]:
        """Verify a notebook; where it is right, try its parameters and verify it again without the dead ones."""
        work = self.folder("verify-")
        try:
            report = self.verify(draft.notebook, work)
            if not report.verified or not draft.parameters or self.budget_s <= 0:
                return draft, report
            found = self._prove(draft, work, report)
        finally:
            remove(work)
        if self.keep_all:
            found.unproven |= {name: f"no effect was seen: {why}" for name, why in found.dead.items()}
            found.dead.clear()
        report.liveness = found.as_dict()
        if not found.dead:
            return draft, report
        less = build(way, frozenset(found.dead))
        work = self.folder("verify-")
        try:
            again = self.verify(less.notebook, work)
        finally:
            remove(work)
        again.duration_s += report.duration_s
        again.liveness = report.liveness
        if again.verified:
            return less, again
        report.notes.append(f"{', '.join(found.dead)} stay, since without them {again.reason}")
        return draft, report

    def _prove(self, draft: Draft, work: Path, report: Report) -> liveness.Liveness:
        scratch = self.folder("try-")
        try:
            with kept_as_they_are(self.outside):
                return liveness.prove(
                    self.observe(draft.notebook),
                    draft.parameters,
                    self.assets,
                    liveness.Baseline(work, report.names, report.now, report.duration_s, report.calls),
                    scratch,
                    words=liveness.known_words(self.assets, draft.codes),
                    budget_s=self.budget_s,
                    on_progress=self._told("trying: "),
                )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def verify(self, notebook: NotebookNode, work: Path) -> Report:
        """Run a notebook with its defaults in ``work`` and compare what it makes with the reference."""
        report = verify(
            self.observe(notebook),
            self.assets,
            work,
            self.reference.originals,
            shown=self.reference.shown,
            folders=self.reference.folders,
            timeout_s=self.timeout_s,
            on_progress=self._told("verifying: "),
        )
        if report.verified and (reason := self.check(work)):
            report.verified, report.reason = False, reason
        return report

    def folder(self, prefix: str) -> Path:
        """Make a folder to work in, for the caller to remove."""
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.making))

    def _told(self, label: str) -> OnProgress | None:
        tell = self.on_progress
        return None if tell is None else lambda done, total, what: tell(done + 1, total + 1, label + what)


def remove(work: Path) -> None:
    """Remove a folder that was worked in, with what the observer left beside it."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(f"{work}.tmp", ignore_errors=True)
    Path(f"{work}.observed").unlink(missing_ok=True)
