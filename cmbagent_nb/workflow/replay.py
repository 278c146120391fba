"""A recorded run gone through again, without a model: from its tape and its recorded decisions.

The code is really run again; what it makes, and each status, is compared with the record.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmbagent_nb.errors import StateError
from cmbagent_nb.ids import new_id
from cmbagent_nb.llm.spec import ModelSpec
from cmbagent_nb.store.archive import unarchive_run
from cmbagent_nb.store.archived import archived
from cmbagent_nb.workflow.folders import reserve
from cmbagent_nb.workflow.gates import ANYTHING
from cmbagent_nb.workflow.history import rows_of_database, state_of
from cmbagent_nb.workflow.launch import Request, asked_for, options_from, start
from cmbagent_nb.workflow.process_state import LiveRun, WorkspaceHandle
from cmbagent_nb.workflow.restore import Past, read_past

if TYPE_CHECKING:
    from cmbagent_nb.agents.registry import Registry
    from cmbagent_nb.settings import Settings

#: What is compared, in the order in which a run comes to it. Decisions are taken from the recorded run.
COMPARED = ("plan", "nodes", "edges", "attempts", "files", "status", "result")


@dataclass(frozen=True)
class Replay:
    """Outcome of replaying a run."""

    run_id: str
    original_id: str
    differences: Sequence[str] = ()

    @property
    def same(self) -> bool:
        """Tell whether the replayed run is as the recorded one."""
        return not self.differences

    @property
    def first(self) -> str | None:
        """The first difference, in the order of the run; ``None`` where there is none."""
        return self.differences[0] if self.differences else None

    def __repr__(self) -> str:
        return "Replay(the same)" if self.same else f"Replay({len(self.differences)} differences; first: {self.first})"


def start_replay(host: WorkspaceHandle, run_id: str, settings: Settings, registry: Registry) -> tuple[LiveRun, str]:
    """Start a new run that goes through a recorded one again; returns it and its id."""
    if archived(host.db, run_id) is not None:
        unarchive_run(host.db, host.writer, run_id)
    row = host.db.rows("SELECT * FROM workflow_runs WHERE id = :id", id=run_id)[0]
    original = Path(row["work_dir"])
    asked = asked_for(row)
    if asked.get("conduct"):
        raise StateError(
            f"run {row['name']} is one of a skill, and its code was not asked for",
            "Run the skill again with the same parameters: ws.run_skill(…).",
            run_id=run_id,
        )
    folder = reserve(host.home / "runs", f"{row['name']}-replay")
    if (original / "input").is_dir():
        shutil.copytree(original / "input", folder / "input")
    request = Request(
        run_id=new_id(),
        session_id=row["session_id"],
        name=folder.name,
        task=row["task_description"],
        work_dir=folder,
        options=options_from(asked),
        inputs=asked["inputs"],
        model=ModelSpec.parse(row["model"]),
        settings=settings,
        registry=registry.changed(asked.get("models", {}), asked.get("instructions", {})),
        # A gate that nobody was asked at is a difference: it is not waited for.
        gates="reject",
        replay_of=run_id,
        models=asked.get("models", {}),
        instructions=asked.get("instructions", {}),
    )
    past = read_past(host.db, run_id, original)
    # Whoever resumed a failed run gave its steps more attempts; where a gate asks, the answer does.
    granted = {} if "error" in request.options.approve else {name: step.begun for name, step in past.steps.items()}
    # What a step printed may differ, and what was decided after it stands. Code and plans have to be the same.
    answers = {
        place: replace(answer, hash=ANYTHING) if place[1].startswith(("after:", "error:")) else answer
        for place, answer in past.answers.items()
    }
    return start(host, request, Past(answers=answers, granted=granted)), request.run_id


def compare(host: WorkspaceHandle, original_id: str, run_id: str) -> Replay:
    """Compare a replayed run, once it has ended, with the recorded one."""
    recorded, replayed = (state_of(rows_of_database(host.db, item)) for item in (original_id, run_id))
    differences = []
    for name in COMPARED:
        before, now = getattr(recorded, name), getattr(replayed, name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            for key in sorted({*before, *now}, key=str):
                if before.get(key) != now.get(key):
                    differences.append(f"{name} {key}: recorded {before.get(key)!r}, now {now.get(key)!r}")
        else:
            differences.append(f"{name}: recorded {before!r}, now {now!r}")
    if differences and replayed.error:
        differences.insert(0, replayed.error)
    return Replay(run_id, original_id, tuple(differences))
