"""Whole runs: what capture adds to the demonstration, and whether a kernel stays the same after a hundred runs."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator

import psutil

from cmbagent_nb.workspace import Workspace
from tests.benchmarks.measure import Figure, environment, folder, median, now, rounds
from tests.openai_server import OpenAIServer
from tests.team import code

RUNS, SETTLED = 100, 20


def demo() -> Iterator[Figure]:
    """The demonstration with and without capture: processor time of the kernel's process, as a part of the run's time.

    The time of the run itself, some seconds in which other programs compute, varies by more than what is asked for.
    """
    from cmbagent_nb.datasets import mauna_loa_co2, planck2018_tt
    from cmbagent_nb.llm.playbook import Playbook

    def one(name: str, capture: bool, **options: object) -> tuple[float, float, int]:
        os.environ["CMBAGENT_CAPTURE"] = "1" if capture else "0"
        workspace = Workspace(home / f"capture-{capture}")
        task = Playbook.load(name).task
        begun, worked = now(), time.process_time()
        run = workspace.start(task, model=f"playbook:{name}", **options).wait(300)  # type: ignore[arg-type]
        taken, cpu = now() - begun, time.process_time() - worked
        if run.status != "completed":
            raise RuntimeError(f"the demonstration ended as {run.status}: {run.error}")
        events = len(run.events())
        workspace.close()
        return taken, cpu, events

    def planck(capture: bool) -> tuple[float, float, int]:
        return one("planck-desi", capture, mode="planning_and_control", inputs={"df": planck2018_tt()})

    with folder() as home, environment(home):
        for capture in (True, False):  # loads what is loaded once
            one("mauna-loa", capture, mode="one_shot", inputs={"df": mauna_loa_co2()})
        found = rounds(lambda: planck(True), lambda: planck(False), repeats=3)
    added = [(captured[1] - bare[1]) / captured[0] * 100 for captured, bare in found]
    more = {
        "seconds": median([captured[0] for captured, _ in found]),
        "seconds_without": median([bare[0] for _, bare in found]),
        "cpu": median([captured[1] for captured, _ in found]),
        "cpu_without": median([bare[1] for _, bare in found]),
        "events": found[0][0][2],
        "events_without": found[0][1][2],
        "all": [round(part, 3) for part in added],
    }
    yield Figure("demo.capture", median(added), "% of the run", 1.0, more=more)


def hundred() -> Iterator[Figure]:
    """A hundred small runs over real HTTP, one after the other: threads, handles and memory after 20 and 100."""
    process = psutil.Process()
    with folder() as home, OpenAIServer(lambda request: code("print(6 * 7)")) as server:
        model = {"CMBAGENT_BASE_URL": server.url, "CMBAGENT_MODEL": "openai:test-model"}
        with environment(home, **model, OPENAI_API_KEY="a-key-for-the-loopback"):
            workspace = Workspace(home / "home")
            begun, settled = now(), (0, 0, 0.0)
            for number in range(1, RUNS + 1):
                run = workspace.one_shot("Multiply six by seven.").wait(60)
                if run.status != "completed":
                    raise RuntimeError(f"run {number} ended as {run.status}: {run.error}")
                server.requests.clear()  # which the test server keeps, not the kernel
                if number == SETTLED:
                    settled = _held(process)
            taken, held = now() - begun, _held(process)
            workspace.close()
    more = {"runs": RUNS, "seconds": taken}
    for name, unit, bar, place in (("threads", "", 0, 0), ("handles", "", 0, 1), ("memory", "MB", 20.0, 2)):
        levels = {"after_20": settled[place], "after_100": held[place]}
        yield Figure(
            f"hundred_runs.{name}", held[place] - settled[place], f"more {unit}".strip(), bar, more=more | levels
        )


def _held(process: psutil.Process) -> tuple[int, int, float]:
    gc.collect()
    return threading.active_count(), process.num_fds(), process.memory_info().rss / 1e6
