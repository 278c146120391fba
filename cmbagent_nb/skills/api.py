"""Defines ``ws.skills``: the methods about the skills of a workspace.

With ``handle``, the only module above all packages of ``skills``: none of them imports the two.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cmbagent_nb.deprecation import warn_once
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.library import SkillRecord, find

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.composing.composable import Proposal
    from cmbagent_nb.skills.learning.ab import Comparison
    from cmbagent_nb.skills.learning.analytics import SkillAnalytics
    from cmbagent_nb.skills.learning.diff import NotebookDiff
    from cmbagent_nb.skills.learning.recommend import Recommendation
    from cmbagent_nb.skills.learning.suggest import Suggestion
    from cmbagent_nb.skills.matching.match import Found, Match
    from cmbagent_nb.skills.running.engine import OnProgress
    from cmbagent_nb.skills.running.execution import SkillExecution
    from cmbagent_nb.workflow.workspace_core import WorkspaceCore


class SkillLibrary:
    """The skills of a workspace: ``ws.skills``. In a notebook it shows as a browser with search and cards.

    Wherever a method takes a skill, it is a :class:`Skill`, a name, ``name@version`` or an id.
    """

    def __init__(self, core: WorkspaceCore, search: str = "") -> None:
        self._core = core
        self._words = search

    def __call__(self) -> pd.DataFrame:
        """Return the skills; use :meth:`list`."""
        warn_once("ws.skills()", "ws.skills.list()")
        return self.list()

    def __str__(self) -> str:
        found = self.search(self._words)
        if found.empty:
            return "no skills" + (f" with the words {self._words!r}" if self._words else " yet")
        return str(found[["name", "version", "status", "tags", "description"]].to_string(index=False, max_colwidth=60))

    __repr__ = __str__

    def _record(self, skill: Skill | SkillRecord | str) -> SkillRecord:
        if isinstance(skill, str):
            self._open()
            return find(self._core.db, self._core.writer, self._core.home, skill)
        return skill if isinstance(skill, SkillRecord) else skill.info

    def _open(self) -> None:
        """Install the starter skills before the first look at the library, unless the settings say no."""
        if self._core.settings.starter_skills and not self._core.db.read_only:
            from cmbagent_nb.skills.starter.install import install_quietly

            install_quietly(self._core.db, self._core.writer, self._core.home)

    # ---- finding

    def list(self) -> pd.DataFrame:
        """Return the skills of the workspace, a row for each version."""
        from cmbagent_nb.skills.rows import interrupt_executions
        from cmbagent_nb.store import frames

        self._open()
        interrupt_executions(self._core.db, self._core.writer)
        return frames.skills(self._core.db)

    def get(self, skill: str | Skill | SkillRecord) -> Skill:
        """Return a skill by its name or id; the newest active version of a name.

        Raises
        ------
        SkillNotFound, AmbiguousReference
        """
        return Skill(self._record(skill), self)

    def browse(self, search: str = "") -> SkillLibrary:
        """Return the library with words that are searched for to begin with; a notebook shows it as a browser."""
        return SkillLibrary(self._core, search)

    def search(self, text: str = "", *, tags: Iterable[str] = (), status: str | None = None) -> pd.DataFrame:
        """Return the skills in which every word of a text is found, best first.

        Names, descriptions, tags, tasks, parameters and code are searched; ``found_in`` says where the words are.
        """
        from cmbagent_nb.skills.matching.search import search

        self._open()
        return search(self._core.db, self._core.home, text, tags=tags, status=status)

    def match(
        self,
        task: str,
        *,
        k: int = 5,
        min_similarity: float | None = None,
        required_tags: Iterable[str] = (),
        exclude_failed: bool = False,
        inputs: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> builtins.list[Match]:
        """Return the skills that fit a task, best first, each with its reasons; none where none fits.

        Drafts and skills that are not trusted yet are left out; :meth:`explain` shows the latter, too.

        Parameters
        ----------
        k
            How many at most.
        min_similarity
            The score, from 0 to 1, from which a skill counts as fitting; the setting ``skill_min_similarity`` (0.7)
            when not given. It depends on the task and on the skill, not on the other skills of the library.
        required_tags
            Only skills that have all of them.
        exclude_failed
            Leave out skills whose last execution failed.
        inputs
            The data at hand, by name, as for :meth:`Workspace.start`: skills that cannot take it fall below the limit.
        plan
            A plan of the task: skills with such steps and agents come first.
        """
        options: dict[str, Any] = {"required_tags": required_tags, "exclude_failed": exclude_failed}
        found = self._match(task, k, min_similarity, inputs=inputs, plan=plan, **options).fitting
        return [replace(item, skill=cast(Any, Skill(item.skill, self))) for item in found]

    def explain(
        self,
        task: str,
        skill: str | None = None,
        *,
        k: int = 10,
        inputs: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return how a task compares with one skill, or with the likeliest: those below the limit, too.

        The column ``fits`` says which are above it. The frame's ``attrs`` name the limit and what compared the texts.
        """
        import pandas as pd

        only = None if skill is None else self._record(skill).name
        found = self._match(task, k, None, inputs=inputs, plan=plan, only=only)
        columns = [
            "name", "version", "score", "fits", "semantic", "lexical", "tags", "structure", "feedback", "conditions",
            "reason", "skill_id",
        ]  # fmt: skip
        rows = [{**item.as_dict(), "fits": item in found.fitting} for item in found.matches]
        frame = pd.DataFrame(rows, columns=columns)
        frame.attrs = {"min_similarity": found.min_similarity, "model": found.model}
        return frame

    def _match(self, task: str, k: int, min_similarity: float | None, **options: Any) -> Found:
        from cmbagent_nb.skills.matching.match import match

        self._open()
        settings, core = self._core.settings, self._core
        least = settings.skill_min_similarity if min_similarity is None else min_similarity
        return match(
            core.db, core.writer, core.home, task, k=k, min_similarity=least, embeddings=settings.embeddings, **options
        )

    # ---- making

    def create(self, notebook: str | Path, name: str | None = None, **options: Any) -> Skill:
        """Make a skill of any notebook with a cell tagged ``parameters``, and verify it.

        A name that another notebook has is refused without ``version_of``.

        Parameters
        ----------
        notebook
            The notebook's path. It is run in a copy of its folder; what it is seen to read is brought along.
        options
            ``version_of`` (the skill of which it is the next version), ``tags``, ``description``, ``on_progress``,
            ``timeout`` (seconds), ``liveness_s``; ``bring`` (files to bring along besides), ``allow_outside_writes``
            (outside of its folder, while it is tried).

        Raises
        ------
        SkillError
            It is not a notebook that a skill can be made of; see the error's text.
        """
        from cmbagent_nb.skills.extracting.create import create

        core = self._core
        session_id = core.session_id()
        options = seconds(options)
        made = create(core.db, core.writer, core.home, notebook, name=name, session_id=session_id, **options)
        return Skill(made, self)

    def compose(
        self,
        name: str | None,
        skills: Iterable[str | Skill],
        pattern: str = "sequential",
        *,
        when: str | None = None,
        connect: Mapping[str, str] | None = None,
        share: Iterable[str] = (),
        **options: Any,
    ) -> Skill:
        """Make one skill of several and verify it; all that does not fit is reported before anything is made.

        Parameters
        ----------
        pattern
            ``sequential`` (outputs to inputs, by name and content), ``parallel``, or ``conditional``: the second
            skill where ``when`` holds for what the first makes, a third one otherwise.
        when
            Such as ``chi2 < 1.5`` or ``"data/fit.csv" in outputs``.
        connect
            Which input is which output, where that is not clear: ``{"second.table_file": "first:data/a.csv"}``.
        share
            Parameters of one name that are one parameter; else each is written with its skill's name.
        options
            ``version_of`` (the skill of which it is the next version), ``description``, ``tags``, ``on_progress``,
            ``timeout`` (seconds).

        Raises
        ------
        SkillError
            They do not fit together; ``problems`` has each reason.
        """
        from cmbagent_nb.skills.composing.compose import compose

        self._open()
        found = [self._record(item) for item in skills]
        made = compose(name, found, pattern, when=when, connect=connect, share=share, **seconds(options))
        return Skill(made, self)

    def composable(self, task: str, *, k: int = 3, min_similarity: float | None = None) -> builtins.list[Proposal]:
        """Return skills that together may do a task of several parts, with the call that composes them."""
        from cmbagent_nb.skills.composing.composable import find_composable

        return find_composable(task, lambda part: self._match(part, k, min_similarity).fitting, k=k)

    def import_(
        self, source: str | Path | Mapping[str, Any], *, name: str | None = None, version_of: str | None = None
    ) -> Skill:
        """Import a skill from an exported folder, JSON file or zip archive; nothing of it is run.

        ``source`` is its path, or what the JSON file says as a dictionary.

        It is untrusted: look at ``skill.code()``, then ``skill.trust()``. The same files twice are the same skill; a
        name that a skill of another origin has is refused, unless it is ``version_of`` that one.

        Raises
        ------
        SkillRefused
            A path outside of its folder, a link, a file that is not the manifest's, a newer format, too large: raised
            before anything is written.
        """
        from cmbagent_nb.skills.sharing.importer import import_package, read

        core = self._core
        came_from = "" if isinstance(source, Mapping) else str(source)
        package = read(source)  # before a new workspace is made for it
        found = import_package(
            core.db, core.writer, core.home, package, name=name, version_of=version_of, came_from=came_from
        )
        return Skill(found[0], self)

    def install_starter(self) -> builtins.list[str]:
        """Put the skills that come with the package into the library; returns the names of the new ones.

        It happens at the first look at the library; the setting ``starter_skills`` turns that off.
        """
        from cmbagent_nb.skills.starter.install import install

        return install(self._core.db, self._core.writer, self._core.home)

    # ---- running

    def execute(
        self,
        skill: str | Skill,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        stop: threading.Event | None = None,
        resume: str | None = None,
        timeout_s: float | None = None,
    ) -> SkillExecution:
        """Run a skill and wait for the end, as ``skill.run`` does, with options that are not its parameters.

        Parameters
        ----------
        on_progress
            Called as ``on_progress(done, total, label)`` before each cell.
        timeout
            Seconds for the whole notebook; the setting ``step_timeout`` by default.
        stop
            Set it from another thread to cancel the execution.
        resume
            The id of an execution that did not come to its end; see :meth:`Skill.resume`.
        """
        from cmbagent_nb.skills.running.run import resume_execution, run_skill

        record, given = self._record(skill), seconds({"timeout": timeout, "timeout_s": timeout_s})
        if resume is not None:
            return resume_execution(record, resume, parameters, on_progress=on_progress, stop=stop, **given)
        return run_skill(record, parameters or {}, on_progress=on_progress, stop=stop, **given)

    def executions(self) -> pd.DataFrame:
        """Return the executions of all skills, oldest first."""
        from cmbagent_nb.skills.running.executions import executions

        return executions(self._core.db, self._core.writer)

    def compare_executions(self, skill: str | Skill, *executions: str) -> pd.DataFrame:
        """Compare executions of a skill, by their ids; the newest ten if none is named."""
        from cmbagent_nb.skills.running.executions import compare

        return compare(self._core.db, self._core.writer, self._record(skill).name, executions)

    # ---- improving

    def analytics(self) -> SkillAnalytics:
        """Return the figures of all skills: ``top``, ``usage``, ``cost``, ``adaptations``, ``consolidation``."""
        from cmbagent_nb.skills.learning.analytics import SkillAnalytics

        self._core.writer.caught_up()
        return SkillAnalytics(self._core.db, self._core.writer, self._core.home)

    def suggest(self, *, min_runs: int = 3) -> builtins.list[Suggestion]:
        """Return sequences of steps that succeeded in several runs and are no skill yet, each with its call."""
        from cmbagent_nb.skills.learning.suggest import suggest

        self._core.writer.caught_up()
        return suggest(self._core.db, min_runs=min_runs)

    def performance(self, skill: str | Skill, by: str = "version") -> pd.DataFrame:
        """Return success, time, cost and adaptations of each version of a skill.

        By ``parameters``, ``cells`` or ``errors`` it is about this version.
        """
        from cmbagent_nb.skills.learning.performance import performance

        return performance(self._record(skill), by)

    def recommendations(self, skill: str | Skill) -> builtins.list[Recommendation]:
        """Return what a version's executions suggest, each with its evidence; nothing is changed."""
        from cmbagent_nb.skills.learning.recommend import recommendations

        return recommendations(self._record(skill))

    def diff(self, skill: str | Skill, other: int | str) -> NotebookDiff:
        """Return how another version's notebook and parameters differ from this one's."""
        from cmbagent_nb.skills.learning.diff import diff
        from cmbagent_nb.skills.versions import version_of

        record = self._record(skill)
        return diff(record, version_of(record, other))

    def ab(
        self, skill: str | Skill, other: int | str, *, last: int = 10, on_progress: OnProgress | None = None
    ) -> Comparison:
        """Run a version and another with the inputs of the last executions, and return how both did."""
        from cmbagent_nb.skills.learning.ab import compare
        from cmbagent_nb.skills.versions import version_of

        record = self._record(skill)
        return compare(record, version_of(record, other), last=last, on_progress=on_progress)

    # ---- sharing

    def publish(self, skill: str | Skill, visibility: str = "public", *, to: str = "") -> Skill:
        """Set whether a skill is for others: ``public`` or ``private``; with ``to``, put it into a team's folder.

        Parameters
        ----------
        to
            The name of a source of the kind ``folder``: the skill is exported into it and becomes public.
        """
        from cmbagent_nb.skills.sharing.sources import publish

        return Skill(publish(self._record(skill), visibility, to=to), self)

    def delete(self, skill: str | Skill, *, results: bool = False) -> str:
        """Delete a version for good: its rows and its folder; returns what was done, in words.

        The record of its executions goes with it. The folders that they worked in stay, since they hold results,
        unless ``results`` is set.

        Raises
        ------
        StateError
            The skill is running.
        """
        from cmbagent_nb.skills.sharing.remove import delete

        return delete(self._record(skill), results=results)

    def sources(self) -> pd.DataFrame:
        """Return the sources of skills: name, kind, location, whether it is trusted, when it was last looked at."""
        import pandas as pd

        from cmbagent_nb.skills.sharing.sources import sources

        columns = ["name", "kind", "location", "trusted", "created_at", "synced_at"]
        return pd.DataFrame(sources(self._core.db), columns=columns)

    def add_source(self, name: str, location: str | Path, kind: str = "", *, trusted: bool = False) -> None:
        """Add a team's library: a folder, or a git repository, that holds exported skills.

        :meth:`sync` imports what is in it.

        Parameters
        ----------
        location
            A folder; or a repository: its folder, or a URL with https, ssh or file.
        kind
            ``folder`` or ``git``; found out when it is not given.
        trusted
            Whether its skills may run without a look at each: anyone who can write there can run code as you.
        """
        from cmbagent_nb.skills.sharing.sources import add

        add(self._core.db, self._core.writer, name, location, kind, trusted=trusted)

    def remove_source(self, name: str) -> None:
        """Remove a source; the skills that came from it stay as they are."""
        from cmbagent_nb.skills.sharing.sources import remove

        remove(self._core.db, self._core.writer, self._core.home, name)

    def sync(self, name: str | None = None) -> pd.DataFrame:
        """Look at the sources (or at one) and import what is new: a row for each skill there, with the outcome.

        ``change`` is ``new``, ``new version``, ``same``, ``gone`` (it stays in the library, marked) or ``refused``
        (``detail`` says why).
        """
        import pandas as pd

        from cmbagent_nb.skills.sharing.sources import sync

        columns = ["source", "skill", "version", "change", "trusted", "detail"]
        found = sync(self._core.db, self._core.writer, self._core.home, name)
        return pd.DataFrame([item.as_dict() for item in found], columns=columns)


def seconds(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the packages below take them: ``timeout`` in seconds as ``timeout_s``, its name in 0.1."""
    found = {name: value for name, value in options.items() if name != "timeout"}
    if found.get("timeout_s") is not None:
        warn_once("timeout_s", "timeout", stacklevel=4)
    if options.get("timeout") is not None:
        found["timeout_s"] = options["timeout"]
    return found
