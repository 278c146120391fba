"""The workspace: where runs are started, found and looked at together."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, NoModel, UsageError
from cmbagent_nb.execution.environment import pass_on
from cmbagent_nb.ids import new_id
from cmbagent_nb.keeping import Keeping
from cmbagent_nb.settings import Settings, default_home, load_settings, user_path
from cmbagent_nb.skill_runs import SkillRuns
from cmbagent_nb.skills.matching.finder import Finder
from cmbagent_nb.skills.sharing.shelf import Shelf
from cmbagent_nb.skills.workshop import Workshop

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.library import Library
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.run import Run
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.backup import Backup
    from cmbagent_nb.workflow.process_state import WorkspaceHandle
    from cmbagent_nb.workflow.repair import Repaired


class Workspace(Keeping, SkillRuns, Shelf, Finder, Workshop):
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
        self.home = user_path(path) if path is not None else default_home()
        given = {"database_url": database_url, "session": session}
        self._changes: dict[str, Any] = {name: value for name, value in given.items() if value}
        self._sessions: dict[str, str] = {}
        self._registered: list[Any] = []
        self._read_only = read_only
        self._reader: WorkspaceHandle | None = None
        _ = self.settings  # a broken setting is told here, not later

    def __repr__(self) -> str:
        return f"Workspace({str(self.home)!r}, session={self.settings.session!r})"

    # ---- what it stands on

    @property
    def settings(self) -> Settings:
        """The settings as they are now: environment, then ``config.toml``, then the defaults."""
        loaded = replace(load_settings(self.home), **self._changes)
        pass_on(str(self.home), loaded.pass_env)
        return loaded

    @property
    def host(self) -> WorkspaceHandle:
        """What this process has open of the workspace."""
        from cmbagent_nb.workflow.process_state import WorkspaceHandle, host

        if self._read_only:
            if self._reader is None:
                self._reader = WorkspaceHandle(self.home, self.settings.database_url, read_only=True)
            return self._reader
        return host(self.home, self.settings.database_url)

    @property
    def db(self) -> Database:
        """The database, for reading."""
        return self.host.db

    @property
    def writer(self) -> Writer:
        """The one writer of the database in this process."""
        return self.host.writer

    def warm(self) -> None:
        """Open the database and load what a run needs, in the background; nothing is raised."""
        threading.Thread(target=self._warm, name="cmbagent-warm", daemon=True).start()

    def _warm(self) -> None:
        from cmbagent_nb.workflow.launch import import_heavy

        try:
            _ = self.host
            import_heavy()
        except CMBAgentError:
            return  # the first command that needs it says why

    def close(self) -> None:
        """Cancel the runs of this process, write everything, and close the database."""
        from cmbagent_nb.workflow.process_state import close

        if self._read_only:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            return
        close(self.home, self.settings.database_url)

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

    def control(self, task: str, *, plan: Mapping[str, Any], **options: Any) -> Run:
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
        from cmbagent_nb.run import Run
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
            return self.run_named(selection.name, task, skill_parameters, model, given, max_cost_usd, plan)
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
        after = wanted_skill(self.db, create_skill, skill_name, task=task)
        host, session_id = self.host, self.session_id()
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

    def _model_of(self, model: str | None, task: str, *, may_lack: bool) -> tuple[ModelSpec, CMBAgentError | None]:
        """Return a run's model; one that looks for a skill first may lack it until there is something to plan."""
        from cmbagent_nb.workflow.step_source import NO_MODEL

        try:
            return self.resolve_model(model or self.settings.model, task), None
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
            folder = reserved if work_dir is None else folders.take(work_dir, self.db, clear=may_clear)
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
        from cmbagent_nb.run import Run
        from cmbagent_nb.skills.extracting.after import make_after
        from cmbagent_nb.skills.matching.offering import skill_selector_of
        from cmbagent_nb.skills.running.start_run import step_source_of
        from cmbagent_nb.store.archived import archived
        from cmbagent_nb.workflow.resume import resume

        host, run = self.host, self.run(reference)
        if run.status in ("failed", "interrupted") and archived(host.db, run.id) is not None:
            run = self.unarchive(run.id)  # whoever goes on with a run writes to its rows
        live = resume(
            host,
            run.id,
            self.settings,
            self.agents(),
            then_of=lambda wanted: make_after(host.db, host.writer, self.home, wanted),
            step_source_of=lambda id, kept, model: step_source_of(host, self.agents(), id, kept, model),
            skill_selector_of=lambda kept, model: skill_selector_of(host, self.settings, self.agents(), model, kept),
        )
        return Run(host, run.id, live=live)

    def register(self, agent: Any) -> None:
        """Let the planner use an agent of your own: an ``AgentSpec`` or an ``ag2.Agent``.

        An agent with the name of one that is there takes its place, in the runs of this workspace object.
        """
        self.agents().register(agent)
        self._registered.append(agent)

    def agents(self) -> Registry:
        """Return the agents that a run can use: the roster, those in ``agents/``, and those registered here."""
        from cmbagent_nb.agents.registry import Registry

        registry = Registry.load(self.settings.agents_dir, self.home)
        for agent in self._registered:
            registry.register(agent)
        return registry

    def resolve_model(self, model: str, task: str = "") -> ModelSpec:
        """Return the model that a run of ``task`` would use.

        ``auto`` takes the first of: a key in the environment, a server that answers on this machine, and a
        playbook if the task is its own recorded one.

        Raises
        ------
        NoModel
            There is none, or the playbook that was named was recorded for another task.
        UnknownModel, MissingKey, MissingExtra
            The model that was named cannot be used.
        """
        from cmbagent_nb.llm.playbook import Playbook, find_for_task, normalised
        from cmbagent_nb.llm.providers import available, check
        from cmbagent_nb.llm.spec import HOW_TO_SET, ModelSpec

        spec = ModelSpec.parse(model)
        if spec.provider != "auto":
            check(spec, self.settings)
            if spec.is_playbook and task and normalised(Playbook.load(spec.name).task) != normalised(task):
                raise NoModel(
                    f"the playbook {spec.name!r} holds recorded replies for another task than this one",
                    f"Run `cmbagent models` to see its task. {HOW_TO_SET}",
                    model=str(spec),
                )
            return spec
        choices = available(settings=self.settings)
        if choices:
            return choices[0].spec
        playbook = find_for_task(task) if task else None
        if playbook is None:
            raise NoModel("there is no model, and no playbook was recorded for this task", HOW_TO_SET)
        return ModelSpec.parse(f"playbook:{playbook}")

    # ---- looking at runs

    def session_id(self) -> str:
        """Return the id of the session that new runs belong to; it is made with its first run."""
        from cmbagent_nb.store.sessions import session_of

        name = self.settings.session
        self.writer.check()  # what is begun needs it: a full disk is told now, in one line
        if name not in self._sessions:
            self._sessions[name] = self.writer.call(lambda connection: session_of(connection, name)).result()
        return self._sessions[name]

    def run(self, reference: str) -> Run:
        """Return a run by its name, its id, or a unique beginning or end of its id.

        Raises
        ------
        RunNotFound, AmbiguousReference
        """
        from cmbagent_nb.run import Run
        from cmbagent_nb.store.lookup import find_run

        host = self.host
        run_id = str(find_run(host.db, reference)["id"])
        return Run(host, run_id, live=host.live.get(run_id))

    def runs(self, **filters: Any) -> pd.DataFrame:
        """Return the runs of the workspace, newest first."""
        from cmbagent_nb.store import frames
        from cmbagent_nb.workflow.ownership import interrupt_orphans

        interrupt_orphans(self.db, self.writer)
        return frames.runs(self.db, **filters)

    def events(self) -> pd.DataFrame:
        """Return the events of all runs."""
        from cmbagent_nb.store import frames

        return frames.events(self.db)

    def approvals(self, run: str | None = None) -> list[dict[str, Any]]:
        """Return the open gates of all runs, or of one, oldest first."""
        from cmbagent_nb.store.approvals import open_gates

        return open_gates(self.db, None if run is None else self.run(run).id)

    def library(self, search: str = "") -> Library:
        """Return the skills to look through: in a notebook a browser with search, and a form for each."""
        from cmbagent_nb.library import Library

        return Library(self, search)

    def create_skill(self, notebook: str | Path, name: str | None = None, **options: Any) -> Skill:
        """Make a skill of any notebook with a cell tagged ``parameters``, and verify it.

        A name that another notebook has is refused without ``version_of``.

        Parameters
        ----------
        notebook
            The notebook's path. It is run in a copy of its folder; what it is seen to read is brought along.
        options
            ``version_of`` (the skill of which it is the next version), ``tags``, ``description``, ``on_progress``,
            ``timeout_s``, ``liveness_s``; ``bring`` (files to bring along besides), ``allow_outside_writes``
            (outside of its folder, while it is tried).

        Raises
        ------
        SkillError
            It is no notebook that a skill can be made of; see the error's text.
        """
        from cmbagent_nb.skills.extracting.create import create

        session_id = self.session_id()
        return create(self.db, self.writer, self.home, notebook, name=name, session_id=session_id, **options)


def restore_workspace(file: str | Path, path: str | Path | None = None) -> Backup:
    """Put a backup into an empty workspace: the one in ``path``, else the default one.

    Raises
    ------
    UsageError
        The workspace is not empty, or the file is no backup.
    StoreError
        The file is damaged; nothing has been put back.
    """
    from cmbagent_nb.workflow.backup import is_empty, restore

    home = user_path(path) if path is not None else default_home()
    if is_empty(home):
        Workspace(home).close()  # an empty database may be open in this process
    return restore(Path(file), home)


def repair_workspace(path: str | Path | None = None) -> list[str]:
    """Mend a workspace's database and journals; returns the names of the runs taken from their journals.

    See :func:`mend_workspace`, which tells what was done run by run.
    """
    return mend_workspace(path).names


def mend_workspace(path: str | Path | None = None) -> Repaired:
    """Compare a workspace's database with the journals of its runs, and let each give what the other has lost.

    A database that is damaged or gone is made anew; what is damaged is moved aside and not deleted.

    Raises
    ------
    StoreError
        The workspace cannot be written.
    """
    from cmbagent_nb.store.database import FILE_NAME
    from cmbagent_nb.store.health import damage
    from cmbagent_nb.store.sqlite import kind_of
    from cmbagent_nb.workflow.repair import Repaired, lost_skills, repair, salvage, set_aside

    home = user_path(path) if path is not None else default_home()
    workspace, done = Workspace(home), Repaired()
    if not workspace.settings.database_url:
        database = home / FILE_NAME
        done.damage = damage(database)
        workspace.close()
        if done.damage:
            done.aside = set_aside(database)
    try:
        db, writer = workspace.db, workspace.writer
        writer.check()
        if done.aside is not None and not kind_of(done.aside):
            done.salvaged = salvage(done.aside, writer)
        done.runs = repair(db, writer)
        if lost := lost_skills(db):
            done.notes.append(
                f"{lost} skill{'s' if lost != 1 else ''} in {home / 'skills'} are not in the database: make them again"
                " with `cmbagent skill create NOTEBOOK`."
            )
    finally:
        workspace.close()
    return done


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
