"""Defines `Skill`, the object that a user holds: the record of a version, and the methods that act on it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cmbagent_nb.deprecation import renamed, warn_once

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.api import SkillLibrary
    from cmbagent_nb.skills.learning.optimize import Optimization
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.model import Parameter
    from cmbagent_nb.skills.running.engine import OnProgress
    from cmbagent_nb.skills.running.execution import SkillExecution
    from cmbagent_nb.skills.sharing.trust import SkillCode

#: Methods of a skill in 0.1 that are now methods of ``ws.skills``.
_MOVED = {
    "execute": "execute",
    "compare_runs": "compare_executions",
    "performance": "performance",
    "recommendations": "recommendations",
    "compare": "ab",
    "diff": "diff",
    "publish": "publish",
    "delete": "delete",
}
_FIELDS = (
    "description", "tags", "task", "source_run_id", "steps", "verification", "notebook_hash", "trusted", "folder",
    "created_at", "usage_count", "success_count", "failure_count", "avg_execution_time_s", "input_schema",
    "output_schema", "preconditions", "dag_template", "postconditions", "meta", "assets",
    "as_dict", "summary", "db", "writer", "home",
)  # fmt: skip
_ALIASES = {name: f"info.{name}" for name in _FIELDS}


class Skill:
    """A version of a skill. ``skill.info`` is its record; what concerns several skills is in ``ws.skills``."""

    def __init__(self, record: SkillRecord, library: SkillLibrary) -> None:
        self._record = record
        self._library = library

    def __repr__(self) -> str:
        return f"Skill({self.name!r}, version={self.version}, status={self.status!r})"

    def __str__(self) -> str:
        return str(self._record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skill) and self._record == other._record

    def __hash__(self) -> int:
        return hash(self.id)

    def _repr_html_(self) -> str:
        return self._record._repr_html_()

    if not TYPE_CHECKING:  # a type checker reports the old names

        def __getattr__(self, name: str) -> Any:
            if name in _MOVED:
                method = _MOVED[name]
                warn_once(f"skill.{name}", f"ws.skills.{method}(skill, …)")
                return partial(getattr(self._library, method), self)
            return renamed(self, name, _ALIASES, "skill")

    # ---- its record

    @property
    def info(self) -> SkillRecord:
        """The record: description, tags, folder, verification, schemas, counts of executions."""
        return self._record

    @property
    def id(self) -> str:
        """The id of this version."""
        return self._record.id

    @property
    def name(self) -> str:
        """The name, which all its versions share."""
        return self._record.name

    @property
    def version(self) -> int:
        """The version, from 1."""
        return self._record.version

    @property
    def status(self) -> str:
        """One of ``active``, ``draft``, ``deprecated``."""
        return self._record.status

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters, with types, defaults and units."""
        return self._record.parameters

    @property
    def notebook(self) -> Path:
        """The path of the notebook."""
        return self._record.notebook

    @property
    def verified(self) -> bool:
        """Whether its defaults reproduce the files of its run."""
        return self._record.verified

    # ---- running it

    def run(self, **parameters: Any) -> SkillExecution:
        """Run the skill with other values for some of its parameters, and wait for the end.

        Values are checked before anything starts. A cell that fails makes an execution with the status ``failed``;
        only wrong use raises. ``ws.skills.execute`` takes options, ``ws.skills.run`` does it as a run with a graph.

        Raises
        ------
        SkillError
            An unknown parameter, a value of the wrong type, a file or a package that is not there.
        """
        from cmbagent_nb.skills.running.run import run_skill

        return run_skill(self._record, parameters)

    def sweep(
        self,
        grid: Mapping[str, Iterable[Any]] | None = None,
        *,
        parallel: int | None = None,
        scheduler: Any = "local",
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        stop: threading.Event | None = None,
        **values: Any,
    ) -> pd.DataFrame:
        """Run the skill for every combination of values, as in ``sweep(lmax=[1000, 2000])``; a row for each.

        A combination that fails is a row with the status ``failed``. All values are checked before anything starts.

        Parameters
        ----------
        grid
            Parameters whose names are options of this method, too: ``{"parallel": [1, 2]}``.
        parallel
            How many run at once; as many as there are processors by default.
        scheduler
            ``local``, ``dask`` (needs the extra ``dask``), or a ``distributed.Client``.
        timeout
            Seconds for each combination.
        stop
            Set it from another thread to cancel what runs and what has not begun.
        """
        from cmbagent_nb.skills.running.sweep import sweep

        if "timeout_s" in values and "timeout_s" not in {item.name for item in self.parameters}:
            warn_once("timeout_s", "timeout")
            timeout = values.pop("timeout_s")
        return sweep(
            self._record,
            {**(grid or {}), **values},
            parallel=parallel,
            scheduler=scheduler,
            on_progress=on_progress,
            timeout_s=timeout,
            stop=stop,
        )

    def resume(
        self,
        execution_id: str,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        stop: threading.Event | None = None,
    ) -> SkillExecution:
        """Resume an execution that was killed, stopped or failed, after its last finished step.

        Steps that came from a run are not run again once finished, and their files are kept. A notebook whose cells
        share names starts again from its first cell.

        Raises
        ------
        SkillError
            There is no such execution of this version, or it is running, or it is complete.
        """
        from cmbagent_nb.skills.running.run import resume_execution

        return resume_execution(self._record, execution_id, None, on_progress=on_progress, timeout_s=timeout, stop=stop)

    def executions(self) -> pd.DataFrame:
        """Return the executions of all versions of this skill's name, oldest first."""
        from cmbagent_nb.skills.running.executions import executions

        return executions(self._record.db, self._record.writer, self.name)

    # ---- its versions

    def verify(self, *, on_progress: OnProgress | None = None, timeout: float | None = None) -> Skill:
        """Run the skill with its defaults in a fresh kernel, compare what it makes with its run, and return it.

        The outcome is stored: after an update of a library, a skill that is not reproduced any more is a draft.

        Raises
        ------
        SkillError
            It is not trusted, its notebook was changed, or there is nothing to compare it with.
        """
        from cmbagent_nb.skills.verifying.again import verify_again

        return Skill(verify_again(self._record, on_progress=on_progress, timeout_s=timeout), self._library)

    def edit(self, notebook: str | Path | None = None, *, reason: str = "", **options: Any) -> Skill:
        """Make the next version from an edited copy of the notebook; it is verified, and its parameters are tried.

        Without ``notebook``, the skill's own is taken, which was edited in its place; this version then gets back the
        one that was verified.

        Raises
        ------
        SkillError
            It is not a notebook with a cell of parameters, or reads files that lie elsewhere.
        """
        from cmbagent_nb.skills.extracting.create import edit

        return Skill(edit(self._record, notebook, reason=reason, **options), self._library)

    def optimize(
        self, apply: bool = False, reason: str = "", *, sample: int = 5, on_progress: OnProgress | None = None
    ) -> Optimization:
        """Propose a better version from ten or more executions; with ``apply``, make it and verify it against them.

        The new version becomes active only if it reproduces what this one made.
        """
        from cmbagent_nb.skills.learning.optimize import optimize

        found = optimize(self._record, apply=apply, reason=reason, sample=sample, on_progress=on_progress)
        found.skill = cast(Any, self)
        found.new = None if found.new is None else cast(Any, Skill(found.new, self._library))
        return found

    def versions(self) -> pd.DataFrame:
        """Return the versions of this skill's name, oldest first."""
        from cmbagent_nb.skills.versions import versions

        return versions(self._record)

    def rollback(self, version: int | str, reason: str = "") -> Skill:
        """Let the name mean an older version again; newer ones are deprecated with the reason."""
        from cmbagent_nb.skills.versions import rollback

        return Skill(rollback(self._record, version, reason), self._library)

    # ---- sharing it

    def code(self) -> SkillCode:
        """Return all code that the skill runs, to be read before it is trusted; nothing is run."""
        from cmbagent_nb.skills.sharing.trust import code

        return code(self._record)

    def trust(self) -> Skill:
        """Let a skill from elsewhere run from now on.

        The user and the time are recorded, with the hash of the notebook and its assets: when a file changes, the
        skill stops running. It becomes active if it was verified where it was made.
        """
        from cmbagent_nb.skills.sharing.trust import trust

        return Skill(trust(self._record), self._library)

    def export(self, path: str | Path, format: str = "folder", *, licence: str = "", overwrite: bool = False) -> Path:
        """Write the skill as files that anyone can import, and return their path.

        Parameters
        ----------
        path
            The folder in which it is made, under the skill's name in small letters and hyphens.
        format
            ``folder`` (in the open Agent Skills format), ``json`` (one file that holds everything) or ``zip``.
        licence
            The licence, such as ``Apache-2.0``; it is named in ``SKILL.md``.
        overwrite
            Replace an earlier export.

        Raises
        ------
        SkillError
            The path is taken or cannot be written, or the notebook was changed.
        """
        from cmbagent_nb.skills.sharing.export import export

        return export(self._record, path, format=format, licence=licence, overwrite=overwrite)
