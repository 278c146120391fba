"""Archiving: a run's rows leave the database and read as before; they come back; nothing is lost on the way."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cmbagent_nb.errors import StateError, StoreError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.server import queries
from cmbagent_nb.store import archive, archived, frames, pages
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.lineage import lineage
from cmbagent_nb.store.snapshot import read_snapshot
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.checkpoints import find_checkpoint
from cmbagent_nb.workflow.history import rows_of_database
from cmbagent_nb.workflow.retention import archive as archive_older
from cmbagent_nb.workflow.retention import compact, delete_run, due, span
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.stored import T0, Record, count
from tests.team import code

FRAMES = ("events", "nodes", "messages", "files", "costs", "steps", "history", "decisions")
LEAVING = ("execution_events", "messages", "files", "model_replies", "approval_requests", "step_attempts")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Database, Writer]]:
    """A database and its writer."""
    db = Database.open(tmp_path / "home")
    writer = Writer(db)
    yield db, writer
    writer.close()
    db.close()
    gc.collect()
    assert writer.faults == 0


def a_run(writer: Writer, name: str = "planck", *, status: str = "completed", work_dir: str = "") -> Record:
    """A run with rows in every table, some of them odd."""
    record = Record(writer, name=name, session=f"session of {name}", status="executing")
    common = {"run_id": record.run, "session_id": record.session}
    record.node("planning", 0, node_type="planning", meta={"é": [1, None, float("nan")]})
    record.node("step_1", 1, started_at=T0, ended_at=T0 + 9)
    record.edge("planning", "step_1")
    step = {"node_id": "step_1", "step_number": 1, "title": "Fit", "status": "completed", "instructions": "Fit it."}
    writer.insert("workflow_steps", {"id": new_id(), **common, **step})
    agent = record.event("agent_call", agent_name="engineer", inputs={"text": "x" * 3000})
    call = record.event("model_call", agent_name="engineer", parent_event_id=agent, depth=1)
    ran = record.event("code_exec", parent_event_id=agent, depth=1, inputs={"code": "print(1)"}, duration_ms=5.0)
    record.cost("engineer", event=call, cost=0.125)
    record.cost("engineer", event=call, cost=None)
    made = record.file("data/fit.json", event=ran, is_final_output=True)
    record.file("data/fit.json", event=ran, version=2, parent_file_id=made, size_bytes=2**40)
    record.message("chi2 = 1.5 \U0001f600 \x7f", event_id=call, tool_calls=[{"name": "f"}], execution_result={"a": 1})
    record.message("", event_id=None)
    reply = {"node_id": "step_1", "event_id": call, "agent_name": "engineer", "created_at": T0 + 0.5, "masked": True}
    writer.insert("model_replies", {"id": new_id(), "run_id": record.run, **reply, "reply": {"text": "é"}})
    gate = {"node_id": "step_1", "approval_type": "plan_approval", "status": "resolved", "resolution": "approved"}
    gate |= {"context": {"title": "Approve?", "options": [{"id": "approved"}]}, "created_at": T0}
    writer.insert("approval_requests", {"id": new_id(), **common, **gate})
    attempt = {"node_id": "step_1", "attempt": 1, "status": "completed", "started_at": T0}
    writer.insert("step_attempts", {"id": new_id(), "run_id": record.run, **attempt})
    change = {"entity_type": "workflow_run", "entity_id": record.run, "to_state": status, "created_at": T0}
    writer.insert("state_history", {**common, **change})
    writer.update("workflow_runs", record.run, {"status": status, "ended_at": T0 + 60, "work_dir": work_dir})
    record.settle()
    return record


def all_frames(db: Database, run_id: str | None) -> dict[str, pd.DataFrame]:
    """Every frame; ids that the database counts up may change on the way, their order may not."""
    return {name: getattr(frames, name)(db, run_id=run_id).drop(columns="id") for name in FRAMES}


def same(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> None:
    for name in FRAMES:
        pd.testing.assert_frame_equal(before[name], after[name], obj=name)


def shown(db: Database, run_id: str) -> dict[str, str]:
    """A snapshot without what archiving adds to the run's row."""
    found = dict(vars(read_snapshot(db, run_id)))
    found["run"] = {key: value for key, value in found["run"].items() if key != "meta"}
    return {name: repr(value) for name, value in found.items()}  # NaN is not equal to itself


def test_an_archived_run_reads_as_before_and_comes_back(store: tuple[Database, Writer]) -> None:
    db, writer = store
    other, record = a_run(writer, "other"), a_run(writer)
    before, everything = all_frames(db, record.run), all_frames(db, None)
    view, chain = shown(db, record.run), lineage(db, record.run, "data/fit.json")
    messages = list(pages.rows(db, "messages", record.run))

    done = archive.archive_run(db, writer, record.run)

    assert done.folder == db.home / "archive" / "2023-11" / f"planck-{record.run[-8:]}"
    assert {path.suffix for path in done.folder.iterdir()} == {".parquet", ".json"}
    for table in LEAVING:
        assert db.rows(f"SELECT COUNT(*) AS n FROM {table} WHERE run_id = :run", run=record.run)[0]["n"] == 0
        assert db.rows(f"SELECT COUNT(*) AS n FROM {table} WHERE run_id = :run", run=other.run)[0]["n"] > 0
    same(before, all_frames(db, record.run))
    assert shown(db, record.run) == view
    assert lineage(db, record.run, "data/fit.json") == chain
    assert list(pages.rows(db, "messages", record.run)) == messages
    same(everything, all_frames(db, None))
    assert frames.runs(db).set_index("name").loc["planck", "tokens"] == 60
    assert len(frames.events(db, session="session of planck")) == 3

    a_run(writer, "later")  # takes ids that have become free
    assert archive.unarchive_run(db, writer, record.run) == done.rows
    assert not done.folder.exists()
    assert archived.archived(db, record.run) is None
    same(before, all_frames(db, record.run))
    again = shown(db, record.run)
    assert {**again, "messages": ""} == {**view, "messages": ""}  # whose numbers may be new


def test_an_archived_run_is_told_of_by_the_server_as_before(store: tuple[Database, Writer]) -> None:
    """Every part of a run that REST sends, its checkpoints and its gates, and how it stood."""
    db, writer = store
    record = a_run(writer)
    point = {"run_id": record.run, "session_id": record.session, "checkpoint_type": "end", "created_at": T0}
    writer.insert("checkpoints", {"id": new_id(), **point, "journal_position": 9, "name": "at the end"})
    record.settle()
    gate = frames.decisions(db, record.run).id.iloc[0]

    def told() -> dict[str, Any]:
        parts = {part: queries.page(db, record.run, part, after=0, limit=99) for part in queries.PARTS}
        stood = rows_of_database(db, record.run)
        run = {**queries.run(db, record.run), "meta": None}
        stood["workflow_runs"] = [{**row, "meta": None} for row in stood["workflow_runs"]]
        return {
            **parts,
            "run": run,
            "runs": queries.runs(db, limit=9),
            "events": queries.events(db, record.run, after=0, limit=99),
            "steps": queries.steps(db, record.run),
            "graph": queries.graph(db, record.run),
            "gate": queries.approval(db, gate),
            "stood": stood,
            "at": find_checkpoint(db, record.run, "at the end"),
            "points": frames.checkpoints(db, record.run).to_dict("records"),
        }

    before = told()
    assert len(before["events"]) == 3 and before["gate"]["run_name"] == "planck" and before["at"] == 9
    archive.archive_run(db, writer, record.run)
    after = told()
    assert queries.approval(db, new_id()) is None
    for name, part in before.items():
        assert repr(after[name]) == repr(part), name  # NaN is not equal to itself


def test_parquet_files_are_read_by_pandas_as_they_are(store: tuple[Database, Writer]) -> None:
    db, writer = store
    record = a_run(writer)
    done = archive.archive_run(db, writer, record.run)
    table = pd.read_parquet(done.folder / "messages.parquet")
    assert table.content.tolist() == ["chi2 = 1.5 \U0001f600 \x7f", ""]


def test_what_is_due(store: tuple[Database, Writer]) -> None:
    db, writer = store
    old, running = a_run(writer, "old"), Record(writer, name="running")
    fresh = a_run(writer, "fresh")
    import time

    writer.update("workflow_runs", fresh.run, {"ended_at": time.time() - 3600})
    running.settle()
    assert [run["name"] for run in due(db, span("90d"))] == ["old"]
    assert [run["name"] for run in due(db, span("30m"))] == ["old", "fresh"]
    assert due(db, span("90d"), session="session of fresh") == []
    assert [item.name for item in archive_older(db, writer, span("1d"))] == ["old"]
    assert archive_older(db, writer, span("1d")) == []
    with pytest.raises(StateError, match="archived already"):
        archive.archive_run(db, writer, old.run)
    with pytest.raises(StateError, match="is executing"):
        archive.archive_run(db, writer, running.run)
    with pytest.raises(UsageError, match="no span of time"):
        span("soon")


def test_a_death_before_the_mark_loses_nothing(store: tuple[Database, Writer], monkeypatch: pytest.MonkeyPatch) -> None:
    db, writer = store
    record = a_run(writer)
    before = all_frames(db, record.run)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "_mark", dies)
    with pytest.raises(KeyboardInterrupt):
        archive.archive_run(db, writer, record.run)
    monkeypatch.undo()
    assert count(db, "execution_events") == 3
    same(before, all_frames(db, record.run))
    archive.archive_run(db, writer, record.run)
    same(before, all_frames(db, record.run))


@pytest.mark.parametrize("during", ["archiving", "bringing back"])
def test_a_death_in_the_middle_of_moving_rows_is_mended_next_time(
    store: tuple[Database, Writer], monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    db, writer = store
    record = a_run(writer)
    before = all_frames(db, record.run)
    if during == "bringing back":
        archive.archive_run(db, writer, record.run)
    real, moved = archive.delete_rows, []

    def dies_at_the_third(writer: Writer, table: str, run_id: str) -> int:
        moved.append(table)
        if len(moved) == 3:
            raise KeyboardInterrupt
        return real(writer, table, run_id)

    monkeypatch.setattr(archive, "delete_rows", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        (archive.archive_run if during == "archiving" else archive.unarchive_run)(db, writer, record.run)
    monkeypatch.undo()
    same(before, all_frames(db, record.run))  # the archive counts
    assert archive_older(db, writer, span("1d")) == []
    assert count(db, "execution_events") == 0
    same(before, all_frames(db, record.run))
    archive.unarchive_run(db, writer, record.run)
    same(before, all_frames(db, record.run))


def test_a_file_that_does_not_hold_what_was_written_deletes_nothing(
    store: tuple[Database, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, writer = store
    record = a_run(writer)
    real = archive.read_table

    def another_value(folder: Path, table: str) -> Iterator[list[dict[str, Any]]]:
        for group in real(folder, table):
            yield [{**row, "content": "lost"} if "content" in row else row for row in group]

    monkeypatch.setattr(archive, "read_table", another_value)
    with pytest.raises(StoreError, match="does not hold what was written"):
        archive.archive_run(db, writer, record.run)
    assert count(db, "messages") == 2


def test_a_run_that_changes_meanwhile_is_left_alone(
    store: tuple[Database, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, writer = store
    record = a_run(writer)
    real = archive._write

    def and_a_row_comes(*given: Any) -> Any:
        counts = real(*given)
        record.message("late")
        return counts

    monkeypatch.setattr(archive, "_write", and_a_row_comes)
    with pytest.raises(StateError, match="has changed"):
        archive.archive_run(db, writer, record.run)
    assert count(db, "messages") == 3


def test_an_archive_that_is_gone_is_said_to_be(store: tuple[Database, Writer]) -> None:
    db, writer = store
    record = a_run(writer)
    done = archive.archive_run(db, writer, record.run)
    shutil.rmtree(done.folder)
    with pytest.raises(StoreError, match="cannot be read") as caught:
        frames.events(db, record.run)
    assert "backup" in str(caught.value)


def test_space_is_given_back(store: tuple[Database, Writer]) -> None:
    db, writer = store
    record = a_run(writer)
    for _ in range(200):
        record.message("x" * 5000)
    record.settle()
    archive.archive_run(db, writer, record.run)
    assert compact(db) > 500_000
    assert len(frames.messages(db, record.run)) == 202


def test_deleting_a_run_takes_its_rows_archive_and_folder(store: tuple[Database, Writer], tmp_path: Path) -> None:
    db, writer = store
    own = db.home / "runs" / "planck"
    own.mkdir(parents=True)
    (own / "journal.jsonl").write_text("{}")
    record, other = a_run(writer, work_dir=str(own)), a_run(writer, "other", work_dir=str(tmp_path))
    done = archive.archive_run(db, writer, record.run)
    assert delete_run(db, writer, record.run) == "Deleted planck."
    assert not own.exists()
    assert not done.folder.exists()
    assert not list((db.home / "trash").iterdir())
    assert frames.runs(db).name.tolist() == ["other"]
    assert "stays" in delete_run(db, writer, other.run)
    assert tmp_path.is_dir()
    for table in (*LEAVING, "workflow_runs", "workflow_steps", "dag_nodes", "cost_records", "state_history"):
        assert count(db, table) == 0, table


def test_a_run_that_goes_on_is_not_deleted(store: tuple[Database, Writer]) -> None:
    db, writer = store
    record = Record(writer)
    record.settle()
    with pytest.raises(StateError, match="Cancel it first"):
        delete_run(db, writer, record.run)


def test_whoever_goes_on_with_an_archived_run_has_its_rows_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed is archived and resumed: its record is whole, and in the database."""
    replies = iter([code("raise SystemExit(3)"), code("print(6 * 7)")])
    with OpenAIServer(lambda request: next(replies)) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Multiply six by seven.", model="openai:m", max_attempts=1).wait(60)
        assert run.status == "failed"
        before = run.events().id.tolist()
        archive.archive_run(workspace._core.db, workspace._core.writer, run.id)
        resumed = workspace.resume(run.name).wait(60)
    assert resumed.status == "completed", resumed.error
    assert archived.archived(workspace._core.db, run.id) is None
    after = resumed.events()
    assert after.id.tolist()[: len(before)] == before
    assert after.execution_order.is_unique


def test_what_the_library_learned_from_a_run_stays(store: tuple[Database, Writer]) -> None:
    """A match outlives the archiving of its run, and a skill that was deleted meanwhile does not keep the run away."""
    db, writer = store
    record = a_run(writer)
    skill = {"id": new_id(), "name": "fit", "version": 1, "status": "active", "created_at": T0}
    writer.insert("skills", skill)
    match = {"id": new_id(), "run_id": record.run, "skill_id": skill["id"], "status": "accepted", "created_at": T0}
    writer.insert("skill_matches", match)
    writer.barrier().result(30)
    archive.archive_run(db, writer, record.run)
    assert db.rows("SELECT status FROM skill_matches WHERE skill_id = :id", id=skill["id"]) == [{"status": "accepted"}]
    writer.call(
        lambda connection: connection.exec_driver_sql("DELETE FROM skills WHERE id = ?", (skill["id"],))
    ).result(30)
    archive.unarchive_run(db, writer, record.run)
    assert db.rows("SELECT run_id, skill_id FROM skill_matches") == [{"run_id": record.run, "skill_id": None}]
