"""Golden histories: journals of runs that were recorded once still give the same state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.history import rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workflow.repair import repair
from tests.record_golden import FOLDER, RUNS, as_json

NAMES = [record.__name__ for record in RUNS]


def test_every_history_is_there() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.jsonl")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_journal_gives_the_state_that_the_database_held(name: str) -> None:
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    assert as_json(state_of(rows_of_journal(FOLDER / f"{name}.jsonl"))) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_database_made_of_the_journal_gives_it_too(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes((FOLDER / f"{name}.jsonl").read_bytes())
    db = Database.open(tmp_path)
    writer = Writer(db)
    assert [mended.name for mended in repair(db, writer)] == [name]
    run_id = db.rows("SELECT id FROM workflow_runs")[0]["id"]
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    assert as_json(state_of(rows_of_database(db, run_id))) == expected
    assert writer.faults == 0
    writer.close()
    db.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_journal_torn_at_any_line_still_gives_a_state(name: str, tmp_path: Path) -> None:
    """Whatever line the process died in, what is before it is read, and the plan is never half there."""
    whole = (FOLDER / f"{name}.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "journal.jsonl"
    for number in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:number]) + lines[number][: len(lines[number]) // 2])
        torn = state_of(rows_of_journal(path))
        assert torn == state_of(rows_of_journal(FOLDER / f"{name}.jsonl", number))
        if torn.plan is not None:
            assert {f"step_{step['number']}" for step in torn.plan["steps"]} <= set(torn.nodes)
