"""Runs of skills: a base of :class:`~cmbagent_nb.workspace.Workspace`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, UsageError

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.workspace import Workspace


class SkillRuns:
    """The methods of a workspace that run a skill as a run."""

    def run_skill(  # type: ignore[misc] # a base of Workspace only
        self: Workspace,
        skill: str | Skill,
        parameters: Mapping[str, Any] | None = None,
        *,
        task: str | None = None,
        mode: str = "direct",
        allow_adaptation: bool = True,
        strict_mode: bool = False,
        model: str | None = None,
        **options: Any,
    ) -> Run:
        """Start a run of a skill and return at once: a live graph, and no model call unless it deviates.

        Parameters
        ----------
        skill
            The skill, its name, ``name@version`` or its id.
        parameters
            Values for its parameters; the names of ``inputs`` may be those of input files, too.
        task
            What it is run for, in words: agents that go on with it, and guided mode, are told.
        mode
            ``direct`` runs the skill's code. ``guided`` asks an agent first what has to change for the task; the
            skill's graph is the plan.
        allow_adaptation, strict_mode
            When something deviates (an error, a missing file, a result outside of what was seen), agents go on with
            the skill's code unless adaptation is not allowed, or the mode is strict: then the run fails.
        model
            The model for these agents; the one that ``auto`` finds when not given, and none is fine until it is needed.
        options
            ``approve`` (the gates of the skill's own run when not given), ``inputs``, ``name``, ``work_dir``,
            ``gates``, ``max_cost_usd``, ``max_attempts``, ``step_timeout``: as in :meth:`start`.

        Raises
        ------
        SkillError
            A parameter, a file or a package that does not fit: told before anything starts.
        """
        from cmbagent_nb.run import Run
        from cmbagent_nb.skills.running.start_run import start_run
        from cmbagent_nb.workflow import run_options
        from cmbagent_nb.workflow.step_source import NO_MODEL

        settings, found = self.settings, self.skill(skill) if isinstance(skill, str) else skill
        from cmbagent_nb.workflow.run_options import number

        limit = options.pop("max_cost_usd", None)
        spec = NO_MODEL
        if mode == "guided" or (allow_adaptation and not strict_mode):
            try:
                spec = self.resolve_model(model or settings.model)
            except CMBAgentError:
                if model is not None or mode == "guided":
                    raise
        host = self.host
        live, run_id = start_run(
            host,
            found,
            parameters or {},
            settings=settings,
            registry=self.agents(),
            session_id=self.session_id(),
            model=spec,
            task=task,
            mode=mode,
            allow_adaptation=allow_adaptation,
            strict_mode=strict_mode,
            gates=run_options.read_gates(options.pop("gates", None), settings),
            max_cost_usd=settings.max_cost_usd if limit is None else number(max_cost_usd=limit),
            **options,
        )
        return Run(host, run_id, live=live)

    def run_named(  # type: ignore[misc]
        self: Workspace,
        name: str,
        task: str,
        parameters: Mapping[str, Any] | None,
        model: str | None,
        options: dict[str, Any],
        max_cost_usd: float | None,
        plan: Mapping[str, Any] | None,
    ) -> Run:
        """Start a run of the skill that was named for a task; values that the task names are filled in."""
        from cmbagent_nb.skills.matching.evidence import check_conditions
        from cmbagent_nb.skills.matching.fill import named_values
        from cmbagent_nb.skills.matching.offering import record_named

        if plan is not None:
            raise UsageError("a plan and a skill are given, and a skill is a plan", "Leave one of them out.")
        self.open_library()
        skill = self.skill(name)
        inputs = dict(options.pop("inputs", None) or {})
        taken = check_conditions(skill, inputs).taken
        own = {parameter: inputs.pop(name) for parameter, name in taken.items() if name in inputs}
        values = {**named_values(task, skill.parameters), **own, **(parameters or {})}
        options["inputs"] = inputs
        run = self.run_skill(skill, values, task=task, model=model, max_cost_usd=max_cost_usd, **options)
        record_named(self.host, run.id, self.session_id(), task, skill.id)
        return run
