"""The evaluation set of skill extraction: its cases, and how one is recorded as a real run.

Each folder of ``cases`` holds a playbook, its code, its inputs and ``expected.yaml``, the list of parameters that was
written from the task and the code alone. README.md beside this file says by which rules.

``python -m tests.extraction.runs`` records every case once and says which did not complete.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cmbagent_nb.llm.playbook import Playbook
from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace

FOLDER = Path(__file__).parent / "cases"
HALVES = ("tune", "heldout")
#: What a parameter is: a value, a file that is read, a file that is written.
PARAMETER_KINDS = ("value", "input", "output")
_FIELDS = frozenset({"kind", "half", "parameters", "optional", "not_parameters"})


@dataclass(frozen=True, slots=True)
class Expected:
    """One literal of a case's code: what it may be called, its value, and other ways to write that value."""

    names: tuple[str, ...]
    value: Any
    kind: str = "value"
    also: tuple[Any, ...] = ()
    why: str = ""

    @property
    def values(self) -> tuple[Any, ...]:
        """Every accepted form of the value."""
        return (self.value, *self.also)


@dataclass(frozen=True)
class Case:
    """A task, the code that does it, and what is to be found in it."""

    name: str
    folder: Path
    half: str
    kinds: tuple[str, ...]
    #: What must be found.
    parameters: tuple[Expected, ...] = field(repr=False)
    #: What may be found or not: it counts neither way.
    optional: tuple[Expected, ...] = field(repr=False)
    #: What must not be found.
    not_parameters: tuple[Expected, ...] = field(repr=False)

    @cached_property
    def playbook(self) -> Playbook:
        """The replies of its agents."""
        return Playbook.load(str(self.folder))

    @property
    def model(self) -> str:
        """The model to run it with."""
        return f"playbook:{self.folder}"

    @property
    def task(self) -> str:
        """What is to be done, in a scientist's words."""
        return self.playbook.task

    @property
    def mode(self) -> str:
        """``one_shot`` or ``planning_and_control``."""
        return self.playbook.mode

    def inputs(self) -> dict[str, Any]:
        """Read its inputs as the variables of a kernel, by the names of their files."""
        folder = self.folder / "inputs"
        return {file.stem: _value(file) for file in sorted(folder.iterdir())} if folder.is_dir() else {}

    def scripts(self) -> dict[str, str]:
        """Return the code of the attempts that are meant to succeed, the last of each step, by node."""
        data = yaml.safe_load((self.folder / "playbook.yaml").read_text(encoding="utf-8"))
        last = {item["node"]: item["code"] for item in data["replies"] if "code" in item}
        return {node: (self.folder / name).read_text(encoding="utf-8") for node, name in last.items()}


def cases(half: str | None = None) -> list[Case]:
    """Return the cases of a half, or all, by name."""
    found = [_read(file.parent) for file in sorted(FOLDER.glob("*/expected.yaml"))]
    return [case for case in found if half in (None, case.half)]


def record(ws: Workspace, case: Case, *, timeout: float = 120) -> Run:
    """Run a case through the workspace and wait for its end; whether it completed is for the caller to ask."""
    run = ws.start(case.task, mode=case.mode, model=case.model, inputs=case.inputs(), name=case.name)
    return run.wait(timeout)


def _read(folder: Path) -> Case:
    data = yaml.safe_load((folder / "expected.yaml").read_text(encoding="utf-8"))
    unknown = set(data) - _FIELDS
    if unknown or data["half"] not in HALVES:
        raise ValueError(f"{folder.name}: unknown field {min(unknown)!r}" if unknown else f"{folder.name}: which half?")
    lists = {name: tuple(_expected(item) for item in data.get(name) or ()) for name in _FIELDS - {"kind", "half"}}
    return Case(folder.name, folder, data["half"], tuple(data["kind"]), **lists)


def _expected(item: Mapping[str, Any]) -> Expected:
    names = item.get("name", ())
    return Expected(
        names=(names,) if isinstance(names, str) else tuple(names),
        value=item["value"],
        kind=item.get("kind", "value"),
        also=tuple(item.get("also", ())),
        why=item.get("why", ""),
    )


def _value(file: Path) -> Any:
    if file.suffix == ".csv":
        import pandas as pd

        return pd.read_csv(file)
    if file.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(file)
    if file.suffix == ".npy":
        import numpy as np

        return np.load(file, allow_pickle=False)
    return json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else file


def main(names: list[str]) -> int:
    """Record the cases that are named, or all, in a workspace of their own; return how many did not complete."""
    chosen = [case for case in cases() if not names or case.name in names]
    failed = 0
    with tempfile.TemporaryDirectory() as home:
        ws = Workspace(home)
        for case in chosen:
            run = record(ws, case)
            failed += run.status != "completed"
            print(f"{run.status:10} {case.half:8} {case.name}: {len(run.files())} files {run.error or ''}")
        ws.close()
    print(f"{len(chosen) - failed} of {len(chosen)} completed")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
