"""Reading: frames beside raw sqlite3, one run among many, a run of a month, the size on the disk."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cmbagent_nb.store import frames
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.snapshot import read_snapshot
from tests.benchmarks import filled, floor
from tests.benchmarks.measure import Figure, folder, median, rounds, seconds
from tests.benchmarks.recording import spans

FRAME = 10_000
JSON = ("inputs", "outputs", "meta")


def frame() -> Iterator[Figure]:
    """Ten thousand events as a DataFrame, beside ``fetchall`` of the same table with its payloads parsed."""
    events = floor.payloads(FRAME)
    with folder() as place:
        spans(place / "home", events)
        floor.together(place / "floor.db", events)
        db = Database.open(place / "home")
        run = db.rows("SELECT id FROM workflow_runs")[0]["id"]
        query = "SELECT * FROM execution_events WHERE run_id = ? ORDER BY execution_order"

        def raw() -> float:
            return seconds(lambda: _raw(place / "home" / "cmbagent.db", query, run, JSON))

        def floored() -> float:
            return seconds(lambda: _raw(place / "floor.db", "SELECT * FROM event WHERE run_id = ?", "r", ("payload",)))

        def ours() -> float:
            return seconds(lambda: frames.events(db, run_id=run))

        ours()  # loads pandas
        found = rounds(raw, floored, ours)
        db.close()
    times = [median([turn[which] for turn in found]) * 1e3 for which in range(3)]
    more = {"ratio_to": "sqlite3 of the same table, payloads parsed", "ms": times[2], "raw_ms": times[0]}
    more["ratio_to_thirteen_columns"] = median([turn[2] / turn[1] for turn in found])
    yield Figure("frame.10000_events", median([turn[2] / turn[0] for turn in found]), "× raw", 1.3, more=more)


def _raw(path: Path, query: str, run: str, parsed: tuple[str, ...]) -> Any:
    import pandas as pd

    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(query, (run,))
        names = [column[0] for column in cursor.description]
        made = pd.DataFrame(cursor.fetchall(), columns=names)
    for name in parsed:
        made[name] = [None if text is None else json.loads(text) for text in made[name]]
    return made


def many() -> Iterator[Figure]:
    """One run of 1,000 events among 100,000."""
    yield from _among(100_000)


def million() -> Iterator[Figure]:
    """One run of 1,000 events among 1,000,000, in both stores."""
    yield from _among(1_000_000)
    from tests.postgres import Server, start

    server = start()
    if not isinstance(server, Server):
        print(json.dumps({"name": "one_run_of_1000000.postgresql", "skipped": server}), flush=True)
        return
    try:
        with folder() as place:
            db = Database.open(place, server.database())
            yield from _one_run(db, filled.on_server(db, 1_000_000), "postgresql", 1_000_000)
            db.close()
    finally:
        server.close()


def _among(events: int) -> Iterator[Figure]:
    with folder() as place:
        db = Database.open(place)
        yield from _one_run(db, filled.on_disk(db, events), "sqlite", events)
        db.close()


def _one_run(db: Database, run: str, store: str, total: int) -> Iterator[Figure]:
    """What a view reads (graph, totals and the newest 200 events), and all events of the run as a frame."""
    parts: dict[str, Callable[[], Any]] = {
        "graph_and_newest_events": lambda: read_snapshot(db, run),
        "all_events_as_frame": lambda: frames.events(db, run_id=run),
        "graph_and_all_events": lambda: (read_snapshot(db, run, events=1), frames.events(db, run_id=run)),
    }
    assert len(read_snapshot(db, run).nodes) == filled.NODES
    assert len(frames.events(db, run_id=run)) == filled.A_RUN
    found = rounds(*(lambda part=part: seconds(part) for part in parts.values()))  # type: ignore[misc]
    for place, name in enumerate(parts):
        yield Figure(f"one_run_of_{total}.{store}.{name}", median([turn[place] for turn in found]) * 1e3, "ms", 50.0)


_READ = """
import json, resource, sys
import pandas
from cmbagent_nb.workspace import Workspace
from cmbagent_nb.store import frames, pages
ws = Workspace(sys.argv[1])
run = ws.run("planck")
unit = 1 if sys.platform == "darwin" else 1024
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in run.iter_messages()) + sum(len(page) for page in run.iter_messages(frames=True))
count += sum(1 for _ in run.iter_events())
run.snapshot()
print(json.dumps([count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) * unit]))
ws.close()
"""


def messages() -> Iterator[Figure]:
    """Reading a run with 33,600 messages."""
    yield from _messages(33_600)


def messages_336000() -> Iterator[Figure]:
    """Reading a run with 336,000 messages."""
    yield from _messages(336_000)


def _messages(number: int) -> Iterator[Figure]:
    """How far the memory of a process goes up that goes through a run, its events and its snapshot."""
    with folder() as place:
        db = Database.open(place)
        filled.with_messages(db, number)
        db.close()
        command = [sys.executable, "-c", _READ, str(place)]
        read = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    count, above = json.loads(read.stdout)
    assert count == 3 * number
    yield Figure(f"memory.{number}_messages", above / 1e6, "MB above idle", 200.0)


def disk() -> Iterator[Figure]:
    """The bytes that an event takes in the database besides its payload: row, keys and indexes."""
    number = 20_000
    with folder() as place:
        spans(place / "home", floor.payloads(number))
        with closing(sqlite3.connect(place / "home" / "cmbagent.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            columns = " + ".join(f"LENGTH({name})" for name in JSON)
            payload = connection.execute(f"SELECT SUM({columns}) FROM execution_events").fetchone()[0]
        whole = (place / "home" / "cmbagent.db").stat().st_size
    more = {"payload_of_an_event": payload / number}
    yield Figure("disk.event_without_payload", (whole - payload) / number, "B", 1000, more=more)
