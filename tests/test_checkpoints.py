"""Checkpoints: a run can be looked at as it stood, and marking it costs the same whatever it holds."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.errors import RunNotFound, StoreError
from cmbagent_nb.run import Run
from cmbagent_nb.workflow.checkpoints import Checkpoints
from cmbagent_nb.workflow.history import rows_of_database, state_of
from cmbagent_nb.workflow.stream import StreamEvent
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import APPROVED, Team, code, plan


@pytest.fixture
def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    marked = threading.Semaphore(0)

    def answer(name: str) -> Any:
        assert marked.acquire(timeout=30)  # the step goes on when its beginning has been marked
        return code(f"open('data/{name}.txt', 'w').write('x')", f"{name}.py")

    def mark(event: StreamEvent) -> None:
        run.checkpoint(f"before {event['data']['title']}")
        marked.release()

    steps = {name: lambda request, name=name: answer(name) for name in ("One", "Two")}
    team = Team(plan=plan({"title": "One"}, {"title": "Two", "depends_on": [1]}), review=APPROVED, steps=steps)
    with OpenAIServer(team) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.planning_and_control("Write twice.", model="openai:m")
        run.on("step_started", mark)
        yield run.wait(60)


def test_a_run_is_looked_at_as_it_stood(run: Run) -> None:
    assert run.status == "completed", run.error
    points = run.checkpoints()
    assert points.journal_position.is_monotonic_increasing
    assert {"step_complete", "manual", "end"} <= set(points.checkpoint_type)
    before = run.state_at("before Two")
    assert before.status == "executing"
    assert before.nodes["step_1"] == "completed"
    assert before.nodes["step_2"] == "running"
    assert "data/One.txt" in before.files
    assert "data/Two.txt" not in before.files
    assert len(before.replies) == 3
    end = run.state_at(points.iloc[-1].id)
    assert end.differences(state_of(rows_of_database(run._host.db, run.id))) == []


def test_pruning_keeps_the_newest_and_those_with_a_name(run: Run) -> None:
    newest = run.checkpoints().query("name.isna()").id.iloc[-1]
    dropped = run.prune_checkpoints(keep=1)
    left = run.checkpoints()
    assert dropped > 0
    assert left.query("name.isna()").id.tolist() == [newest]
    assert left.name.dropna().tolist() == ["before One", "before Two"]
    assert run.state_at(newest).status == "completed"


def test_a_checkpoint_that_is_not_there_or_newer_is_refused(run: Run) -> None:
    with pytest.raises(RunNotFound, match=r"run\.checkpoints\(\)"):
        run.state_at("before Three")
    lines = [json.loads(line) for line in (run.work_dir / "journal.jsonl").read_text().splitlines()]
    newer = [{**line, "v": 99} for line in lines]
    (run.work_dir / "journal.jsonl").write_text("\n".join(json.dumps(line) for line in newer))
    with pytest.raises(StoreError, match="newer version"):
        run.state_at("before Two")
    (run.work_dir / "journal.jsonl").unlink()
    with pytest.raises(StoreError, match="not there"):
        run.state_at("before Two")


def test_a_checkpoint_costs_the_same_whatever_the_run_holds(run: Run) -> None:
    path = run.work_dir / "journal.jsonl"
    sizes = []
    for _ in range(2):
        before = path.stat().st_size
        run.checkpoint()
        sizes.append(path.stat().st_size - before)
        for number in range(500):
            run._host.writer.journal(path, "filler", {"number": number, "text": "x" * 100})
        run._host.writer.barrier().result()
    assert sizes[1] - sizes[0] <= 50  # numbers and times may have a few more digits
    assert sizes[1] < 3000


def test_no_time_between_checkpoints_means_none_by_time(tmp_path: Path) -> None:
    points = Checkpoints(None, tmp_path, "run", "session")  # type: ignore[arg-type]
    asyncio.run(asyncio.wait_for(points.keep_time(0.0), timeout=10))
