"""Executes a notebook with papermill in a kernel of its own.

| invariant | how |
|---|---|
| no API key reaches the kernel | its environment is the allow-list of ``execution.environment`` |
| the kernel is this interpreter | :mod:`cmbagent_nb.execution.kernel` starts it, not whatever ``python3`` resolves to |
| nobody's working folder changes | the kernel gets its folder; papermill's ``cwd`` (a process-wide chdir) is not used |
| nothing of it outlives the call | the launcher kills the kernel with its process group, whatever happens |
| it can be called from any thread, a running event loop or not | the kernel's loop is in a thread of its own |
| callbacks come in the caller's thread | so that what they show lands in the caller's cell |
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import copy
import functools
import logging
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.execution.exits import Limits
from cmbagent_nb.execution.kernel import kernel_manager
from cmbagent_nb.execution.warm import libraries
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.composing import parts
from cmbagent_nb.skills.notebook import NO_STEPS, PREAMBLE
from cmbagent_nb.skills.running.finished_steps import steps_of_a_run

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.execution.marks import Mark
    from cmbagent_nb.skills.running.finished_steps import FinishedSteps

#: ``on_progress(done, total, label)``: cells done, cells in all, what is being done.
OnProgress = Callable[[int, int, str], Any]

ENGINE = "cmbagent_nb"
_PARAMETERS = ("parameters", "injected-parameters")
#: Seconds that the kernel may take to start.
START_TIMEOUT = 120.0


@dataclass
class Executed:
    """An executed notebook: completed, or failed with the reason."""

    notebook: NotebookNode
    status: str  #: completed, failed, timeout, cancelled
    error: str = ""
    duration_s: float = 0.0
    #: Seconds that each code cell took, by cell id.
    cells: dict[str, float] = field(default_factory=dict)


@dataclass
class _Job:
    """Data of one execution, handed through papermill to the engine."""

    folder: Path
    save_to: Path | None
    deadline: float | None
    report: Callable[[int, int, str], None]
    stop: threading.Event
    steps: FinishedSteps | None = None
    fresh: bool = False
    limits: Limits = field(default_factory=lambda: Limits(timeout_s=0.0, memory_mb=0.0))
    notebook: Any = None
    kernel: Any = None
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[Any] | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        """Stop the execution from another thread; once, so that the kernel's shutdown is not disturbed."""
        self.stop.set()
        loop, task = self.loop, self.task
        if self.cancelled or loop is None or task is None:
            return
        self.cancelled = True
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:
            return  # the loop has just closed: it is over anyway


def execute(
    notebook: NotebookNode,
    folder: Path,
    *,
    parameters: dict[str, Any] | None = None,
    save_to: Path | None = None,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
    stop: threading.Event | None = None,
    steps: FinishedSteps | None = None,
    memory_mb: float = 0.0,
    fresh: bool = False,
) -> Executed:
    """Execute a notebook in ``folder`` and return it with its outputs; a cell that fails is told, not raised.

    Parameters
    ----------
    parameters
        Values for names of the notebook's parameters cell.
    save_to
        Where the executed notebook is written, after every cell.
    timeout_s
        Seconds for all cells together; None means no limit.
    on_progress
        Called in this thread before each cell and at the end.
    stop
        Set it from another thread to stop the execution.
    steps
        Where each finished step is noted; steps that it knows as finished are not run again.
    memory_mb
        Megabytes that the kernel with all that it starts may use; 0 means no limit.
    fresh
        Start an interpreter for it, as verification does: forks of one process share its hash seed and its addresses,
        so that what depends on the order of a set would be reproduced among them, and nowhere else.
    """
    events: queue.SimpleQueue[tuple[int, int, str] | None] = queue.SimpleQueue()
    job = _Job(
        folder=folder,
        save_to=save_to,
        deadline=None if timeout_s is None else time.monotonic() + timeout_s,
        report=lambda done, total, label: events.put((done, total, label)),
        stop=stop or threading.Event(),
        steps=steps,
        fresh=fresh,
        limits=Limits(timeout_s=0.0, memory_mb=memory_mb),
    )
    ended: list[Executed | BaseException] = []

    def work() -> None:
        try:
            ended.append(_execute(notebook, job, parameters or {}))
        except BaseException as error:
            ended.append(error)
        finally:
            events.put(None)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="cmbagent-skill", daemon=True)
    thread.start()
    try:
        _follow(events, job, on_progress)
    except BaseException:
        job.cancel()
        thread.join()
        raise
    thread.join()
    result = ended[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _follow(events: queue.SimpleQueue[tuple[int, int, str] | None], job: _Job, on_progress: OnProgress | None) -> None:
    while True:
        try:
            event = events.get(timeout=0.2)
        except queue.Empty:
            if job.stop.is_set():
                job.cancel()
            continue
        if event is None:
            return
        if on_progress is not None:
            on_progress(*event)


def _execute(notebook: NotebookNode, job: _Job, parameters: dict[str, Any]) -> Executed:
    """Run papermill and sort its ways of failing into one result."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    _register()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    status, error, executed = "completed", "", None
    try:
        executed = execute_notebook(
            notebook,
            None,
            parameters=parameters,
            engine_name=ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            autosave_cell_every=0,
            start_timeout=START_TIMEOUT,
            job=job,
        )
    except PapermillExecutionError as failure:
        status, error = "failed", f"{failure.ename}: {failure.evalue}"
    except CellTimeoutError:
        status, error = "timeout", "the notebook was stopped because it ran longer than it may"
    except DeadKernelError:  # nbclient says so, too, when it is cancelled in the middle of a cell
        limit = job.kernel.limit_error() if job.kernel is not None else ""
        status, error = "failed", limit or "the notebook's kernel died"
    except asyncio.CancelledError:
        status, error = "cancelled", ""
    if job.stop.is_set() and status != "completed":
        status, error = "cancelled", "the execution was cancelled"
    executed = executed if executed is not None else job.notebook if job.notebook is not None else notebook
    _save(executed, job.save_to)
    return Executed(executed, status, error, time.monotonic() - started, _cell_times(executed))


def _cell_times(notebook: NotebookNode) -> dict[str, float]:
    times = {}
    for cell in notebook.cells:
        seconds = cell.metadata.get("papermill", {}).get("duration")
        if cell.cell_type == "code" and seconds is not None:
            times[cell.get("id", "")] = round(float(seconds), 3)
    return times


def _save(notebook: NotebookNode, path: Path | None) -> None:
    """Write the notebook without what only a live kernel can use."""
    if path is None:
        return
    from cmbagent_nb.skills.notebook import notebook_text

    notebook.metadata.pop("widgets", None)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(notebook_text(notebook), encoding="utf-8")
    temporary.replace(path)


#: Draws into the notebook, as Jupyter does; and into files alone, as scripts do.
INLINE, TO_FILES = "module://matplotlib_inline.backend_inline", "Agg"


def backend_of(notebook: NotebookNode) -> str:
    """Return matplotlib's backend for a notebook: that of Jupyter, unless its cells were the scripts of a run.

    Jupyter shows and closes the figures of a cell at its end; a script goes on with them.
    """
    about = notebook.metadata.get("cmbagent_nb")
    from_run = isinstance(about, dict) and bool(about.get("run"))
    return TO_FILES if from_run else INLINE


def kernel_environment(scratch: Path, mark: Mark, backend: str = TO_FILES) -> dict[str, str]:
    """Return the environment of a skill's kernel: no key, no start-up files, pictures drawn by ``backend``.

    Whatever the kernel starts has the mark, by which it is found when the kernel is gone.
    """
    from cmbagent_nb.execution.environment import child_environment
    from cmbagent_nb.execution.marks import VARIABLE

    return child_environment(
        {
            "IPYTHONDIR": str(scratch),
            "MPLBACKEND": backend,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONUNBUFFERED": "1",
            VARIABLE: str(mark),
        }
    )


@functools.cache
def _register() -> None:
    """Make papermill know our engine; its classes need papermill, which is imported late."""
    from papermill.engines import Engine, papermill_engines

    class SkillEngine(Engine):  # type: ignore[misc] # papermill has no types
        """Runs a notebook in a kernel of this interpreter, in the job's folder."""

        @classmethod
        def execute_managed_notebook(
            cls, nb_man: Any, kernel_name: str, *, job: _Job, start_timeout: float, **_options: Any
        ) -> None:
            job.notebook = nb_man.nb
            asyncio.run(_run_cells(nb_man, job, start_timeout))

    papermill_engines.register(ENGINE, SkillEngine)


async def _run_cells(manager: Any, job: _Job, start_timeout: float) -> None:
    from nbclient.exceptions import CellExecutionError
    from papermill.clientwrap import PapermillNotebookClient

    from cmbagent_nb.execution.marks import Mark

    job.loop, job.task = asyncio.get_running_loop(), asyncio.current_task()
    if job.stop.is_set():
        raise asyncio.CancelledError
    cells = [cell for cell in manager.nb.cells if runs(cell)]
    scratch = Path(tempfile.mkdtemp(prefix="cmbagent-kernel-"))
    mark = Mark.of("skill", new_id(), job.folder)
    environment = kernel_environment(scratch, mark, backend_of(manager.nb))
    loaded = [] if (job.folder / "matplotlibrc").exists() else libraries(cell.source for cell in cells)
    forked = not job.fresh
    kernel = job.kernel = kernel_manager(job.folder, scratch, environment, loaded, job.limits, mark, forked=forked)
    client = PapermillNotebookClient(
        manager,
        km=kernel,
        timeout_func=lambda cell: _left(job.deadline),
        startup_timeout=int(start_timeout),
        kernel_name="python3",
        store_widget_state=False,
        shutdown_kernel="immediate",
        coalesce_streams=True,
    )
    client.reset_execution_trackers()
    # nbclient writes what an output widget shows into the state of the widget, which it keeps only on request.
    client.widget_state = collections.defaultdict(dict)
    job.report(0, len(cells), "starting the kernel")
    steps = _Steps(manager.nb, job)
    try:
        async with client.async_setup_kernel(cleanup_kc=True):
            done = 0
            for index, cell in enumerate(manager.nb.cells):
                if cell.get("id") in steps.skipped or parts.is_left_out(cell, job.folder):
                    done += runs(cell)
                    continue
                if runs(cell):
                    job.report(done, len(cells), cell_label(manager.nb.cells, index))
                manager.cell_start(cell, index)
                began = time.monotonic()
                try:
                    if steps.used and cell.metadata.get("cmbagent_nb", {}).get("fresh_kernel"):
                        before = [item for item in manager.nb.cells[:index] if parts.sets_up(item, cell)]
                        await _restart(client, before, start_timeout)
                    await client.async_execute_cell(cell, index)
                except CellExecutionError as error:
                    manager.cell_exception(cell, cell_index=index, exception=error)
                    return
                finally:
                    manager.cell_complete(cell, cell_index=index)
                    _save(manager.nb, job.save_to)
                if runs(cell):
                    done += 1
                    steps.note(cell, time.monotonic() - began)
            job.report(done, len(cells), "done")
    finally:
        await kernel.shutdown_kernel(now=True)  # also where it was cancelled while it was starting
        shutil.rmtree(scratch, ignore_errors=True)


def runs(cell: Any) -> bool:
    """Tell whether a cell is one that is run."""
    return cell.cell_type == "code" and bool(cell.source.strip())


class _Steps:
    """Notes the finished steps of a notebook that is executed; those that had finished before are not run again."""

    def __init__(self, notebook: NotebookNode, job: _Job) -> None:
        self.noted = job.steps
        #: Whether the kernel has run a cell besides the parameters, imports and folders.
        self.used = False
        self.skipped: set[str] = set()
        cells = [cell for cell in notebook.cells if runs(cell) and not NO_STEPS & set(cell.metadata.get("tags", []))]
        self._apart = self.noted is not None and steps_of_a_run(notebook).issuperset(cell.get("id") for cell in cells)
        if self.noted is None:
            return
        self.skipped = self.noted.resume([(cell["id"], cell.source) for cell in cells] if self._apart else [])
        if self.skipped and job.save_to is not None:
            self._take_outputs(notebook, job.save_to)

    def note(self, cell: Any, seconds: float) -> None:
        """Note that a cell has finished."""
        if NO_STEPS & set(cell.metadata.get("tags", [])):
            return
        self.used = True
        if self.noted is not None and self._apart:
            self.noted.finished(cell.get("id", ""), cell.source, seconds)

    def _take_outputs(self, notebook: NotebookNode, executed: Path) -> None:
        """Give finished cells the outputs that the executed notebook has of them."""
        from cmbagent_nb.skills.notebook import read_notebook

        before = {cell.get("id"): cell for cell in read_notebook(executed.read_text(encoding="utf-8")).cells}
        for cell in notebook.cells:
            if cell.get("id") in self.skipped & before.keys():
                cell.outputs = before[cell["id"]].outputs
                cell.execution_count = before[cell["id"]].execution_count
                cell.metadata["papermill"] = before[cell["id"]].metadata.get("papermill", {})


async def _restart(client: Any, before: list[Any], patience: float) -> None:
    """Give the next cell a fresh kernel in which only the parameters, imports and folders have been set up."""
    await client.km.restart_kernel(now=True)
    await client.kc.wait_for_ready(timeout=patience)
    for index, cell in enumerate(before):
        if cell.cell_type == "code" and PREAMBLE & set(cell.metadata.get("tags", [])):
            await client.async_execute_cell(copy.deepcopy(cell), index, store_history=False)


def _left(deadline: float | None) -> int | None:
    """Return the whole seconds that are left, at least one."""
    return None if deadline is None else max(1, round(deadline - time.monotonic()))


def cell_label(cells: list[Any], index: int) -> str:
    """Return what a cell does in a few words: its heading, or its tag."""
    tags = cells[index].metadata.get("tags", [])
    if "step" in tags and index > 0 and cells[index - 1].cell_type == "markdown":
        heading = cells[index - 1].source.strip().partition("\n")[0].lstrip("# ").strip()
        if heading:
            return str(heading)
    names = {
        "imports": "imports",
        "setup": "folders and inputs",
        "derived": "derived values",
        "outputs": "parameters",
        "show": "what it made",
    }
    names |= dict.fromkeys(_PARAMETERS, "parameters")
    return next((names[tag] for tag in tags if tag in names), f"cell {index + 1}")
