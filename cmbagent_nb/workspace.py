"""Defines the workspace: where runs are started, found and looked at together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.admin import WorkspaceAdmin
from cmbagent_nb.deprecation import renamed
from cmbagent_nb.errors import CMBAgentError, NoModel, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.run import Run, open_run, resume_run
from cmbagent_nb.settings import Settings, default_home, user_path
from cmbagent_nb.skills.api import SkillLibrary
from cmbagent_nb.workflow.workspace_core import WorkspaceCore

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.skills.library import SkillRecord

#: The names of 0.1, with the paths of those that took their place; they work for one release.
_ALIASES = {
    "db": "_core.db",
    "writer": "_core.writer",
    "host": "_core.host",
    "warm": "_core.warm",
    "session_id": "_core.session_id",
    "resolve_model": "_core.resolve_model",
    "open_library": "skills._open",
    "control": "run_plan",
    "skill": "skills.get",
    "library": "skills.browse",
    "search_skills": "skills.search",
    "match": "skills.match",
    "explain_match": "skills.explain",
    "create_skill": "skills.create",
    "compose": "skills.compose",
    "find_composable": "skills.composable",
    "suggest_skills": "skills.suggest",
    "skill_analytics": "skills.analytics",
    "skill_executions": "skills.executions",
    "import_skill": "skills.import_",
    "install_starter_skills": "skills.install_starter",
    "skill_sources": "skills.sources",
    "add_skill_source": "skills.add_source",
    "remove_skill_source": "skills.remove_source",
    "sync_skills": "skills.sync",
    "archive": "admin.archive",
    "unarchive": "admin.unarchive",
    "compact": "admin.compact",
    "delete": "admin.delete",
    "import_dir": "admin.import_dir",
    "backup": "admin.backup",
}


class Workspace:
    """One store plus one folder of runs.

    Parameters
    ----------
    path
        The workspace's folder; ``CMBAGENT_HOME``, else the platform's data folder, when not given.
    database_url
        A PostgreSQL URL; SQLite in the folder when empty.
    session
        The named scope that new runs belong to.
    read_only
        Look at a workspace that is there and change nothing: no table, no status, no skill.

    Making one is cheap: the database is opened on first use.
    """

    def __init__(
        self, path: str | Path | None = None, *, database_url: str = "", session: str = "", read_only: bool = False
    ) -> None:
        home = user_path(path) if path is not None else default_home()
        self._core = WorkspaceCore(home, {"database_url": database_url, "session": session}, read_only=read_only)
        _ = self._core.settings  # a broken setting is reported here, not later

    def __repr__(self) -> str:
        return f"Workspace({str(self.home)!r}, session={self.settings.session!r})"

    if not TYPE_CHECKING:  # a type checker reports the old names

        def __getattr__(self, name: str) -> Any:
            return renamed(self, name, _ALIASES, "ws")

    @property
    def home(self) -> Path:
        """The workspace's folder."""
        return self._core.home

    @property
    def settings(self) -> Settings:
        """The settings as they are now: environment, then ``config.toml``, then the defaults."""
        return self._core.settings

    @property
    def skills(self) -> SkillLibrary:
        """The skills: list, get, search, match, create, compose, import_, executions, analytics …"""
        return SkillLibrary(self._core)

    @property
    def admin(self) -> WorkspaceAdmin:
        """Upkeep: archive, unarchive, compact, delete, backup, import_dir."""
        return WorkspaceAdmin(self._core)

    def close(self) -> None:
        """Cancel the runs of this process, write everything, and close the database."""
        self._core.close()

    # ---- starting runs

    def one_shot(self, task: str, **options: Any) -> Run:
        """Give a task to one agent; see :meth:`start` for the options."""
        return self.start(task, mode="one_shot", **options)

    def planning_and_control(self, task: str, **options: Any) -> Run:
        """Plan a task, then carry the plan out; see :meth:`start` for the options."""
        return self.start(task, mode="planning_and_control", **options)

    def deep_research(self, task: str, **options: Any) -> Run:
        """Plan a task and carry it out, each step knowing of all that was done before it; see :meth:`start`.

        What no longer fits into ``context_tokens`` (a setting) is summarized by the agent ``summarizer``.
        """
        return self.start(task, mode="deep_research", **options)

    def run_plan(self, task: str, *, plan: Mapping[str, Any], **options: Any) -> Run:
        """Carry out a plan that is given, in the planner's form; see :meth:`start` for the options."""
        return self.start(task, mode="planning_and_control", plan=plan, **options)

    def start(
        self,
        task: str,
        *,
        mode: str = "one_shot",
        model: str | None = None,
        approve: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        name: str | None = None,
        work_dir: str | Path | None = None,
        max_cost_usd: float | None = None,
        plan: Mapping[str, Any] | None = None,
        agent: str = "engineer",
        max_attempts: int | None = None,
        max_plan_steps: int | None = None,
        n_plan_reviews: int | None = None,
        plan_instructions: str = "",
        gates: str | None = None,
        step_timeout: float | None = None,
        create_skill: bool = False,
        skill_name: str | None = None,
        skill: str | None = None,
        auto_match: bool = False,
        required_tags: Iterable[str] = (),
        skill_parameters: Mapping[str, Any] | None = None,
        guided: bool = False,
        strict_mode: bool = False,
        **more: Any,
    ) -> Run:
        """Start a run and return at once; ``await run`` or ``run.wait()`` for its end.

        Parameters
        ----------
        task
            What is to be done, in words.
        mode
            ``one_shot``, ``planning_and_control`` (short: ``plan``) or ``deep_research`` (``deep``).
        model
            ``provider:name``, ``playbook:NAME`` or ``auto`` (the default).
        approve
            The gates that open: ``plan, before_step, after_step, error, tool, manual`` (a pause asks
            whether to go on), or a preset. None by default.
        inputs
            Values that the code may read: DataFrames, arrays, anything JSON can hold, by their names.
        name
            A name for the run; one that is taken gets a number.
        max_cost_usd
            Stop before a model call that would cost more than this in all; 0 means no limit.
        gates
            Answers gates without a person: ``approve``, ``reject`` or ``default``.
        create_skill
            Make a skill of the run when it has succeeded, named ``skill_name`` or like the run; ``run.result.skill``
            says what came of it, and the end of the run waits for it.
        skill
            A skill that does the task, by its name; ``auto`` to look for one that fits and ask at a gate whether to
            use it; ``off`` for none. The setting ``skill_mode`` says what happens when it is not given.
        auto_match
            The same as ``skill="auto"``.
        required_tags
            Look only among skills that have all of these tags.
        skill_parameters
            Values for the skill's parameters, besides those that the task names and the ``inputs``.
        guided, strict_mode, allow_adaptation
            For a skill that is named: let an agent fit its code to the task; fail where it deviates. See
            :meth:`run_skill`.
        more
            CMBAgent's words are understood too: ``max_n_attempts``, ``engineer_model``,
            ``engineer_instructions``, ``clear_work_dir`` and their like.

        Raises
        ------
        UsageError
            No task, an unknown mode, gate or option, or an input or a folder that cannot be used.
        ModelError
            There is no model, or it cannot be used; see the error's text.
        """
        from cmbagent_nb.skills.extracting.after import make_after, wanted_skill
        from cmbagent_nb.skills.matching.selection import read_selection
        from cmbagent_nb.workflow import run_options
        from cmbagent_nb.workflow.launch import Request, start

        settings, registry = self.settings, self.agents()
        task, mode = run_options.read_task(task), run_options.read_mode(mode)
        selection = read_selection(skill, auto_match, settings)
        allow_adaptation = bool(more.pop("allow_adaptation", True))
        max_attempts = more.pop("max_n_attempts", max_attempts)
        may_clear = bool(more.pop("clear_work_dir", False))
        models, instructions = run_options.per_agent(more, registry.names(), Workspace.start.__kwdefaults__ or ())
        run_options.check_models(models, settings)
        if selection.name:
            if create_skill or skill_name:
                raise UsageError("a skill is run and one is to be made", "Leave out skill= or create_skill=.")
            given: dict[str, Any] = {
                "approve": approve,
                "inputs": inputs,
                "name": name,
                "work_dir": work_dir,
                "gates": gates,
            }
            given |= {"mode": "guided" if guided else "direct", "strict_mode": strict_mode}
            given |= {"allow_adaptation": allow_adaptation, "max_attempts": max_attempts, "step_timeout": step_timeout}
            given |= {"models": models, "instructions": instructions}
            return self._run_named(selection.name, task, skill_parameters, model, given, max_cost_usd, plan)
        if guided or strict_mode or not allow_adaptation:
            what = "guided" if guided else "strict_mode" if strict_mode else "allow_adaptation"
            raise UsageError(f"the option {what} is for a skill that is named", "Name it with skill=.")
        answers = run_options.read_gates(gates, settings)
        options = run_options.parse_options(
            settings,
            registry,
            task,
            mode=mode,
            agent=run_options.read_agent(agent, registry),
            approve=approve,
            plan=plan,
            max_attempts=max_attempts,
            max_plan_steps=max_plan_steps,
            n_plan_reviews=n_plan_reviews,
            plan_instructions=plan_instructions,
            step_timeout=step_timeout,
        )
        limit = settings.max_cost_usd if max_cost_usd is None else run_options.number(max_cost_usd=max_cost_usd)
        spec, no_model = self._model_of(model, task, may_lack=selection.search)
        after = wanted_skill(self._core.db, create_skill, skill_name, task=task)
        host, session_id = self._core.host, self._core.session_id()
        # Everything that can be refused has been: from here on something is made.
        run_name, folder, stored = self._make_folder(task, name, work_dir, inputs, may_clear=may_clear)
        request = Request(
            run_id=new_id(),
            session_id=session_id,
            name=run_name,
            task=task,
            work_dir=folder,
            options=options,
            inputs=stored,
            model=spec,
            settings=settings,
            max_cost_usd=limit,
            gates=answers,
            registry=registry.changed(models, instructions),
            models=models,
            instructions=instructions,
            after=after,
            then=make_after(host.db, host.writer, self.home, after) if after else None,
        )
        if selection.search:
            request = replace(
                request,
                skill_selector=selection.skill_selector(
                    host, request, required_tags, skill_parameters, inputs, no_model
                ),
            )
        return Run(host, request.run_id, live=start(host, request))

    def run_skill(
        self,
        skill: str | Skill | SkillRecord,
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
        from cmbagent_nb.skills.running.start_run import start_run
        from cmbagent_nb.workflow import run_options
        from cmbagent_nb.workflow.step_source import NO_MODEL

        settings, found = self.settings, self.skills.get(skill).info
        limit = options.pop("max_cost_usd", None)
        spec = NO_MODEL
        if mode == "guided" or (allow_adaptation and not strict_mode):
            try:
                spec = self._core.resolve_model(model or settings.model)
            except CMBAgentError:
                if model is not None or mode == "guided":
                    raise
        host = self._core.host
        live, run_id = start_run(
            host,
            found,
            parameters or {},
            settings=settings,
            registry=self.agents(),
            session_id=self._core.session_id(),
            model=spec,
            task=task,
            mode=mode,
            allow_adaptation=allow_adaptation,
            strict_mode=strict_mode,
            gates=run_options.read_gates(options.pop("gates", None), settings),
            max_cost_usd=settings.max_cost_usd if limit is None else run_options.number(max_cost_usd=limit),
            **options,
        )
        return Run(host, run_id, live=live)

    def _run_named(
        self,
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
        skill = self.skills.get(name).info
        inputs = dict(options.pop("inputs", None) or {})
        taken = check_conditions(skill, inputs).taken
        own = {parameter: inputs.pop(name) for parameter, name in taken.items() if name in inputs}
        values = {**named_values(task, skill.parameters), **own, **(parameters or {})}
        options["inputs"] = inputs
        run = self.run_skill(skill, values, task=task, model=model, max_cost_usd=max_cost_usd, **options)
        record_named(self._core.host, run.id, self._core.session_id(), task, skill.id)
        return run

    def _model_of(self, model: str | None, task: str, *, may_lack: bool) -> tuple[ModelSpec, CMBAgentError | None]:
        """Return a run's model; one that looks for a skill first may lack it until there is something to plan."""
        from cmbagent_nb.workflow.step_source import NO_MODEL

        try:
            return self._core.resolve_model(model or self.settings.model, task), None
        except NoModel as error:
            if model is not None or not may_lack:
                raise
            return NO_MODEL, error

    def _make_folder(
        self,
        task: str,
        name: str | None,
        work_dir: str | Path | None,
        inputs: Mapping[str, Any] | None,
        *,
        may_clear: bool,
    ) -> tuple[str, Path, list[dict[str, Any]]]:
        """Reserve a run's name and make its folder, with its inputs; nothing stays of one that cannot be made."""
        from cmbagent_nb.workflow import folders

        reserved = folders.reserve(self.home / "runs", name or folders.slug(task), named=name is not None)
        try:
            folder = reserved if work_dir is None else folders.take(work_dir, self._core.db, clear=may_clear)
        except CMBAgentError:
            folders.release(reserved)
            raise
        try:
            return reserved.name, folder, _store_inputs(inputs, folder)
        except CMBAgentError:
            if folder != reserved:
                folders.give_back(folder)
            folders.release(reserved)
            raise

    def resume(self, reference: str) -> Run:
        """Go on with a run that was interrupted or that failed; what is finished is not done again.

        Replies that the run had got are used again without a call, and code that had ended is not run again.

        Raises
        ------
        StateError
            The run has ended, or belongs to a process that lives.
        """
        run = self.run(reference)
        return Run(self._core.host, run.id, live=resume_run(self._core, run))

    def register(self, agent: Any) -> None:
        """Let the planner use an agent of your own: an ``AgentSpec`` or an ``ag2.Agent``.

        An agent with the name of one that is there takes its place, in the runs of this workspace object.
        """
        self._core.register(agent)

    def agents(self) -> Registry:
        """Return the agents that a run can use: the roster, those in ``agents/``, and those registered here."""
        return self._core.agents()

    # ---- looking at runs

    def run(self, reference: str) -> Run:
        """Return a run by its name, its id, or a unique beginning or end of its id.

        Raises
        ------
        RunNotFound, AmbiguousReference
        """
        return open_run(self._core.host, reference)

    def runs(self, **filters: Any) -> pd.DataFrame:
        """Return the runs of the workspace, newest first."""
        from cmbagent_nb.store import frames
        from cmbagent_nb.workflow.ownership import interrupt_orphans

        interrupt_orphans(self._core.db, self._core.writer)
        return frames.runs(self._core.db, **filters)

    def events(self) -> pd.DataFrame:
        """Return the events of all runs."""
        from cmbagent_nb.store import frames

        return frames.events(self._core.db)

    def approvals(self, run: str | None = None) -> list[dict[str, Any]]:
        """Return the open gates of all runs, or of one, oldest first."""
        from cmbagent_nb.store.approvals import open_gates

        return open_gates(self._core.db, None if run is None else self.run(run).id)


def one_shot(task: str, **options: Any) -> Run:
    """Give a task to one agent, in the default workspace; see :meth:`Workspace.start`."""
    return Workspace().one_shot(task, **options)


def planning_and_control(task: str, **options: Any) -> Run:
    """Plan a task and carry the plan out, in the default workspace; see :meth:`Workspace.start`."""
    return Workspace().planning_and_control(task, **options)


def deep_research(task: str, **options: Any) -> Run:
    """Plan a task and carry it out with its context, in the default workspace; see :meth:`Workspace.deep_research`."""
    return Workspace().deep_research(task, **options)


def _store_inputs(inputs: Mapping[str, Any] | None, folder: Path) -> list[dict[str, Any]]:
    if not inputs:
        return []
    from cmbagent_nb.execution.inputs import store_inputs

    return store_inputs(dict(inputs), folder / "input")
