"""Handles the REST requests for runs.

| rule | |
|---|---|
| authorization | every user of the Jupyter server: its authentication, its XSRF check, its authorizer |
| work on the database | in a thread, never on the server's event loop |
| an error | ``{"error", "next_step", "message"}`` with the status that :func:`.base.status_of` gives |
| an answer to a gate, pause, resume | is replied to once the run's owner has acted; after two seconds with 202 |
| no run goes on in the server | what was interrupted or failed is resumed by a notebook or the command line |
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, UsageError
from cmbagent_nb.server import queries
from cmbagent_nb.server.base import ORIGIN, PATIENCE, Handler, guarded, shown
from cmbagent_nb.workflow.commands import send
from cmbagent_nb.workflow.ownership import interrupt_orphans
from cmbagent_nb.workflow.resume import RESUMABLE

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace

#: Seconds between two looks for the outcome of a command.
LOOK = 0.05


class Runs(Handler):
    """``GET /runs?status=&limit=``: the newest runs of all workspaces."""

    @guarded
    async def get(self) -> None:
        """Send the runs, and the workspaces that could not be read."""
        limit, status = self.number("limit", 100, 1000), self.get_query_argument("status", "")
        await self.answer(self._list, limit, status)

    def _list(self, limit: int, status: str) -> dict[str, Any]:
        answers, problems = self.pool.read(
            lambda workspace: queries.runs(workspace._core.db, limit=limit, status=status), ("runs", limit, status)
        )
        rows = [
            {**queries.with_life(row, workspace._core.db), "workspace": str(home)}
            for home, workspace, found in answers
            for row in found
        ]
        silent = {row["workspace"] for row in rows if row["silent"]}
        for home, workspace, _ in answers:
            if str(home) in silent:  # whoever looks marks them as interrupted; the next look shows it
                interrupt_orphans(workspace._core.db, workspace._core.writer)
        rows.sort(key=lambda row: row["created_at"] or 0.0, reverse=True)
        return {"runs": rows[:limit], "problems": shown(problems)}


class Run(Handler):
    """``GET /runs/{id}`` and what is below it.

    ``/status``, ``/steps`` and ``/dag`` are whole; ``/events``, ``/history``, ``/messages``, ``/files``, ``/costs``
    and ``/checkpoints`` come in pages by ``?after=&limit=``, each with the ``after`` of the next one.
    """

    @guarded
    async def get(self, reference: str, part: str | None) -> None:
        """Send a run or a part of it."""
        after, limit = self.number("after", 0, 2**62), self.number("limit", 500, 10_000)
        await self.answer(self._part, reference, part or "", after, limit)

    def _part(self, reference: str, part: str, after: int, limit: int) -> dict[str, Any]:
        home, workspace, run_id = self.find_run(reference)
        db = workspace._core.db
        if part == "steps":
            return {"steps": queries.steps(db, run_id)}
        if part == "events":
            found = queries.events(db, run_id, after=after, limit=limit)
            return {"events": found, "after": found[-1]["execution_order"] if found else after}
        if part in queries.PARTS:
            return queries.page(db, run_id, part, after=after, limit=limit)
        if part == "dag":
            return queries.graph(db, run_id)
        row = queries.run(db, run_id)
        if part == "status":
            return {name: row[name] for name in ("id", "name", "status", "started_at", "ended_at", "error")}
        return {**row, "workspace": str(home)}


class Cancel(Handler):
    """``POST /runs/{id}/cancel``."""

    @guarded
    async def post(self, reference: str) -> None:
        """Cancel a run, whichever process it belongs to."""
        await self.answer(self._cancel, reference)

    def _cancel(self, reference: str) -> dict[str, Any]:
        _, workspace, run_id = self.find_run(reference)
        run = workspace.run(run_id)
        run.cancel(by=ORIGIN)
        return {"id": run_id, "status": run.status}


class Hold(Handler):
    """``POST /runs/{id}/pause`` with ``{now}``, and ``/resume``."""

    @guarded
    async def post(self, reference: str, what: str) -> None:
        """Ask the process that owns a run to pause it or to go on, and wait until it has acted."""
        body = self.body()
        now = body.get("now", False)
        if not isinstance(now, bool):
            raise UsageError("now is neither true nor false", "Send true to stop the code that runs, too.")
        workspace, run_id, sent = await self.thread(self._send, reference, what, now)
        for _ in range(round(PATIENCE / LOOK)):
            outcome = await self.thread(queries.command, workspace._core.db, sent)
            if outcome is not None:
                break
            await asyncio.sleep(LOOK)
        else:
            self.set_status(202)
        if outcome not in {None, f"{what}d"}:
            said = str(outcome).removeprefix("refused: ").rstrip(".")
            raise StateError(f"the run was not {what}d: {said}", f"See /runs/{run_id}/status.", run_id=run_id)
        await self.answer(self._status, workspace, run_id)

    def _send(self, reference: str, what: str, now: bool) -> tuple[Workspace, str, str]:
        _, workspace, run_id = self.find_run(reference)
        interrupt_orphans(workspace._core.db, workspace._core.writer)
        row = queries.run(workspace._core.db, run_id)
        if (refusal := _refusal(what, row["name"], row["status"])) is not None:
            raise refusal
        return (
            workspace,
            run_id,
            send(workspace._core.writer, run_id, what, {"now": now} if what == "pause" else {}, ORIGIN),
        )

    def _status(self, workspace: Workspace, run_id: str) -> dict[str, Any]:
        return {"id": run_id, "status": queries.run(workspace._core.db, run_id)["status"]}


def _refusal(what: str, name: str, status: str) -> StateError | None:
    """Return why a run with this status cannot be paused or resumed by a command to its owner; None if it can.

    >>> _refusal("resume", "mine", "failed").next_step
    'Resume it from a notebook (%cmbagent resume mine) or with: cmbagent resume mine'
    >>> _refusal("resume", "mine", "paused")
    """
    if what == "resume" and status in RESUMABLE:
        return StateError(
            f"run {name} is {status}, and no process has it",
            f"Resume it from a notebook (%cmbagent resume {name}) or with: cmbagent resume {name}",
            status=status,
        )
    if what == "resume" and status != "paused":
        return StateError(f"run {name} is {status}, not paused", "There is nothing to resume.", status=status)
    if what == "pause" and (status == "paused" or status not in queries.ACTIVE):
        return StateError(f"run {name} is {status}", "Only a run that goes on can be paused.", status=status)
    return None
