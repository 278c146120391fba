"""Defines the base handler of skills: reading bodies, finding workspaces, waiting for jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError, UsageError
from cmbagent_nb.server.base import Handler
from cmbagent_nb.server.skill_jobs import Job, Jobs

if TYPE_CHECKING:
    from cmbagent_nb.server.workspace_pool import WorkspacePool
    from cmbagent_nb.workspace import Workspace

#: Seconds that work is waited for where the body does not say it, and at most.
PATIENCE, MOST_PATIENCE = 30.0, 600.0


class SkillHandler(Handler):
    """Base of the handlers of skills: reading bodies, finding skills, jobs."""

    def initialize(self, pool: WorkspacePool, jobs: Jobs | None = None) -> None:
        """Take the workspaces and the jobs."""
        super().initialize(pool)
        self.jobs = jobs or Jobs()

    def texts(self, data: dict[str, Any], name: str) -> list[str]:
        """Read a list of texts from the body; a text is a list of words with commas between."""
        value = data.get(name) or []
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{name} is not a list of strings", f'Send {name} as in ["a", "b"].')
        return value

    def mapping(self, data: dict[str, Any], name: str) -> dict[str, Any]:
        """Read an object from the body."""
        value = data.get(name) or {}
        if not isinstance(value, dict):
            raise UsageError(f"{name} is not an object", f'Send {name} as in {{"key": "value"}}.')
        return value

    def flag(self, data: dict[str, Any], name: str) -> bool:
        """Read a truth value from the body."""
        value = data.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{name} is neither true nor false", f"Send true or false, or leave {name} out.")
        return value

    def numeric(self, data: dict[str, Any], name: str, default: float | None, least: float, most: float) -> Any:
        """Read a number from the body."""
        value = data.get(name, default)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise UsageError(f"{name} cannot be {value!r}", f"It is a number from {least:g} to {most:g}.")
        return value

    def needed(self, data: dict[str, Any], name: str) -> str:
        """Read a text that must be there."""
        value = self.text(data, name).strip()
        if not value:
            raise UsageError(f"there is no {name}", f'Send {{"{name}": "…"}}.')
        return value

    async def work(self, what: str, home: Path, arguments: dict[str, Any], wait: float, **about: Any) -> None:
        """Begin a job and answer with its outcome, or with the job when it takes longer than is waited for."""
        job = await self.jobs.start(what, home, arguments, about)
        if wait:
            await self.jobs.wait(job, wait)
        self.ended(job)

    def ended(self, job: Job) -> None:
        """Answer with a job's outcome, or with the job."""
        if job.error is not None:
            raise job.error
        if job.over.is_set():
            self.reply(job.result)
        else:
            self.set_status(202)
            self.reply(job.as_dict())

    def patience(self, data: dict[str, Any], default: float = PATIENCE) -> float:
        """Read how long the answer may take."""
        return float(self.numeric(data, "wait", default, 0, MOST_PATIENCE))

    def workspace(self, named: str) -> tuple[Path, Workspace]:
        """Return the workspace that was named, or the only one, or the default one.

        Raises
        ------
        UsageError
            There is no such workspace.
        """
        found, _ = self.pool.read(lambda workspace: None)
        known = {home: workspace for home, workspace, _ in found}
        wanted = Path(named) if named else next(iter(known), None)
        if wanted is None or wanted not in known:
            what = f"there is no workspace {named}" if named else "there is no workspace yet"
            raise UsageError(what, "Open one first: cmbagent_nb.Workspace(…).db, or cmbagent runs.")
        return wanted, self.may_change(wanted, known[wanted])


def checked(check: Any, *arguments: Any, **options: Any) -> Any:
    """Check what was sent: what does not fit is wrong use."""
    try:
        return check(*arguments, **options)
    except SkillError as error:
        if type(error) is not SkillError:
            raise
        raise UsageError(error.what, error.next_step, **error.data) from error
