"""Commands from other processes, and change_set of what they wrote.

A process that does not own a run never writes its statuses: it inserts a row into ``commands``, and
the owner acts on it. One watcher a workspace waits for change_set of what other processes have written
(:mod:`cmbagent_nb.store.notifications`), hands out the commands, and wakes the views of runs that belong to others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import CMBAgentError, StoreError
from cmbagent_nb.ids import new_id
from cmbagent_nb.logs import get_logger
from cmbagent_nb.runtime import in_thread
from cmbagent_nb.store.json import from_json
from cmbagent_nb.store.notifications import Changes, ChangeSet, changes

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Seconds without change_set after which the commands are looked at all the same: a proxy between here and the
#: server may keep notifications from us.
IDLE = 5.0

#: The commands that nobody has acted on yet, the oldest first.
UNHANDLED = "SELECT id, run_id, command, arguments, origin FROM commands WHERE handled_at IS NULL ORDER BY created_at"

log = get_logger(__name__)

Handler = Callable[[str, Mapping[str, Any], str], Awaitable[str]]


def send(writer: Writer, run_id: str, command: str, arguments: Mapping[str, Any], origin: str) -> str:
    """Leave a command for the process that owns a run; returns the command's id once it is stored."""
    command_id = new_id()
    writer.check()
    writer.insert(
        "commands",
        {
            "id": command_id,
            "run_id": run_id,
            "command": command,
            "arguments": dict(arguments),
            "origin": origin,
            "created_at": time.time(),
        },
    )
    writer.barrier().result()
    return command_id


class Watcher:
    """Looks for commands and for changes by other processes, while anybody is interested."""

    def __init__(self, db: Database, writer: Writer, on_changes: Callable[[ChangeSet], None]) -> None:
        self._db = db
        self._writer = writer
        self._handlers: dict[str, Handler] = {}
        self._listeners = 0
        self._on_changes = on_changes
        self._task: asyncio.Task[None] | None = None

    def own(self, run_id: str, handler: Handler) -> None:
        """Hand commands for ``run_id`` to ``handler`` from now on; on the event loop only."""
        self._handlers[run_id] = handler
        self._wake()

    def release(self, run_id: str) -> None:
        """Stop handing out commands for a run that has ended."""
        self._handlers.pop(run_id, None)

    def listen(self, change: int) -> None:
        """Count the views that want to hear of other processes' changes (``+1`` or ``-1``)."""
        self._listeners += change
        self._wake()

    async def stop(self) -> None:
        """Stop looking, before the database is closed."""
        self._handlers.clear()
        self._listeners = 0
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _wake(self) -> None:
        if (self._handlers or self._listeners) and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        source: Changes = changes(self._db)
        try:
            while self._handlers or self._listeners:
                change_set = await source.wait(IDLE)
                if change_set is not None:
                    self._tell(change_set)
                if self._handlers:
                    try:
                        await self._hand_out()
                    except StoreError as error:  # gone for a while: the next change_set is that it is back
                        log.warning("commands cannot be read: %s", error.what)
        finally:
            await source.close()

    def _tell(self, change_set: ChangeSet) -> None:
        """Pass change_set on; whoever listens and fails keeps no command from its run."""
        try:
            self._on_changes(change_set)
        except Exception:
            log.warning("a callback after a change of another process failed", exc_info=True)

    async def _hand_out(self) -> None:
        rows = await in_thread(
            self._db.rows,
            UNHANDLED,
        )
        for row in rows:
            handler = self._handlers.get(row["run_id"])
            if handler is None:
                continue
            arguments = row["arguments"]
            arguments = from_json(arguments) if isinstance(arguments, str) else arguments or {}
            try:
                outcome = await handler(row["command"], arguments, row["origin"] or "another process")
            except CMBAgentError as error:
                outcome = f"refused: {error}"
            self._writer.update("commands", row["id"], {"handled_at": time.time(), "outcome": outcome})
        if rows:
            await self._writer.settled()
