"""Reports what other processes wrote: one small interface over each database's own mechanism.

| database | how | what is known |
|---|---|---|
| SQLite | ``PRAGMA data_version`` every 0.1 s, which costs microseconds | that something has changed |
| PostgreSQL | LISTEN on one connection, NOTIFY within each commit | which runs have changed, and by whom |

A waiting process gets everything that is committed after the first :meth:`Changes.wait` has returned,
and that first one returns at once: look at what is there then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cmbagent_nb.runtime import in_thread
from cmbagent_nb.store.transient_errors import is_transient

if TYPE_CHECKING:
    import psycopg

    from cmbagent_nb.store.database import Database

#: The channel of PostgreSQL on which commits are announced.
CHANNEL = "cmbagent_nb"

#: Seconds between two looks at SQLite's version.
INTERVAL = 0.1

#: Seconds between two tries to reach a server that is gone, at first and at most.
_AGAIN = (0.1, 2.0)


@dataclass(frozen=True)
class ChangeSet:
    """The runs that have changed; None for ``runs`` means any."""

    runs: frozenset[str] | None = None


class Changes(Protocol):
    """Source of changes that other processes write; for one event loop."""

    async def wait(self, seconds: float) -> ChangeSet | None:
        """Return what has changed, as soon as something has; None after so many seconds.

        A database that cannot be reached is waited for.
        """

    async def close(self) -> None:
        """Let go of what it holds."""


def changes(db: Database) -> Changes:
    """Return what tells of changes to a database."""
    return _Version(db) if db.is_sqlite else _Notifications(db)


def payload(token: str, runs: Collection[str] | None) -> str:
    """Return what a notification carries: who writes, and which runs.

    >>> payload("me", {"a", "b"})
    'me a b'
    >>> payload("me", None)
    'me *'
    """
    return " ".join([token, *(["*"] if runs is None else sorted(runs))])


def _read(text: str, own: str) -> frozenset[str] | None:
    """Return the runs that a notification names, none for one of our own, None for any."""
    token, *runs = text.split()
    if token == own:
        return frozenset()
    return None if "*" in runs or not runs else frozenset(runs)


class _Version:
    """SQLite counts commits; that number is looked at."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: int | None = None

    async def wait(self, seconds: float) -> ChangeSet | None:
        until = time.monotonic() + seconds
        while True:
            try:
                version = await in_thread(self._db.data_version)
            except Exception as error:
                if not is_transient(error) and not getattr(error, "data", {}).get("damaged"):
                    raise
            else:
                if version != self._seen:
                    self._seen = version
                    return ChangeSet()
            left = until - time.monotonic()
            if left <= 0:
                return None
            await asyncio.sleep(min(INTERVAL, left))

    async def close(self) -> None:
        """There is nothing to let go of."""


class _Notifications:
    """PostgreSQL tells: one connection listens, and comes back when the server does."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._pause = _AGAIN[0]

    async def wait(self, seconds: float) -> ChangeSet | None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                if self._connection is None:
                    self._connection = await self._listening()
                    self._pause = _AGAIN[0]
                    return ChangeSet()  # earlier notifications are lost
                change_set = await self._heard(self._connection, left)
                if change_set is not None:
                    return change_set
            except Exception as error:
                await self.close()
                if not is_transient(error):
                    raise
                await asyncio.sleep(min(self._pause, max(left, 0.0)))
                self._pause = min(2 * self._pause, _AGAIN[1])
        return None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _listening(self) -> psycopg.AsyncConnection[Any]:
        arguments = await in_thread(self._db.connecting)
        import psycopg

        connection = await psycopg.AsyncConnection.connect(**arguments, autocommit=True)
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _heard(self, connection: psycopg.AsyncConnection[Any], seconds: float) -> ChangeSet | None:
        """Return the changes announced within so many seconds; None when there are none, or only our own."""
        runs: frozenset[str] | None = frozenset()
        async for notification in connection.notifies(timeout=seconds, stop_after=1):  # and what came together with it
            named = _read(notification.payload, self._db.token)
            runs = None if runs is None or named is None else runs | named
        return ChangeSet(runs) if runs is None or runs else None
