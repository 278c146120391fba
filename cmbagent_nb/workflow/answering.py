"""The one way in which a gate is answered, from whichever front end and process.

The process that owns the run decides: the first answer is written with ``WHERE status = 'pending'``. Each answer has an
id of its own, so that whoever gave one learns whether it is the one that holds.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import GateError, GateNotTaken, StateError
from cmbagent_nb.ids import new_id, short
from cmbagent_nb.runtime import Runtime
from cmbagent_nb.store.approvals import find_gate
from cmbagent_nb.workflow.commands import send
from cmbagent_nb.workflow.gates import Answer, check_answer, check_hash, closed, usual

if TYPE_CHECKING:
    from cmbagent_nb.workflow.process_state import LiveRun, WorkspaceHandle

#: Seconds to wait until the process of the run has taken an answer.
PATIENCE = 10.0
#: Seconds after which is looked again though nothing was heard.
LOOK = 0.05


def answer_gate(
    host: WorkspaceHandle,
    gate: Mapping[str, Any],
    resolution: str,
    feedback: str = "",
    *,
    by: str,
    hash: str = "",
    live: LiveRun | None = None,
    patience: float = PATIENCE,
) -> Answer:
    """Answer a gate and return the decision once it holds.

    Parameters
    ----------
    gate
        Its row, with ``context`` parsed.
    resolution
        One of the gate's options; ``approved`` and ``rejected`` mean the usual yes and no of every gate.
    hash
        The hash of what was shown to whoever answers; where it is given, nothing else is answered.
    live
        The run, if this process owns it.

    Raises
    ------
    GateAlreadyAnswered
        Another answer holds; the error has it. An answer that says the same is another one, too.
    GateChanged
        The gate shows something else.
    GateNotTaken
        The process of the run has not acted within ``patience`` seconds.
    GateError
        The gate is not open, or does not take this answer.
    """
    gate_id = str(gate["id"])
    if gate.get("status", "pending") != "pending":
        raise closed(gate, gate_id)
    options = frozenset(str(option["id"]) for option in gate["context"].get("options", ()))
    resolution = meant(resolution, options)
    check_answer(options, resolution, feedback)
    check_hash(str(gate["context"].get("hash", "")), hash, gate_id)
    answer_id = new_id()
    if live is not None:
        if Runtime.get().inside():
            raise StateError("a gate cannot be answered on the loop that runs the run", "Answer it from a thread.")
        work = live.answer(gate_id, resolution, feedback, by, hash=hash, answer_id=answer_id)
        try:
            return Runtime.get().submit(work).result(patience)
        except concurrent.futures.TimeoutError:
            raise _not_taken(gate_id) from None
    asked = {
        "approval_id": gate_id,
        "resolution": resolution,
        "feedback": feedback,
        "hash": hash,
        "answer_id": answer_id,
    }
    run_id = str(gate["run_id"])
    command_id = send(host.writer, run_id, "answer_gate", asked, by)
    return _wait(host, run_id, gate_id, command_id, answer_id, patience)


def meant(resolution: str, options: frozenset[str]) -> str:
    """Return the option that a word means at a gate: yes and no have other names at some.

    >>> meant("approved", frozenset({"retry", "skip", "abort"})), meant("skip", frozenset({"retry", "skip", "abort"}))
    ('retry', 'skip')
    """
    how = {"approved": "approve", "rejected": "reject"}.get(resolution)
    return resolution if how is None or resolution in options else usual(how, options)


def _wait(host: WorkspaceHandle, run_id: str, gate_id: str, command_id: str, answer_id: str, patience: float) -> Answer:
    """Wait until the owner of the run has acted on an answer, and tell whose decision holds."""
    changed = threading.Event()
    stop = host.subscribe(run_id, changed.set)
    until = time.monotonic() + patience
    try:
        while True:
            changed.clear()
            # The command is read first: once it is handled, the gate's row is as it stays.
            (command,) = host.db.rows("SELECT handled_at, outcome FROM commands WHERE id = :id", id=command_id)
            gate = find_gate(host.db, gate_id)
            if gate is None or gate["status"] != "pending":
                return _told(gate, gate_id, answer_id)
            if command["handled_at"] is not None:
                raise GateError(str(command["outcome"] or "").removeprefix("refused: ").rstrip("."), "", id=gate_id)
            if time.monotonic() > until:
                raise _not_taken(gate_id)
            changed.wait(LOOK)
    finally:
        stop()


def _told(gate: Mapping[str, Any] | None, gate_id: str, answer_id: str) -> Answer:
    if gate is None or gate["status"] != "resolved" or gate["result"].get("answer_id") != answer_id:
        raise closed(gate, gate_id)
    return Answer(
        gate_id,
        str(gate["resolution"]),
        gate["user_feedback"] or "",
        gate["resolved_by"] or "",
        str(gate["result"].get("hash", "")),
    )


def _not_taken(gate_id: str) -> GateNotTaken:
    return GateNotTaken(
        f"the process of the run has not taken the answer to gate {short(gate_id)} yet",
        "See with %cmbagent status whether it still runs.",
        id=gate_id,
    )
