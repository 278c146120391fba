"""Runs a script in its folder within limits, and returns its outcome.

| invariant | how |
|---|---|
| the loop never blocks | a thread of its own starts, watches and ends each child |
| the child outlives a dead kernel | output goes to files, the session is its own, nothing is piped |
| nothing of it outlives its end | timeout, limits, cancelling and the normal end all kill the whole group |
| its end is believed only when it is on disk | ``exit.json`` is there before the outcome is returned |
| no name is taken from the code | our files are beside its folder (:mod:`cmbagent_nb.execution.records`) |
| memory here is bounded | files are followed piece by piece, and only tails are kept |
| the limits hold when this process is killed | a guard of its own takes over (:mod:`cmbagent_nb.execution.guard`) |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb.capture.file_scan import Entry, changes, scan
from cmbagent_nb.errors import ExecutionFailed
from cmbagent_nb.execution import exits, supervisor
from cmbagent_nb.execution.attempt_folder import ignored
from cmbagent_nb.execution.environment import child_environment
from cmbagent_nb.execution.exits import Limits
from cmbagent_nb.execution.group import Group, kill_group, start_time
from cmbagent_nb.execution.guard import Guard
from cmbagent_nb.execution.marks import VARIABLE, Mark
from cmbagent_nb.execution.output_tail import Follower, trim
from cmbagent_nb.execution.records import STDERR, STDOUT, begin, masked, noted_reads, read_exit, redact, write_exit
from cmbagent_nb.execution.terminal import last_traceback
from cmbagent_nb.ids import new_id
from cmbagent_nb.redaction import scrub
from cmbagent_nb.store.transient_errors import is_full

__all__ = ["Limits", "Outcome", "kill_group", "launch", "read_exit"]

#: Seconds between two looks at the output (and whether it was cancelled), and at the memory.
OUTPUT_EVERY = 0.1
#: Characters of a line without an end that are held back until it ends.
LONGEST_LINE = 4096
MEMORY_EVERY = 0.2

#: Seconds to wait for space on a full disk, and between two looks.
SPACE_PATIENCE = 120.0
SPACE_EVERY = 0.5

OnOutput = Callable[[str, str], Any]
OnStart = Callable[[int, float], Any]


@dataclass(frozen=True)
class Outcome:
    """The end of a script and the files that it made."""

    status: str  #: completed, failed, timeout, memory or killed
    exit_code: int  #: as a shell sees it from Python: negative is the number of a signal
    stdout: str  #: the tail of it
    stderr: str
    error: dict[str, Any] | None  #: type, message, line, file
    made: list[Entry]  #: new and changed files, the script itself among them
    reads: list[str]
    started_at: float
    ended_at: float
    pid: int
    script: str = ""  #: the script's path in the folder
    peak_memory_mb: float = 0.0
    changed_links: list[str] = field(default_factory=list)  #: large seeds, linked and not copied, that it wrote to
    rewritten: list[str] = field(default_factory=list)  #: files that it wrote anew with the content that they had
    skipped: dict[str, str] = field(default_factory=dict)  #: what it left and cannot be published: path and why

    @property
    def duration_s(self) -> float:
        """Return how long it ran, in seconds."""
        return max(0.0, self.ended_at - self.started_at)

    @property
    def traceback(self) -> str:
        """Return the traceback of the exception that ended it, with those it is chained to; empty if there was none."""
        told = str((self.error or {}).get("traceback") or "")
        return told or (last_traceback(self.stderr) if self.error else "")


async def launch(
    script: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    on_output: OnOutput | None = None,
    on_start: OnStart | None = None,
    mark: Mark | None = None,
    pass_env: str = "",
) -> Outcome:
    """Run ``script`` with this process's interpreter in ``folder``, and wait for its end.

    Cancelling it kills the child and all that it started within a second, and only then raises.

    Parameters
    ----------
    script
        A Python file below ``folder``, usually in its ``codebase``.
    on_output
        Called on the loop with ``"stdout"`` or ``"stderr"`` and the text that came, about ten times a second.
    on_start
        Called on the loop with the child's pid and start time.
    mark
        Says to which run and attempt a process belongs; its descendants inherit it.
    pass_env
        Names and patterns of environment variables that the code gets besides the usual ones.

    Raises
    ------
    ExecutionFailed
        The child cannot be started at all.
    """
    loop = asyncio.get_running_loop()
    job = Job(script, folder, limits or Limits(), mark, pass_env)

    def call(callback: Callable[..., Any] | None, *arguments: Any) -> None:
        if callback is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(callback, *arguments)

    job.on_start = lambda pid, started: call(on_start, pid, started)
    job.on_output = lambda stream, text: call(on_output, stream, text)
    done = job.start(loop)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        job.cancel()
        while not done.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([done])
        if not done.cancelled():
            done.exception()  # it is the cancelling that is raised
        raise


def command(script: Path, folder: Path, record: Path) -> list[str]:
    """Return the command that runs a script: a supervisor without any start-up files, which starts the interpreter."""
    isolated = ["-I", "-S", "-X", "utf8"]
    return [sys.executable, *isolated, supervisor.__file__, str(script), str(folder), str(record)]


class Job:
    """One child, from its start to its exit record, on a thread of its own."""

    def __init__(self, script: Path, folder: Path, limits: Limits, mark: Mark | None, pass_env: str) -> None:
        self.script, self.folder, self.limits = script.absolute(), folder.absolute(), limits
        self.mark = (mark or Mark.of(new_id(), new_id(), self.folder)).started()
        self.pass_env = pass_env
        self.record = self.folder
        self.on_start: OnStart = lambda pid, started: None
        self.on_output: OnOutput = lambda stream, text: None
        self.unfinished: dict[str, str] = {}  #: of each stream, the line that has no end yet
        self.cancelled = threading.Event()
        self.peak_mb = 0.0
        self.reason = ""  # why the group was killed: timeout, memory, output, killed

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = loop.create_future()

        def settle(result: Outcome | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            elif result is not None:
                future.set_result(result)

        def work() -> None:
            result, error = None, None
            try:
                result = self.run()
            except BaseException as fault:
                error = fault
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=work, name=f"cmbagent-child-{self.script.stem}", daemon=True).start()
        return future

    def cancel(self) -> None:
        """Have the thread kill the group, which it does within a tenth of a second."""
        self.cancelled.set()

    def run(self) -> Outcome:
        self.skipped_before: dict[str, str] = {}
        before = self._scan(self.skipped_before)
        self.record = self._begin()
        with Follower(self.record / STDOUT) as out, Follower(self.record / STDERR) as err:
            process = self._popen(out, err)
            started = start_time(process.pid)
            group = Group(process.pid, started, self.folder, self.mark)
            guard = Guard.get()
            guard.watch(process.pid, started, self.folder, self.limits, self.mark)
            self.on_start(process.pid, started)
            try:
                self._watch(process, group, {"stdout": out, "stderr": err})
            finally:
                group.kill()
                exit_code = process.wait()
                guard.done(process.pid)
            ended = time.time()
            self._pass_on({"stdout": out, "stderr": err}, last=True)
            stdout, stderr = scrub(out.shown()), scrub(err.shown())
            self.folder.mkdir(parents=True, exist_ok=True)  # the code may have deleted it
            for follower in (out, err):
                trim(follower)
        return self._finish(process.pid, exit_code, (started, ended), (stdout, stderr), before)

    def _begin(self) -> Path:
        return begin(self.folder)

    def _popen(self, out: Follower, err: Follower) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command(self.script, self.folder, self.record),
                cwd=self.folder,
                env=child_environment(
                    {"MPLBACKEND": "Agg", "PYTHONUTF8": "1", VARIABLE: str(self.mark)}, pass_env=self.pass_env
                ),
                stdin=subprocess.DEVNULL,
                stdout=out.writer,
                stderr=err.writer,
                start_new_session=True,
            )
        except OSError as error:
            raise ExecutionFailed(
                f"the interpreter {sys.executable} cannot be started ({error})",
                "Check the memory and the number of processes of this machine.",
            ) from error

    def _watch(self, process: subprocess.Popen[bytes], group: Group, streams: dict[str, Follower]) -> None:
        begun = time.monotonic()
        next_memory = begun
        with _End(process) as end:
            for turn in range(sys.maxsize):
                ended = end.wait(OUTPUT_EVERY)
                if self.cancelled.is_set():
                    self.reason = "killed"
                    return
                self._pass_on(streams)
                if ended:
                    return
                now = time.monotonic()
                if self.limits.timeout_s and now - begun > self.limits.timeout_s:
                    self.reason = "timeout"
                    return
                written = sum(follower.size() for follower in streams.values())
                if self.limits.output_mb and written > self.limits.output_mb * 2**20:
                    self.reason = "output"
                    return
                if now >= next_memory:
                    next_memory = now + MEMORY_EVERY
                    if turn % 10 == 0:
                        group.look()
                    memory = group.memory_mb()
                    self.peak_mb = max(self.peak_mb, memory)
                    if self.limits.memory_mb and memory > self.limits.memory_mb:
                        self.reason = "memory"
                        return

    def _pass_on(self, streams: dict[str, Follower], *, last: bool = False) -> None:
        """Pass on what came, by whole lines: a secret that is written in two pieces would not be known."""
        for name, follower in streams.items():
            text = self.unfinished.pop(name, "") + follower.more(last=last)
            end = max(text.rfind("\n"), text.rfind("\r")) + 1
            if not last and len(text) - end <= LONGEST_LINE:
                text, self.unfinished[name] = text[:end], text[end:]
            if text:
                self.on_output(name, scrub(text))

    def _scan(self, skipped: dict[str, str]) -> dict[str, Entry]:
        return {path: entry for path, entry in scan(self.folder, skipped).items() if not ignored(path)}

    def _finish(
        self,
        pid: int,
        exit_code: int,
        times: tuple[float, float],
        output: tuple[str, str],
        before: dict[str, Entry],
    ) -> Outcome:
        own = read_exit(self.folder)
        own = own if own is not None and own.get("pid") == pid else None
        status, error = self._judge(exit_code, own, output[1])
        error = masked(error)
        skipped: dict[str, str] = {}
        after = self._scan(skipped)
        script = os.path.relpath(self.script, self.folder).replace(os.sep, "/")
        changed = {entry.path for entry in changes(before, after).made}
        made = [after[path] for path in sorted({script, *changed}) if path in after]
        outcome = Outcome(
            status=status,
            exit_code=exit_code,
            stdout=output[0],
            stderr=output[1],
            error=error,
            made=made,
            reads=self._reads(before),
            started_at=times[0],
            ended_at=times[1],
            pid=pid,
            script=script,
            peak_memory_mb=round(self.peak_mb, 1),
            changed_links=[entry.path for entry in made if entry.path in before and _linked(self.folder / entry.path)],
            rewritten=[
                path
                for path, entry in after.items()
                if path in before and path not in changed and entry.mtime_ns != before[path].mtime_ns
            ],
            skipped={path: why for path, why in skipped.items() if self.skipped_before.get(path) != why},
        )
        self._when_there_is_space(lambda: self._write_exit(outcome, after))
        self._when_there_is_space(lambda: redact(self.folder))
        return outcome

    def _when_there_is_space(self, write: Callable[[], None]) -> None:
        """Write how the code ended, also when the disk is full for a while: what it made is not made twice."""
        latest = time.monotonic() + SPACE_PATIENCE
        while True:
            try:
                write()
                return
            except OSError as error:
                if not is_full(error) or self.cancelled.is_set() or time.monotonic() > latest:
                    raise
            self.cancelled.wait(SPACE_EVERY)

    def _judge(self, exit_code: int, own: dict[str, Any] | None, stderr: str) -> tuple[str, dict[str, Any] | None]:
        if self.reason:
            error = exits.limit_error(self.reason, self.limits, self.peak_mb, stderr, self.folder)
            return exits.LIMIT_STATUS[self.reason], error
        if own is None and exit_code:  # the supervisor did not come to write it
            own = {"error": supervisor.read_error(str(self.record))}
        return exits.judge(exit_code, own.get("error") if own else None, stderr, self.folder, self.script)

    def _reads(self, before: dict[str, Entry]) -> list[str]:
        def outside(name: str) -> bool:
            return name.startswith("package:") or Path(name).is_absolute()

        # What it made itself and read again is no input.
        return [name for name in noted_reads(self.folder) if outside(name) or name in before]

    def _write_exit(self, outcome: Outcome, after: dict[str, Entry]) -> None:
        record = {
            "v": 1,
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "error": outcome.error,
            "started_at": outcome.started_at,
            "ended_at": outcome.ended_at,
            "pid": outcome.pid,
            "reads": outcome.reads,
            "made": [entry.path for entry in outcome.made],
        }
        write_exit(self.folder, record, after=after)


class _End:
    """Waits for a child's end without reaping it where the platform can, so that its group's id stays taken."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.descriptor = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.descriptor = os.pidfd_open(process.pid)

    def __enter__(self) -> _End:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def wait(self, seconds: float) -> bool:
        if self.descriptor >= 0:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _linked(path: Path) -> bool:
    try:
        return path.is_symlink() or path.stat().st_nlink > 1
    except OSError:
        return False
