"""What runs in the peers' environment, beside ours: ``python -m tests.benchmarks.beside recording|reading FOLDER``."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from tests.benchmarks import floor
from tests.benchmarks.floor import Recording
from tests.benchmarks.measure import Figure, median, now, quantile, rounds, seconds
from tests.benchmarks.recording import BURST, spans

EVENTS = 20_000
#: Events of the peers that take milliseconds for each.
SPANS, STEPS = 1_500, 400
READ = 10_000
#: Spans after which MLflow is waited for, where none may be lost.
PAUSE = 400

numbers = itertools.count()
Events = list[dict[str, Any]]


# ---- MLflow


def traced(place: Path, events: Events, pause: int = 0) -> tuple[Recording, Path]:
    """Record each event as a span of one trace, in MLflow's default, asynchronous way."""
    import mlflow

    path = _store(place)
    waits = []
    begun, worked = now(), time.process_time()
    with mlflow.start_span("root", span_type="CHAIN"):
        for number, event in enumerate(events[1:]):
            before = now()
            with mlflow.start_span(f"step-{number % 17}", span_type="TOOL") as span:
                span.set_inputs(event["inputs"])
                span.set_outputs(event["outputs"])
                tokens = event["usage"]["completion"]
                span.set_attributes({"kind": floor.KINDS[number % 5], "agent": "engineer", "tokens": tokens})
            waits.append(now() - before)
            if pause and number % pause == pause - 1:
                mlflow.flush_trace_async_logging()
    mlflow.flush_trace_async_logging()
    total, cpu = now() - begun, time.process_time() - worked
    with closing(sqlite3.connect(path)) as connection:
        stored = connection.execute("SELECT COUNT(*) FROM spans").fetchone()[0] - 1
    return Recording(len(events), total, cpu, stored, waits), path


def _store(place: Path) -> Path:
    """Make a store for MLflow, with all its tables, and leave a first span in it, before the clock starts."""
    import mlflow

    template, path = place / "mlflow.db", place / f"mlflow-{next(numbers)}.db"
    if not template.exists():
        mlflow.set_tracking_uri(f"sqlite:///{template}")
        mlflow.set_experiment("bench")
    shutil.copy(template, path)
    mlflow.tracing.reset()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.set_experiment("bench")
    with mlflow.start_span("first"):
        pass
    mlflow.flush_trace_async_logging()
    return path


# ---- LangGraph


class Flat(TypedDict):
    """A state that stays as large as it is."""

    number: int
    event: dict[str, Any]


class Growing(TypedDict):
    """A state that keeps every event, as a conversation does."""

    number: int
    events: Annotated[list[dict[str, Any]], add]


def stepped(place: Path, events: Events, *, growing: bool = False) -> Recording:
    """Go through a graph of one node, a step for each event, with SqliteSaver as its checkpointer."""
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    marks: list[float] = []

    def node(state: Any) -> dict[str, Any]:
        marks.append(now())
        event = events[state["number"] % len(events)]
        return {"number": state["number"] + 1, **({"events": [event]} if growing else {"event": event})}

    graph = StateGraph(Growing if growing else Flat)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_conditional_edges("node", lambda state: "node" if state["number"] < len(events) else END)
    with closing(sqlite3.connect(place / f"{next(numbers)}.db", check_same_thread=False)) as connection:
        app = graph.compile(checkpointer=SqliteSaver(connection))
        config = {"configurable": {"thread_id": "t"}, "recursion_limit": len(events) + 10}
        begun, worked = now(), time.process_time()
        app.invoke({"number": 0, **({"events": []} if growing else {"event": {}})}, config, durability="sync")
        total, cpu = now() - begun, time.process_time() - worked
        stored = connection.execute("SELECT COUNT(*) FROM checkpoints").fetchone()[0]
    waits = [after - before for before, after in itertools.pairwise(marks)]
    return Recording(len(events), total, cpu, min(len(events), stored), waits)


# ---- OpenTelemetry


def batched(_: Path, events: Events) -> Recording:
    """Record each event as a span of a batch processor whose exporter counts and writes nothing."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Count(SpanExporter):
        exported = 0

        def export(self, spans: Any) -> Any:
            self.exported += len(spans)
            return SpanExportResult.SUCCESS

    count, provider = Count(), TracerProvider()
    processor = BatchSpanProcessor(count)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("bench")
    waits = []
    begun, worked = now(), time.process_time()
    with tracer.start_as_current_span("root"):
        for number, event in enumerate(events[1:]):
            before = now()
            with tracer.start_as_current_span(f"step-{number % 17}") as span:
                span.set_attribute("kind", floor.KINDS[number % 5])
                span.set_attribute("agent", "engineer")
                span.set_attribute("tokens", event["usage"]["completion"])
                span.set_attribute("payload", json.dumps(event, separators=(",", ":")))
            waits.append(now() - before)
    processor.force_flush()
    total, cpu = now() - begun, time.process_time() - worked
    processor.shutdown()
    return Recording(len(events), total, cpu, count.exported, waits)


# ---- what is measured


def recording(place: Path) -> Iterator[Figure]:
    """Ours and the peers, each round beside the floor; then a burst of ten thousand."""
    events = floor.payloads(EVENTS)
    few, fewer = events[:SPANS], events[:STEPS]
    measured: dict[str, Callable[[], Recording]] = {
        "floor": lambda: floor.together(place / "floor.db", events),
        "cmbagent_nb": lambda: spans(place / f"{next(numbers)}", events),
        "otel_batch_to_nowhere": lambda: batched(place, events),
        "langgraph_sqlite_saver": lambda: stepped(place, fewer),
        "langgraph_sqlite_saver_growing": lambda: stepped(place, fewer, growing=True),
        "mlflow_tracing": lambda: traced(place, few)[0],
    }
    for function in measured.values():  # what is loaded and made once
        function()
    found = rounds(*measured.values())
    for place_in, name in enumerate(measured):
        turns = [turn[place_in] for turn in found]
        ratios = [turn[place_in].each / turn[0].each for turn in found]
        more: dict[str, Any] = {
            "ratio_to": "floor.together",
            "us_per_event": median([turn.each for turn in turns]) * 1e6,
            "ratio_of_cpu": median([turn[place_in].cpu / turn[place_in].n / turn[0].cpu * turn[0].n for turn in found]),
            "wait_p50_us": median([quantile(turn.waits, 0.5) for turn in turns]) * 1e6,
            "wait_p99_us": median([quantile(turn.waits, 0.99) for turn in turns]) * 1e6,
            "all": [round(ratio, 2) for ratio in ratios],
            "lost": sum(turn.n - turn.stored for turn in turns),
            "of": sum(turn.n for turn in turns),
        }
        yield Figure(f"peers.{name}", median(ratios), "× floor", 1.5 if name == "cmbagent_nb" else None, more=more)
    yield from _burst(place)


def _burst(place: Path) -> Iterator[Figure]:
    events = floor.payloads(BURST)
    lost = {"cmbagent_nb": spans(place / "burst", events), "otel_batch_to_nowhere": batched(place, events)}
    lost["mlflow_tracing"] = traced(place, events)[0]
    for name, found in lost.items():
        bar = 0 if name == "cmbagent_nb" else None
        more = {"of": BURST, "seconds": found.total}
        yield Figure(f"peers.{name}.lost_of_a_burst", found.n - found.stored, "events", bar, more=more)


def reading(place: Path) -> Iterator[Figure]:
    """Our frame of ten thousand events, beside ``mlflow.get_trace`` and a frame that is made of it."""
    import mlflow
    import pandas as pd

    from cmbagent_nb.store import frames
    from cmbagent_nb.store.database import Database

    events = floor.payloads(READ)
    spans(place / "home", events)
    written, path = traced(place, events, PAUSE)
    if written.stored != READ:
        raise RuntimeError(f"MLflow kept {written.stored} of {READ} spans")
    with closing(sqlite3.connect(path)) as connection:
        trace = connection.execute("SELECT trace_id FROM spans GROUP BY 1 ORDER BY COUNT(*) DESC").fetchone()[0]
    db = Database.open(place / "home")
    run = db.rows("SELECT id FROM workflow_runs")[0]["id"]
    measured: list[Callable[[], Any]] = [
        lambda: frames.events(db, run_id=run),
        lambda: mlflow.get_trace(trace).data.spans,
        lambda: pd.DataFrame([span.to_dict() for span in mlflow.get_trace(trace).data.spans]),
    ]
    if [len(read()) for read in measured] != [READ] * 3:
        raise RuntimeError("not all was read")

    def took(read: Callable[[], Any]) -> tuple[float, float]:
        worked = time.process_time()
        return seconds(read), time.process_time() - worked

    found = rounds(*(lambda read=read: took(read) for read in measured))
    db.close()
    ms = [median([turn[which][0] for turn in found]) * 1e3 for which in range(3)]
    for name, which in (("spans", 1), ("frame", 2)):
        ratio, cpu = (median([turn[which][kind] / turn[0][kind] for turn in found]) for kind in (0, 1))
        more = {"ratio_of_cpu": cpu, "ours_ms": ms[0], "mlflow_ms": ms[which]}
        more["mlflow_wrote_for_seconds"] = written.total
        yield Figure(f"peers.reading_10000.mlflow_{name}", ratio, "× ours", 3.5, at_least=True, more=more)


def main() -> None:
    """Measure what is asked for; a figure a line, as its fields."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "true"
    for figure in {"recording": recording, "reading": reading}[sys.argv[1]](Path(sys.argv[2])):
        print(json.dumps(asdict(figure)), flush=True)


if __name__ == "__main__":
    main()
