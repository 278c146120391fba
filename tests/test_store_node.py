"""One node of a run: everything that the record has of it, however long its run is."""

from __future__ import annotations

import html

from cmbagent_nb.notebook.timeline import figure
from cmbagent_nb.render import parts
from cmbagent_nb.render.node import node_panel
from cmbagent_nb.store.node_record import LONGEST, read_node
from cmbagent_nb.store.snapshot import read_snapshot
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workspace import Workspace
from tests.long_run import EACH, error_of, write_long_run
from tests.stored import Record


def test_every_step_of_a_long_run_has_its_errors(workspace: Workspace) -> None:
    run = workspace.run(write_long_run(workspace.home, steps=300))
    snapshot = run.snapshot()
    for number in (1, 2, *range(3, 300, 37), 299, 300):
        shown = html.unescape(node_panel(snapshot, f"step_{number}", run.node(f"step_{number}")))
        assert shown.count("Attempt ") >= 2 and error_of(number) in shown and "line 3" in shown
        assert f"print('attempt 1 of step {number}')" in shown and f"out of step {number}" in shown
        assert f"Do step {number}." in shown
        others = [other for other in (1, 2, 3, 299, 300) if other != number]
        assert not [other for other in others if error_of(other) in shown], "nothing of other steps"
    said = parts.event_list(snapshot)
    assert f"The newest 200 of {300 * EACH:,} events" in said
    drawn = figure(snapshot)
    assert drawn is not None and sum(len(trace["x"]) for trace in drawn["data"]) == 300 * 4


def test_a_timeline_that_is_cut_says_so(workspace: Workspace) -> None:
    run_id = write_long_run(workspace.home, steps=30)
    drawn = figure(read_snapshot(workspace._core.db, run_id, bars=50))
    assert drawn is not None
    assert "the newest 50 of 120" in drawn["layout"]["xaxis"]["title"]["text"]
    assert drawn["layout"]["xaxis"]["range"][0] > 0
    whole = figure(read_snapshot(workspace._core.db, run_id))
    assert whole is not None and "title" not in whole["layout"]["xaxis"]


def test_long_payloads_are_said_and_long_texts_shown_whole(workspace: Workspace) -> None:
    writer = Writer(workspace._core.db)
    record = Record(writer, name="wide", status="completed")
    record.node("step_1", 1)
    code = "\n".join(f"line_{number} = {number}" for number in range(9_000))
    record.event(
        "code_exec", attempt=1, inputs={"code": code, "path": "codebase/a.py"}, outputs={"stdout": "y" * 300_000}
    )
    record.event("tool_call", attempt=1, inputs={"text": "x" * (LONGEST + 1)}, agent_name="engineer")
    record.settle()
    writer.close()
    db = workspace._core.db
    snapshot, detail = read_snapshot(db, record.run), read_node(db, record.run, "step_1")
    shown = html.unescape(node_panel(snapshot, "step_1", detail))
    assert "line_8999 = 8999" in shown
    assert "100,000 characters left out here" in shown
    assert "A payload is too long to be shown" in shown
