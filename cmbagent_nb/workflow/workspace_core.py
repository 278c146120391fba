"""Holds the parts of a workspace that its public objects share: settings, database, agents, model, session."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, NoModel
from cmbagent_nb.execution.environment import pass_on
from cmbagent_nb.settings import Settings, load_settings

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.llm.spec import ModelSpec
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.process_state import WorkspaceHandle


class WorkspaceCore:
    """A workspace without its public methods; the database is opened on first use.

    Parameters
    ----------
    home
        The workspace's folder.
    changes
        Settings that were given in code, which come before the environment.
    read_only
        Whether nothing may be written.
    """

    def __init__(self, home: Path, changes: Mapping[str, Any], *, read_only: bool = False) -> None:
        self.home = home
        self._changes = {name: value for name, value in changes.items() if value}
        self._sessions: dict[str, str] = {}
        self._registered: list[Any] = []
        self._read_only = read_only
        self._reader: WorkspaceHandle | None = None

    @property
    def settings(self) -> Settings:
        """The settings as they are now: environment, then ``config.toml``, then the defaults."""
        loaded = replace(load_settings(self.home), **self._changes)
        pass_on(str(self.home), loaded.pass_env)
        return loaded

    @property
    def host(self) -> WorkspaceHandle:
        """The database, the writer and the live runs of this process."""
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

    def close(self) -> None:
        """Cancel the runs of this process, write everything, and close the database."""
        from cmbagent_nb.workflow.process_state import close

        if self._read_only:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            return
        close(self.home, self.settings.database_url)

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

    def session_id(self) -> str:
        """Return the id of the session that new runs belong to; it is made with its first run."""
        from cmbagent_nb.store.sessions import session_of

        name = self.settings.session
        self.writer.check()  # a run that starts writes: a full disk is reported now, in one line
        if name not in self._sessions:
            self._sessions[name] = self.writer.call(lambda connection: session_of(connection, name)).result()
        return self._sessions[name]

    def register(self, agent: Any) -> None:
        """Add an agent for the runs of this object; see :meth:`cmbagent_nb.Workspace.register`."""
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
