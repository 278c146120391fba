"""How a skill is run: once, again from where it stood, or over a grid.

A base of :class:`~cmbagent_nb.skills.library.Skill`, so that the library stays about where skills are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.skills.running.engine import OnProgress
    from cmbagent_nb.skills.running.execution import SkillExecution


class Runnable:
    """The methods of a skill that execute it."""

    def run(self: Skill, **parameters: Any) -> SkillExecution:  # type: ignore[misc] # a base of Skill only
        """Run the skill with other values for some of its parameters, and wait for the end.

        Values are checked before anything starts. A cell that fails makes an execution with the
        status ``failed``; only wrong use raises.

        Raises
        ------
        SkillError
            An unknown parameter, a value of the wrong type, a file or a package that is not there.
        """
        return self.execute(parameters)

    def execute(  # type: ignore[misc]
        self: Skill,
        parameters: dict[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
        stop: threading.Event | None = None,
        run_id: str | None = None,
        resume: str | None = None,
    ) -> SkillExecution:
        """Run the skill; like :meth:`run`, with options that are not parameters of the notebook.

        Parameters
        ----------
        on_progress
            Called as ``on_progress(done, total, label)`` before each cell.
        timeout_s
            Seconds for the whole notebook; the setting ``step_timeout`` by default.
        stop
            Set it from another thread to cancel the execution.
        run_id
            The run that this execution belongs to, if it is part of one.
        resume
            The id of an execution that did not come to its end; see :meth:`resume`.
        """
        from cmbagent_nb.skills.running.run import resume_execution, run_skill

        options: dict[str, Any] = {"on_progress": on_progress, "timeout_s": timeout_s, "stop": stop}
        if resume is not None:
            return resume_execution(self, resume, parameters, **options)
        return run_skill(self, parameters or {}, run_id=run_id, **options)

    def resume(self: Skill, execution_id: str, **options: Any) -> SkillExecution:  # type: ignore[misc]
        """Resume an execution that was killed, stopped or failed, after its last finished step.

        Steps that came from a run are not run again once finished, and their files are kept. A notebook whose cells
        share names starts again from its first cell. ``options`` are those of :meth:`execute`.

        Raises
        ------
        SkillError
            There is no such execution of this version, or it goes on, or it is complete.
        """
        return self.execute(resume=execution_id, **options)

    def verify(self: Skill, **options: Any) -> Skill:  # type: ignore[misc]
        """Run the skill with its defaults in a fresh kernel, compare what it makes with its run, and return it.

        What comes of it is kept: after an update of a library, a skill that is not reproduced any more is a draft.
        ``options`` are ``on_progress`` and ``timeout_s``.

        Raises
        ------
        SkillError
            It is not trusted, its notebook was changed, or there is nothing to compare it with.
        """
        from cmbagent_nb.skills.verifying.again import verify_again

        return verify_again(self, **options)

    def sweep(  # type: ignore[misc]
        self: Skill,
        grid: Mapping[str, Iterable[Any]] | None = None,
        *,
        parallel: int | None = None,
        scheduler: Any = "local",
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
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
        timeout_s
            Seconds for each combination.
        stop
            Set it from another thread to cancel what runs and what has not begun.
        """
        from cmbagent_nb.skills.running.sweep import sweep

        return sweep(
            self,
            {**(grid or {}), **values},
            parallel=parallel,
            scheduler=scheduler,
            on_progress=on_progress,
            timeout_s=timeout_s,
            stop=stop,
        )
