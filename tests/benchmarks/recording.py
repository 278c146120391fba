"""Recording an event: what the caller waits, how long until it is durable, what is lost. Beside the floor, in turns."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cmbagent_nb.capture.recorder import Span
from tests.benchmarks import floor
from tests.benchmarks.floor import Recording
from tests.benchmarks.measure import Figure, folder, median, now, quantile, rounds
from tests.recorded_run import recorded_run

EVENTS = 20_000
#: Spans that begin, and are stored, before the first of them ends, where starts and ends do not fall together.
OPEN = 5_000
BURST = 10_000
KILLED_AFTER, RATE = 600, 200


def spans(home: Path, events: list[dict[str, Any]], *, apart: bool = False) -> Recording:
    """Record each event as a span, as agents do; with ``apart`` none ends before its start is stored."""
    home.mkdir()
    with recorded_run(home) as run:
        run.writer.barrier().result()
        begin, waits = run.recorder.span, []
        pending: list[tuple[Span, Any]] = []
        with run.recorder.located_at("step_1", agent="engineer"):
            begun, worked = now(), time.process_time()
            for number, event in enumerate(events):
                before = now()
                span = begin(floor.KINDS[number % 5], inputs=event["inputs"], meta=event["usage"])
                if apart:
                    waits.append(now() - before)
                    pending.append((span, event["outputs"]))
                    if len(pending) == OPEN or number == len(events) - 1:
                        run.writer.barrier().result()
                        waits += _end(pending)
                    continue
                with span:
                    span.outputs = event["outputs"]
                waits.append(now() - before)
            run.writer.barrier().result()
            total, cpu = now() - begun, time.process_time() - worked
        found = run.db.rows("SELECT COUNT(*) AS n FROM execution_events WHERE status = 'completed'")
        return Recording(len(events), total, cpu, found[0]["n"], waits)


def _end(pending: list[tuple[Span, Any]]) -> list[float]:
    waits = []
    for span, outputs in pending:
        before = now()
        with span:
            span.outputs = outputs
        waits.append(now() - before)
    pending.clear()
    return waits


def record() -> Iterator[Figure]:
    """The caller's wait and the durable throughput."""
    events, numbers = floor.payloads(EVENTS), itertools.count()
    with folder() as place:
        found = rounds(
            lambda: floor.together(place / "together.db", events),
            lambda: spans(place / f"{next(numbers)}", events),
            lambda: floor.apart(place / "apart.db", events),
            lambda: spans(place / f"{next(numbers)}", events, apart=True),
            lambda: floor.threaded(place / "threaded.db", events),
        )
    for name, bare, ours in (("together", 0, 1), ("apart", 2, 3)):
        for label, part, bar in (("p50", 0.5, 12.0), ("p99", 0.99, 60.0), ("p999", 0.999, 250.0)):
            waits, least = ([quantile(turn[which].waits, part) * 1e6 for turn in found] for which in (ours, 4))
            more = {"all": [round(wait, 1) for wait in waits], "bare_queue_and_thread": median(least)}
            yield Figure(f"record.{name}.wait_{label}", median(waits), "µs", bar, more=more)
        ratios = [turn[ours].each / turn[bare].each for turn in found]
        each, bare_each = (median([turn[which].each for turn in found]) * 1e6 for which in (ours, bare))
        more = {"ratio_to": f"floor.{name}", "us_per_event": each, "floor_us_per_event": bare_each}
        # The same by processor time, which other processes of the machine do not lengthen.
        more["ratio_of_cpu"] = median([turn[ours].cpu / turn[bare].cpu for turn in found])
        more |= {"all": [round(ratio, 2) for ratio in ratios], "events_per_s": round(1e6 / each)}
        more["lost"] = sum(EVENTS - turn[ours].stored for turn in found)
        yield Figure(f"record.{name}.durable", median(ratios), "× floor", 1.5, more=more)


def burst() -> Iterator[Figure]:
    """Ten thousand spans of one run, as fast as they can be begun and ended."""
    events = floor.payloads(BURST)
    with folder() as place:
        found = [spans(place / f"{turn}", events, apart=turn % 2 == 1) for turn in range(4)]
    lost = sum(BURST - recording.stored for recording in found)
    more = {"of": BURST * len(found), "seconds": median([recording.total for recording in found])}
    yield Figure("lost.burst_of_10000", lost, "events", 0, more=more)


def kill() -> Iterator[Figure]:
    """Six hundred events at 200/s, then SIGKILL: what is in the database afterwards."""
    lost, unfinished, turns = 0, 0, 3
    for _ in range(turns):
        with folder() as place:
            command = [sys.executable, "-m", "tests.benchmarks.recording", str(place / "home")]
            ended = subprocess.run(command, check=False, timeout=120, capture_output=True)
            if ended.returncode != -signal.SIGKILL:
                raise RuntimeError(ended.stderr.decode())
            with closing(sqlite3.connect(place / "home" / "cmbagent.db")) as connection:
                statuses = [row[0] for row in connection.execute("SELECT status FROM execution_events")]
            lost += KILLED_AFTER - len(statuses)
            unfinished += statuses.count("running")
    more = {"of": KILLED_AFTER * turns, "without_their_end": unfinished}
    yield Figure("lost.sigkill_at_200_per_s", lost, "events", 0, more=more)


def _record_and_die(home: Path) -> None:
    events = floor.payloads(KILLED_AFTER)
    home.mkdir()
    with recorded_run(home) as run, run.recorder.located_at("step_1", agent="engineer"):
        begun = now()
        for number, event in enumerate(events):
            with run.recorder.span("tool_call", inputs=event["inputs"], meta=event["usage"]) as span:
                span.outputs = event["outputs"]
            time.sleep(max(0.0, begun + (number + 1) / RATE - now()))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _record_and_die(Path(sys.argv[1]))
