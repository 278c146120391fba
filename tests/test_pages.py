"""Long runs a page at a time: everything, once, in order, with memory that does not grow."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from cmbagent_nb.errors import UsageError
from cmbagent_nb.store.archive import archive_run
from cmbagent_nb.workspace import Workspace
from tests.stored import T0, Record


@pytest.fixture
def record(workspace: Workspace) -> Record:
    """A run with 25 messages and 25 events; of another run there are as many."""
    made = Record(workspace._core.writer, status="completed")
    other = Record(workspace._core.writer, name="other")
    for number in range(25):
        for run in (made, other):
            event = run.event("message" if number % 2 else "info", node_id=f"step_{number % 3}", meta={"n": number})
            run.message(f"{run.run} {number}", event_id=event, node_id=f"step_{number % 3}", tool_calls=[number])
    workspace._core.writer.update("workflow_runs", made.run, {"ended_at": T0 + 60, "work_dir": "."})
    workspace._core.writer.update("workflow_runs", other.run, {"work_dir": "."})
    made.settle()
    return made


@pytest.mark.parametrize("page", [1, 7, 25, 1000])
@pytest.mark.parametrize("archived", [False, True])
def test_every_row_comes_once_and_in_order(workspace: Workspace, record: Record, page: int, archived: bool) -> None:
    run = workspace.run(record.run)
    messages, events = run.messages(), run.events()
    if archived:
        archive_run(workspace._core.db, workspace._core.writer, record.run)
    assert [row["content"] for row in run.iter_messages(page=page)] == messages.content.tolist()
    assert [row["id"] for row in run.iter_events(page=page)] == events.id.tolist()
    first = next(iter(run.iter_messages(page=page)))
    assert first["tool_calls"] == [0]
    for whole, parts in (
        (messages, run.iter_messages(page=page, frames=True)),
        (events, run.iter_events(page, frames=True)),
    ):
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


def test_only_what_is_wanted(workspace: Workspace, record: Record) -> None:
    run = workspace.run(record.run)
    assert [row["meta"]["n"] for row in run.iter_events(page=2, node="step_1", type="info")] == [4, 10, 16, 22]
    assert [row["tool_calls"] for row in run.iter_messages(page=2, node="step_2", agent="engineer")] == [
        [number] for number in range(2, 25, 3)
    ]
    assert list(run.iter_messages(node="nowhere")) == []
    assert list(run.iter_messages(node="nowhere", frames=True)) == []


def test_one_can_begin_after_a_row_and_meet_rows_that_came_meanwhile(workspace: Workspace, record: Record) -> None:
    run = workspace.run(record.run)
    seen = list(run.iter_messages())
    record.message("new")
    assert [row["content"] for row in run.iter_messages(after=seen[-1]["id"])] == ["new"]
    reading = run.iter_messages(page=10)
    next(reading)
    record.message("newer")
    record.settle()
    assert [row["content"] for row in reading][-2:] == ["new", "newer"]
    assert len(list(run.iter_events(after=20))) == 5


def test_a_page_has_at_least_one_row(workspace: Workspace, record: Record) -> None:
    with pytest.raises(UsageError, match="A page cannot have 0 rows"):
        list(workspace.run(record.run).iter_messages(page=0))


# ---- memory

READ = """
import json, sys, threading, time
import pandas, psutil
from cmbagent_nb.workspace import Workspace
from cmbagent_nb.store import pages, frames
ws = Workspace(sys.argv[1])
run = ws.run("planck")
memory = psutil.Process().memory_info
idle = peak = memory().rss
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, memory().rss)

watching = threading.Thread(target=watch)
watching.start()
count = size = 0
times = [time.monotonic()]
for row in run.iter_messages():
    count += 1
    size += len(row["content"])
times.append(time.monotonic())
for page in run.iter_messages(frames=True):
    count += len(page)
times.append(time.monotonic())
for row in run.iter_events():
    count += 1
times.append(time.monotonic())
run.snapshot()
times.append(time.monotonic())
done.set()
watching.join()
seconds = [round(after - before, 2) for before, after in zip(times, times[1:])]
print(json.dumps({"count": count, "size": size, "above": peak - idle, "idle": idle, "seconds": seconds}))
ws.close()
"""


def test_memory_does_not_grow_with_the_messages(workspace: Workspace) -> None:
    assert _read(workspace, messages=20_000, size=15_000) < 200e6, "300 MB of messages were in memory"


@pytest.mark.full
def test_memory_of_a_run_with_336000_messages(workspace: Workspace) -> None:
    assert _read(workspace, messages=336_000, size=1_500) < 200e6


def _read(workspace: Workspace, messages: int, size: int) -> float:
    """Read a run with messages of so many bytes, and as many events, in a process; returns its bytes above idle."""
    made = Record(workspace._core.writer, status="completed")
    workspace._core.writer.update("workflow_runs", made.run, {"work_dir": "."})
    made.settle()
    text = ("chi2 = 1.5 in data/fit.json, and so it goes on. " * (size // 48 + 1))[:size]
    common = (made.run, made.session, "step_1")
    with closing(sqlite3.connect(workspace.home / "cmbagent.db")) as connection:
        connection.executemany(
            "INSERT INTO execution_events (id, run_id, session_id, node_id, event_type, status, started_at,"
            " execution_order, depth) VALUES (?, ?, ?, ?, 'message', 'completed', ?, ?, 0)",
            ((f"{number:036d}", *common, T0 + number, number) for number in range(messages)),
        )
        connection.executemany(
            "INSERT INTO messages (run_id, session_id, node_id, sender, content, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            ((*common, "engineer", f"{number} {text}", T0 + number) for number in range(messages)),
        )
        connection.commit()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, str(workspace.home)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(f"{messages} messages of {size} bytes: {found}")
    assert found["count"] == 3 * messages
    assert found["size"] > messages * size
    return float(found["above"])
