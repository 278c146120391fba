"""Skills for the tests of learning: notebooks written by hand in the library, and rows of executions."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from cmbagent_nb.ids import new_id
from cmbagent_nb.skills import library
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.notebook import notebook_hash, notebook_text, package_versions, parameters_source
from cmbagent_nb.skills.schema import describe
from tests import held as holding
from tests.skill_runs import Home

SETUP = """\
from pathlib import Path

for folder in ("input", "data", "plots"):
    Path(folder).mkdir(exist_ok=True)"""


def make_skill(
    home: Home,
    name: str,
    steps: Iterable[str],
    parameters: Iterable[Parameter] = (),
    *,
    imports: str = "import json",
    assets: Mapping[str, str] | None = None,
    made: Mapping[str, Any] | None = None,
    **row: Any,
) -> Skill:
    """Put a notebook of these steps into the library, as an active, trusted version of its name."""
    codes, values = list(steps), list(parameters)
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(f"# {name}", id="about"),
        new.new_code_cell(parameters_source(values), id="parameters", metadata={"tags": ["parameters"]}),
        new.new_code_cell(imports, id="imports", metadata={"tags": ["imports"]}),
        new.new_code_cell(SETUP, id="setup", metadata={"tags": ["setup"]}),
    ]
    for number, code in enumerate(codes, start=1):
        about = {"tags": ["step"], "cmbagent_nb": {"node_id": f"step_{number}", "fresh_kernel": False}}
        cells += [
            new.new_markdown_cell(f"## {number}. Step", id=f"step_{number}-about"),
            new.new_code_cell(code, id=f"step_{number}", metadata=about),
        ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "cmbagent_nb": {
            "format": 1,
            "run": {"id": None, "name": name},
            "versions": package_versions([imports, *codes]),
            "steps": [
                {"node_id": f"step_{number}", "title": "Step", "agent": "engineer", "code_hash": "0"}
                for number in range(1, len(codes) + 1)
            ],
        },
    }
    text = notebook_text(new.new_notebook(cells=cells, metadata=metadata))
    (home.path / "skills").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home.path / "skills", prefix=".made-"))
    (folder / library.ASSETS).mkdir()
    for path, content in (assets or {}).items():
        place = folder / library.ASSETS / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    (folder / library.NOTEBOOK).write_text(text)
    nodes = [{"id": f"step_{number}", "title": "Step"} for number in range(1, len(codes) + 1)]
    task = row.pop("task", name)
    held = {
        "name": name,
        "description": task,
        "tags": [],
        "task_pattern": task,
        "input_schema": {path: describe(folder / library.ASSETS / path) for path in assets or {}},
        "output_schema": dict(made or {}),
        "preconditions": {},
        "postconditions": {"files": sorted(made or {})},
        "dag_template": {"nodes": nodes, "edges": []},
        "agent_sequence": ["engineer"] * len(codes),
        "source_step_range": [node["id"] for node in nodes],
        "notebook_hash": notebook_hash(text),
        "parameters": [item.as_dict() for item in values],
        "status": "active",
        "trusted": True,
        "visibility": "private",
        "verification": {"verified": True, "summary": "made by hand"},
        **row,
    }
    try:
        skill = holding.add(home.db, home.writer, home.path, folder, held)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return holding.find(home.db, home.writer, home.path, skill.id)


def executed(home: Home, skill: Skill, **row: Any) -> str:
    """Insert an execution's row."""
    now = time.time()
    held = {
        "id": new_id(),
        "skill_id": skill.id,
        "status": "completed",
        "started_at": now,
        "ended_at": now,
        "duration_s": 1.0,
        "cost_usd": 0.0,
        "parameters": {},
        "adapted": False,
        "mode": "direct",
        "meta": {},
        **row,
    }
    held.setdefault("success", held["status"] == "completed")
    home.writer.insert("skill_executions", held)
    return str(held["id"])


def again(home: Home, execution_id: str, times: int) -> None:
    """Let an execution that was really made have happened more often, so that there is enough to learn from."""
    home.writer.barrier().result()
    from cmbagent_nb.store.lookup import parsed

    row = parsed(home.db.rows("SELECT * FROM skill_executions WHERE id = :id", id=execution_id)[0])
    for number in range(times):
        moment = row["started_at"] + (number + 1) * 1e-3
        home.writer.insert("skill_executions", {**row, "id": new_id(), "started_at": moment, "ended_at": moment + 1e-3})
    home.writer.barrier().result()
