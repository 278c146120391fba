"""Skills of any notebook: one that has a cell tagged ``parameters`` becomes a skill, or the next version of one.

| question | answer |
|---|---|
| what are its parameters? | the assignments of that cell, with their annotations and comments; all of them stay |
| what are its inputs? | what it is seen to read when it is run where it lies, in a copy |
| what are its outputs? | the files that it makes then |
| is it right? | a second run in a clean folder must read and make the same; then each parameter is changed |

Nothing of the user's is changed: writes outside of the folder are refused, unless they are allowed.
An edit of a skill is such a notebook with the skill's inputs; what it keeps of the skill it came from is said there.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import SkillError
from cmbagent_nb.settings import user_path
from cmbagent_nb.skills import library, naming
from cmbagent_nb.skills.extracting import layout as files
from cmbagent_nb.skills.extracting import reading
from cmbagent_nb.skills.extracting.alike import alike, named
from cmbagent_nb.skills.extracting.declared import read_declared
from cmbagent_nb.skills.extracting.making import Draft, Maker, Reference, Way
from cmbagent_nb.skills.extracting.observed import FirstRun, Seen, run_first, with_observer
from cmbagent_nb.skills.extracting.outcome import caught
from cmbagent_nb.skills.extracting.parameters import with_number_types
from cmbagent_nb.skills.extracting.skill_row import About, make_row
from cmbagent_nb.skills.extracting.surroundings import Surroundings, copy_file, copy_surroundings, kept_as_they_are
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.verifying import expected, liveness
from cmbagent_nb.skills.verifying.shown import Shown, collect
from cmbagent_nb.skills.verifying.verify import Original, Report

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.running.engine import OnProgress
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Seconds that all of it may take where the notebook is quick; the tries of parameters get what is left.
_ALL_S = 42.0
_LEAST_TRIES_S = 5.0
#: A notebook that takes longer is not run again to see which files are its own results.
_LONG_S = 60.0
_MOST_LOOKED = 3
#: Seconds for runs without one of the files, beyond so many.
_LOOKED_S = 15.0
#: Bytes of files that were not read, and that other values of the parameters may read.
_MOST_ALIKE = 64 * 2**20
_LOOKS = re.compile(
    r"exists\(|is_file\(|isfile\(|\bexcept\b|access\(|\bglob\b|listdir\(|iterdir\("
    r"|if not exists|\bshelve\b|\bdbm\b|cache|\bMemory\(",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Options:
    """Options with which a skill is made."""

    on_progress: OnProgress | None = None
    timeout_s: float | None = None
    liveness_s: float = liveness.BUDGET_S
    bring: tuple[str | Path, ...] = ()
    allow_outside_writes: bool = False


def create(
    db: Database,
    writer: Writer,
    home: Path,
    path: str | Path,
    *,
    name: str | None = None,
    version_of: str | None = None,
    tags: Iterable[str] = (),
    description: str = "",
    session_id: str | None = None,
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    liveness_s: float = liveness.BUDGET_S,
    bring: Iterable[str | Path] = (),
    allow_outside_writes: bool = False,
) -> SkillRecord:
    """Make a skill of a notebook, verify it, and put it into the library.

    Parameters
    ----------
    name
        The skill's name; the notebook's own when not given.
    version_of
        The skill of which this is the next version; else a name that another notebook has is refused.
    bring
        Files and folders to bring along, besides those that it is seen to read.
    allow_outside_writes
        Let it write outside of its folder while it is tried; what was there is put back after the tries.

    Raises
    ------
    SkillError
        There is no such notebook, it is of a form or in a language that is not supported, or has no cell of parameters.
    """
    options = Options(on_progress, timeout_s, liveness_s, tuple(bring), allow_outside_writes)
    if on_progress is not None:
        on_progress(0, 1, "reading the notebook")
    place = user_path(path)
    given = reading.read(place)
    if name is None and version_of is None:
        name = re.sub(r"\W+", "_", place.stem, flags=re.ASCII).strip("_") or "skill"
    claim = naming.claim(db, name, version_of=version_of, same_origin=naming.of_notebook(str(place)))
    about = About(
        name=claim.name,
        description=description or reading.about(given.notebook),
        tags=tuple(tags),
        session_id=session_id,
        notebook_name=place.name,
        made_from=str(place),
        claim=claim,
    )
    return _make(db, writer, Path(home), given, place, about, options)


def edit(
    skill: SkillRecord,
    notebook: str | Path | None = None,
    *,
    reason: str = "",
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    liveness_s: float = liveness.BUDGET_S,
) -> SkillRecord:
    """Make the next version of a skill from an edited copy of its notebook; verified like the first.

    Inputs that do not lie beside the copy are those of the skill. The new version keeps the skill's tags, task and
    graph, and what is known of the parameters that it still has. Without ``notebook``, the skill's own is taken, which
    was edited in its place; that version then gets back the one that was verified.
    """
    from cmbagent_nb.skills import source_hash
    from cmbagent_nb.skills.sharing.trust import require_trust

    in_place = notebook is None
    if in_place and not source_hash.is_changed(skill):
        raise SkillError(
            f"the notebook of skill {skill.name} v{skill.version} was not changed",
            f"Edit {skill.notebook} and do this again, or name an edited copy of it.",
            path=str(skill.notebook),
        )
    require_trust(skill, changed=in_place)
    place = skill.notebook if notebook is None else user_path(notebook)
    row = skill.db.rows("SELECT session_id, task_pattern FROM skills WHERE id = :id", id=skill.id)[0]
    about = About(
        name=skill.name,
        description=skill.description,
        tags=tuple(skill.tags),
        session_id=row["session_id"],
        notebook_name=place.name,
        reason=reason,
        parent=skill,
    )
    given, options = reading.read(place), Options(on_progress, timeout_s, liveness_s)
    made = _make(skill.db, skill.writer, skill.home, given, place, about, options)
    if in_place:
        with suppress(SkillError):  # a version from before copies were kept
            source_hash.restore(skill)
    return made


def _make(
    db: Database, writer: Writer, home: Path, given: reading.Given, place: Path, about: About, options: Options
) -> SkillRecord:
    with library.staging(home, about.name) as folder, library.staging(home, "first") as scratch:
        assets = folder / library.ASSETS
        assets.mkdir()
        made = _Making(given, place, about, options, scratch, assets, folder.parent).make()
        files_made = [Original(path, source) for path, source in made.outputs.items()]
        large = expected.keep(folder, files_made, made.shown, made.folders)
        made.report.notes += [f"{path} is too large to be kept for a later verification" for path in large]
        row = make_row(folder, about, made.draft, made.report, made.outputs, made.outside)
        return library.add(db, writer, home, folder, row, claim=about.claim)


@dataclass
class _Made:
    """Outcome: the notebook, the report, the files that it makes, those that it reads elsewhere."""

    draft: Draft
    report: Report
    outputs: dict[str, Path] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    #: What its cells showed in the first run, and where that was.
    shown: list[Shown] = field(default_factory=list)
    folders: tuple[str, ...] = ()


class _Making:
    """Makes a skill of one notebook."""

    def __init__(
        self,
        given: reading.Given,
        place: Path,
        about: About,
        options: Options,
        scratch: Path,
        assets: Path,
        making: Path,
    ) -> None:
        self.notebook, self.place, self.about, self.options = given.notebook, place, about, options
        self.scratch, self.assets, self.making = scratch, assets, making
        self.started = time.monotonic()
        self.notes = [f"repaired: {text}" for text in given.repaired]
        self.parameters: list[Parameter] = []
        #: Where the notebook of an earlier version stood in the skill's folder, and the folders that were there.
        self.stood = files.take_place(self.notebook) if about.parent is not None else ("", [])
        #: Files elsewhere that parameters named: path in the notebook's folder → file.
        self.inputs: dict[str, Path] = {}

    def make(self) -> _Made:
        """Run the notebook where it lies, arrange what it needs, verify it in a clean folder, try its parameters."""
        self._declare()
        named = files.texts_of(self.notebook, reading.codes(self.notebook), self.place.parent)
        with ExitStack() as stack:
            if not self.options.allow_outside_writes:
                stack.enter_context(kept_as_they_are(named))
            self._tell(0, 1, "copying the notebook's folder")
            first = self._first_run()
            self.notes += [*_notes(first, self.options), *first.surroundings.notes]
            first.needed |= self._alike(first)
            layout = files.arrange(first)
            files.bring(layout, self.assets)
            files.add_place(self.notebook, layout)
            self.parameters = files.place_parameters(self.notebook, self.parameters, layout)
            draft = Draft(self.notebook, self.parameters, reading.codes(self.notebook))
            refusal = self._refusal(first)
            if refusal:
                report = Report(False, refusal, duration_s=first.executed.duration_s, cells=first.executed.cells)
                report.notes += self.notes
                outputs = layout.outputs if first.executed.status == "completed" else {}
                return _Made(draft, report, outputs, first.read_outside)
            return self._verify(draft, first, layout)

    # -- what the cell of parameters declares ----------------------------------------------------

    def _declare(self) -> None:
        """Read the parameters, and move what is derived from them after them."""
        cell = files.tagged(self.notebook, "parameters")
        if cell is None:
            raise SkillError(
                f"{self.place.name} has no cell of parameters",
                "Tag the cell that sets them with `parameters` (View → Cell toolbar → Tags).",
                path=str(self.place),
            )
        tagged = [item for item in self.notebook.cells if "parameters" in item.metadata.get("tags", [])]
        if sum(item.cell_type == "code" for item in tagged) > 1:
            self.notes.append("only the first of the cells tagged `parameters` sets them: what the others set is fixed")
        parent = self.about.parent
        known = parent.parameters if parent is not None else ()
        others = reading.codes(self.notebook)
        derived = files.tagged(self.notebook, files.DERIVED)
        for cell in files.parameter_cells(self.notebook):
            stated = frozenset(re.findall(r"^[ \t]*(\w+)[ \t]*:", cell.source, re.MULTILINE))
            found = read_declared(cell.source, known, others)
            cell.source = found.source
            self.parameters += with_number_types(found.parameters, others, stated)
            self.notes += found.notes
            if found.derived:
                files.add_derived(self.notebook, found.derived)
        if derived is not None:
            # The forms of an earlier version's parameters are in its cell of derived values.
            forms = {item.name: item for item in known}
            self.parameters = [
                replace(item, form=forms[item.name].form)
                if item.name in forms and not item.form and item.type == forms[item.name].type
                else item
                for item in self.parameters
            ]

    # -- the first run ---------------------------------------------------------------------------

    def _first_run(self) -> FirstRun:
        """Run the notebook where it lies; a parameter that names a place elsewhere is given one of the skill's own."""
        for _ in range(3):
            first = self._run_where_it_lies()
            if not self._take_in(first):
                break
        own = self._own_results(first)
        if own:
            names = ", ".join(sorted(own))
            self.notes.append(f"{names} was there, and the notebook makes it where it is not: it is no input")
            return self._run_where_it_lies(own)
        return first

    def _run_where_it_lies(self, without: set[str] = frozenset()) -> FirstRun:  # type: ignore[assignment]
        work = Path(tempfile.mkdtemp(prefix="run-", dir=self.scratch))
        around = self._surroundings(work)
        bring = self._bring_along(around)
        for path in without:
            (around.top / path).unlink(missing_ok=True)
        return run_first(
            self.notebook,
            around,
            work / "observed.log",
            refuse=not self.options.allow_outside_writes,
            bring=bring,
            fetch=not without,
            timeout_s=self.options.timeout_s,
            on_progress=self._told("first run: "),
        )

    def _own_results(self, first: FirstRun) -> set[str]:
        """Return files that were read and that the notebook makes itself where they are not there: its own results.

        Asked only of code that looks whether a file is there, or of a module of its folder that does: it is run once
        more without the files that it read.
        """
        codes = [*reading.codes(self.notebook), files.tagged(self.notebook, "parameters").source]
        read = {path for path in first.needed & first.read if not path.endswith(".py")} | self._named(first)
        read -= first.bring
        if first.executed.status != "completed" or not read or first.executed.duration_s > _LONG_S:
            return set()
        modules = (first.surroundings.top / path for path in first.needed if path.endswith(".py"))
        codes += [path.read_text(encoding="utf-8", errors="replace") for path in modules if path.is_file()]
        if not any(_LOOKS.search(code) for code in codes):
            return set()
        again = self._run_where_it_lies(read)
        if again.executed.status == "completed" and again.written & read:
            return again.written & read
        # One by one: what the notebook makes is newer than what it is made of.
        newest = sorted(read, key=lambda path: (-(first.surroundings.top / path).stat().st_mtime, path))
        own, until = set[str](), time.monotonic() + _LOOKED_S
        for number, path in enumerate(newest if len(read) > 1 else ()):
            if number >= _MOST_LOOKED and time.monotonic() > until:
                self.notes.append(
                    f"whether {len(newest) - number} more files that it reads are its own results was not tried"
                )
                break
            again = self._run_where_it_lies({path})
            if again.executed.status == "completed":
                own |= again.written & {path}
        return own

    def _named(self, first: FirstRun) -> set[str]:
        """Return files that were neither read nor written, and whose names stand in the code."""
        codes = [*reading.codes(self.notebook), files.tagged(self.notebook, "parameters").source]
        there = first.existing - first.written - first.needed
        found = named(codes, first.surroundings.here, there)
        return {path for path in found if not path.endswith((".ipynb", ".py"))}

    def _alike(self, first: FirstRun) -> set[str]:
        """Return files that were not read, and that would be with other values of the parameters; they are told."""
        there = sorted(first.existing - first.written - first.needed)
        there = [path for path in there if not path.endswith((".ipynb", ".py"))]
        codes = reading.codes(self.notebook)
        here, found = first.surroundings.here, dict[str, str]()
        for path in sorted(first.needed & first.read):
            for other in sorted(alike(path, self.parameters, codes, there, here)):
                found.setdefault(other, path)
        found = dict.fromkeys(sorted(self._named(first)), "") | found
        left = _MOST_ALIKE
        for other in list(found):
            left -= (first.surroundings.top / other).stat().st_size
            if left < 0:
                self.notes.append(f"{other} and others like it are not brought along: they are too large together")
                return set()
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            instead = [path for path in dict.fromkeys(found.values()) if path]
            why = f", as they may be read instead of {', '.join(instead[:3])}" if instead else ""
            self.notes.append(
                f"brought along for other values of the parameters: {', '.join(list(found)[:3])}{more}{why}"
            )
        return set(found)

    def _surroundings(self, work: Path) -> Surroundings:
        parent = self.about.parent
        codes = [cell.source for cell in self.notebook.cells if cell.cell_type == "code"]
        if parent is None:
            return copy_surroundings(self.place.parent, work, codes, self.making.parent.parent)
        around = copy_surroundings(self.place.parent, work, (), self.making.parent.parent)
        here, folders = self.stood
        if here:
            # The copy stands where the skill's notebook stood, among the skill's files.
            top = work / "skill"
            (top / here).parent.mkdir(parents=True)
            around.top.rename(top / here)
            around = replace(around, top=top, here=here, original=work / "nowhere")
        for folder in folders:
            (around.top / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted(item for item in parent.assets.rglob("*") if item.is_file()):
            target = around.top / path.relative_to(parent.assets)
            if not target.exists():
                copy_file(path, target)
        return around

    def _bring_along(self, around: Surroundings) -> set[str]:
        for target, source in self.inputs.items():
            copy_file(source, around.folder / target)
        return files.brought(self.options.bring, self.place.parent, around)

    def _take_in(self, first: FirstRun) -> bool:
        """Give parameters that name a file elsewhere one of the skill's folder; tell whether any did."""
        changed = False
        writes = [] if self.options.allow_outside_writes else first.written_outside
        read = set(first.seen.of("read"))
        for number, item in enumerate(self.parameters):
            if not isinstance(item.default, str) or not item.default or (item.form and item.form != "path"):
                continue
            place = files.absolute(item.default, self.place.parent)
            if place is None:
                continue
            around, target = first.surroundings, f"input/{place.name}"
            inside = around.path_of_original(place)
            if inside is not None:
                if not item.default.startswith("..") and (str(place) in [*read, *writes] or _holds(place, writes)):
                    target = posixpath.relpath(inside, around.here or ".")
                    told = f"{item.name} was {item.default}: as a skill it is {target}, in the skill's folder"
                else:
                    continue
            elif place.is_file() and not {str(place), files.in_copy(around, item.default)}.isdisjoint(read):
                self.inputs[target] = place
                told = f"{item.name} was {item.default}: as a skill it is {target}, a copy that is brought along"
            elif _holds(place, writes) or _holds(Path(files.in_copy(around, item.default)), writes):
                target = place.name
                told = f"{item.name} was {item.default}, outside of the notebook's folder: as a skill it is {target}"
            else:
                continue
            files.set_value(self.notebook, item.name, target)
            self.parameters[number] = replace(item, default=target)
            self.notes.append(told)
            changed = True
        return changed

    def _refusal(self, first: FirstRun) -> str:
        """Return why the notebook cannot be verified, after its first run."""
        executed = first.executed
        if first.written_outside and not self.options.allow_outside_writes:
            places = ", ".join(first.written_outside[:3])
            return (
                f"it writes {places}, outside of its folder; nothing was written there and no value was tried. "
                "Make the path relative or a parameter, or allow it with --allow-outside-writes"
            )
        if executed.status != "completed":
            hint = " (if it is a file that it reads, name it with --bring FILE)" if _lacks(executed.error) else ""
            return f"it does not run with its defaults: {executed.error}{hint}"
        if first.empty:
            return f"it finds nothing in {', '.join(first.empty[:3])}: put the files there, or bring them with --bring"
        failed = first.seen.of("failed command")
        if failed and not first.written:
            return f"a command that it starts ends with status {failed[0]}, and it makes no file"
        if not first.written and (told := caught(reading.codes(self.notebook), first.prints)):
            return f"it caught an error and made no file: {told}"
        return ""

    # -- verification ----------------------------------------------------------------------------

    def _verify(self, draft: Draft, first: FirstRun, layout: files.Layout) -> _Made:
        outputs, shown = layout.outputs, collect(first.executed.notebook)
        top = first.surroundings.top
        refuse = not self.options.allow_outside_writes
        if layout.updated:
            self.notes.append(
                f"{', '.join(layout.updated)} of an earlier run was there when it ran; the skill begins without it"
            )
        wanted = _reads(first, layout)
        reference = Reference([Original(path, place) for path, place in outputs.items()], shown, (str(top),))
        left = _ALL_S - (time.monotonic() - self.started) - first.executed.duration_s
        maker = Maker(
            reference,
            self.assets,
            self.making,
            timeout_s=self.options.timeout_s,
            on_progress=self.options.on_progress,
            budget_s=min(self.options.liveness_s, max(_LEAST_TRIES_S, left)),
            observe=lambda notebook: with_observer(notebook, refuse=refuse),
            check=lambda work: _reads_less(wanted, Seen.read(Path(f"{work}.observed")), work),
            outside=[Path(item) for item in first.written_outside],
            keep_all=True,
        )
        draft, report = maker.make(lambda way, without=frozenset(): draft, (Way(),))
        if layout.updated and not report.verified:
            report.reason += f" (it goes on from {', '.join(layout.updated)}, which an earlier run left)"
        report.notes += [*self.notes, "compared with its own first run, in another fresh kernel"]
        return _Made(draft, report, outputs, first.read_outside, shown, reference.folders)

    # -- progress --------------------------------------------------------------------------------

    def _tell(self, done: int, total: int, what: str) -> None:
        if self.options.on_progress is not None:
            self.options.on_progress(done, total, what)

    def _told(self, label: str) -> OnProgress | None:
        if self.options.on_progress is None:
            return None
        return lambda done, total, what: self._tell(done, total + 1, label + what)


def _holds(place: Path, others: list[str]) -> bool:
    """Tell whether a place, or something below it, is among some paths."""
    return any(Path(other) == place or Path(other).is_relative_to(place) for other in others)


def _lacks(error: str) -> bool:
    return any(name in error for name in ("FileNotFoundError", "ModuleNotFoundError", "No such file", "unable to open"))


def _reads(first: FirstRun, layout: files.Layout) -> set[str]:
    """Return the assets that the first run was seen to open, by their paths in the skill's folder."""
    seen = first.seen.reads_below(first.surroundings.top)
    own = {path for path, place in layout.assets.items() if _below(place, first.surroundings.top) in seen}
    return {path for path in own if not path.endswith(".py")}


def _below(place: Path, top: Path) -> str:
    return place.relative_to(top).as_posix()


def _reads_less(expected: set[str], seen: Seen, work: Path) -> str:
    """Return what a run did not read that the first run did, as a reason; nothing if it read it all."""
    missing = sorted(expected - seen.reads_below(work))
    return f"it reads less than at first: not {', '.join(missing[:3])}" if missing else ""


def _notes(first: FirstRun, options: Options) -> list[str]:
    """Return what is told of a first run besides its files."""
    notes = []
    network = first.seen.of("network")
    if network:
        notes.append(f"it connects to {', '.join(network[:3])}: what it computes depends on what is there")
    programs = [text.split()[0] for text in first.seen.of("program") if text.split()]
    if programs:
        names = ", ".join(dict.fromkeys(Path(name).name for name in programs[:5]))
        failed = "; one ended with an error" if first.seen.of("failed command") else ""
        notes.append(f"it starts other programs ({names}): what they read is not seen{failed}")
    if first.read_outside:
        notes.append(f"it reads {', '.join(first.read_outside[:3])} from there: no copy was brought along")
    if first.written_outside and options.allow_outside_writes:
        notes.append(f"it writes {', '.join(first.written_outside[:3])}, outside of its folder, whenever it runs")
    return notes
