"""Reads a run's record for a skill: the code that succeeded, with the files it read and made.

Everything comes from the tables and the run's folder; the run's process need not be alive, and
no model is asked. A run that did not finish has its finished steps; a branch has those that it
shares with the run that it left, read from that run's record.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import RunNotFound, SkillError, StepsNotFound
from cmbagent_nb.skills.model import StepCode
from cmbagent_nb.store.archived import record_of
from cmbagent_nb.store.json import from_json

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database

#: Kinds of files that a notebook does not make: it is the code, and there are no models to ask.
_NOT_MADE = frozenset({"code", "plan", "chat", "log", "context"})
#: More steps than this in one range are a mistake.
_MOST_STEPS = 1000


@dataclass(frozen=True)
class RunRecord:
    """A run as far as a skill needs it."""

    run: dict[str, Any]
    work_dir: Path
    #: All steps that succeeded with code, in order.
    steps: list[StepCode]
    #: Steps without code, or without success: node id → why there is no cell for it.
    without_code: dict[str, str]
    cost_usd: float | None
    models: list[str]
    #: What each step needs, those without code too.
    depends_on: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def step(self, node_id: str) -> StepCode | None:
        """Return a step by its node id."""
        return next((step for step in self.steps if step.node_id == node_id), None)


def read_record(db: Database, run_id: str, *, seen: frozenset[str] = frozenset()) -> RunRecord:
    """Read what a run's steps ran, read and made; ``seen`` are the branches by which it was come to."""
    whole = db
    found = db.rows("SELECT * FROM workflow_runs WHERE id = :run", run=run_id)
    if not found:
        raise RunNotFound(f"no run matches {run_id!r}", "List the runs with %cmbagent runs.", reference=run_id)
    run = found[0]
    work_dir = Path(run["work_dir"] or "")
    db = record_of(db, run_id)
    rows = db.rows("SELECT * FROM workflow_steps WHERE run_id = :run ORDER BY step_number, id", run=run_id)
    attempts = db.rows("SELECT * FROM step_attempts WHERE run_id = :run ORDER BY attempt, started_at", run=run_id)
    events = db.rows(
        "SELECT id, node_id, attempt, status, inputs, outputs, duration_ms, execution_order FROM execution_events"
        " WHERE run_id = :run AND event_type = 'code_exec' ORDER BY execution_order",
        run=run_id,
    )
    files = db.rows("SELECT * FROM files WHERE run_id = :run ORDER BY version, created_at", run=run_id)
    known = {row["node_id"] for row in rows}
    for attempt in attempts:
        if attempt["node_id"] not in known:
            known.add(attempt["node_id"])
            rows.append({"node_id": attempt["node_id"], "title": attempt["node_id"], "status": attempt["status"]})
    parent = run.get("branch_parent_id")
    before = read_record(whole, parent, seen=seen | {run_id}) if parent and parent not in seen else None
    depends_on = {row["node_id"]: tuple(_node_ids(from_json(row.get("depends_on")))) for row in rows}
    steps: list[StepCode] = []
    without: dict[str, str] = {}
    for row in rows:
        own = [item for item in attempts if item["node_id"] == row["node_id"] and item["status"] == "completed"]
        step = _step(row, own, events, files, work_dir)
        if step is None and before is not None and not own and row.get("status") in (None, "completed"):
            step = before.step(row["node_id"])  # a branch shares what its parent had done
        if step is not None:
            step = replace(step, errors=_errors(attempts, row["node_id"], step.attempt))
        if step is None:
            without[row["node_id"]] = "it wrote no code" if own else f"it is {row.get('status') or 'not done'}"
        else:
            steps.append(step)
    if before is not None:
        steps, depends_on = _shared(before, steps, depends_on)
    costs = db.rows("SELECT model, cost_usd FROM cost_records WHERE run_id = :run", run=run_id)
    unknown = any(item["cost_usd"] is None for item in costs)
    return RunRecord(
        run=run,
        work_dir=work_dir,
        steps=steps,
        without_code=without,
        cost_usd=None if unknown else sum(item["cost_usd"] for item in costs),
        models=sorted({item["model"] for item in costs if item["model"]}),
        depends_on=depends_on,
    )


def _shared(
    before: RunRecord, steps: list[StepCode], depends_on: dict[str, tuple[str, ...]]
) -> tuple[list[StepCode], dict[str, tuple[str, ...]]]:
    """Add the steps that a branch's own steps need and that only its parent's record has."""
    known = {step.node_id for step in steps} | set(depends_on)
    todo = [name for names in depends_on.values() for name in names]
    added: list[StepCode] = []
    while todo:
        name = todo.pop()
        step = before.step(name) if name not in known else None
        known.add(name)
        if step is not None:
            added.append(step)
            todo += step.depends_on
    order = {step.node_id: place for place, step in enumerate(before.steps)}
    added.sort(key=lambda step: order[step.node_id])
    return [*added, *steps], {**{step.node_id: step.depends_on for step in added}, **depends_on}


def _errors(attempts: list[dict[str, Any]], node_id: str, last: int) -> tuple[str, ...]:
    """Return what the attempts before the one that succeeded failed with."""
    failed = [item for item in attempts if item["node_id"] == node_id and item["attempt"] < last]
    return tuple(str(item["error_category"] or item["error"] or item["status"])[:200] for item in failed)


def _step(
    row: dict[str, Any],
    attempts: list[dict[str, Any]],
    events: list[dict[str, Any]],
    files: list[dict[str, Any]],
    work_dir: Path,
) -> StepCode | None:
    """Return a step's code: that of its last successful attempt."""
    node_id = row["node_id"]
    ran = [item for item in events if item["node_id"] == node_id and item["status"] == "completed"]
    for attempt in reversed(attempts):
        number = attempt["attempt"]
        event = next((item for item in reversed(ran) if item["attempt"] in (number, None)), None)
        meta = _mapping(attempt["meta"])
        inputs = _mapping(event["inputs"]) if event else {}
        folder = work_dir / (attempt["folder"] or f"steps/{node_id}/attempt_{number}")
        script = str(meta.get("script") or inputs.get("path") or "")
        code = _code(inputs, folder, script, files, node_id, work_dir)
        if not code:
            continue
        outputs = _mapping(event["outputs"]) if event else {}
        return StepCode(
            node_id=node_id,
            title=row.get("title") or node_id,
            instructions=row.get("instructions") or "",
            agent=row.get("agent") or "",
            code=code,
            script=script or f"codebase/{node_id}.py",
            folder=str(folder),
            attempt=number,
            depends_on=tuple(_node_ids(from_json(row.get("depends_on")))),
            reads=tuple(meta.get("reads") or outputs.get("reads") or ()),
            made=_made(files, node_id, number, folder),
            event_id=event["id"] if event else "",
            printed=str(outputs.get("stdout") or ""),
            duration_s=event["duration_ms"] / 1e3 if event and event["duration_ms"] else None,
        )
    return None


def _code(
    inputs: dict[str, Any], folder: Path, script: str, files: list[dict[str, Any]], node_id: str, work_dir: Path
) -> str:
    """Return the code as it ran: the script in the attempt's folder, else as the record has it."""
    candidates = [folder / script] if script else []
    candidates += [
        work_dir / item["file_path"]
        for item in reversed(files)
        if item["node_id"] == node_id and item["file_type"] == "code" and not script
    ]
    for path in candidates:
        if path.is_file() and path.suffix == ".py":
            return path.read_text(encoding="utf-8", errors="replace")
    code = inputs.get("code") or inputs.get("python_code") or ""
    return code if isinstance(code, str) else ""


def _made(files: list[dict[str, Any]], node_id: str, attempt: int, folder: Path) -> dict[str, str]:
    """Return the files that an attempt made: path in its folder → sha256."""
    made: dict[str, str] = {}
    for item in files:
        path = item["file_path"]
        if item["node_id"] != node_id or item["file_type"] in _NOT_MADE or path.startswith("steps/"):
            continue
        number = _mapping(item["meta"]).get("attempt")
        if number not in (None, attempt):
            continue
        # what code writes under a name of the run's own is published below data/
        inner = path.removeprefix("data/")
        path = inner if inner != path and not (folder / path).is_file() and (folder / inner).is_file() else path
        made[path] = item["content_hash"] or ""
    return made


def _mapping(text: Any) -> dict[str, Any]:
    value = from_json(text)
    return value if isinstance(value, dict) else {}


def _node_ids(value: Any) -> list[str]:
    if not isinstance(value, list):
        return []
    return [f"step_{item}" if isinstance(item, int) or str(item).isdigit() else str(item) for item in value]


def choose(record: RunRecord, steps: str | int | Iterable[int | str] | None) -> tuple[list[StepCode], dict[str, str]]:
    """Return the chosen steps in order, and the chosen ones that have no code with the reason.

    Parameters
    ----------
    steps
        ``"1"``, ``"1-2"``, ``"1,3"``, ``"step_1"``, a list of such; None for all.
    """
    if not record.steps:
        raise SkillError(
            f"the run {record.run['name'] or record.run['id']} has no step whose code succeeded",
            "Take a run that did, or wait until a step of this one has finished.",
            run_id=record.run["id"],
        )
    if steps is None:
        return record.steps, record.without_code
    wanted = parse_steps(steps)
    known = {step.node_id for step in record.steps} | set(record.without_code)
    missing = [node_id for node_id in wanted if node_id not in known]
    if missing:
        raise StepsNotFound(
            f"the run has no {', '.join(missing)}",
            f"Its steps are: {', '.join(sorted(known))}.",
            steps=missing,
        )
    chosen = [step for step in record.steps if step.node_id in wanted]
    if not chosen:
        reasons = "; ".join(f"{node_id}: {record.without_code[node_id]}" for node_id in wanted)
        raise SkillError(
            f"there is nothing to make a skill of ({reasons})",
            f"Steps with code: {', '.join(step.node_id for step in record.steps)}.",
            steps=wanted,
        )
    return chosen, {node_id: why for node_id, why in record.without_code.items() if node_id in wanted}


def check_code(steps: Iterable[StepCode]) -> None:
    """Refuse steps whose code is no Python any more: its file was damaged or replaced after the run.

    Raises
    ------
    SkillError
        It names the step and its file.
    """
    for step in steps:
        try:
            ast.parse(step.code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise SkillError(
                f"the code of {step.node_id} cannot be read as Python ({error})",
                f"Put {step.script} back as it was, or leave the step out.",
                steps=[step.node_id],
                path=str(Path(step.folder) / step.script),
            ) from None


def parse_steps(steps: str | int | Iterable[int | str]) -> list[str]:
    """Return the node ids that a choice of steps names.

    >>> parse_steps("1-3"), parse_steps("1, 3"), parse_steps([2, "step_4"])
    (['step_1', 'step_2', 'step_3'], ['step_1', 'step_3'], ['step_2', 'step_4'])
    """
    parts = [str(steps)] if isinstance(steps, (str, int)) else [str(item) for item in steps]
    found: list[str] = []
    for part in ",".join(parts).split(","):
        text = part.strip()
        span = re.fullmatch(r"(?:step_)?(\d+)\s*(?:-|\.\.|–)\s*(?:step_)?(\d+)", text)
        if span:
            first, last = int(span.group(1)), int(span.group(2))
            if last - first >= _MOST_STEPS:
                raise StepsNotFound(f"{text!r} are more steps than a run has", "Give it as in 1-3.", steps=text)
            found += [f"step_{number}" for number in range(first, last + 1)]
        elif re.fullmatch(r"(?:step_)?\d+", text):
            found.append(f"step_{text.removeprefix('step_')}")
        elif text:
            raise StepsNotFound(f"{text!r} is not a choice of steps", "Give it as in 1, 1-2 or 1,3.", steps=text)
    if not found:
        raise StepsNotFound("no step is chosen", "Give it as in 1, 1-2 or 1,3.", steps=steps)
    return list(dict.fromkeys(found))
