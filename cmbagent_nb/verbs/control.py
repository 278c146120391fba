"""The verbs that steer runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cmbagent_nb.errors import RunNotFound, StateError
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import RUN, arg, verb
from cmbagent_nb.verbs.output import Output
from cmbagent_nb.verbs.run import headline, summary, wait

if TYPE_CHECKING:
    from cmbagent_nb.run import Run

#: Seconds to wait until the process of a run has done what it was asked for.
PATIENCE = 10.0

_GOING = arg(
    "run", nargs="?", metavar="RUN", help="a run: its name, its id or a part of it; not needed while only one is on"
)


@verb("cancel", _GOING, group="control")
def cancel(call: Call) -> Output:
    """End a run; its processes are killed."""
    run = _going(call, "cancel")
    was = run.finished
    left = run.cancel(by=call.by)
    try:
        run.wait(PATIENCE)
    except TimeoutError:
        return Output(summary(call.ws, run), f"{run.name} was asked to end and has not yet.", exit_status=1)
    made = summary(call.ws, run)
    if not was:
        return Output(made, headline(made))
    ended = (
        f" {left} process{'es' if left != 1 else ''} of its code still ran and {'were' if left != 1 else 'was'} ended."
    )
    return Output(made, f"{run.name} had ended already: {made['status']}.{ended if left else ''}")


@verb("pause", _GOING, arg("--now", action="store_true", help="stop the code that runs, too"), group="control")
def pause(call: Call) -> Output:
    """Let nothing begin in a run until it is resumed: no model call and no process."""
    run = _going(call, "pause")
    run.pause(now=call.options.now, by=call.by)
    _until(call, run, {"paused"}, "paused")
    made = summary(call.ws, run)
    return Output(made, f"{headline(made)}\n  Go on with: {call.prog} resume {run.name}")


@verb("resume", RUN, group="control")
def resume(call: Call) -> Output:
    """Go on with a run that is paused, was interrupted or failed; what is finished is not done again.

    A run that was interrupted or failed goes on in this process, and the command line waits for its end.
    """
    run = call.run()
    if run.status == "paused":
        run.resume(by=call.by)
        _until(call, run, {"planning", "executing", "waiting_approval", "completed", "failed", "cancelled"}, "resumed")
        made = summary(call.ws, run)
        return Output(made, headline(made))
    taken = call.ws.resume(run.id)
    if call.front == "magic":
        said = f"Run {taken.name} goes on; it is bound to run."
        return Output(summary(call.ws, taken), said, display=taken, bind="run")
    return wait(call, call.ws, taken)


@verb("replay", RUN, group="control")
def replay(call: Call) -> Output:
    """Go through a run again without a model, from its recorded replies and decisions; tell what differs."""
    run = call.run()
    outcome = run.replay()
    data = {
        "run_id": outcome.run_id,
        "original_id": outcome.original_id,
        "same": outcome.same,
        "differences": list(outcome.differences),
    }
    text = f"{run.name} was gone through again, and came out the same."
    if not outcome.same:
        text = "\n  ".join([f"{run.name} came out otherwise than it is recorded:", *outcome.differences])
    return Output(data, text, display=outcome, exit_status=0 if outcome.same else 1)


def _going(call: Call, verb_name: str) -> Run:
    """Return the run that was named, or the only one that is going on."""
    call.refresh()
    if call.options.run is None:
        going = call.ws._core.db.rows(
            "SELECT id, name FROM workflow_runs WHERE status NOT IN"
            " ('completed', 'failed', 'cancelled', 'interrupted') ORDER BY created_at"
        )
        if not going:
            raise RunNotFound("no run is going on", f"There is nothing to {verb_name}.")
        if len(going) > 1:
            names = ", ".join(str(row["name"]) for row in going)
            raise RunNotFound(f"{len(going)} runs are going on: {names}", f"Name one: {call.prog} {verb_name} RUN.")
        call.options.run = going[0]["id"]
    return call.run()


def _until(call: Call, run: Run, statuses: set[str], done: str) -> None:
    """Wait until the process that owns the run has brought it into one of these statuses."""
    until = time.monotonic() + PATIENCE
    while run.status not in statuses:
        if time.monotonic() > until or run.finished:
            raise StateError(
                f"run {run.name} was not {done}; it is {run.status}",
                f"See how it stands with {call.prog} status {run.name}.",
                run_id=run.id,
            )
        time.sleep(0.02)
