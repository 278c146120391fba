"""Whatever is asked of a run, in whatever order, and whenever its process is killed: its state is always a defined one.

The engine, its commands, gates, pauses, leases, journal and going on are the real ones, in processes of their own that
are killed; only models and code are a word. Front ends are this process: everything reaches the run as a command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cmbagent_nb.errors import GateError, StateError
from cmbagent_nb.run import Run
from cmbagent_nb.workflow.history import rows_of_database, rows_of_journal, state_of
from cmbagent_nb.workflow.ownership import interrupt_orphans
from cmbagent_nb.workflow.reconcile import reconcile
from cmbagent_nb.workflow.states import ACTIVE, RUN, STEP
from cmbagent_nb.workspace import Workspace
from tests import paced_run
from tests.kernels import Kernels

STEPS = ("step_1", "step_2", "step_3")


def is_gone(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


class Commands(RuleBasedStateMachine):
    """A run, a kernel that may be dead, and somebody who asks for things."""

    kernels: ClassVar[Kernels]

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="states"))
        os.mkfifo(self.home / "control")
        self.pipe = os.open(self.home / "control", os.O_RDWR | os.O_NONBLOCK)
        self.pid = self.kernels.start("tests.paced_run", self.home, "start")
        self.workspace = Workspace(self.home)
        self.wait(lambda: self.workspace._core.db.rows("SELECT 1 FROM workflow_runs"))
        self.run: Run = self.workspace.run(paced_run.NAME)
        self.wait(lambda: self.run.status != "draft")

    # ---- what can be asked for

    @rule(now=st.booleans())
    def pause(self, now: bool) -> None:
        with contextlib.suppress(StateError):
            self.run.pause(now=now)
        self.settle()

    @rule()
    def go_on(self) -> None:
        if self.run.status == "paused":  # a run that nobody owns is gone on with by a kernel
            self.run.resume()
        self.settle()

    @precondition(lambda self: self.steps_taken > 4)
    @rule(sure=st.integers(0, 3))
    def cancel(self, sure: int) -> None:
        if sure == 0:
            self.run.cancel()
            self.settle()

    @rule(which=st.integers(0, 3), choice=st.integers(0, 3))
    def answer(self, which: int, choice: int) -> None:
        gates = self.run.approvals()
        if gates:
            gate = gates[which % len(gates)]
            options = gate["context"]["options"]
            with contextlib.suppress(GateError):
                self.run.approve(gate["id"], options[choice % len(options)]["id"], "go on")
            self.settle()

    @rule(node=st.sampled_from(("planning", *STEPS)), word=st.sampled_from(("done", "done", "fail")))
    def say(self, node: str, word: str) -> None:
        os.write(self.pipe, f"{node} {word}\n".encode())
        self.settle()

    @rule()
    def checkpoint(self) -> None:
        point = self.run.checkpoint()
        assert self.run.state_at(point).status in RUN

    @rule()
    def crash(self) -> None:
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
            self.wait(lambda: is_gone(self.pid))

    @rule(
        action=st.sampled_from(("pause", "go_on", "answer", "say", "checkpoint")),
        node=st.sampled_from(("planning", *STEPS)),
        milliseconds=st.integers(0, 40),
    )
    def crash_amid(self, action: str, node: str, milliseconds: int) -> None:
        """Killed while it acts on what it was asked for."""
        if not self.alive():
            return
        killer = threading.Timer(milliseconds / 1e3, os.kill, (self.pid, signal.SIGKILL))
        killer.start()
        arguments: dict[str, Any] = {"pause": {"now": True}, "answer": {"which": 0, "choice": 0}}.get(action, {})
        if action == "say":
            arguments = {"node": node, "word": "done"}
        getattr(self, action)(**arguments)
        killer.join()
        self.wait(lambda: is_gone(self.pid))

    @rule()
    def look(self) -> None:
        """Another front end is opened: it finds out whose process is dead."""
        interrupt_orphans(self.workspace._core.db, self.workspace._core.writer)
        self.workspace._core.writer.barrier().result()
        if not self.alive():
            assert self.run.status not in ACTIVE

    @rule()
    def restart(self) -> None:
        if not self.alive() and self.run.status not in ("completed", "cancelled"):
            self.drain()
            self.pid = self.kernels.start("tests.paced_run", self.home, "resume")
            self.wait(lambda: self.run.status in ("planning", "executing", "waiting_approval") or not self.alive())
            assert self.alive() or self.run.status not in ("interrupted", "failed"), self.run.error
            self.settle()

    # ---- what always holds

    @invariant()
    def the_history_is_a_legal_path(self) -> None:
        rows = self.workspace._core.db.rows(
            "SELECT entity_type AS kind, entity_id AS entity, from_state, to_state FROM state_history ORDER BY id"
        )
        paths: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            table = RUN if row["kind"] == "workflow_run" else STEP
            assert row["to_state"] in table[row["from_state"]], row
            key = (row["kind"] == "workflow_run" and "run") or "node", row["entity"]
            path = paths.setdefault(key, [row["from_state"]])
            assert path[-1] == row["from_state"], (row, path)
            path.append(row["to_state"])
        self.steps_taken = len(rows)

    @invariant()
    def a_step_and_its_node_are_one(self) -> None:
        rows = self.workspace._core.db.rows(
            "SELECT n.node_id, n.status AS node, s.status AS step FROM dag_nodes n JOIN workflow_steps s"
            " ON s.run_id = n.run_id AND s.node_id = n.node_id"
        )
        assert all(row["node"] == row["step"] and row["node"] in STEP for row in rows), rows

    @invariant()
    def nothing_is_an_internal_error(self) -> None:
        error = str(self.run.error or "")
        assert "Internal" not in error and "cannot go from" not in error, error
        outcomes = [row["outcome"] for row in self.workspace._core.db.rows("SELECT outcome FROM commands")]
        assert not [item for item in outcomes if "cannot go from" in str(item)], outcomes

    def teardown(self) -> None:
        """From wherever it stands the run can be brought to an end; then both copies of it tell the same."""
        try:
            if hasattr(self, "run"):
                self.finish()
        finally:
            if hasattr(self, "pid") and self.alive():
                os.kill(self.pid, signal.SIGKILL)
            if hasattr(self, "workspace"):
                self.workspace.close()
                os.close(self.pipe)
                shutil.rmtree(self.home)

    def finish(self) -> None:
        latest = time.monotonic() + 60
        ended = ("completed", "cancelled", "failed")
        while not (self.run.status in ended and not self.alive()):
            assert time.monotonic() < latest, (self.run.status, self.run.nodes()[["node_id", "status"]])
            if not self.alive():
                interrupt_orphans(self.workspace._core.db, self.workspace._core.writer)
                self.restart()
            elif self.run.status == "paused":
                self.go_on()
            for gate in self.run.approvals():
                with contextlib.suppress(GateError):
                    options = [option["id"] for option in gate["context"]["options"]]
                    self.run.approve(gate["id"], "skip" if "retry" in options else options[0])
            running = self.workspace._core.db.rows("SELECT node_id FROM dag_nodes WHERE status = 'running'")
            # A planner whose reply is on the tape is not asked again: here it is, since there is no tape.
            planning = ["planning"] if self.run.status == "planning" else []
            for node in {*planning, *(row["node_id"] for row in running)}:
                os.write(self.pipe, f"{node} done\n".encode())
            threading.Event().wait(0.05)
        self.the_history_is_a_legal_path()
        self.a_step_and_its_node_are_one()
        self.nothing_is_an_internal_error()
        reconciled = reconcile(self.workspace._core.db, self.workspace._core.writer, self.run.id, self.run.work_dir)
        assert reconciled == [], reconciled
        told = state_of(rows_of_journal(self.run.work_dir / "journal.jsonl"))
        assert told.differences(state_of(rows_of_database(self.workspace._core.db, self.run.id))) == []
        assert set(self.run.events().status) <= {"completed", "failed", "cancelled", "interrupted"}
        assert self.workspace._core.writer.faults == 0
        assert not (self.home / "faults.jsonl").exists()

    # ---- helpers

    steps_taken = 0

    def alive(self) -> bool:
        return not is_gone(self.pid)

    def drain(self) -> None:
        """Take back what was said to the kernel that is dead."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.pipe, 65536):
                pass

    def wait(self, ready: Any, timeout: float = 30.0) -> None:
        latest = time.monotonic() + timeout
        while not ready():
            assert time.monotonic() < latest, "nothing happened"
            threading.Event().wait(0.01)

    def settle(self) -> None:
        """Give the kernel time to act on what it was asked for; not more than it takes."""
        db = self.workspace._core.db
        self.wait(
            lambda: (
                not self.alive()
                or self.run.status not in ACTIVE
                or not db.rows("SELECT 1 FROM commands WHERE handled_at IS NULL LIMIT 1")
            )
        )
        before = -1
        for _ in range(20):
            now = db.rows("SELECT COUNT(*) AS n FROM state_history")[0]["n"]
            if now == before:
                return
            before = now
            threading.Event().wait(0.02)


def machine(examples: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMBAGENT_BASE_URL", "http://127.0.0.1:9/v1")
    with Kernels() as kernels:
        Commands.kernels = kernels
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Commands,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.reuse, Phase.generate),
            ),
        )


def test_no_sequence_of_commands_and_crashes_leaves_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(4, 12, monkeypatch)


@pytest.mark.full
def test_no_long_sequence_of_commands_and_crashes_leaves_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(60, 30, monkeypatch)
