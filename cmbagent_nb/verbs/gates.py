"""The verbs that answer gates."""

from __future__ import annotations

from typing import Any

from cmbagent_nb.errors import GateChanged, GateError, RunNotFound, UsageError
from cmbagent_nb.ids import short
from cmbagent_nb.render.gate import REFUSALS, gate_text, shown
from cmbagent_nb.store.approvals import find_gate
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output

_GATE = arg("gate", nargs="?", metavar="RUN|GATE", help="a run or a gate; not needed while only one gate is open")
_FEEDBACK = arg("--feedback", default="", metavar="TEXT", help="a comment, which the agents read")
_HASH = arg("--hash", default="", metavar="SHA256", help="answer only if the gate still shows what has this hash")


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

    return Output(
        [{**gate, "hash": gate["context"].get("hash"), "shown": shown(gate).as_dict()} for gate in found], text
    )


@verb(
    "approve",
    _GATE,
    _FEEDBACK,
    arg("--changes", metavar="TEXT", help="ask for changes instead: the plan goes back to the planner"),
    arg("--choose", metavar="OPTION", help="another of the gate's options, such as retry, skip or redo"),
    _HASH,
    group="control",
)
def approve(call: Call) -> Output:
    """Approve what waits at a gate, which is shown first, and the run goes on."""
    options = call.options
    if options.changes is not None and (options.choose or options.feedback):
        raise UsageError("--changes goes with neither --choose nor --feedback", "Give --changes alone.")
    if options.changes is not None:
        return _answer(call, "modified", options.changes)
    return _answer(call, options.choose or "approved", options.feedback)


@verb("reject", _GATE, _FEEDBACK, _HASH, group="control")
def reject(call: Call) -> Output:
    """Reject what waits at a gate: a plan is refused, code is not run, after a failed step the run ends."""
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
    if resolution == "modified" and "modified" not in options and "redo" in options:
        resolution = "redo"
    seen = str(gate["context"].get("hash") or "")
    wanted = getattr(call.options, "hash", "")
    if wanted and not (len(wanted) >= _SHORTEST_HASH and seen.startswith(wanted.lower())):
        what = f"gate {short(gate['id'])} shows something else than what has the hash {wanted}"
        raise GateChanged(what, f"Look at it again: {call.prog} approvals.", id=gate["id"], hash=seen)
    if resolution not in REFUSALS:
        for line in gate_text(gate):
            call.say(line)
    answer = run.approve(gate["id"], resolution, feedback, by=call.by, hash=seen)
    data = {
        "approval_id": gate["id"],
        "run_id": run.id,
        "run": run.name,
        "node_id": gate["node_id"],
        "status": "resolved",
        "resolution": answer.resolution,
        "user_feedback": answer.feedback,
        "resolved_by": answer.by,
        "hash": answer.hash,
    }
    label = options.get(answer.resolution, answer.resolution)
    return Output(data, f"{run.name}: {shown(gate).title} · {label}")


#: Characters of a hash that name what it is of.
_SHORTEST_HASH = 8


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
            raise _none_open(call, run.id, f"run {run.name} has no open gate; it is {run.status}", listing)
    if not found:
        raise GateError("no gate is open", f"See how a run stands with {call.prog} status.")
    if len(found) > 1:
        names = ", ".join(f"{short(gate['id'])} ({gate['run_name']}, {gate['node_id']})" for gate in found)
        raise GateError(f"{len(found)} gates are open: {names}", "Name one of them.", gates=found)
    return found[0]


def _no_gate(call: Call, reference: str, listing: str) -> GateError:
    """Return why a reference means no open gate: it was answered already, or there is none."""
    from cmbagent_nb.workflow.gates import closed

    gate = find_gate(call.ws._core.db, reference)
    return (
        GateError(f"no open gate and no run matches {reference!r}", listing, id=reference)
        if gate is None
        else closed(gate, reference)
    )


def _none_open(call: Call, run_id: str, what: str, listing: str) -> GateError:
    """Return that a run has no open gate, and how the last one was answered."""
    from cmbagent_nb.workflow.gates import closed

    last = find_gate(call.ws._core.db, "", run_id)
    return GateError(what, listing, run_id=run_id) if last is None else closed(last, "", f"{what}: ")
