"""A skill over a grid of parameters: each combination in a kernel of its own, several at once, one table of results.

| invariant | how |
|---|---|
| wrong use starts nothing | every combination is checked before the first one starts |
| what fails is a row | a combination that cannot run does not stop the others |
| what is stopped is told | combinations that had not begun are rows with the status ``cancelled`` |
| they can be found together | their executions share a ``sweep_id`` |

With ``scheduler="dask"`` each combination is a task of a Dask cluster whose workers see the same workspace folder.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import MissingExtra, SkillError, UsageError
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.running import run as running
from cmbagent_nb.skills.running.run import check_start, run_skill

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.running.engine import OnProgress

#: A sweep of more combinations is a mistake sooner than a wish.
MOST = 100_000
#: Seconds between two looks at whether a sweep is to be stopped.
LOOK = 0.2

Row = dict[str, Any]


def sweep(
    skill: SkillRecord,
    grid: Mapping[str, Any],
    *,
    parallel: int | None = None,
    scheduler: Any = "local",
    on_progress: OnProgress | None = None,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Run a skill for every combination of the grid's values; see :meth:`Skill.sweep`."""
    points = combinations(skill, grid)
    for point in points:
        check_start(skill, point)
    if parallel is not None and parallel < 1:
        raise UsageError(f"parallel cannot be {parallel}", "Give a number of 1 or more.", value=parallel)
    stop = stop or threading.Event()
    if on_progress is None and running.progress_display is not None:
        on_progress = running.progress_display(f"{skill.name} ({len(points)} combinations)")
    sweep_id = new_id()
    work = _dask if scheduler != "local" else _local
    options = {"timeout_s": timeout_s, "sweep_id": sweep_id}
    rows: list[Row | None] = [None] * len(points)
    failed = 0
    if on_progress is not None:
        on_progress(0, len(points), "sweep")
    try:
        for done, (place, row) in enumerate(work(skill, points, parallel, scheduler, options, stop), start=1):
            rows[place] = row
            failed += row["status"] != "completed"
            if on_progress is not None:
                on_progress(done, len(points), f"{failed} failed" if failed else "sweep")
    except BaseException:
        stop.set()
        raise
    return frame(points, rows, sweep_id)


def combinations(skill: SkillRecord, grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points of a grid; a single value stands for a list of one, and a list parameter takes lists of lists.

    Raises
    ------
    SkillError
        A parameter that the skill does not have, no values, or too many combinations.
    """
    from cmbagent_nb.skills.running.check import find_parameter

    if not grid:
        raise SkillError(
            "there is nothing to vary", f"Give lists of values, as in sweep({_example(skill)}).", skill=skill.name
        )
    lists: dict[str, list[Any]] = {}
    for name, values in grid.items():
        parameter = find_parameter(skill, name)
        if parameter.name in lists:
            raise SkillError(f"parameter {parameter.name} is given twice", "Give it once.", parameter=name)
        lists[parameter.name] = _values(parameter.type, values)
        if not lists[parameter.name]:
            raise SkillError(f"parameter {name} has no values", "Give it at least one.", parameter=name)
    total = 1
    for values in lists.values():
        total *= len(values)
    if total > MOST:
        raise SkillError(f"the grid has {total} combinations", f"Give at most {MOST}.", combinations=total)
    return [dict(zip(lists, point, strict=True)) for point in itertools.product(*lists.values())]


def _values(kind: str, values: Any) -> list[Any]:
    if hasattr(values, "columns") or isinstance(values, (str, bytes, os.PathLike, Mapping)):
        return [values]
    if kind == "list" and isinstance(values, (list, tuple)) and not any(isinstance(v, (list, tuple)) for v in values):
        return [list(values)]
    return list(values) if isinstance(values, Iterable) else [values]


def _example(skill: SkillRecord) -> str:
    value = next((item for item in skill.parameters if item.kind == "value"), None)
    return f"{value.name}=[{value.default!r}, …]" if value else "name=[…]"


def frame(points: list[dict[str, Any]], rows: list[Row | None], sweep_id: str) -> pd.DataFrame:
    """Return the results as a table: a row for each combination, in the order of the grid."""
    import pandas as pd

    names = list(points[0])
    table = []
    own_names = ("duration_s", "error", "outputs", "work_dir", "execution_id")
    for point, found in zip(points, rows, strict=True):
        row = found or _not_run("cancelled", "it had not begun when the sweep was stopped")
        taken = {*names, "status", *own_names}
        metrics = {name if name not in taken else f"{name}_result": value for name, value in row["metrics"].items()}
        shown = {name: _shown(value) for name, value in point.items()}
        table.append({**shown, "status": row["status"], **metrics, **{key: row[key] for key in own_names}})
    results = pd.DataFrame(table)
    # the same order whichever combination failed: a row without numbers names no columns for them
    results = results[[*(name for name in results.columns if name not in own_names), *own_names]]
    results.attrs["sweep_id"] = sweep_id
    return results


def _shown(value: Any) -> Any:
    return type(value).__name__ if hasattr(value, "columns") else value


def _not_run(status: str, error: str) -> Row:
    return {
        "status": status,
        "metrics": {},
        "duration_s": None,
        "error": error,
        "outputs": [],
        "work_dir": None,
        "execution_id": None,
    }


def one(skill: SkillRecord, point: dict[str, Any], options: dict[str, Any], stop: threading.Event | None = None) -> Row:
    """Run one combination; whatever goes wrong becomes its row."""
    if stop is not None and stop.is_set():
        return _not_run("cancelled", "it had not begun when the sweep was stopped")
    try:
        done = run_skill(skill, point, on_progress=_silent, stop=stop, **options).as_dict()
    except SkillError as error:
        return _not_run("failed", str(error))
    except Exception as error:  # whatever a kernel that cannot start says: the others go on
        return _not_run("failed", f"{type(error).__name__}: {error}")
    return {
        **{key: done[key] for key in ("status", "metrics", "duration_s", "error", "outputs", "work_dir")},
        "execution_id": done["execution_id"],
    }


def _silent(done: int, total: int, label: str) -> None:
    """Show nothing: the bar is the sweep's, not a single execution's."""


def _local(
    skill: SkillRecord,
    points: list[dict[str, Any]],
    parallel: int | None,
    scheduler: Any,
    options: dict[str, Any],
    stop: threading.Event,
) -> Iterator[tuple[int, Row]]:
    """Run the combinations in threads of this process, each with a kernel; the writer is shared."""
    at_once = min(parallel or _processors(), len(points))
    with ThreadPoolExecutor(at_once, thread_name_prefix="cmbagent-sweep") as pool, _stopping(stop):
        futures = {pool.submit(one, skill, point, options, stop): place for place, point in enumerate(points)}
        yield from _as_they_come(futures)


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Stop what runs when the block is left early: the pool waits for its threads."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


def _as_they_come(futures: dict[Future[Row], int]) -> Iterator[tuple[int, Row]]:
    left = set(futures)
    while left:
        # a wait without an end would not hear an interrupt
        done, left = wait(left, timeout=LOOK, return_when=FIRST_COMPLETED)
        for future in done:
            yield futures[future], future.result()


def _processors() -> int:
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return count() or 1


# ---- Dask


def _dask(
    skill: SkillRecord,
    points: list[dict[str, Any]],
    parallel: int | None,
    scheduler: Any,
    options: dict[str, Any],
    stop: threading.Event,
) -> Iterator[tuple[int, Row]]:
    """Run the combinations as tasks of a Dask cluster; without a client, on processes of this machine."""
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(
            "a sweep on Dask needs the package distributed", "Install it with: pip install 'cmbagent-nb[dask]'."
        ) from error
    if scheduler != "dask" and not isinstance(scheduler, distributed.Client):
        raise UsageError(
            f"scheduler cannot be {scheduler!r}", "Use local, dask or a distributed.Client.", scheduler=str(scheduler)
        )
    dask: Any = distributed  # its functions have no types
    place_of = {"home": str(skill.home), "skill": skill.id}
    keys = [f"{options['sweep_id']}-{number}" for number in range(len(points))]
    with ExitStack() as stack:
        client: Any = scheduler
        if scheduler == "dask":
            workers = min(parallel or _processors(), len(points))
            cluster: Any = dask.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp://"
            )
            client = stack.enter_context(dask.Client(stack.enter_context(cluster)))
        futures: dict[Any, int] = {
            client.submit(on_worker, place_of, point, options, pure=False, key=key): place
            for place, (point, key) in enumerate(zip(points, keys, strict=True))
        }
        left = set(futures)
        while left:
            if stop.is_set():
                client.cancel(list(left), force=True)
                return
            try:
                finished = dask.wait(list(left), timeout=LOOK, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in finished:
                left.discard(future)
                problem = future.exception()
                failed = _not_run("failed", f"{type(problem).__name__}: {problem}")
                yield futures[future], future.result() if problem is None else failed


def on_worker(place_of: dict[str, str], point: dict[str, Any], options: dict[str, Any]) -> Row:
    """Run one combination in a worker's process, in the same workspace."""
    from pathlib import Path

    from cmbagent_nb.settings import load_settings
    from cmbagent_nb.skills.library import find
    from cmbagent_nb.workflow.process_state import host

    home = Path(place_of["home"])
    if not home.is_dir():
        return _not_run("failed", f"the worker does not see the workspace {home}")
    # the URL of a database may hold a password: it comes from the worker's own settings
    opened = host(home, load_settings(home).database_url)
    return one(find(opened.db, opened.writer, home, place_of["skill"]), point, options)
