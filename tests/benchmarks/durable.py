"""What it costs to wait until all is stored, and what a checkpoint costs as a run grows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cmbagent_nb.workflow.checkpoints import Checkpoints
from tests.benchmarks import floor
from tests.benchmarks.measure import Figure, folder, median, now, quantile, rounds
from tests.recorded_run import recorded_run

BARRIERS = 500
STEPS = 1_000


def barrier() -> Iterator[Figure]:
    """One event and the wait until it is stored, beside one event and one commit on the caller's own thread."""
    events = floor.payloads(BARRIERS)
    with folder() as place, recorded_run(place) as run, closing(floor.opened(place / "floor.db")) as connection:

        def single() -> list[float]:
            connection.execute("DELETE FROM event")
            waits = []
            for number, event in enumerate(events):
                before = now()
                connection.execute(floor.INSERT, floor.row(number, event))
                waits.append(now() - before)
            return waits

        def settled() -> list[float]:
            waits = []
            with run.recorder.located_at("step_1"):
                for event in events:
                    before = now()
                    run.recorder.record("info", inputs=event["inputs"], outputs=event["outputs"])
                    run.writer.barrier().result()
                    waits.append(now() - before)
            return waits

        found = rounds(single, settled)
    for label, part in (("p50", 0.5), ("p99", 0.99)):
        alone, ours = (median([quantile(turn[which], part) for turn in found]) * 1e6 for which in (0, 1))
        yield Figure(f"barrier.{label}", ours, "µs", more={"ratio_to": "single commit", "ratio": ours / alone})


def checkpoint() -> Iterator[Figure]:
    """A step of a run that grows, an event of 400 characters and a checkpoint: time and bytes, early and late."""
    events = floor.payloads(STEPS)
    times, early, late = [], 0.0, 0.0
    with folder() as place, recorded_run(place) as run, run.recorder.located_at("step_1"):
        points = Checkpoints(run.writer, run.work_dir, run.recorder.run_id, run.recorder.session_id)
        for number, event in enumerate(events):
            if number in {10, STEPS // 2}:
                size = _size(run.db.home)
            before = now()
            run.recorder.record("state_transition", inputs=event)
            run.writer.journal(run.journal, "state", event)
            points.add("step_complete", node_id="step_1")
            run.writer.barrier().result()
            times.append(now() - before)
            if number == STEPS // 2 - 1:
                early = (_size(run.db.home) - size) / (STEPS // 2 - 10)
        late = (_size(run.db.home) - size) / (STEPS // 2)
    first, last = median(times[10:110]) * 1e3, median(times[-100:]) * 1e3
    yield Figure("checkpoint.time_at_step_1000", last, "ms", 1.0, more={"at_step_10": first})
    yield Figure("checkpoint.growth_of_time", last / first, "× step 10", 1.5)
    yield Figure("checkpoint.bytes_a_step", late, "B", 3000, more={"first_half": early})


def _size(home: Path) -> int:
    """Return the bytes of the record: the database, with its log brought in, and the journals."""
    with closing(sqlite3.connect(home / "cmbagent.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in (home / "cmbagent.db", *home.rglob("journal.jsonl")))
