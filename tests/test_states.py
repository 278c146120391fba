"""The state machine: only allowed changes, each with its history, whatever is tried."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmbagent_nb.errors import StateError
from cmbagent_nb.ids import new_id
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workflow.states import ENDED, RUN, STEP, change_node, change_run, sources


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Writer]]:
    home: Path = tmp_path_factory.mktemp("states")
    db = Database.open(home)
    writer = Writer(db)
    writer.insert("sessions", {"id": "s", "name": "default", "status": "active", "created_at": time.time()})
    yield db, writer
    writer.close()
    db.close()


def new_run(writer: Writer) -> str:
    run_id = new_id()
    writer.insert(
        "workflow_runs",
        {"id": run_id, "session_id": "s", "name": run_id, "mode": "one_shot", "status": "draft", "created_at": 0.0},
    )
    writer.insert(
        "dag_nodes",
        {"id": new_id(), "run_id": run_id, "node_id": "step_1", "node_type": "step", "status": "pending"},
    )
    writer.insert(
        "workflow_steps",
        {"id": new_id(), "run_id": run_id, "node_id": "step_1", "step_number": 1, "status": "pending"},
    )
    writer.barrier().result()
    return run_id


def test_every_status_is_defined_and_every_target_is_reachable() -> None:
    for table, start in ((RUN, "draft"), (STEP, "pending")):
        assert set().union(*table.values()) | {start} == set(table)
        for target in set(table) - {start}:
            assert sources(table, target)


@settings(max_examples=60, deadline=None)
@given(targets=st.lists(st.sampled_from(sorted(RUN)), max_size=12))
def test_no_sequence_of_changes_of_a_run_leaves_the_machine(store: tuple[Database, Writer], targets: list[str]) -> None:
    """Whatever is asked for, the status is what the allowed changes made of it, and the history tells each."""
    db, writer = store
    run_id, expected = new_run(writer), ["draft"]
    for target in targets:
        future = writer.call(
            lambda connection, target=target: change_run(connection, run_id, target, reason="r", by="test")
        )
        if target in RUN[expected[-1]]:
            change = future.result()
            assert change is not None
            assert (change.from_state, change.to_state) == (expected[-1], target)
            expected.append(target)
        elif target == expected[-1]:
            assert future.result() is None
        else:
            with pytest.raises(StateError):
                future.result()
    row = db.rows("SELECT status, ended_at FROM workflow_runs WHERE id = :id", id=run_id)[0]
    assert row["status"] == expected[-1]
    assert row["ended_at"] is not None or expected[-1] not in ENDED
    history = db.rows("SELECT from_state, to_state FROM state_history WHERE run_id = :id ORDER BY id", id=run_id)
    assert [(item["from_state"], item["to_state"]) for item in history] == list(pairwise(expected))


@settings(max_examples=60, deadline=None)
@given(targets=st.lists(st.sampled_from(sorted(STEP)), max_size=12))
def test_a_step_and_its_node_never_differ(store: tuple[Database, Writer], targets: list[str]) -> None:
    db, writer = store
    run_id = new_run(writer)
    for target in targets:
        future = writer.call(
            lambda connection, target=target: change_node(
                connection, run_id, "step_1", target, reason="r", by="test", values={"attempts": 1}
            )
        )
        if future.exception() is not None:
            assert isinstance(future.exception(), StateError)
        row = db.rows(
            "SELECT n.status AS node, s.status AS step FROM dag_nodes n JOIN workflow_steps s"
            " ON s.run_id = n.run_id AND s.node_id = n.node_id WHERE n.run_id = :id",
            id=run_id,
        )[0]
        assert row["node"] == row["step"]


def test_a_refused_change_says_what_it_was(store: tuple[Database, Writer]) -> None:
    run_id = new_run(store[1])
    with pytest.raises(StateError, match="from draft to completed") as caught:
        store[1].call(lambda c: change_run(c, run_id, "completed", reason="", by="test")).result()
    assert (caught.value.from_state, caught.value.to_state) == ("draft", "completed")
