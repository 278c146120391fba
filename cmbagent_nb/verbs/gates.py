"""The verbs that answer gates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import GateError, RunNotFound, UsageError
from cmbagent_nb.ids import short
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output

if TYPE_CHECKING:
    from cmbagent_nb.run import Run

#: Seconds to wait until the process of the run has taken an answer.
PATIENCE = 5.0

_GATE = arg("gate", nargs="?", metavar="RUN|GATE", help="a run or a gate; not needed while only one gate is open")
_FEEDBACK = arg("--feedback", default="", metavar="TEXT", help="a comment, which the agents read")


@verb("approvals", arg("run", nargs="?", metavar="RUN", help="only the gates of this run"), group="control")
def approvals(call: Call) -> Output:
    """List the gates that wait for a decision."""
    from cmbagent_nb.verbs.follow import gate_lines

    call.refresh()
    found = call.ws.approvals(call.options.run)

    def text() -> str:
        if not found:
            return "No gate is open."
        return "\n\n".join(
            "\n".join([f"{gate['run_name']}, {gate['node_id']}:", *gate_lines(gate, call.prog)]) for gate in found
        )

    return Output(found, text)


@verb(
    "approve",
    _GATE,
    _FEEDBACK,
    arg("--changes", metavar="TEXT", help="ask for changes instead: the plan goes back to the planner"),
    arg("--choose", metavar="OPTION", help="another of the gate's options, such as retry, skip or redo"),
    group="control",
)
def approve(call: Call) -> Output:
    """Approve what waits at a gate, and the run goes on."""
    options = call.options
    if options.changes is not None and (options.choose or options.feedback):
        raise UsageError("--changes goes with neither --choose nor --feedback", "Give --changes alone.")
    if options.changes is not None:
        return _answer(call, "modified", options.changes)
    return _answer(call, options.choose or "approved", options.feedback)


@verb("reject", _GATE, _FEEDBACK, group="control")
def reject(call: Call) -> Output:
    """Reject what waits at a gate: a plan is refused, after a failed step the run ends."""
    return _answer(call, "rejected", call.options.feedback)


@verb("changes", _GATE, arg("text", metavar="TEXT", help="what should be different"), group="control")
def changes(call: Call) -> Output:
    """Ask for changes at a gate: a plan goes back to the planner with the comment."""
    return _answer(call, "modified", call.options.text)


def _answer(call: Call, resolution: str, feedback: str) -> Output:
    call.refresh()
    gate = _find(call)
    run = call.ws.run(gate["run_id"])
    options = {str(option["id"]): str(option["label"]) for option in gate["context"]["options"]}
    if resolution == "rejected":
        run.reject(gate["id"], feedback, by=call.by)
    else:
        if resolution == "modified" and "modified" not in options and "redo" in options:
            resolution = "redo"
        run.approve(gate["id"], resolution, feedback, by=call.by)
    answer = _taken(call, run, gate["id"])
    data = {"approval_id": gate["id"], "run_id": run.id, "run": run.name, "node_id": gate["node_id"], **answer}
    title = gate["context"].get("title") or gate["node_id"]
    label = options.get(str(answer["resolution"]), str(answer["resolution"]))
    return Output(data, f"{run.name}: {title} · {label}")


def _taken(call: Call, run: Run, gate_id: str) -> dict[str, Any]:
    """Wait until the process that owns the run has taken the answer; returns what it took."""
    until = time.monotonic() + PATIENCE
    while True:
        row = call.ws.db.rows(
            "SELECT status, resolution, user_feedback, resolved_by FROM approval_requests WHERE id = :id", id=gate_id
        )[0]
        if row["status"] != "pending":
            break
        if time.monotonic() > until:
            raise GateError(
                f"run {run.name} has not taken the answer to gate {short(gate_id)} yet",
                f"See whether its process still runs: {call.prog} status {run.name}.",
                id=gate_id,
            )
        time.sleep(0.02)
    if row["status"] != "resolved":
        raise GateError(f"gate {short(gate_id)} is {row['status']}", "The run does not wait any more.", id=gate_id)
    if row["resolved_by"] != call.by:
        raise GateError(
            f"gate {short(gate_id)} was answered already by {row['resolved_by']}: {row['resolution']}",
            "Nothing is to be done.",
            id=gate_id,
        )
    return row


def _find(call: Call) -> dict[str, Any]:
    """Return the gate that is meant: by its id, a part of it, or its run."""
    found = call.ws.approvals()
    reference = call.options.gate
    listing = f"List them with {call.prog} approvals."
    if reference is not None:
        of_id = [gate for gate in found if gate["id"].startswith(reference) or gate["id"].endswith(reference)]
        if len(of_id) == 1:
            return of_id[0]
        try:
            run = call.ws.run(reference)
        except RunNotFound:
            raise _no_gate(call, reference, listing) from None
        found = [gate for gate in found if gate["run_id"] == run.id]
        if not found:
            raise GateError(f"run {run.name} has no open gate; it is {run.status}", listing, reference=reference)
    if not found:
        raise GateError("no gate is open", f"See how a run stands with {call.prog} status.")
    if len(found) > 1:
        names = ", ".join(f"{short(gate['id'])} ({gate['run_name']}, {gate['node_id']})" for gate in found)
        raise GateError(f"{len(found)} gates are open: {names}", "Name one of them.", gates=found)
    return found[0]


def _no_gate(call: Call, reference: str, listing: str) -> GateError:
    """Return why a reference means no gate: it was answered already, or there is none."""
    closed = call.ws.db.rows(
        "SELECT id, status, resolution, resolved_by FROM approval_requests"
        " WHERE status <> 'pending' AND (id LIKE :beginning OR id LIKE :end)",
        beginning=f"{reference}%",
        end=f"%{reference}",
    )
    if len(closed) == 1:
        gate = closed[0]
        how = f"answered already: {gate['resolution']}" if gate["status"] == "resolved" else gate["status"]
        by = f" by {gate['resolved_by']}" if gate["resolved_by"] else ""
        return GateError(f"gate {short(gate['id'])} is {how}{by}", listing, reference=reference)
    return GateError(f"no open gate and no run matches {reference!r}", listing, reference=reference)
