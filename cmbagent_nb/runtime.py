"""Runs the event loop of all runs in one background thread of the process.

The kernel's own thread stays free: a cell that blocks does not stop a run. The loop itself
never blocks; what would (a commit, a file scan, an import) goes to a thread of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Runtime:
    """The event loop of this process; use :meth:`get`."""

    _instance: Runtime | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        self.thread = threading.Thread(target=self._run, name="cmbagent-runtime", daemon=True)
        self.thread.start()

    @classmethod
    def get(cls) -> Runtime:
        """Return the runtime of this process, started on first use (and again after a fork)."""
        with cls._lock:
            if cls._instance is None or cls._instance.pid != os.getpid():
                cls._instance = cls()
            return cls._instance

    @classmethod
    def is_running(cls) -> bool:
        """Tell whether this process has a runtime already."""
        return cls._instance is not None and cls._instance.pid == os.getpid()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start ``work`` on the loop and return its future; call it from any other thread.

        The task keeps the caller's context, so that what it prints goes to the caller's cell.
        Cancelling the future cancels the task.
        """
        context = contextvars.copy_context()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        tasks: list[asyncio.Task[T]] = []

        def finish(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                future.cancel()
            elif not future.cancelled():
                error = task.exception()
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(task.result())

        def start() -> None:
            if future.cancelled():
                work.close()
                return
            task = self.loop.create_task(work, context=context)
            tasks.append(task)
            task.add_done_callback(finish)

        def on_done(done: concurrent.futures.Future[T]) -> None:
            if done.cancelled():
                self.call_soon(lambda: [task.cancel() for task in tasks])

        future.add_done_callback(on_done)
        self.loop.call_soon_threadsafe(start)
        return future

    def call_soon(self, action: Callable[[], Any]) -> None:
        """Run ``action`` on the loop soon; safe from any thread."""
        self.loop.call_soon_threadsafe(action)

    def inside(self) -> bool:
        """Tell whether the caller is on the loop's own thread."""
        return threading.current_thread() is self.thread


def _forget() -> None:
    """Forget the parent's runtime in a process that was forked: its thread is not here, its lock may be held."""
    Runtime._lock = threading.Lock()
    Runtime._instance = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking function in a worker thread, with the caller's context."""
    try:
        work = asyncio.to_thread(function, *arguments)
        return await work
    except RuntimeError as error:
        if "after shutdown" not in str(error) and "interpreter shutdown" not in str(error):
            raise
        # The interpreter is about to end and gives out no more threads; nobody waits for the loop then.
        return function(*arguments)
