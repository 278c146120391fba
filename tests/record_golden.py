"""Record the golden histories: ``python -m tests.record_golden``; only when the form of the journal changes on purpose.

Each is the journal of a real run over HTTP and the state that the database held at its end. The names of this machine
are taken out.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmbagent_nb.run import Run
from cmbagent_nb.workflow.history import State, rows_of_database, state_of
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import CHANGES, Team, code, plan
from tests.test_gates import until, until_gate

FOLDER = Path(__file__).parent / "golden"
WRITE = "import json\njson.dump({'n': 1}, open('data/n.json', 'w'))\nprint('n is 1')\n"


def team() -> Team:
    """A plan with two parallel steps, a retry and a report."""
    return Team(
        plan=plan(
            {"title": "One", "expected_outputs": ["data/n.json"]},
            {"title": "Two"},
            {"title": "Report", "agent": "researcher", "depends_on": [1, 2]},
        ),
        review=CHANGES,
        report={"title": "n", "markdown": "n is {{ data/n.json#n }}."},
        steps={"One": [code("{}['a']", "one.py"), code(WRITE, "one.py")], "Two": code("print('two')", "two.py")},
    )


def decided(workspace: Workspace) -> Run:
    """A plan that is changed by a comment, approved, and carried out with a retry."""
    run = workspace.planning_and_control("Count.", model="openai:m", approve="plan", name="decided")
    first = until_gate(run)
    run.approve(resolution="modified", feedback="In two steps, please.")
    until(run, lambda: any(gate["id"] != first["id"] for gate in run.approvals()))
    run.approve()
    return run.wait(60)


def failed(workspace: Workspace) -> Run:
    """A step that exhausts its attempts, and what depends on it."""
    return workspace.planning_and_control("Count.", model="openai:m", max_attempts=1, name="failed").wait(60)


def cancelled(workspace: Workspace) -> Run:
    """A run that is cancelled at its gate."""
    run = workspace.planning_and_control("Count.", model="openai:m", approve="plan", name="cancelled")
    until_gate(run)
    run.cancel()
    return run.wait(60)


RUNS: tuple[Callable[[Workspace], Run], ...] = (decided, failed, cancelled)


def as_json(state: State) -> Any:
    """Return a state as plain data that JSON holds."""
    fields = asdict(state)
    fields["edges"] = sorted(map(list, state.edges))
    fields["attempts"] = {f"{node} {number}": status for (node, number), status in state.attempts.items()}
    return json.loads(json.dumps(fields))


def main() -> None:
    """Record every history anew."""
    FOLDER.mkdir(exist_ok=True)
    for record in RUNS:
        with tempfile.TemporaryDirectory() as home, OpenAIServer(team()) as server:
            os.environ["CMBAGENT_BASE_URL"] = server.url
            os.environ["CMBAGENT_WORKSPACES_FILE"] = f"{home}/workspaces.json"
            workspace = Workspace(home)
            run = record(workspace)
            state = as_json(state_of(rows_of_database(workspace._core.db, run.id)))
            workspace.close()
            journal = (run.work_dir / "journal.jsonl").read_text()
            journal = journal.replace(home, "/home/somebody/workspace").replace(socket.gethostname(), "somewhere")
            (FOLDER / f"{record.__name__}.jsonl").write_text(journal)
            (FOLDER / f"{record.__name__}.json").write_text(json.dumps(state, indent=1) + "\n")


if __name__ == "__main__":
    main()
