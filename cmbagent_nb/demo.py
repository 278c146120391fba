"""Runs the quickstart notebook headless as a demonstration, and checks its results.

It needs no key and, once everything is installed, no network: the model's words come from a playbook, and
the data are shipped. What it computes is computed: the code of every step really runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import ExecutionFailed, WorkDirError
from cmbagent_nb.settings import user_path

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.workspace import Workspace

NOTEBOOK = "01_quickstart.ipynb"
PLAYBOOK = "playbook:planck-desi"
#: The file that tells a folder of ours, which may be emptied, from one of the user's.
MARK = ".cmbagent-demo"
#: Seconds that the whole notebook may take before something must be wrong.
LIMIT = 600

_PAPERMILL = (
    "import sys, papermill\n"
    "papermill.execute_notebook(sys.argv[1], sys.argv[2], cwd=sys.argv[3], kernel_name='python3',"
    " progress_bar=False, store_widget_state=False)"
)


def main(folder: str | Path = "cmbagent_demo", *, next_step: str = "") -> int:
    """Run the quickstart in a fresh workspace in ``folder`` and print what came out; returns an exit status.

    Raises
    ------
    WorkDirError
        The folder holds something that is not an earlier demonstration.
    ExecutionFailed
        The notebook stopped with an error.
    """
    place = fresh(user_path(folder, "--dir"))
    source = notebook()
    target = place / source.name
    print(f"Running {source.name} headless: real data, recorded model replies, no key, no network.", flush=True)
    started = time.perf_counter()
    execute(source, target, place)
    took = time.perf_counter() - started
    print("\n".join(report(place, target, took)))
    print(f"\nNext: {next_step or f'jupyter lab {_shown(target)}'}")
    return 0


def notebook() -> Path:
    """Return the quickstart: the one in the installed package, else the one of the checkout.

    Raises
    ------
    WorkDirError
        The package was installed without it.
    """
    package = Path(__file__).parent
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if (folder / NOTEBOOK).is_file():
            return folder / NOTEBOOK
    raise WorkDirError(f"{NOTEBOOK} is missing", "Reinstall with: pip install --force-reinstall cmbagent-nb.")


def fresh(place: Path) -> Path:
    """Make an empty folder for the demonstration, in place of an earlier one."""
    mark = place / MARK
    if place.exists() and not mark.is_file() and any(place.iterdir()):
        raise WorkDirError(f"{place} is not empty", "Name another folder with --dir.", path=place)
    if place.exists():
        shutil.rmtree(place)
    try:
        place.mkdir(parents=True)
        mark.write_text("Made by the demonstration of cmbagent_nb, which empties this folder when it runs again.\n")
    except OSError as error:
        raise WorkDirError(
            f"{place} cannot be made ({error.strerror})", "Name another folder with --dir.", path=place
        ) from error
    return place


def execute(source: Path, target: Path, place: Path) -> None:
    """Execute the notebook with papermill in a process of its own, whose environment says how gates are answered."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CMBAGENT_")}
    environment |= {
        "CMBAGENT_HOME": str(place / "workspace"),
        "CMBAGENT_MODEL": PLAYBOOK,
        "CMBAGENT_GATES": "approve",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [sys.executable, "-c", _PAPERMILL, str(source), str(target), str(place)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ExecutionFailed(
            f"the notebook did not end within {LIMIT} s", f"See how far it came: jupyter lab {_shown(target)}."
        ) from error
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-12:]
        raise ExecutionFailed(
            "the notebook stopped with an error:\n  " + "\n  ".join(last), f"Open it: jupyter lab {_shown(target)}."
        )


def report(place: Path, executed: Path, seconds: float) -> Iterator[str]:
    """Say what ran, which numbers were found, which files were made, and where the notebook is."""
    from cmbagent_nb.workspace import Workspace

    workspace = Workspace(place / "workspace")
    try:
        yield f"\nWhat ran (in {seconds:.0f} s)"
        listing = workspace.runs()
        for run_id in listing.sort_values("created_at")["id"]:
            run = workspace.run(run_id)
            yield f"  {run.name}: {run.mode}, {run.status} ({_source(run)})"
            yield from _steps(run)
            yield from _numbers(run)
            yield from _files(run)
        yield from _skills(workspace)
    finally:
        workspace.close()
    yield f"\nThe executed notebook is {_shown(executed)}"


def _source(run: Run) -> str:
    if run.model_source == "playbook":
        return "recorded replies, no model was called"
    return str(run.model or run.model_source or "no model")


def _steps(run: Run) -> Iterator[str]:
    for step in run.steps().to_dict("records"):
        attempts = int(step["attempts"] or 1)
        again = f", right at attempt {attempts}" if attempts > 1 and step["status"] == "completed" else ""
        yield f"    {step['step_number']}. {step['title']} ({step['agent']}): {step['status']}{again}"


def _numbers(run: Run) -> Iterator[str]:
    """The numbers in the JSON files that the run made."""
    lines = []
    for path in sorted(Path(run.work_dir, "data").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        found = list(_flat(content))
        if found:
            lines.append(f"    {path.name}: " + ", ".join(f"{name} {value:.6g}" for name, value in found[:8]))
    if lines:
        yield "\nNumbers found"
        yield from lines


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Name each number in a JSON value by its way down to it.

    >>> list(_flat({"fit": {"chi2": 207.6, "ok": True}, "n": 215}))
    [('fit.chi2', 207.6), ('n', 215)]
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _files(run: Run) -> Iterator[str]:
    work_dir = Path(run.work_dir)
    newest: dict[str, int] = {}
    for row in run.files().to_dict("records"):
        if row["file_type"] in {"plot", "data", "report"}:
            newest[str(row["file_path"])] = int(row["size_bytes"] or 0)
    made = {path: size for path, size in sorted(newest.items()) if (work_dir / path).is_file()}
    if made:
        yield f"\nFiles made, in {_shown(work_dir)}"
        yield from (f"    {path} ({size / 1000:.1f} kB)" for path, size in made.items())


def _skills(workspace: Workspace) -> Iterator[str]:
    """The skills that were made, whether they reproduce the run, and what running them again gave."""
    from cmbagent_nb.store import frames

    executions = frames.skill_executions(workspace._core.db)
    for skill in workspace.skills.list().dropna(subset="source_run_id").to_dict("records"):
        yield f"\nKept as a skill\n  {skill['name']}: {(skill['verification'] or {}).get('summary', skill['status'])}"
        for done in executions[executions["skill_id"] == skill["id"]].to_dict("records"):
            given = ", ".join(f"{name}={value}" for name, value in (done["parameters"] or {}).items())
            found = ", ".join(f"{name} {value:.6g}" for name, value in list(_flat(done["metrics"] or {}))[:3])
            yield f"  run again with {given or 'its defaults'}: {done['status']} in {done['duration_s']:.0f} s, {found}"


def _shown(path: Path) -> str:
    """The path as the user would type it from where they are."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _command_line() -> int:
    import argparse

    from cmbagent_nb.errors import CMBAgentError

    parser = argparse.ArgumentParser(prog="python -m cmbagent_nb.demo", description=main.__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--dir", default="cmbagent_demo", help="the folder to work in (default: %(default)s)")
    parser.add_argument("--next", default="", help="what to name as the next step")
    options = parser.parse_args()
    try:
        return main(options.dir, next_step=options.next)
    except CMBAgentError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(_command_line())
