"""What every benchmark stands on: figures with bars, rounds that are interleaved, a folder, a process of its own.

Timings of a busy machine say little; a ratio of two things that were measured turn by turn says much. So each round
measures all that is compared, and a figure is the median over the rounds.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS = 5
now = time.perf_counter


@dataclass(frozen=True)
class Figure:
    """One figure, and the bar that it must not go above (``at_least``: below)."""

    name: str
    figure: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the bar is held; None where there is none."""
        if self.bar is None:
            return None
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar

    def line(self) -> str:
        """Return the figure as a line of JSON.

        >>> Figure("record.wait_p50", 3.61234, "µs", 12.0, more={"events": 20000}).line()
        '{"name": "record.wait_p50", "figure": 3.612, "unit": "µs", "bar": 12.0, "pass": true, "events": 20000}'
        """
        shown: dict[str, Any] = {"name": self.name, "figure": self.figure, "unit": self.unit, "bar": self.bar}
        shown["pass"] = self.passed
        if self.at_least:
            shown["bar_is"] = "at least"
        return json.dumps({key: _rounded(value) for key, value in (shown | self.more).items()}, ensure_ascii=False)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which ``part`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def rounds(*measured: Callable[[], T], repeats: int = ROUNDS) -> list[tuple[T, ...]]:
    """Measure all of them in turn, again and again; return the results round by round."""
    found = []
    for _ in range(repeats):
        results = []
        for function in measured:
            gc.collect()
            results.append(function())
        found.append(tuple(results))
    return found


def seconds(function: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    begun = now()
    function()
    return now() - begun


@contextmanager
def folder() -> Iterator[Path]:
    """Lend an empty folder: on the disk, or where ``CMBAGENT_BENCH_DIR`` says (a RAM disk takes the disk out)."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("CMBAGENT_BENCH_DIR")) as path:
        yield Path(path)


@contextmanager
def environment(home: Path, **more: str) -> Iterator[None]:
    """Keep the user's workspace, keys and servers apart from what is measured."""
    foreign = ("CMBAGENT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_API_KEY", "OLLAMA_")
    before = dict(os.environ)
    for name in before:
        if name.startswith(foreign) and not name.startswith("CMBAGENT_BENCH"):
            del os.environ[name]
    os.environ.update(CMBAGENT_HOME=str(home), CMBAGENT_WORKSPACES_FILE=str(home / "workspaces.json"), **more)
    os.environ["OLLAMA_HOST"] = "127.0.0.1:9"  # a port where nothing answers
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
