"""Holds this process's state of a workspace: its database, its writer and the runs that live here.

One handle per workspace and process, shared by all :class:`~cmbagent_nb.workspace.Workspace` objects, so that
a button, a magic and a script in one kernel reach the same run.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import shutil
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, GateError, StateError
from cmbagent_nb.ids import new_id
from cmbagent_nb.runtime import Runtime
from cmbagent_nb.store import forks
from cmbagent_nb.store.sqlite import writable
from cmbagent_nb.workflow.commands import Watcher
from cmbagent_nb.workflow.stream import Stream

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.notifications import ChangeSet
    from cmbagent_nb.store.writer import Writer
    from cmbagent_nb.workflow.checkpoints import Checkpoints
    from cmbagent_nb.workflow.gates import Answer, Gates
    from cmbagent_nb.workflow.scheduler import RunScheduler


#: Seconds until a workspace that cannot be written is tried again, and the free bytes that it needs for it.
LOOK_AGAIN = 5.0
ROOM = 2**20
#: Seconds that the end of the process waits for its runs to stop.
LEAVE = 5.0


class LiveRun:
    """A run that this process owns, from its start to its end."""

    def __init__(self, run_id: str, session_id: str) -> None:
        self.run_id = run_id
        self.stream = Stream(run_id, session_id)
        #: Done when the run has ended and everything about it is stored.
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.gates: Gates | None = None
        self.scheduler: RunScheduler | None = None
        self.checkpoints: Checkpoints | None = None
        #: Whether a pause opens a gate (``--approve manual``), at which a person lets the run go on or stops it.
        self.manual = False
        self._pause_gate: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        #: What keeps the run waiting just now, in words.
        self.blocked_reason = ""
        #: What the run is when its task is cancelled.
        self.stopped_as = "cancelled"

    def begin(self) -> None:
        """Take the current task as the run's own; a run cancelled before it began ends at once."""
        self._task = asyncio.current_task()
        if self._cancelled and self._task is not None:
            self._task.cancel()

    def cancel(self) -> None:
        """Ask the run to end; callable from any thread, returns at once."""
        self._cancelled = True
        Runtime.get().call_soon(lambda: self._task.cancel() if self._task is not None else None)

    def interrupt(self) -> None:
        """Ask the run to stop because its process ends; another can go on with it."""
        self.stopped_as = "interrupted"
        self.cancel()

    def set_blocked_reason(self, text: str) -> None:
        """Take note of what keeps the run waiting; nothing when it goes on."""
        self.blocked_reason = text

    async def answer(
        self, approval_id: str, resolution: str, feedback: str, by: str, *, hash: str = "", answer_id: str = ""
    ) -> Answer:
        """Answer one of the run's gates; on the event loop."""
        if self.gates is None:
            raise GateError("the run has no open gate yet", "List the open gates with %cmbagent approvals.")
        return await self.gates.answer(approval_id, resolution, feedback, by=by, hash=hash, answer_id=answer_id)

    async def pause(self, *, now: bool, by: str) -> None:
        """Let nothing of the run begin from now on; on the event loop."""
        if self.scheduler is None:
            raise StateError("the run has not begun yet", "Try again in a moment.")
        await self.scheduler.pause(now=now, by=by)
        if self.checkpoints is not None:
            self.checkpoints.add("pause")
        if self.manual and self.gates is not None:
            self._pause_gate = asyncio.create_task(self._ask_at_pause(self.gates, by))

    async def resume(self, *, by: str) -> None:
        """End a pause; on the event loop."""
        if self.scheduler is None:
            raise StateError("the run has not begun yet", "Try again in a moment.")
        await self.scheduler.resume(by=by)
        await self.close_gate()

    async def close_gate(self) -> None:
        """Close the gate of a pause that is over; on the event loop."""
        gate, self._pause_gate = self._pause_gate, None
        if gate is not None:
            gate.cancel()
            await asyncio.gather(gate, return_exceptions=True)

    async def _ask_at_pause(self, gates: Gates, by: str) -> None:
        """Ask whether a run that a person has paused shall go on; the end of the pause closes the gate as well."""
        from cmbagent_nb.workflow.gates import PAUSE_OPTIONS, Question

        title = "The run is paused. Continue?"
        answer = await gates.ask(
            Question("manual_pause", title, PAUSE_OPTIONS, f"Paused by {by}."),
            None,
            f"manual:{new_id()}",  # another pause is another gate: it is asked anew, also after a resume
            on_open=lambda gate: self.stream.emit("approval_requested", approval_id=gate, node_id=None, title=title),
        )
        self._pause_gate = None
        self.stream.emit("approval_received", approval_id=answer.approval_id, resolution=answer.resolution)
        if answer.resolution != "approved":
            self.cancel()
        elif self.scheduler is not None and self.scheduler.paused:
            await self.scheduler.resume(by=answer.by)

    async def handle_command(self, command: str, arguments: Mapping[str, Any], origin: str) -> str:
        """Act on a command from another process; returns what came of it."""
        if command == "cancel":
            self.cancel()
            return "cancelling"
        if command == "pause":
            await self.pause(now=bool(arguments.get("now")), by=origin)
            return "paused"
        if command == "resume":
            await self.resume(by=origin)
            return "resumed"
        if command == "answer_gate":
            answer = await self.answer(
                str(arguments["approval_id"]),
                str(arguments["resolution"]),
                str(arguments.get("feedback", "")),
                origin,
                hash=str(arguments.get("hash", "")),
                answer_id=str(arguments.get("answer_id", "")),
            )
            return answer.resolution
        raise CMBAgentError(f"there is no command {command!r}", "Update the process that owns the run.")


class WorkspaceHandle:
    """The open workspace of this process."""

    def __init__(self, home: Path, database_url: str, *, read_only: bool = False) -> None:
        from cmbagent_nb.redaction import scrub
        from cmbagent_nb.store.database import Database
        from cmbagent_nb.store.refusing import RefusingWriter
        from cmbagent_nb.store.workspaces import opened
        from cmbagent_nb.store.writer import Writer
        from cmbagent_nb.workflow.ownership import interrupt_orphans

        self.home = home
        self.pid = os.getpid()
        self._looked_at = time.monotonic()
        self.db: Database = Database.open(home, database_url, read_only=read_only)
        refuses = RefusingWriter if self.db.read_only else Writer
        self.writer: Writer = refuses(self.db, scrub)
        self.live: dict[str, LiveRun] = {}
        self.changes = ChangeNotifier()
        self.watcher = Watcher(self.db, self.writer, self.changes.on_external)
        self.writer.on_commit(self.changes.notify)
        if not read_only:
            opened(home)
        self.writer.caught_up()  # rows that could not be written when the last process ended are taken in
        #: Runs whose process had died, found when this host opened.
        self.interrupted = interrupt_orphans(self.db, self.writer)
        # The writer says good-bye after this: it was made before.
        atexit.register(_leave, weakref.ref(self))

    def restart(self) -> None:
        """Go on in a process that was forked: no run lives here, and nobody listens."""
        self.pid = os.getpid()
        self.live = {}
        self.changes = ChangeNotifier()
        self.watcher = Watcher(self.db, self.writer, self.changes.on_external)
        self.writer.on_commit(self.changes.notify)

    def may_be_written(self) -> bool:
        """Tell whether a workspace that was only readable may be more by now; asked now and then."""
        path, now = self.db.path, time.monotonic()
        if not self.db.read_only or path is None or now - self._looked_at < LOOK_AGAIN:
            return False
        self._looked_at = now
        return writable(path) and shutil.disk_usage(self.home).free > ROOM

    def subscribe(self, run_id: str, function: Callable[[], None]) -> Callable[[], None]:
        """Call ``function`` from any thread after every change of a run; returns how to stop it."""
        stop = self.changes.add(run_id, function)
        foreign = run_id not in self.live
        runtime = Runtime.get()
        if foreign:
            runtime.call_soon(lambda: self.watcher.listen(1))

        def unsubscribe() -> None:
            nonlocal foreign
            stop()
            if foreign:
                foreign = False
                runtime.call_soon(lambda: self.watcher.listen(-1))

        return unsubscribe

    def leave(self, timeout: float = LEAVE) -> None:
        """Stop the runs that live here, as interrupted: the process ends."""
        lives = list(self.live.values())
        for live in lives:
            live.interrupt()
        concurrent.futures.wait([live.ended for live in lives], timeout=timeout)

    def close(self) -> None:
        """Cancel the runs that live here, write what is left, and close the database."""
        for live in list(self.live.values()):
            live.cancel()
        concurrent.futures.wait([live.ended for live in list(self.live.values())], timeout=30)
        if Runtime.is_running():
            Runtime.get().submit(self.watcher.stop()).result(timeout=30)
        self.writer.close()
        self.db.close()


def _leave(reference: weakref.ref[WorkspaceHandle]) -> None:
    host = reference()
    if host is not None and host.pid == os.getpid():
        host.leave()


class ChangeNotifier:
    """Listeners that are called when a run has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._functions: dict[str, list[Callable[[], None]]] = {}

    def add(self, run_id: str, function: Callable[[], None]) -> Callable[[], None]:
        """Call ``function`` whenever ``run_id`` changes; returns how to stop it."""
        with self._lock:
            self._functions.setdefault(run_id, []).append(function)

        def remove() -> None:
            with self._lock:
                functions = self._functions.get(run_id, [])
                if function in functions:
                    functions.remove(function)
                if not functions:
                    self._functions.pop(run_id, None)

        return remove

    def notify(self, run_ids: Iterable[str]) -> None:
        """Tell all who wait for these runs; what one of them raises is the caller's to count."""
        with self._lock:
            functions = [function for run_id in run_ids for function in self._functions.get(run_id, [])]
        failures = []
        for function in functions:
            try:
                function()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def on_external(self, change_set: ChangeSet) -> None:
        """Tell those whom change_set of other processes concern; where it is not known whom, everybody."""
        with self._lock:
            run_ids = list(self._functions)
        self.notify(run_ids if change_set.runs is None else change_set.runs)


_hosts: dict[tuple[str, str], WorkspaceHandle] = {}
_lock = threading.Lock()
forks.fresh(sys.modules[__name__], "_lock")


def _restart() -> None:
    """Take the workspaces of the parent as one's own in a process that was forked; its runs stay the parent's."""
    for found in _hosts.values():
        found.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)


def _key(home: Path, database_url: str) -> tuple[str, str]:
    """Return what a host is known by: a server's URL has more than one form."""
    from cmbagent_nb.store.database import driver_url

    return str(home.absolute()), driver_url(database_url)


def host(home: Path, database_url: str = "") -> WorkspaceHandle:
    """Return the host of a workspace, opened on first use."""
    key = _key(home, database_url)
    with _lock:
        found = _hosts.get(key)
        if found is not None and found.pid == os.getpid() and found.may_be_written():
            del _hosts[key]
            found.close()
            found = None
        if found is None or found.pid != os.getpid():
            found = _hosts[key] = WorkspaceHandle(home.absolute(), database_url)
        return found


def close(home: Path, database_url: str = "") -> None:
    """Close the host of a workspace, if it is open; with the last one go the connections to the models."""
    with _lock:
        found = _hosts.pop(_key(home, database_url), None)
        last = not _hosts
    if found is not None:
        found.close()
        if last and "cmbagent_nb.llm.http" in sys.modules:  # else there is no client to close
            from cmbagent_nb.llm.http import close_clients

            Runtime.get().submit(close_clients()).result(timeout=10)
