"""Objects of the API in a process that was forked: they work, or say in a line why not; the parent goes on unharmed."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent_nb.run import Run
from cmbagent_nb.store import forks
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def in_a_fork(work: Callable[[], Any], patience: float = 120) -> Any:
    """Run a function in a forked process and return what it returned, or the text of what it raised."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def main() -> None:
        try:
            theirs.send(("returned", work()))
        except BaseException as error:
            theirs.send((type(error).__name__, str(error)))

    process = context.Process(target=main)
    process.start()
    theirs.close()
    try:
        assert ours.poll(patience), "the forked process hangs"
        return ours.recv()
    finally:
        process.join(20)
        if process.is_alive():
            process.kill()
            pytest.fail("the forked process does not end")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(lambda request: code("print('six')")) as server:
        monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
        yield server


@pytest.fixture
def run(workspace: Workspace, server: OpenAIServer) -> Run:
    return workspace.one_shot("Count.", model="openai:m", name="count").wait(120)


def test_a_run_is_read_in_a_fork(run: Run, workspace: Workspace) -> None:
    rows = len(run.events())
    reads: list[Callable[[], Any]] = [
        lambda: len(run.events()),
        lambda: len(run.events()),
        lambda: len(Workspace(workspace.home).run("count").events()),
        lambda: len(workspace.run("count").events()),
    ]
    assert [in_a_fork(read) for read in reads] == [("returned", rows)] * 4
    assert in_a_fork(lambda: (run.status, run.finished, len(workspace.runs()))) == ("returned", ("completed", True, 1))
    assert len(run.events()) == rows
    assert workspace._core.writer.faults == 0


def test_a_fork_writes_and_the_parent_goes_on(run: Run, workspace: Workspace) -> None:
    """Rows that wait in the parent are written once, by the parent; the child's are the child's."""

    def note(name: str) -> None:
        row = {"id": name, "run_id": run.id, "command": "none", "created_at": 1.0, "origin": "test"}
        workspace._core.writer.insert("commands", row)

    def child() -> int:
        note(f"child-{os.getpid()}")
        workspace._core.writer.barrier().result(30)
        return len(workspace._core.db.rows("SELECT id FROM commands"))

    for number in range(10):
        note(f"parent-{number}")  # waits in the queue at the moment of the fork
        assert in_a_fork(child)[0] == "returned"
    workspace._core.writer.barrier().result(30)
    found = [row["id"] for row in workspace._core.db.rows("SELECT id FROM commands")]
    assert len(found) == len(set(found)) == 20
    assert workspace._core.writer.faults == 0
    assert workspace._core.db.rows("PRAGMA integrity_check")[0]["integrity_check"] == "ok"


def test_a_run_starts_in_a_fork(run: Run, workspace: Workspace) -> None:
    def child() -> tuple[str, int]:
        other = workspace.one_shot("Count again.", model="openai:m", name="again").wait(100)
        return other.status, len(other.events())

    kind, told = in_a_fork(child)
    assert kind == "returned" and told[0] == "completed", told
    assert len(workspace.run("again").events()) == told[1]
    assert workspace.one_shot("Once more.", model="openai:m").wait(120).status == "completed"


def test_forks_while_a_run_goes_on(workspace: Workspace, server: OpenAIServer, tmp_path: Path) -> None:
    """Writing and reading threads are held for the moment of each fork; none is lost, and the run ends well."""
    stop = threading.Event()
    seen: list[int] = []
    going = workspace.one_shot("Count.", model="openai:m")

    def read() -> None:
        while not stop.is_set():
            seen.append(len(going.events()))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        ends = [in_a_fork(lambda: len(going.events()) >= 0) for _ in range(8)]
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    refused = [text for kind, text in ends if kind != "returned"]
    assert all("forked" in text for text in refused) and len(refused) < len(ends), ends
    assert going.wait(120).status == "completed"
    assert seen and workspace._core.writer.faults == 0


def test_a_fork_within_a_read_says_so_in_a_line(
    run: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is in use at the fork cannot be closed: the child refuses, the parent reads on."""
    monkeypatch.setattr(forks, "PATIENCE", 0.2)
    with workspace._core.db.reading() as connection:
        first = connection.exec_driver_sql("SELECT COUNT(*) FROM execution_events").scalar()
        began = time.monotonic()
        kind, text = in_a_fork(lambda: len(run.events()))
        assert time.monotonic() - began < 60
        assert kind == "StoreError" and "forked" in text and "spawn" in text
        assert in_a_fork(lambda: len(Workspace(workspace.home).runs()))[0] == "StoreError"
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM execution_events").scalar() == first
    assert len(run.events()) == first


def test_a_fork_of_a_fork_and_one_that_leaves_by_the_front_door(run: Run, workspace: Workspace) -> None:
    assert in_a_fork(lambda: in_a_fork(lambda: len(run.nodes()))) == ("returned", ("returned", len(run.nodes())))
    pid = os.fork()
    if pid == 0:
        try:
            run.events()
            workspace.close()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run.status == "completed" and workspace._core.writer.faults == 0


def test_a_skill_runs_in_a_fork(workspace: Workspace, tmp_path: Path) -> None:
    import nbformat

    from cmbagent_nb.skills.running.engine import execute

    cell = nbformat.v4.new_code_cell("print(6 * 7)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert execute(notebook, tmp_path).status == "completed"

    def child() -> str:
        executed = execute(notebook, tmp_path)
        return executed.status + executed.notebook.cells[0].outputs[0]["text"]

    assert in_a_fork(child) == ("returned", "completed42\n")
