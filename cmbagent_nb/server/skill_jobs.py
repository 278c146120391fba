"""Starts long jobs on skills in processes of their own, so that the server stays quick and runs no code.

| invariant | how |
|---|---|
| the server runs no skill | a child does; its kernels get the environment allow-list as anywhere else |
| who asks is not kept waiting | the answer comes when the work ends, or as a job after ``wait`` seconds |
| an execution goes on without the server | the child is in a session of its own, and the record has its row |
| the machine is not swamped | so many jobs at once; one more is refused |
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent_nb import errors
from cmbagent_nb.errors import CMBAgentError, RunNotFound, StateError
from cmbagent_nb.ids import new_id

#: Jobs that run at once, and ended ones that can still be asked for.
MOST, KEPT = 4, 200
#: The longest line that a child writes.
_LINE = 2**26


@dataclass
class Job:
    """One job: its subject, its progress and its outcome."""

    id: str
    what: str
    workspace: str
    about: dict[str, Any]
    started_at: float
    status: str = "running"  #: running, completed, failed
    progress: list[Any] | None = None
    result: Any = None
    error: CMBAgentError | None = None
    ended_at: float | None = None
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the job as JSON shows it."""
        return {
            "job": self.id,
            "what": self.what,
            "workspace": self.workspace,
            **self.about,
            "status": self.status,
            "progress": self.progress,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "result": self.result,
            "error": None if self.error is None else str(self.error),
        }


class Jobs:
    """The jobs of this server."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._followed: set[asyncio.Task[None]] = set()

    async def start(self, what: str, home: Path, arguments: dict[str, Any], about: dict[str, Any]) -> Job:
        """Begin work in a process of its own.

        Raises
        ------
        StateError
            As many jobs as may run at once are running.
        """
        running = [job for job in self._jobs.values() if job.status == "running"]
        if len(running) >= MOST:
            raise StateError(f"{len(running)} jobs are running already", "Wait for the end of one.")
        job = Job(new_id(), what, str(home), about, time.time())
        self._jobs[job.id] = job
        try:
            job.process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "cmbagent_nb.server.skill_child",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True, limit=_LINE,
            )  # fmt: skip
        except OSError as error:
            del self._jobs[job.id]
            raise StateError(f"no process can be started ({error.strerror})", "Try again later.") from error
        asked = json.dumps({"home": str(home), "what": what, "arguments": arguments})
        task = asyncio.create_task(self._follow(job, job.process, asked.encode()))
        self._followed.add(task)
        task.add_done_callback(self._followed.discard)
        return job

    def find(self, job_id: str) -> Job:
        """Return a job by its id.

        Raises
        ------
        RunNotFound
            There is none.
        """
        if job_id not in self._jobs:
            raise RunNotFound(f"no job is {job_id!r}", "A server that was started again knows no jobs of before.")
        return self._jobs[job_id]

    def executing(self, execution_id: str) -> Job | None:
        """Return the job that is to make an execution."""
        return next((job for job in self._jobs.values() if job.about.get("execution_id") == execution_id), None)

    async def wait(self, job: Job, seconds: float) -> bool:
        """Wait for a job's end; tells whether it has come."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(job.over.wait(), seconds)
        return job.over.is_set()

    def stop(self, job: Job) -> None:
        """Ask a job to stop; its end comes soon after."""
        if job.process is not None and job.status == "running":
            with contextlib.suppress(ProcessLookupError):
                job.process.send_signal(signal.SIGTERM)

    async def _follow(self, job: Job, process: asyncio.subprocess.Process, asked: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(ConnectionError):  # it has ended at once: its exit status says so
                process.stdin.write(asked)
                await process.stdin.drain()
            process.stdin.close()
            async for line in process.stdout:
                _take(job, json.loads(line))
            status = await process.wait()
            if job.result is None and job.error is None:
                job.error = StateError(
                    f"the process of the job has ended with status {status}", "See the log of the Jupyter server."
                )
        except ValueError as error:
            job.error = StateError(f"the process of the job cannot be understood ({error})", "Try it on its own.")
        finally:
            job.status = "failed" if job.error is not None else "completed"
            job.ended_at = time.time()
            job.over.set()
            self._forget()

    def _forget(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.status != "running"]
        for job_id in ended[:-KEPT]:
            del self._jobs[job_id]


def _take(job: Job, line: dict[str, Any]) -> None:
    """Take in what a child says."""
    if "progress" in line:
        job.progress = line["progress"]
    elif "result" in line:
        job.result = line["result"]
    elif "error" in line:
        said = line["error"]
        kind = getattr(errors, str(said["kind"]), CMBAgentError)
        job.error = kind(said["what"], said["next_step"])
