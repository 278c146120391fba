"""Peers beside ours: MLflow tracing, LangGraph's SqliteSaver and OpenTelemetry, in one process and the same rounds.

The peers are no dependencies of the project: they live in an environment of their own, ``.venv-peers``, which is made
when it is first asked for. What is measured there is in ``beside.py``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.measure import Figure, folder

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".venv-peers"
PINNED = ("mlflow==3.17.2", "langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2", "opentelemetry-sdk==1.45.2")
#: What peers and project share is there in the project's version, so that both stand on the same ground.
SHARED = ("sqlalchemy", "sqlmodel", "alembic", "orjson", "pandas", "numpy", "pydantic")
#: Nothing of what is measured asks a server, a user's settings or a repository for anything.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


class CannotBeInstalled(Exception):
    """The peers' environment could not be made."""


def peers() -> Iterator[Figure]:
    """What an event costs until it is durable, and what of a burst of 10,000 is lost."""
    yield from _beside("peers", "recording")


def reading() -> Iterator[Figure]:
    """Ten thousand events of one run: our frame beside ``mlflow.get_trace``."""
    yield from _beside("peers_reading", "reading")


def _beside(name: str, what: str) -> Iterator[Figure]:
    """Measure in the peers' environment; a line that says so when there is none."""
    try:
        python = _environment()
    except CannotBeInstalled as error:
        print(json.dumps({"name": name, "skipped": f"cannot be installed: {error}"}), flush=True)
        return
    with folder() as place:
        command = [str(python), "-m", "tests.benchmarks.beside", what, str(place)]
        places = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), "CMBAGENT_HOME": str(place / "home")}
        with subprocess.Popen(command, cwd=place, env=places, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                yield Figure(**json.loads(line))
        if child.returncode != 0:
            raise RuntimeError(f"the peers ended with exit status {child.returncode}")


def _environment() -> Path:
    """Return the interpreter of the peers' environment, made if it is not there or is not what is asked for."""
    python, made = PLACE / "bin" / "python", PLACE / ".made"
    wanted = "\n".join([sys.version, *PINNED, *(f"{name}=={version(name)}" for name in SHARED)])
    if made.exists() and made.read_text() == wanted:
        return python
    shutil.rmtree(PLACE, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(PLACE)], "there is no venv")
    packages = wanted.splitlines()[1:]
    if importlib.util.find_spec("uv") is not None:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *packages]
    else:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    _run(command, "the packages cannot be had")
    # What only the project needs is found in its own environment, behind all that the peers have.
    packages_of = "import sysconfig; print(sysconfig.get_path('purelib'))"
    there = subprocess.run([str(python), "-c", packages_of], check=True, capture_output=True, text=True).stdout
    Path(there.strip(), "zz_project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made.write_text(wanted)
    return python


def _run(command: list[str], otherwise: str) -> None:
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if ended.returncode != 0:
        raise CannotBeInstalled(otherwise)
