"""Refuses writes to a read-only workspace with an error that says so."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cmbagent_nb.errors import StoreError
from cmbagent_nb.store.writer import Writer

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.values import Row, Scrub

T = TypeVar("T")


class RefusingWriter(Writer):
    """Refuses all that is handed over; there is no thread, and nothing to wait for."""

    def __init__(self, db: Database, scrub: Scrub) -> None:
        self.db = db
        self.scrub = scrub
        self.faults = self.callback_faults = 0
        self._callbacks: list[Callable[[set[str]], None]] = []
        self._closed = True

    def insert(self, table: str, row: Row) -> None:
        """Refuse a row."""
        self._decline()

    def update(self, table: str, id: str, values: Row) -> None:
        """Refuse a change."""
        self._decline()

    def journal(self, path: Path, kind: str, data: Any) -> None:
        """Refuse a line."""
        self._decline()

    def checkpoint(self, path: Path, row: Row) -> None:
        """Refuse a checkpoint."""
        self._decline()

    def call(
        self, fn: Callable[[Connection], T], *, touches: Iterable[str] = (), journal: bool = True
    ) -> concurrent.futures.Future[T]:
        """Return a future that has failed."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        future.set_exception(self._error())
        return future

    def barrier(self) -> concurrent.futures.Future[None]:
        """Return a future that is done: nothing is on its way."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        future.set_result(None)
        return future

    def caught_up(self, seconds: float = 0.0) -> bool:
        """Return at once."""
        return True

    def check(self, seconds: float = 0.0) -> None:
        """Refuse."""
        self._decline()

    @property
    def trouble(self) -> str:
        """Why nothing can be written."""
        return self.db.read_only

    @property
    def closing(self) -> bool:
        """True: nothing is written any more."""
        return True

    @property
    def waiting(self) -> int:
        """There is no queue."""
        return 0

    def close(self, timeout: float = 0.0) -> None:
        """Do nothing."""

    def _decline(self) -> NoReturn:
        raise self._error()

    def _error(self) -> StoreError:
        return StoreError(
            self.db.read_only,
            "Make it writable, or copy the workspace and set CMBAGENT_HOME to the copy.",
            path=self.db.home,
        )
