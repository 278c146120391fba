"""Liveness: which parameters have an effect. Each is changed, and what the notebook makes must change with it.

| a parameter | is alive when |
|---|---|
| value | another value changes a result: a file, a figure, a displayed value, a number that is printed |
| input | a changed copy of the file changes an output; or, of a kind that cannot be changed, it is read elsewhere |
| output | the file appears under the new name, with the same content |

One that changes nothing is dead: it is dropped, and the notebook built without it. One whose every other value stops
the code, or that there was no time for, is unproven: it stays, and the report says so. All names of outputs are tried
at once; the rest one by one, in forks of one process (:mod:`cmbagent_nb.skills.verifying.rehearsal`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.running.finished_steps import listing
from cmbagent_nb.skills.verifying import shown as results
from cmbagent_nb.skills.verifying.compare import compare
from cmbagent_nb.skills.verifying.look import Look
from cmbagent_nb.skills.verifying.other_files import changed_copies, moved
from cmbagent_nb.skills.verifying.other_values import other_name, other_values
from cmbagent_nb.skills.verifying.pairing import pair
from cmbagent_nb.skills.verifying.rehearsal import KernelStage, NoStageError, Stage, Tried, fork_stage
from cmbagent_nb.skills.verifying.shown import Shown
from cmbagent_nb.skills.verifying.unseeded import Finding
from cmbagent_nb.skills.verifying.verify import fill

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.running.engine import OnProgress

#: Seconds that all tries of one extraction may take.
BUDGET_S = 60.0
#: Seconds that any try is given, however fast the notebook is.
_LEAST_S = 10.0


@dataclass
class Liveness:
    """Outcome of the tries: a reason for each parameter."""

    alive: dict[str, str] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    unproven: dict[str, str] = field(default_factory=dict)
    tries: int = 0
    duration_s: float = 0.0
    budget_s: float = BUDGET_S
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as the verification's report keeps it."""
        return {
            "alive": self.alive,
            "dropped": self.dead,
            "unproven": self.unproven,
            "tries": self.tries,
            "duration_s": round(self.duration_s, 3),
            "budget_s": self.budget_s,
            "note": self.note,
        }


@dataclass(frozen=True)
class Baseline:
    """Results of the notebook with its defaults: the files in a folder, and the output of its cells."""

    folder: Path
    #: The files by their expected names, with the names that they have in the folder.
    names: Mapping[str, str]
    shown: list[Shown]
    duration_s: float
    #: The calls by which two runs differ.
    calls: list[Finding] = field(default_factory=list)

    @property
    def files(self) -> tuple[str, ...]:
        """The expected names of the files."""
        return tuple(self.names)


def prove(
    notebook: NotebookNode,
    parameters: list[Parameter],
    assets: Path,
    baseline: Baseline,
    scratch: Path,
    *,
    words: Iterable[Collection[str]] = (),
    budget_s: float = BUDGET_S,
    on_progress: OnProgress | None = None,
) -> Liveness:
    """Try every parameter of a notebook that runs with its defaults.

    Parameters
    ----------
    baseline
        What verification made with the defaults.
    scratch
        A folder for the tries; what they make is removed.
    words
        Groups of texts of the data and the code (:func:`known_words`), from which another value for a text is taken.
    budget_s
        Seconds for all tries; what is left over then is unproven.
    """
    result = Liveness(budget_s=budget_s)
    started = time.monotonic()
    if not parameters:
        return result
    if baseline.duration_s > budget_s:
        why = f"one run takes {baseline.duration_s:.0f} s, and all tries may take {budget_s:g} s"
        result.unproven = dict.fromkeys((item.name for item in parameters), why)
        return result
    trial = _Trial(notebook, parameters, assets, baseline, scratch, words, result, started + budget_s)
    try:
        with fork_stage(notebook) as stage:
            if trial.begin(stage):
                trial.all(on_progress)
                return result
            result.note = "each try had a kernel of its own: in a fork, the defaults do not make the same"
    except NoStageError as error:
        result.note = f"each try had a kernel of its own: {error}"
    finally:
        result.duration_s = time.monotonic() - started
    trial.stage = KernelStage(notebook)
    trial.all(on_progress)
    result.duration_s = time.monotonic() - started
    return result


class _Trial:
    """The tries of one notebook."""

    def __init__(
        self,
        notebook: NotebookNode,
        parameters: list[Parameter],
        assets: Path,
        baseline: Baseline,
        scratch: Path,
        words: Iterable[Collection[str]],
        result: Liveness,
        deadline: float,
    ) -> None:
        self.notebook, self.parameters, self.assets, self.baseline = notebook, parameters, assets, baseline
        self.scratch, self.words, self.result, self.deadline = scratch, list(words), result, deadline
        self.stage: Stage | None = None
        #: What the cells show that can tell of an effect: results, and the same each time.
        self.shown = [item for item in baseline.shown if item.is_result]
        self.asks_clock = any(item.kind == "clock" for item in baseline.calls)
        #: Files whose every difference tells of an effect.
        self.exact: frozenset[str] = frozenset()

    def begin(self, stage: Stage) -> bool:
        """Take a stage, if the defaults make there what they made in the kernel."""
        self.stage = stage
        tried, folder = self._run({}, lambda folder: None)
        try:
            if tried.status != "completed" or self._difference(folder, tried, shown=False):
                return False
            same = results.compare_all(self.shown, tried.shown, self._look(folder))
            self.shown = [item for item, found in zip(self.shown, same, strict=False) if found.equal]
            self.exact = frozenset(path for path in self.baseline.files if self._is_same(path, folder))
            return True
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _is_same(self, path: str, folder: Path) -> bool:
        """Tell whether a file is the same in every respect."""
        old, places = self.baseline.folder / self.baseline.names[path], (str(folder), str(self.baseline.folder))
        return (folder / path).is_file() and compare(path, old, folder / path, places, exact=True).equal

    def _look(self, folder: Path) -> Look:
        return Look.at((str(folder), str(self.baseline.folder)), exact=True)

    def all(self, on_progress: OnProgress | None) -> None:
        """Try all parameters: names of outputs together, the others one by one, values first."""
        outputs = [item for item in self.parameters if item.kind == "output"]
        others = [item for item in self.parameters if item.kind != "output"]
        self._outputs(outputs)
        for done, item in enumerate(others, start=len(outputs)):
            if on_progress is not None:
                on_progress(done, len(self.parameters), f"changing {item.name}")
            if item.kind == "input":
                self._input(item)
            else:
                self._value(item)

    # -- one kind after the other ----------------------------------------------------------------

    def _outputs(self, parameters: list[Parameter]) -> None:
        if not parameters or self._is_over(parameters):
            return
        if self._renamed(parameters):
            return
        for item in parameters if len(parameters) > 1 else []:
            if not self._is_over([item]):
                self._renamed([item])

    def _renamed(self, parameters: list[Parameter]) -> bool:
        """Try other names for outputs; say of one alone why it is dead."""
        names = {item.name: other_name(item.default) for item in parameters}
        tried, folder = self._run(names, lambda folder: None)
        try:
            missing = [item for item in parameters if not self._appears(folder, item, names[item.name])]
            if tried.status == "completed" and not missing:
                for item in parameters:
                    self.result.alive[item.name] = f"the file appears as {names[item.name]}"
                return True
            if len(parameters) == 1:
                why = f"fails: {tried.error}" if tried.status != "completed" else "does not make it under this name"
                self.result.dead[parameters[0].name] = f"with {names[parameters[0].name]!r} the notebook {why}"
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _appears(self, folder: Path, parameter: Parameter, name: str) -> bool:
        """Tell whether an output is there under its new name with its content, and not under its old one."""
        old = str(PurePosixPath(parameter.default))
        places = [path for path in self.baseline.names.values() if path == old or path.endswith(f"/{old}")]
        if not places:
            return (folder / name).is_file()
        place = PurePosixPath(places[0])
        new = str(place.with_name(PurePosixPath(name).name))
        if not (folder / new).is_file() or (folder / place).is_file():
            return False
        folders = (str(folder), str(self.baseline.folder))
        return compare(str(place), self.baseline.folder / place, folder / new, folders).equal

    def _value(self, parameter: Parameter) -> None:
        no_effect: list[Any] = []
        failed = ""
        for value in other_values(parameter, self._words(parameter.default)):
            if self._is_over([parameter], failed):
                return
            tried, folder = self._run({parameter.name: value}, lambda folder: None)
            difference = self._difference(folder, tried)
            shutil.rmtree(folder, ignore_errors=True)
            if tried.status != "completed":
                failed = failed or f"with {value!r} the notebook does not run: {tried.error}"
            elif difference:
                self.result.alive[parameter.name] = f"with {value!r}, {difference}"
                return
            else:
                no_effect.append(value)
        self._decide(parameter, [repr(value) for value in no_effect], failed)

    def _input(self, parameter: Parameter) -> None:
        source = self._asset(parameter)
        if source is None:
            self.result.unproven[parameter.name] = "the file is not among the skill's own"
            return
        no_effect: list[str] = []
        failed = ""
        for number, write in enumerate(changed_copies(source), start=1):
            if self._is_over([parameter], failed):
                return
            written: list[bool] = []

            def put(folder: Path, write: Callable[[Path], bool] = write, written: list[bool] = written) -> None:
                target = folder / "given" / source.name
                target.parent.mkdir(exist_ok=True)
                written.append(_attempt(write, target))

            tried, folder = self._run({parameter.name: f"given/{source.name}"}, put, needs=written)
            difference = self._difference(folder, tried) if written[0] else ""
            shutil.rmtree(folder, ignore_errors=True)
            if not written[0]:
                continue
            if tried.status != "completed":
                failed = failed or f"with a changed copy the notebook does not run: {tried.error}"
            elif difference:
                self.result.alive[parameter.name] = f"with a changed copy, {difference}"
                return
            else:
                no_effect.append(f"changed copy {number}")
        if not no_effect and not self._is_over([parameter], failed):
            self._moved(parameter, source, failed)
        elif no_effect or parameter.name not in self.result.unproven:
            self._decide(parameter, no_effect, failed)

    def _moved(self, parameter: Parameter, source: Path, failed: str) -> None:
        """A file whose content cannot be changed: it is moved, and must be read from where it is then."""
        place = source.relative_to(self.assets)

        def move(folder: Path) -> None:
            moved(folder / place, folder / "given" / source.name)

        tried, folder = self._run({parameter.name: f"given/{source.name}"}, move)
        same = tried.status == "completed" and not self._difference(folder, tried, shown=False)
        shutil.rmtree(folder, ignore_errors=True)
        if same:
            self.result.alive[parameter.name] = "the file is read from another place"
        else:
            reason = tried.error or "moved to another place, the results differ"
            self.result.unproven[parameter.name] = failed or reason

    def _decide(self, parameter: Parameter, no_effect: list[str], failed: str) -> None:
        if no_effect and not failed:
            self.result.dead[parameter.name] = f"nothing changes with {', '.join(no_effect)}"
        else:
            self.result.unproven[parameter.name] = failed or "there is no other value to try"

    # -- one try ---------------------------------------------------------------------------------

    def _is_over(self, parameters: list[Parameter], failed: str = "") -> bool:
        if time.monotonic() < self.deadline:
            return False
        for item in parameters:
            self.result.unproven[item.name] = failed or f"not tried within {self.result.budget_s:g} s"
        return True

    def _run(
        self, values: dict[str, Any], put: Callable[[Path], None], *, needs: list[bool] | None = None
    ) -> tuple[Tried, Path]:
        """Run the notebook in a new folder; a path given for an input is made absolute, as a user's is."""
        assert self.stage is not None
        folder = self.scratch / f"try-{self.result.tries + 1}"
        shutil.rmtree(folder, ignore_errors=True)
        fill(folder, self.assets)
        put(folder)
        if needs is not None and not needs[-1]:
            return Tried("failed", "no copy could be made", [], 0.0), folder
        self.result.tries += 1
        inputs = {item.name for item in self.parameters if item.kind == "input"}
        given = {name: str(folder / value) if name in inputs else value for name, value in values.items()}
        left = max(1.0, self.deadline - time.monotonic())
        limit = max(_LEAST_S, 5 * self.baseline.duration_s)
        return self.stage.run(given, folder, min(left, limit)), folder

    def _difference(self, folder: Path, tried: Tried, *, shown: bool = True) -> str:
        """Return the first difference from what the defaults make, or nothing."""
        places = (str(folder), str(self.baseline.folder))
        made = [path for path in listing(folder) if path not in self.baseline.names]
        names = pair(self.baseline.files, [*made, *self._there(folder)], varies=bool(self.baseline.calls))
        for path in self.baseline.files:
            if path not in names:
                return f"{path} is not made"
            found = compare(
                path,
                self.baseline.folder / self.baseline.names[path],
                folder / names[path],
                places,
                asks_clock=self.asks_clock,
                exact=path in self.exact,
            )
            if not found.equal and not found.undecided:
                return f"{path} changes: {found.detail}"
        if shown:
            of_cells = {(item.cell, item.mime) for item in self.shown}
            now = [item for item in tried.shown if (item.cell, item.mime) in of_cells]
            for found in results.compare_all(self.shown, now, self._look(folder)):
                if not found.equal:
                    return f"{found.path} changes: {found.detail}"
        return ""

    def _there(self, folder: Path) -> list[str]:
        return [path for path in self.baseline.files if (folder / path).is_file()]

    def _words(self, value: Any) -> set[str]:
        """Return the texts that stand beside a text: of its column, of its list; else all."""
        text = value[0] if isinstance(value, list) and value else value
        beside = {word for group in self.words if text in group for word in group}
        return beside or {word for group in self.words for word in group}

    def _asset(self, parameter: Parameter) -> Path | None:
        """Return the skill's own file for an input: its path, or the one file of that name."""
        whole = self.assets / str(parameter.default)
        if whole.is_file():
            return whole
        found = [path for path in sorted(self.assets.rglob(PurePosixPath(parameter.default).name)) if path.is_file()]
        return found[0] if len(found) == 1 else None


def known_words(assets: Path, codes: Iterable[str]) -> list[frozenset[str]]:
    """Return the texts that belong together: the names of a table's columns, a column's values, a list in the code."""
    import ast

    from cmbagent_nb.skills.schema import read_table

    groups: list[frozenset[str]] = []
    for path in sorted(assets.rglob("*")):
        frame = read_table(path) if path.is_file() else None
        if frame is None:
            continue
        groups.append(frozenset(map(str, frame.columns)))
        for name in frame.columns:
            if getattr(frame[name].dtype, "kind", "O") == "O":
                values = {item for item in frame[name].head(10_000) if isinstance(item, str) and len(item) < 60}
                groups += [frozenset(values)] if 1 < len(values) <= 1000 else []
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
                texts = [item.value for item in node.elts if isinstance(item, ast.Constant)]
                groups.append(frozenset(item for item in texts if isinstance(item, str)))
    return [group for group in groups if len(group) > 1]


def _attempt(write: Callable[[Path], bool], target: Path) -> bool:
    """Write a changed copy; a file that its reader does not take has none."""
    try:
        return write(target)
    except Exception:  # whatever a reader says about a file that is not what its name says
        return False
