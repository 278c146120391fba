"""Runs a Jupyter kernel as the launcher runs a script: its environment, limits, process group, guard and end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.execution import exits, warm
from cmbagent_nb.execution.exits import Limits
from cmbagent_nb.execution.launcher import Job, Outcome, command
from cmbagent_nb.execution.records import begin

if TYPE_CHECKING:
    from cmbagent_nb.capture.file_scan import Entry
    from cmbagent_nb.execution.marks import Mark
    from cmbagent_nb.execution.output_tail import Follower

_SCRIPT = """import sys
sys.path[:] = [path for path in sys.path if path and path != {scratch!r}]
from ipykernel import kernelapp
kernelapp.launch_new_instance(argv=["-f", {connection!r}, "--HistoryManager.hist_file=:memory:"])
"""


class KernelJob(Job):
    """One kernel; its record lies in ``scratch``, and what its cells make is left to the caller to list."""

    def __init__(
        self,
        connection: Path,
        folder: Path,
        scratch: Path,
        environment: Mapping[str, str],
        imports: Sequence[str],
        limits: Limits,
        mark: Mark,
        *,
        forked: bool,
    ) -> None:
        script = scratch / "kernel.py"
        script.write_text(_SCRIPT.format(scratch=str(scratch), connection=str(connection)), encoding="utf-8")
        super().__init__(script, folder, limits, mark, "")
        self.scratch, self.environment, self.imports = scratch, dict(environment), list(imports)
        self.forked = forked and warm.available()

    def _begin(self) -> Path:
        return begin(self.scratch / "kernel")

    def _popen(self, out: Follower, err: Follower) -> Any:
        if not self.forked:
            return subprocess.Popen(
                command(self.script, self.folder, self.record),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out.writer,
                stderr=err.writer,
                start_new_session=True,
            )
        places = {"script": self.script, "folder": self.folder, "record": self.record}
        places |= {"stdout": self.record / "stdout.txt", "stderr": self.record / "stderr.txt"}
        request = {name: str(path) for name, path in places.items()}
        return warm.start(self.environment, {**request, "imports": self.imports})

    def _scan(self, skipped: dict[str, str]) -> dict[str, Entry]:
        return {}

    def _finish(
        self, pid: int, exit_code: int, times: tuple[float, float], output: tuple[str, str], before: dict[str, Entry]
    ) -> Outcome:
        status, error = "completed" if exit_code == 0 else "failed", None
        if self.reason:
            error = exits.limit_error(self.reason, self.limits, self.peak_mb, output[1], self.folder)
            status = exits.LIMIT_STATUS[self.reason]
        return Outcome(status, exit_code, *output, error, [], [], *times, pid)


def kernel_manager(
    folder: Path,
    scratch: Path,
    environment: Mapping[str, str],
    imports: Sequence[str],
    limits: Limits,
    mark: Mark,
    *,
    forked: bool = True,
) -> Any:
    """Return a kernel manager, as jupyter_client has them, for one kernel in ``folder``.

    A kernel that is ``forked`` starts in milliseconds and shares the hash seed of its siblings.
    """
    from jupyter_client.manager import AsyncKernelManager

    class LaunchedKernel(AsyncKernelManager):
        """Starts and ends the kernel as a job of the launcher."""

        job: KernelJob | None = None
        done: asyncio.Future[Outcome] | None = None

        # jupyter_client wraps these methods of its own, by which their types are lost
        @property
        def has_kernel(self) -> bool:
            return self.done is not None and not self.done.done()

        async def start_kernel(self, **_options: Any) -> None:  # type: ignore[override]
            self.write_connection_file()
            connection = Path(self.connection_file)
            self.job = KernelJob(connection, folder, scratch, environment, imports, limits, mark, forked=forked)
            self.done = self.job.start(asyncio.get_running_loop())

        async def is_alive(self) -> bool:  # type: ignore[override]
            return self.has_kernel

        _async_is_alive = is_alive  # by this name its clients ask

        async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:  # type: ignore[override]
            if self.job is not None and self.done is not None:
                self.job.cancel()
                await asyncio.wait([self.done])

        async def restart_kernel(self, now: bool = False, newports: bool = False, **_options: Any) -> None:  # type: ignore[override]
            await self.shutdown_kernel(now=True, restart=True)
            await self.start_kernel()

        async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
            self.cleanup_connection_file()

        def limit_error(self) -> str:
            """Return which limit the kernel was stopped for; empty where it was none."""
            if self.done is None or not self.done.done() or self.done.cancelled() or self.done.exception():
                return ""
            outcome = self.done.result()
            return str(outcome.error["message"]) if outcome.error and outcome.status == "memory" else ""

    options: dict[str, Any] = {"connection_file": str(scratch / "connection.json"), "kernel_name": "python3"}
    if sys.platform != "win32":
        options |= {"transport": "ipc", "ip": str(scratch / "k")}
    return LaunchedKernel(**options)
