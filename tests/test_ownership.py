"""Whose a run is: a process that died before it had a lease, one that another has taken over."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.store.json import to_json
from cmbagent_nb.workflow.ownership import clock
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code

ELSEWHERE = to_json({"host": "elsewhere", "pid": 1, "started": 1.0, "since_boot": ""})

#: A process that is killed after it has written a run's row and before it has written its lease.
KILLED = """
import os, signal, sys
from cmbagent_nb.store.writer import Writer
from cmbagent_nb.workspace import Workspace

insert = Writer.insert

def die(self, table, row):
    if table == "leases":
        self.barrier().result()
        os.kill(os.getpid(), signal.SIGKILL)
    insert(self, table, row)

Writer.insert = die
Workspace(sys.argv[1]).one_shot("Print one.", model="openai:m", name="early")
"""


def test_a_run_that_was_killed_before_it_had_a_lease_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row says whose it was: it is interrupted, not a draft for ever."""
    with OpenAIServer(lambda request: code("print(1)")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "home")], timeout=60, check=False)
        assert killed.returncode == -9
        workspace = Workspace(tmp_path / "home")
        try:
            run = workspace.run("early")
            assert run.status == "interrupted"
            assert run.resume().wait(60).status == "completed"
        finally:
            workspace.close()


def test_whoever_was_taken_over_writes_no_status_any_more(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was asleep wakes up: its run goes on elsewhere, and it leaves the statuses alone."""
    monkeypatch.setattr("cmbagent_nb.workflow.launch.HEARTBEAT", 0.05)
    asked, thinking = threading.Event(), threading.Event()

    def think(request: Any) -> Any:
        asked.set()
        thinking.wait(30)
        return code("print(1)")

    def take(connection: Any) -> None:
        values = (ELSEWHERE, clock(connection), run.id)
        connection.exec_driver_sql("UPDATE leases SET owner = ?, heartbeat_at = ? WHERE run_id = ?", values)

    with OpenAIServer(think) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Print one.", model="openai:m")
        assert asked.wait(30)
        before = run.history()
        live = workspace._core.host.live[run.id]
        workspace._core.writer.call(take).result()
        live.ended.result(30)
        thinking.set()
    assert run.status == "executing"
    assert len(run.history()) == len(before)
    assert run.steps().status.tolist() == ["running"]
