"""What capture adds to an agent's turn: the same turn with and without it, in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

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
        added, whole = _added(run, busy, PAIRS // 2)
        recorded = len(run.events()) / (PAIRS // 2 * TURNS)
        yield Figure("turn.of_20_events", added, "ms", 1.0, more={"turn_ms": whole, "events": recorded})
        added, whole = _added(run, bare, PAIRS)
        yield Figure("turn.bare", added, "ms", 0.3, more={"turn_ms": whole})


def _added(run: RecordedRun, make: Callable[[bool], Agent], pairs: int) -> tuple[float, float]:
    """Return the milliseconds that capture adds, and those of the turn without.

    Other work on the machine only makes a turn slower: the quickest tenth of both is what they cost by themselves.
    """

    async def one(captured: bool) -> float:
        agent = make(captured)
        begun = time.perf_counter()
        await agent.ask("look at all columns")
        return (time.perf_counter() - begun) * 1e3

    async def work() -> tuple[float, float]:
        found = []
        with run.recorder.at("step_1", agent="engineer"):
            for _ in range(TURNS):
                turns = [(await one(True), await one(False)) for _ in range(pairs)]
                tenths = [quantile([pair[which] for pair in turns], 0.1) for which in (0, 1)]
                found.append((tenths[0] - tenths[1], tenths[1]))
        return median([added for added, _ in found]), median([without for _, without in found])

    result: tuple[float, float] = in_loop(work())
    return result
