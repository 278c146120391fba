"""Defines the base handler: authentication, threads, finding a run or a gate, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from cmbagent_nb.errors import (
    AmbiguousReference,
    CMBAgentError,
    GateAlreadyAnswered,
    GateError,
    RunNotFound,
    SkillError,
    SkillNotFound,
    SkillRefused,
    SkillUntrusted,
    StateError,
    UsageError,
)
from cmbagent_nb.redaction import scrub
from cmbagent_nb.server import queries
from cmbagent_nb.server.workspace_pool import Problem, WorkspacePool, no_such

if TYPE_CHECKING:
    from cmbagent_nb.skills.handle import Skill
    from cmbagent_nb.workspace import Workspace

T = TypeVar("T")

#: Who has decided, as the record has it.
ORIGIN = "you, over REST"

#: Seconds to wait for the owner of a run to act on a command or an answer.
PATIENCE = 2.0


class Handler(APIHandler):
    """Base of all handlers: workspace pool, threads and errors."""

    auth_resource = "cmbagent"

    def initialize(self, pool: WorkspacePool) -> None:
        """Take the workspaces that are served."""
        self.pool = pool

    async def answer(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Run blocking work in a thread and send what it returns as JSON."""
        self.reply(await self.thread(work, *arguments))

    async def thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work in a thread."""
        return await asyncio.to_thread(work, *arguments)

    def reply(self, data: Any) -> None:
        """Send data as JSON."""
        self.set_header("Content-Type", "application/json")
        self.finish(scrub(json.dumps(data, default=str)))

    def write_error(self, status_code: int, **details: Any) -> None:
        """Send an error as JSON that says what to do next."""
        error = details.get("exc_info", (None, None, None))[1]
        more: dict[str, Any] = {}
        if isinstance(error, GateAlreadyAnswered):
            decision = {name: error.data.get(name) for name in ("id", "resolution", "feedback", "by", "at")}
            more = {"yours": False, "decision": decision}
        if isinstance(error, CMBAgentError):
            status_code = status_of(error)
            what, next_step = f"{error.what[:1].upper()}{error.what[1:]}.", error.next_step
        elif isinstance(error, web.HTTPError):
            what = str(error.log_message or error.reason or "The request was refused")
            next_step = _NEXT.get(status_code, "")
        else:
            what, next_step = f"The server failed ({type(error).__name__}).", "See the log of the Jupyter server."
        self.set_status(status_code)
        self.reply({"error": what, "next_step": next_step, "message": f"{what} {next_step}".strip(), **more})

    def log_exception(self, *details: Any) -> None:
        """Log our own errors in a line: they are answers, not faults."""
        if isinstance(details[1], CMBAgentError):
            self.log.info("cmbagent: %s", details[1])
        else:
            super().log_exception(*details)

    def number(self, name: str, default: int, most: int) -> int:
        """Read a whole number from the query."""
        text = self.get_query_argument(name, str(default))
        try:
            value = int(text)
        except ValueError:
            raise UsageError(f"{name} is {text!r}, not a whole number", f"Leave it out for {default}.") from None
        if not 0 <= value <= most:
            raise UsageError(f"{name} is {value}", f"It can be 0 to {most}.")
        return value

    def body(self) -> dict[str, Any]:
        """Read the request's JSON object; nothing is an empty one."""
        try:
            data = self.get_json_body()
        except (ValueError, RecursionError) as error:  # no UTF-8, nested too deep
            raise UsageError("the body cannot be read as JSON", "Send a JSON object in UTF-8.") from error
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise UsageError("the body is not a JSON object", 'Send something like {"comment": "…"}.')
        return data

    def text(self, data: dict[str, Any], name: str) -> str:
        """Read a text from the request's body."""
        value = data.get(name, "")
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} is not a text", f"Send it as a JSON string, or leave {name} out.")
        return value or ""

    def find_run(self, reference: str) -> tuple[Path, Workspace, str]:
        """Find the workspace and the id of a run by id, name, or a unique part of its id.

        Raises
        ------
        RunNotFound
            No workspace has it.
        AmbiguousReference
            More than one run fits.
        """
        from cmbagent_nb.store.lookup import find_run

        home, workspace, row = self.find_row(
            "run", reference, lambda workspace: find_run(workspace._core.db, reference)
        )
        return home, workspace, str(row["id"])

    def find_skill(self, reference: str) -> tuple[Path, Workspace, Skill]:
        """Find the workspace and the skill by id, name, ``name@version``, or a unique part of its id.

        ``?workspace=PATH`` says which workspace is meant, where several have one of the name.

        Raises
        ------
        SkillNotFound
            No workspace has it.
        AmbiguousReference
            More than one skill fits.
        """
        from cmbagent_nb.store.lookup import find_skill

        def find(workspace: Workspace) -> dict[str, Any]:
            workspace.skills._open()
            return find_skill(workspace._core.db, reference)

        home, workspace, row = self.find_row("skill", reference, find)
        return home, workspace, workspace.skills.get(row["id"])

    def find_row(
        self, kind: str, reference: str, find: Callable[[Workspace], dict[str, Any]]
    ) -> tuple[Path, Workspace, dict[str, Any]]:
        """Find the one workspace in which a row fits, and the row."""
        wanted = self.get_query_argument("workspace", "")
        found, _ = self.pool.read(lambda workspace: _find(workspace, find))
        fitting = [
            (home, workspace, fit)
            for home, workspace, fit in found
            if fit is not None and (not wanted or Path(wanted) == home)
        ]
        for _, _, fit in fitting:
            if isinstance(fit, AmbiguousReference):
                raise fit
        if not fitting:
            if kind == "skill":
                raise SkillNotFound(f"no skill matches {reference!r}", "List them with %cmbagent skills.")
            raise no_such(kind, reference)
        if len(fitting) > 1:
            raise AmbiguousReference(
                f"{reference!r} fits {kind}s in {len(fitting)} workspaces",
                "Use the whole id, or say which with ?workspace=.",
                reference=reference,
                candidates=[fit["id"] for _, _, fit in fitting if isinstance(fit, dict)],
            )
        home, workspace, fit = fitting[0]
        assert isinstance(fit, dict)
        return home, self.may_change(home, workspace), fit

    def may_change(self, home: Path, workspace: Workspace) -> Workspace:
        """Return the workspace as this request may use it: a GET only looks."""
        return workspace if self.request.method in ("GET", "HEAD") else self.pool.writable(home)

    def find_approval(self, reference: str) -> tuple[Workspace, dict[str, Any]]:
        """Find the workspace and the row of a gate by its id.

        Raises
        ------
        RunNotFound
            No workspace has it.
        """
        found, _ = self.pool.read(lambda workspace: queries.approval(workspace._core.db, reference))
        for home, workspace, row in found:
            if row is not None:
                return self.may_change(home, workspace), {**row, "workspace": str(home)}
        raise no_such("gate", reference)


def _find(
    workspace: Workspace, find: Callable[[Workspace], dict[str, Any]]
) -> dict[str, Any] | AmbiguousReference | None:
    """Return the row that fits in a workspace; that several do is an answer too."""
    try:
        return find(workspace)
    except (RunNotFound, SkillNotFound):
        return None
    except AmbiguousReference as error:
        return error


def shown(problems: list[Problem]) -> list[dict[str, str]]:
    """Return the workspaces that could not be read, as JSON shows them."""
    return [{"workspace": str(item.workspace), "error": item.error, "next_step": item.next_step} for item in problems]


def status_of(error: CMBAgentError) -> int:
    """Return the HTTP status for one of our errors.

    400 wrong use, 403 not allowed, 404 not there, 409 not now or not one, 500 our fault.
    """
    if isinstance(error, RunNotFound | SkillNotFound):
        return 404
    if isinstance(error, SkillUntrusted):
        return 403
    if isinstance(error, SkillError):
        return 400 if isinstance(error, SkillRefused) or error.exit_status == 2 else 409
    if isinstance(error, AmbiguousReference | StateError):
        return 409
    if isinstance(error, GateAlreadyAnswered) or (isinstance(error, GateError) and not hasattr(error, "resolution")):
        return 409  # it is about the gate, not about the answer
    return 400 if isinstance(error, UsageError) else 500


_NEXT = {
    400: "Check the request's body.",
    403: "Sign in to the Jupyter server, or send its token.",
    405: "See which methods this address takes.",
}


def guarded(method: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    """Let only those in whom the Jupyter server lets in."""
    return web.authenticated(authorized(method))
