"""Writes rows in batches on its own thread: callers hand rows over and continue.

| invariant | |
|---|---|
| a caller never waits and never sees an error | a row is put into a queue, in about a microsecond |
| one thread owns the one writing connection | a group is one transaction |
| order | rows, calls, journal lines and barriers take effect in the order in which they were handed over |
| a bad row harms no other | a group that fails is written again row by row; bad rows are counted in ``faults`` |
| a database that is locked, full or gone for a while | is waited for; ``trouble`` says so; nothing is lost |
| a journal whose disk is full | its lines wait here, and the database is written meanwhile |
| a failing callback harms nothing | it is counted in ``callback_faults`` |
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cmbagent_nb.errors import StoreError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.store import forks
from cmbagent_nb.store.batch import Batch
from cmbagent_nb.store.columns import key_of
from cmbagent_nb.store.database import Database
from cmbagent_nb.store.files import TABLES as PATH_TABLES
from cmbagent_nb.store.files import row_to_record
from cmbagent_nb.store.journal_lines import LOOK_AGAIN, JournalLines
from cmbagent_nb.store.json import to_json
from cmbagent_nb.store.spill import SpillFiles, note_fault
from cmbagent_nb.store.transient_errors import is_transient, reason
from cmbagent_nb.store.values import Row, Scrub
from cmbagent_nb.store.write_connection import WriteConnection

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

T = TypeVar("T")

log = get_logger(__name__)

#: The most rows of one transaction.
GROUP = 1000

#: Seconds that rows wait for others to go with them, unless somebody waits for them: what starts and ends
#: within this time is one write, and an agent's turn is not disturbed by two commits. While more rows come within
#: each such time they wait on, together no longer than the second figure: a process that is killed loses no more.
LINGER = 0.002
LONGEST_LINGER = 0.008

#: Seconds for which the writer steps aside between two statements while rows are handed over; and while they pour in,
#: so many between two statements: a thread that does this leaves the interpreter to no other for more than an instant.
BREATH = 0.0001
LONG_BREATH = 0.02
POURING = 300

#: Seconds for which somebody who only reads waits for rows that are on their way.
CATCH_UP = 2.0

_INSERT, _UPDATE, _JOURNAL, _CALL, _BARRIER = range(5)

#: Marks a row that the writer has not taken yet; no column has this name.
_DRAFT = ""


#: What the writers of a parent process had open, which must neither be used nor closed in a child.
_abandoned: list[object] = []


def _unchanged(text: str) -> str:
    return text


class Writer:
    """The thread that writes to a database; all that is written goes through it.

    Parameters
    ----------
    db
        The database.
    scrub
        Masks what must not be stored in a text: keys and passwords.
    patience
        Seconds to wait for a database that is locked, full or gone, before rows go to a file beside it,
        from which they are stored later, and calls fail.
    """

    def __init__(self, db: Database, scrub: Scrub = _unchanged, *, patience: float = 120.0) -> None:
        self.db = db
        #: Rows that the database refused; they are in ``faults.jsonl``.
        self.faults = 0
        #: Callbacks of :meth:`on_commit` that failed.
        self.callback_faults = 0
        self._trouble = ""
        #: Masks secrets; for those who write in :meth:`call`, past the queue.
        self.scrub = scrub
        self._patience = patience
        self._begin()
        self._thread.start()
        atexit.register(_close_at_exit, weakref.ref(self))
        forks.tell(self)

    def _begin(self) -> None:
        """Have an empty queue and a thread that is not yet started."""
        #: Held while a group is written.
        self._busy = threading.RLock()
        self._queue: deque[tuple[int, Any, Any, Any]] = deque()
        self._signal = threading.Event()
        self._awaited = threading.Event()
        self._asked: deque[None] = deque()  # one for each call and barrier that is not done yet
        self._idle = False
        self._seen = 0
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._closed = False
        self._close_lock = threading.Lock()
        self._callbacks: list[Callable[[set[str]], None]] = []
        self._barriers: list[concurrent.futures.Future[None]] = []
        self._lost_until = 0.0
        self._spill_files = SpillFiles(self.db.home, self.scrub)
        self._write_connection = WriteConnection(self.db, self.scrub, self._fault, self._yield_to_producers)
        self._journals = JournalLines(self.db.home, self._write_connection.work_dir, self._fault)
        self._thread = threading.Thread(target=self._main, name="cmbagent-writer", daemon=True)

    # -- forks -----------------------------------------------------------------------------

    def before_fork(self, deadline: float) -> bool:
        """Hold the thread still and give its connection back."""
        self._held = self._busy.acquire(timeout=max(0.0, deadline - time.monotonic()))
        if self._held:
            self._write_connection.close()
            self._journals.close()
        return self._held

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._held:
            self._busy.release()

    def after_fork_in_child(self) -> None:
        """Start again in a forked child, with a thread once there is something to write: the queue is the parent's."""
        closed = self._closed
        _abandoned.append((self._write_connection, self._journals))
        self._begin()
        self._closed, self._idle = closed, True

    # -- for callers, from any thread ------------------------------------------------------

    def insert(self, table: str, row: Row) -> None:
        """Write a row; JSON columns take any value. Do not change the row afterwards."""
        self._queue.append((_INSERT, table, row, None))
        if self._idle:
            self._wake()

    def update(self, table: str, id: str, values: Row) -> None:
        """Change columns of the row with this key. Do not change the values afterwards."""
        self._queue.append((_UPDATE, table, id, values))
        if self._idle:
            self._wake()

    def draft(self, table: str, row: dict[str, Any]) -> None:
        """Write a row that may still be changed by :meth:`amend`: what starts and soon ends is one row to write."""
        row[_DRAFT] = True
        self.insert(table, row)

    def amend(self, table: str, row: dict[str, Any], values: Row) -> None:
        """Change columns that a row given to :meth:`draft` has: in it while it waits, else where it is stored.

        The writer removes the mark before it reads the row, so a change that it may have missed is reported again.
        """
        if _DRAFT in row:
            row.update(values)
        if _DRAFT not in row:
            self.update(table, row[key_of(table)], values)

    def journal(self, path: Path, kind: str, data: Any) -> None:
        """Append a line to a run's journal."""
        self._queue.append((_JOURNAL, path, kind, (time.time(), data, None)))
        if self._idle:
            self._wake()

    def checkpoint(self, path: Path, row: Row) -> None:
        """Write a row of ``checkpoints`` that names the end of a run's journal as its position."""
        data = {name: value for name, value in row.items() if name not in ("run_id", "session_id")}
        self._queue.append((_JOURNAL, path, "checkpoint", (time.time(), data, row)))
        if self._idle:
            self._wake()

    def call(
        self, fn: Callable[[Connection], T], *, touches: Iterable[str] = (), journal: bool = True
    ) -> concurrent.futures.Future[T]:
        """Run ``fn(connection)`` in a transaction of its own, after all that was handed over before.

        What ``fn`` raises rolls the transaction back and is the future's exception. When the database goes away
        meanwhile, ``fn`` is run again from its beginning. No other process is within a call at the same time.
        The runs that ``fn`` changes are found by the parameters of its statements; others can be named in ``touches``.
        What it writes goes into the journals of its runs as well; without ``journal`` it does not.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._asked.append(None)
        self._queue.append((_CALL, fn, future, (tuple(touches), journal)))
        self._awaited.set()
        if self._idle:
            self._wake()
        return future

    def barrier(self) -> concurrent.futures.Future[None]:
        """Return a future that is done when all that was handed over before is stored.

        It fails when patience is at its end and there is nowhere to put it; what was handed over is kept all the same.
        """
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._asked.append(None)
        self._queue.append((_BARRIER, future, None, None))
        self._awaited.set()
        if self._idle:
            self._wake()
        return future

    def caught_up(self, seconds: float = CATCH_UP) -> bool:
        """Wait for what was handed over before, but no longer: a reader continues with what is stored."""
        future = self.barrier()
        try:
            future.result(timeout=0.05 if self._trouble else seconds)
        except (TimeoutError, StoreError):
            future.cancel()
            return False
        return True

    def check(self, seconds: float = 5.0) -> None:
        """See that the database can be written just now, before something is begun that needs it.

        Raises
        ------
        StoreError
            It cannot, or not within so many seconds.
        """
        future = self.call(
            lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
        )
        try:
            future.result(timeout=seconds)
        except TimeoutError:
            future.cancel()
            raise StoreError(
                self._trouble or "the database cannot be written just now",
                "See whether another process holds it or the disk is full, and try again.",
            ) from None

    async def settled(self) -> None:
        """Wait until all that was handed over before is stored."""
        await asyncio.wrap_future(self.barrier())

    def on_commit(self, fn: Callable[[set[str]], None]) -> Callable[[], None]:
        """Call ``fn`` with the ids of the runs that a commit touched, on the writer's thread.

        ``fn`` must not wait for the writer. Returns a function that ends this.
        """
        self._callbacks = [*self._callbacks, fn]

        def unsubscribe() -> None:
            self._callbacks = [item for item in self._callbacks if item is not fn]

        return unsubscribe

    @property
    def trouble(self) -> str:
        """The reason why rows cannot be written at the moment; empty when they can."""
        return self._trouble or self._journals.trouble

    @property
    def closing(self) -> bool:
        """Whether the writer is about to end: what it cannot write now, it will not."""
        return self._closing.is_set()

    @property
    def waiting(self) -> int:
        """The number of rows in the queue."""
        return len(self._queue)

    def close(self, timeout: float = 30.0) -> None:
        """Write what is left and end the thread.

        When the database cannot be written within ``timeout`` seconds, the rest goes to a file, from which
        the next writer takes it in.
        """
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._awaited.set()
        self._signal.set()
        if threading.current_thread() is not self._thread and self._thread.ident is not None:
            self._thread.join()
        self._closed = True
        self._after_close()

    # -- the thread ------------------------------------------------------------------------

    def _wake(self) -> None:
        self._idle = False  # once is enough: until the thread is up, the next caller need not signal as well
        self._signal.set()
        if self._closed:
            self._idle = True
            self._after_close()
        elif self._thread.ident is None:  # in a process that was forked
            with self._close_lock:
                if self._thread.ident is None:
                    self._thread.start()

    def _main(self) -> None:
        queue, signal = self._queue, self._signal
        try:
            while True:
                if queue:
                    self._batch_window()
                    self._awaited.clear()
                    self._step()
                elif self._closing.is_set():
                    break
                else:
                    signal.clear()
                    self._idle = True
                    if not queue and not self._closing.is_set():
                        signal.wait(LOOK_AGAIN if self._journals.waiting else None)
                    self._idle = False
                    if self._journals.waiting:
                        self._step()
        finally:
            self._closed = True
            self._idle = True  # whoever hands something over now finds out in _wake
            if self._journals.waiting:
                batch = Batch()
                self._journals.catch_up(batch, last=True)
                self._write(batch)
            self._journals.close()
            self._write_connection.close()

    def _batch_window(self) -> None:
        """Wait a little for more rows, and a little more while they come: each group costs those who hand rows over."""
        latest = time.monotonic() + LONGEST_LINGER
        length = 0
        while length < len(self._queue) < GROUP and not self._asked and not self._closing.is_set():
            length = len(self._queue)
            self._awaited.wait(LINGER)
            if time.monotonic() > latest:
                break

    def _step(self) -> None:
        """Take a group from the queue and bring it into the database; no fork comes between."""
        with self._busy:
            self._write_group()

    def _write_group(self) -> None:
        batch = Batch()
        if self._journals.due:
            self._journals.catch_up(batch)
        call: tuple[int, Any, Any, Any] | None = None
        queue = self._queue
        for _ in range(min(GROUP, len(queue))):
            if queue[0][0] == _CALL:
                call = queue[0]
                break
            item = queue.popleft()
            if item[0] == _BARRIER:
                self._asked.pop()
                self._barriers.append(item[1])
            else:
                self._add_to_batch(batch, item)
        try:
            if batch:
                self._write(batch)
            elif self._barriers and self._spill_files.waiting:
                self._take_in()  # whoever waits here reads next: also what a process before this one had left
        except Exception as error:  # a fault of ours: no caller may wait for ever because of it
            log.exception("the writer failed")
            for operation, table, row in batch.rows():
                self._fault(operation, table, row, error)
        while self._barriers:
            barrier = self._barriers.pop(0)
            if barrier.set_running_or_notify_cancel():
                barrier.set_result(None)
        if call is not None and queue and queue[0] is call:  # it may have been refused meanwhile
            queue.popleft()
            self._asked.pop()
            touches, journal = call[3]
            self._call(call[1], call[2], touches, journal=journal)

    def _yield_to_producers(self) -> None:
        """Let others go on who hand rows over just now: between two statements, they would wait for both."""
        length = len(self._queue)
        more = length - self._seen
        self._seen = length
        if more > 0 and not self._asked:
            self._awaited.wait(LONG_BREATH if more > POURING else BREATH)  # unless somebody waits for the rows

    def _add_to_batch(self, batch: Batch, item: tuple[int, Any, Any, Any]) -> None:
        """Put a row into the batch, or a line into its journal."""
        kind, first, second, third = item
        try:
            if kind == _INSERT:
                if _DRAFT in second:
                    del second[_DRAFT]
                batch.insert(first, self._as_stored(first, second))
            elif kind == _UPDATE:
                batch.update(first, second, self._as_stored(first, third))
            else:
                at, data, checkpoint = third
                if isinstance(data, dict) and data.get("table") in PATH_TABLES:
                    part = "row" if "row" in data else "values"
                    data = {**data, part: self._as_stored(data["table"], data[part])}
                self._journals.append(batch, Path(first), (at, second, self.scrub(to_json(data)), checkpoint))
        except Exception as error:  # a row that is no row, a journal that cannot be written
            self._fault(("insert", "update", "journal")[kind], str(first), third or second, error)

    def _as_stored(self, table: str, row: Row) -> Row:
        return row_to_record(self.db.home, table, row) if self.db.is_sqlite else row

    def _note_images(self) -> None:
        """Append what was committed to the journals of its runs."""
        images = self._write_connection.take_committed()
        try:
            self._journals.append_images(images)
        except Exception as error:
            if not is_transient(error) and not self.db.is_lost(error):
                log.exception("what was written could not be added to its journals")

    def _write(self, batch: Batch) -> None:
        while True:
            lost = time.monotonic() < self._lost_until
            if not lost and (not self._spill_files.waiting or self._take_in()):
                touched = self._persist(batch)
                if touched is not None:
                    self._tell(touched)
                    return
            try:
                self._spill_files.keep(batch.rows())
                return
            except OSError as error:  # no file either: the rows stay here for as long as this process lives
                if time.monotonic() > self._deadline:
                    for operation, table, row in batch.rows():
                        self._fault(operation, table, row, error)
                    return
                self._refuse(error)
                self._wait(error, time.monotonic())

    def _refuse(self, error: Exception) -> None:
        """Tell all who wait that what they wait for cannot be stored; the rows stay."""
        rows = []
        waiting: list[concurrent.futures.Future[Any]] = [*self._barriers]
        self._barriers.clear()
        for _ in range(len(self._queue)):
            item = self._queue.popleft()
            if item[0] in (_CALL, _BARRIER):
                self._asked.pop()
                waiting.append(item[2] if item[0] == _CALL else item[1])
            else:
                rows.append(item)
        self._queue.extendleft(reversed(rows))
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(_unreachable(error))

    def _persist(self, batch: Batch) -> set[str] | None:
        """Write a batch, waiting for the database where need be; None when patience is at its end."""
        started = time.monotonic()
        while True:
            try:
                touched = self._write_connection.write(batch)
            except Exception as error:
                if self.db.is_lost(error):  # waiting does not help: the rows wait in a file for a repair
                    if not self._trouble:
                        log.warning("the database cannot be used: %s", reason(error))
                    self._trouble = _trouble(error, "the database")
                    self._lost_until = time.monotonic() + LOOK_AGAIN
                    return None
                if not is_transient(error):
                    raise
                if not self._wait(error, started):
                    return None
            else:
                self._trouble = ""
                self._note_images()
                return touched

    def _wait(self, error: Exception, started: float) -> bool:
        """Wait a little for the database; tell whether to try again."""
        now = time.monotonic()
        if now > self._deadline or now - started > self._patience:
            return False
        if not self._trouble:
            log.warning("waiting for the database: %s", reason(error))
        self._trouble = _trouble(error, "the database")
        delay = min(1.0, 0.02 + (now - started) / 4)
        if self._closing.is_set():
            time.sleep(min(delay, 0.1))
        else:
            self._closing.wait(delay)
        return True

    def _take_in(self) -> bool:
        """Write the rows that wait in files; False while the database cannot be written."""
        for held, entries in self._spill_files.acquire():
            batch = Batch()
            for operation, table, row in entries:
                try:
                    (batch.insert if operation == "insert" else batch.change)(table, row)
                except (AttributeError, KeyError, TypeError) as error:  # no row of ours: it harms no other
                    self._fault(operation, table, row, error)
            try:
                # A process may have died between bringing them in, and removing the file; a repair may have had some.
                batch = self._write_connection.without_stored(batch)
                touched = self._write_connection.write(batch) if batch else set()
            except Exception as error:
                if is_transient(error) or self.db.is_lost(error):
                    self._trouble = _trouble(error, "the database")
                if self.db.is_lost(error):
                    self._lost_until = time.monotonic() + LOOK_AGAIN
                self._spill_files.release(held)
                return False
            self._spill_files.delete(held)
            self._note_images()
            self._tell(touched)
        self._trouble = ""
        return True

    def _call(self, fn: Callable[[Connection], Any], future: Any, touches: tuple[str, ...], *, journal: bool) -> None:
        if not future.set_running_or_notify_cancel():
            return
        started = time.monotonic()
        while True:
            try:
                if self._spill_files.waiting:
                    self._take_in()  # what was handed over before a call is there when it reads
                result, touched = self._write_connection.call(fn, touches, journal=journal)
            except BaseException as error:
                if isinstance(error, Exception) and self.db.is_lost(error):
                    self._trouble = _trouble(error, "the database")
                    future.set_exception(self.db.told(error))
                    return
                if not isinstance(error, Exception) or not is_transient(error):
                    self._trouble = ""
                    future.set_exception(error)
                    return
                if not self._wait(error, started):
                    future.set_exception(_unreachable(error))
                    return
            else:
                self._trouble = ""
                self._note_images()
                self._tell(touched)
                future.set_result(result)
                return

    def _tell(self, touched: set[str]) -> None:
        for callback in self._callbacks:
            try:
                callback(set(touched))
            except Exception:
                self.callback_faults += 1
                if self.callback_faults == 1:
                    log.warning("a callback after a commit failed", exc_info=True)

    def _fault(self, operation: str, table: str, row: Any, error: BaseException) -> None:
        self.faults += 1
        text = self.scrub(f"{type(error).__name__}: {getattr(error, 'orig', None) or error}")
        if self.faults == 1:
            log.warning("a row could not be stored (%s of %s): %s", operation, table, text)
        try:
            note_fault(self.db.home, (operation, table, row), text, self.scrub)
        except Exception:
            log.exception("a refused row could not be kept")

    def _after_close(self) -> None:
        """Deal with what is handed over after the end: rows are kept in a file, calls fail."""
        with self._close_lock:
            batch = Batch()
            waiting: list[tuple[concurrent.futures.Future[Any], StoreError | None]] = []
            while self._queue:
                kind, first, second, third = self._queue.popleft()
                if kind == _BARRIER:
                    waiting.append((first, None))
                elif kind == _CALL:
                    waiting.append((second, StoreError("the workspace is closed", "Make a new Workspace.")))
                else:
                    self._add_to_batch(batch, (kind, first, second, third))
            self._journals.close()
            refused: StoreError | None = None
            if batch:
                try:
                    self._spill_files.keep(batch.rows())
                except OSError as error:  # neither a database nor a file: the log reports it
                    refused = _unreachable(error)
                    for operation, table, row in batch.rows():
                        self._fault(operation, table, row, error)
            for future, closed in waiting:
                if not future.set_running_or_notify_cancel():
                    continue
                if closed is None and refused is None:
                    future.set_result(None)
                else:
                    future.set_exception(closed or refused)


def _trouble(error: Exception, what: str) -> str:
    return f"{what} cannot be written: {reason(error)}"


def _unreachable(error: Exception) -> StoreError:
    return StoreError(
        f"the database cannot be written ({reason(error)})",
        "See whether another process holds it or the disk is full, and try again.",
    )


def _close_at_exit(reference: weakref.ref[Writer]) -> None:
    writer = reference()
    if writer is not None and not writer._closed:
        writer.close(timeout=5.0)
