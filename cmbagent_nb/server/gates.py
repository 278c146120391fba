"""Handles the REST requests for gates.

An answer to a gate that has one, or that shows something else by now, is 409 with the decision that holds.
"""

from __future__ import annotations

from typing import Any

from cmbagent_nb.errors import GateNotTaken
from cmbagent_nb.server import queries
from cmbagent_nb.server.base import ORIGIN, PATIENCE, Handler, guarded
from cmbagent_nb.workflow.answering import answer_gate


class Pending(Handler):
    """``GET /approvals/pending``: the gates that wait, the oldest first."""

    @guarded
    async def get(self) -> None:
        """Send the open gates of all workspaces."""
        await self.answer(self._list)

    def _list(self) -> dict[str, Any]:
        answers, _ = self.pool.read(lambda workspace: queries.pending(workspace._core.db), "pending")
        rows = [{**row, "workspace": str(home)} for home, _, found in answers for row in found]
        rows.sort(key=lambda row: row["created_at"] or 0.0)
        return {"approvals": rows}


class Approval(Handler):
    """``GET /approvals/{id}``: a gate with its options, and its answer once it has one."""

    @guarded
    async def get(self, reference: str) -> None:
        """Send a gate."""
        await self.answer(lambda: self.find_approval(reference)[1])


class Answer(Handler):
    """``POST /approvals/{id}/approve``, ``/reject`` and ``/resolve`` with ``{resolution, comment, hash}``."""

    @guarded
    async def post(self, reference: str, how: str) -> None:
        """Answer a gate and wait until the run's owner has taken the answer; 409 with the decision if another holds."""
        body = self.body()
        comment, wanted, seen = (self.text(body, name) for name in ("comment", "resolution", "hash"))
        try:
            gate = await self.thread(self._answer, reference, how, wanted, comment, seen)
        except GateNotTaken:
            self.set_status(202)
            gate = (await self.thread(self.find_approval, reference))[1]
            self.reply({"approval": gate, "yours": None})
        else:
            self.reply({"approval": gate, "yours": True})

    def _answer(self, reference: str, how: str, wanted: str, comment: str, seen: str) -> dict[str, Any]:
        workspace, gate = self.find_approval(reference)
        resolution = {"approve": "approved", "reject": "rejected"}.get(how, wanted)
        run = workspace.run(gate["run_id"])
        answer_gate(workspace._core.host, gate, resolution, comment, by=ORIGIN, hash=seen, patience=PATIENCE)
        run_again = queries.approval(workspace._core.db, gate["id"]) or {}
        return {**gate, **run_again, "run": run.name}
