"""A run in which everything happens is killed at any instant: it ends as if nothing had been, paying nothing twice."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.store.journal import read_journal
from cmbagent_nb.workflow.history import State, rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workspace import Workspace
from tests import rich_run
from tests.kernels import Kernels
from tests.openai_server import CUT, OpenAIServer, tool_results

#: What a kill can fall into.
PHASES = ("model call", "tool", "code", "publishing", "gate", "parallel steps", "checkpoint", "between")


@dataclass
class Outcome:
    """How a run ended, however often it was killed."""

    files: dict[str, str]
    versions: dict[str, tuple[int, str]]
    result: Any
    plan: Any
    nodes: dict[str, str]
    attempts: dict[tuple[str, int], str]
    gates: list[tuple[str, str, str | None]]


@dataclass
class Tally:
    """What was seen in all runs that were killed."""

    kills: int = 0
    recovered: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    asked_again: int = 0
    measured_again: int = 0
    interrupted: int = 0

    def __str__(self) -> str:
        return json.dumps({**vars(self), "phases": dict(self.phases)})


class Scene:
    """One home with its traces, its kernels and its models."""

    def __init__(self, folder: Path, kernels: Kernels, server: OpenAIServer) -> None:
        self.home = folder / "home"
        self.trace = folder / "trace"
        self.trace.mkdir(parents=True)
        self.kernels = kernels
        self.server = server

    @property
    def folder(self) -> Path:
        return self.home / "runs" / rich_run.NAME

    def go(self, mode: str, moment: str = "") -> int:
        """Let a kernel start the run or go on with it; returns how it ended."""
        ended = self.kernels.run("tests.rich_run", self.home, self.trace, mode, moment)
        assert ended.code in (0, -9), ended.output
        return ended.code

    def outcome(self) -> Outcome:
        workspace = Workspace(self.home)
        try:
            run = workspace.run(rich_run.NAME)
            assert run.status == "completed", run.error
            state = state_of(rows_of_database(workspace._core.db, run.id))
            return Outcome(
                results(self.folder),
                state.files,
                state.result,
                state.plan,
                state.nodes,
                state.attempts,
                answered(state),
            )
        finally:
            workspace.close()

    def measured(self) -> int:
        path = self.trace / "measured.log"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def starts(self) -> int:
        path = self.trace / "starts.log"
        return len(path.read_text().splitlines()) if path.exists() else 0


def answered(state: State) -> list[tuple[str, str, str | None]]:
    """Return the decisions of a run; a gate that closed with its process was asked again."""
    return sorted(
        (node, resolution or "", feedback)
        for node, status, resolution, feedback in state.gates.values()
        if status == "resolved"
    )


def results(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("data", "codebase", "plots", "planning", "report.md", "step_3.md")
        for path in sorted([folder / part, *(folder / part).rglob("*")])
        if path.is_file()
    }


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with Kernels() as found:
        yield found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(rich_run.RichTeam()) as found:
        monkeypatch.setenv("CMBAGENT_BASE_URL", found.url)
        yield found


def into(folder: Path) -> tuple[set[str], int]:
    """Tell what a kill fell into, from what it left: the phases, and how many calls were under way."""
    database = folder.parents[1] / "cmbagent.db"
    with closing(sqlite3.connect(database)) as db:

        def count(sql: str) -> int:
            return int(db.execute(f"SELECT COUNT(*) FROM {sql}").fetchone()[0])

        running = Counter(
            kind for (kind,) in db.execute("SELECT event_type FROM execution_events WHERE status = 'running'")
        )
        moving = count("workflow_steps WHERE status IN ('running', 'retrying')")
        unpublished = count(
            "step_attempts a WHERE a.status = 'running' AND EXISTS (SELECT 1 FROM execution_events e WHERE"
            " e.node_id = a.node_id AND e.attempt = a.attempt AND e.event_type = 'code_exec'"
            " AND e.status IN ('completed', 'failed'))"
        )
    names = {"model_call": "model call", "tool_call": "tool", "code_exec": "code", "approval": "gate"}
    found = {name for kind, name in names.items() if running[kind]}
    if unpublished:
        found.add("publishing")
    if moving > 1:
        found.add("parallel steps")
    last = [entry.kind for entry in read_journal(folder / "journal.jsonl")][-1:]
    if last == ["checkpoint"]:
        found.add("checkpoint")
    return found or {"between"}, running["model_call"]


def survive(scene: Scene, moments: list[str], expected: Outcome, tally: Tally) -> None:
    """Kill a run at each moment, go on each time, and compare the end with that of the undisturbed run."""
    before, in_flight = scene.server.count, 0
    mode = "start"
    kills = 0
    for moment in [*moments, ""]:
        if scene.go(mode, moment) == 0:
            break
        kills += 1
        if not (scene.folder / "journal.jsonl").exists():
            return  # it died before there was a run
        phases, calls = into(scene.folder)
        in_flight += calls + 1  # one may have been begun in the last instant, unseen
        tally.phases.update(phases)
        mode = "resume"
    tally.kills += kills
    assert scene.outcome() == expected, moments
    check_record(scene, scene.server.count - before, kills, in_flight, tally)
    tally.recovered += kills


def check_record(scene: Scene, calls: int, kills: int, in_flight: int, tally: Tally) -> None:
    assert not list(scene.trace.glob("*.twice")), "code ran twice at once"
    workspace = Workspace(scene.home)
    try:
        run = workspace.run(rich_run.NAME)
        replies = workspace._core.db.rows(
            "SELECT node_id, attempt, agent_name, request_hash FROM model_replies WHERE run_id = :id", id=run.id
        )
        # Each reply that was stored was asked for once: only a call in flight at a kill is made again.
        assert len({tuple(row.values()) for row in replies}) == len(replies)
        assert len(replies) <= calls <= len(replies) + in_flight
        tally.asked_again += calls - len(replies)
        events = run.events()
        # No event is missing: each has the number after the one before it, and none is left open.
        assert events.execution_order.tolist() == list(range(1, len(events) + 1))
        assert "running" not in set(events.status)
        tally.interrupted += int((events.status == "interrupted").sum())
        live = events[(events.event_type == "model_call") & (events.event_subtype != "replayed")]
        assert abs(calls - len(live)) <= in_flight  # shown and not sent yet, or sent and not shown yet
        code = events[events.event_type == "code_exec"]
        believed = [bool((meta or {}).get("ended_before_it_was_resumed")) for meta in code.meta]
        assert abs(len(code) - sum(believed) - scene.starts()) <= 2 * kills
        files = run.files()
        assert set(files.event_id) == set(events[events.event_type == "file_gen"].id)
        # What a tool has given and was stored is not asked of the tool again.
        again = scene.measured() - 2
        assert 0 <= again <= kills
        tally.measured_again += again
        assert set(run.steps().status) == {"completed"}
        assert set(run.nodes().status) == {"completed"}
        told = state_of(rows_of_journal(scene.folder / "journal.jsonl"))
        assert told.differences(state_of(rows_of_database(workspace._core.db, run.id))) == []
        assert workspace._core.writer.faults == 0
    finally:
        workspace.close()


def undisturbed(folder: Path, kernels: Kernels, server: OpenAIServer) -> Outcome:
    quiet = Scene(folder, kernels, server)
    assert quiet.go("start") == 0
    return quiet.outcome()


#: Instants within steps side by side, again while that is gone on with, and near the end.
MOMENTS = (["n45", "n22+0.01"], ["n80"])


def test_a_run_killed_at_some_instants_ends_the_same(tmp_path: Path, kernels: Kernels, server: OpenAIServer) -> None:
    expected = undisturbed(tmp_path / "undisturbed", kernels, server)
    tally = Tally()
    for number, moments in enumerate(MOMENTS):
        survive(Scene(tmp_path / str(number), kernels, server), moments, expected, tally)
    assert tally.kills == tally.recovered == sum(map(len, MOMENTS))


def test_a_tool_that_has_ended_is_not_run_again(tmp_path: Path, kernels: Kernels, server: OpenAIServer) -> None:
    """Killed when the model is asked what to do with what the tool gave: no reply has seen it yet."""
    place = Scene(tmp_path / "scene", kernels, server)
    team, killed = server.handler, []

    def answer(request: dict[str, Any]) -> Any:
        if "# Your step: Measure" in str(request) and len(tool_results(request)) == 1 and not killed:
            killed.append(int((place.trace / "pid").read_text()))
            os.kill(killed[0], signal.SIGKILL)
            return CUT
        return team(request)

    server.handler = answer
    assert place.go("start") == -9
    assert place.measured() == 1
    assert place.go("resume") == 0
    assert killed
    assert (place.trace / "measured.log").read_text() == "height\nwidth\n"
    workspace = Workspace(place.home)
    try:
        tools = workspace.run(rich_run.NAME).events().query("event_type == 'tool_call' and agent_name == 'surveyor'")
        assert tools.event_subtype.tolist() == ["complete", "replayed", "complete"]
    finally:
        workspace.close()


@pytest.mark.full
def test_fifty_kills_at_random_instants_change_nothing(tmp_path: Path, kernels: Kernels, server: OpenAIServer) -> None:
    dice = random.Random(20261121)
    expected = undisturbed(tmp_path / "undisturbed", kernels, server)
    tally = Tally()
    number = 0
    while tally.kills < 50:
        number += 1
        # By the clock, or a little after something happened; every third is killed again while it goes on.
        clock, event = f"t{dice.uniform(0.0, 3.0):.3f}", f"n{dice.randint(1, 90)}+{dice.uniform(0, 0.03):.4f}"
        moments = [clock if dice.random() < 0.5 else event]
        if number % 3 == 0:
            moments.append(f"t{dice.uniform(0.0, 2.5):.3f}")
        survive(Scene(tmp_path / str(number), kernels, server), moments, expected, tally)
    print(tally)
    assert set(PHASES) - set(tally.phases) == set()
