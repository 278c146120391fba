"""Whatever goes wrong at its end, a run has one: nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from typing import Any

import pytest

from cmbagent_nb.workflow.states import States
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code


def test_a_run_whose_end_is_refused_has_failed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours where the end is written: the run is failed and says so, in every process."""
    change = States.run

    async def refuse(self: States, target: str, **more: Any) -> Any:
        if target == "completed":
            raise ValueError("a fault of ours")
        return await change(self, target, **more)

    monkeypatch.setattr(States, "run", refuse)
    with OpenAIServer(lambda request: code("print(1)")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        run = workspace.one_shot("Print one.", model="openai:m").wait(60)
    assert run.finished
    assert run.status == "failed"
    assert run.error is not None and "its end could not be written" in run.error
    history = run.history().query("entity_type == 'workflow_run'").to_state.tolist()
    assert history[-1] == "failed" and "completed" not in history


def test_a_run_that_cannot_begin_ends_when_the_database_can_be_written_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end waits while another program holds the database, and is written then."""
    monkeypatch.setenv("CMBAGENT_BASE_URL", "http://127.0.0.1:9/v1")
    workspace._core.writer._patience = 0.2
    blocked, free = threading.Event(), threading.Event()

    async def stop(*_: Any, **__: Any) -> None:
        blocked.set()
        await asyncio.to_thread(free.wait, 30)
        raise ValueError("a fault of ours")

    monkeypatch.setattr("cmbagent_nb.workflow.launch._prepare", stop)
    run = workspace.one_shot("Print one.", model="openai:m")
    assert blocked.wait(30)
    with closing(sqlite3.connect(workspace.home / "cmbagent.db", timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        free.set()
        with pytest.raises(TimeoutError):
            run.wait(1.0)
        other.rollback()
    assert run.wait(60).status == "failed"
    assert run.error == "Internal error: ValueError: a fault of ours."
