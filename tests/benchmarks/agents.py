"""What capture adds to an agent's turn: the same turn with and without it, in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ag2 import Agent
from ag2.events import ToolCallEvent
from ag2.testing import TestConfig

from cmbagent_nb.capture.middleware import Capture
from tests.benchmarks.measure import Figure, folder, median, quantile
from tests.recorded_run import RecordedRun, in_loop, recorded_run

#: A turn of twenty events is the agent's call and so many calls of tools.
TOOLS = 19
PAIRS = 200
TURNS = 5


async def look(column: str) -> str:
    """Look into a column."""
    return f"{column} has 215 rows, none of them empty"


def turn() -> Iterator[Figure]:
    """A turn of twenty events, and a bare one that answers at once."""

    def busy(captured: bool) -> Agent:
        calls = [ToolCallEvent(name="look", arguments=json.dumps({"column": f"c{n}"})) for n in range(TOOLS)]
        config, middleware = TestConfig(calls, "done"), [Capture] if captured else []
        return Agent("engineer", config=config, middleware=middleware, tools=[look])

    def bare(captured: bool) -> Agent:
        return Agent("engineer", config=TestConfig("done"), middleware=[Capture] if captured else [])

    with folder() as place, recorded_run(place) as run:
        added = _added(run, busy, PAIRS // 2)
        recorded = len(run.events()) / (PAIRS // 2 * TURNS)
        more = {"cpu_ms": added.cpu, "turn_ms": added.turn, "events": recorded}
        yield Figure("turn.of_20_events", added.clock, "ms", 1.0, more=more)
        added = _added(run, bare, PAIRS)
        yield Figure("turn.bare", added.clock, "ms", 0.3, more={"cpu_ms": added.cpu, "turn_ms": added.turn})


class Added(NamedTuple):
    """Milliseconds that capture adds to a turn, by the clock and of the processor, and those of the turn without."""

    clock: float
    cpu: float
    turn: float


def _added(run: RecordedRun, make: Callable[[bool], Agent], pairs: int) -> Added:
    """Return what capture adds to a turn.

    Other work on the machine only makes a turn slower: the quickest tenth of both is what they cost by themselves.
    """

    async def one(captured: bool) -> tuple[float, float]:
        agent = make(captured)
        await run.writer.settled()  # what the turn before has left to write is not this one's
        begun, worked = time.perf_counter(), time.thread_time()
        await agent.ask("look at all columns")
        return (time.perf_counter() - begun) * 1e3, (time.thread_time() - worked) * 1e3

    async def work() -> list[Added]:
        found = []
        with run.recorder.located_at("step_1", agent="engineer"):
            for _ in range(TURNS):
                turns = [(await one(True), await one(False)) for _ in range(pairs)]
                with_, without = (
                    [quantile([pair[which][kind] for pair in turns], 0.1) for kind in (0, 1)] for which in (0, 1)
                )
                found.append(Added(with_[0] - without[0], with_[1] - without[1], without[0]))
        return found

    found: list[Added] = in_loop(work())
    return Added(*(median(values) for values in zip(*found, strict=True)))
