"""The verbs that steer runs."""

from __future__ import annotations

from cmbagent_nb.errors import RunNotFound
from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import arg, verb
from cmbagent_nb.verbs.output import Output
from cmbagent_nb.verbs.run import headline, summary

#: Seconds to wait for the end of a run that was cancelled.
PATIENCE = 10.0


@verb(
    "cancel",
    arg(
        "run", nargs="?", metavar="RUN", help="a run: its name, its id or a part of it; not needed while only one is on"
    ),
    group="control",
)
def cancel(call: Call) -> Output:
    """End a run; its processes are killed."""
    call.refresh()
    if call.options.run is None:
        going = call.ws.db.rows(
            "SELECT id, name FROM workflow_runs WHERE status NOT IN"
            " ('completed', 'failed', 'cancelled', 'interrupted') ORDER BY created_at"
        )
        if len(going) != 1:
            names = ", ".join(str(row["name"]) for row in going)
            what = f"{len(going)} runs are going on: {names}" if going else "no run is going on"
            raise RunNotFound(
                what, f"Name one with {call.prog} cancel RUN." if going else "There is nothing to cancel."
            )
        call.options.run = going[0]["id"]
    run = call.run()
    was = run.finished
    run.cancel(by=call.by)
    try:
        run.wait(PATIENCE)
    except TimeoutError:
        return Output(summary(call.ws, run), f"{run.name} was asked to end and has not yet.", exit_status=1)
    made = summary(call.ws, run)
    return Output(made, f"{run.name} had ended already: {made['status']}." if was else headline(made))
