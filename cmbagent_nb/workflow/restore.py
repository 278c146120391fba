"""A run as it stood: rebuilt from the record, so that another process can go on with it.

What is finished is not done again. Inside what was going on, replies come from the tape, decisions from the
gates that were answered, and the end of code from its ``exit.json``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.execution.output_tail import shown
from cmbagent_nb.execution.records import STDERR, STDOUT, records_of
from cmbagent_nb.execution.terminal import last_traceback
from cmbagent_nb.store.json import from_json
from cmbagent_nb.workflow import prompts
from cmbagent_nb.workflow.plan import Plan
from cmbagent_nb.workflow.prompts import Done, Failure

if TYPE_CHECKING:
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.workflow.gates import Answer

#: Why a step was skipped that can still be done when what it needs is done.
BLOCKED = "a step that it needs has failed"

#: Answers by which a person stops a run.
STOPPING = ("rejected", "abort")


@dataclass(frozen=True)
class PastAttempt:
    """An attempt that was begun before: its row, and what is left to kill."""

    id: str
    number: int
    pid: int | None
    process_started_at: float | None


@dataclass(frozen=True)
class PastStep:
    """Progress of a step before its process ended."""

    status: str
    failures: Sequence[Failure] = ()
    #: The attempt that was under way, to be gone on with under its number.
    current: PastAttempt | None = None
    #: Attempts that had been begun.
    begun: int = 0
    exhausted: bool = False
    comments: Sequence[str] = ()
    #: The last attempt after which a person asked for a redo, and the last that was given one more try; 0 for none.
    redone: int = 0
    retried: int = 0


@dataclass(frozen=True)
class Past:
    """Progress of a run before its process ended."""

    plan: Plan | None = None
    statuses: Mapping[str, str] = field(default_factory=dict)
    done: Mapping[str, Done] = field(default_factory=dict)
    steps: Mapping[str, PastStep] = field(default_factory=dict)
    files: Sequence[Mapping[str, Any]] = ()
    answers: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    edges: frozenset[tuple[str, str]] = frozenset()
    first_order: int = 1
    #: Attempts that a step may have at least, whatever the run's options say: a replay goes as far as was gone.
    granted: Mapping[str, int] = field(default_factory=dict)


def read_past(db: Database, run_id: str, work_dir: Path) -> Past:
    """Read how far a run had come."""
    run = db.rows("SELECT plan FROM workflow_runs WHERE id = :id", id=run_id)[0]
    plan = Plan.from_reply(from_json(run["plan"])) if run["plan"] else None
    nodes = db.rows("SELECT node_id, status FROM dag_nodes WHERE run_id = :id", id=run_id)
    statuses = {row["node_id"]: row["status"] for row in nodes}
    steps = db.rows("SELECT * FROM workflow_steps WHERE run_id = :id ORDER BY step_number", id=run_id)
    answers = _answers(db, run_id, {row["node_id"] for row in steps if row["status"] == "failed"})
    last = db.rows("SELECT MAX(execution_order) AS n FROM execution_events WHERE run_id = :id", id=run_id)
    return Past(
        plan=plan,
        statuses=statuses,
        done={row["node_id"]: _done(row) for row in steps if row["status"] == "completed"},
        steps={row["node_id"]: _step(db, run_id, work_dir, row, answers) for row in steps},
        files=db.rows("SELECT * FROM files WHERE run_id = :id ORDER BY version, created_at, id", id=run_id),
        answers=answers,
        edges=frozenset(
            (row["from_node_id"], row["to_node_id"])
            for row in db.rows("SELECT from_node_id, to_node_id FROM dag_edges WHERE run_id = :id", id=run_id)
        ),
        first_order=(last[0]["n"] or 0) + 1,
    )


def _done(row: Mapping[str, Any]) -> Done:
    outputs = from_json(row["outputs"]) if row["outputs"] else {}
    return Done(
        node_id=row["node_id"],
        title=row["title"],
        agent=row["agent"],
        summary=row["summary"] or "",
        files=tuple(outputs.get("files", ())),
        output=outputs.get("stdout", ""),
    )


def _step(
    db: Database, run_id: str, work_dir: Path, row: Mapping[str, Any], answers: Mapping[tuple[str, str], Answer]
) -> PastStep:
    given = _decided(answers, row["node_id"])
    redone = max((number for number, answer in given if answer.resolution == "redo"), default=0)
    retried = max((number for number, answer in given if answer.resolution == "retry"), default=0)
    attempts = db.rows(
        "SELECT * FROM step_attempts WHERE run_id = :id AND node_id = :node ORDER BY attempt, started_at",
        id=run_id,
        node=row["node_id"],
    )
    failed = [item for item in attempts if item["status"] in ("failed", "timeout", "memory", "killed")]
    current = None
    if attempts and attempts[-1] not in failed and row["status"] != "completed" and attempts[-1]["attempt"] > redone:
        last = attempts[-1]
        current = PastAttempt(last["id"], last["attempt"], last["pid"], last["process_started_at"])
    return PastStep(
        status=row["status"],
        failures=tuple(_failure(work_dir, item) for item in failed if item["error_category"] != "model"),
        current=current,
        begun=attempts[-1]["attempt"] if attempts else 0,
        exhausted=row["status"] == "failed",
        comments=_comments(given, failed),
        redone=redone,
        retried=retried,
    )


def _comments(given: Sequence[tuple[int, Answer]], failed: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what a person said about a step: at redos and retries, and about code that was not allowed to run."""
    said = [(number, answer.feedback) for number, answer in given]
    for item in failed:
        meta = from_json(item["meta"]) if item["meta"] else {}
        said.append((item["attempt"], str(meta.get("comment") or "")))
    return tuple(dict.fromkeys(text for _, text in sorted(said, key=lambda pair: pair[0]) if text.strip()))


def _failure(work_dir: Path, attempt: Mapping[str, Any]) -> Failure:
    folder = work_dir / (attempt["folder"] or "")
    meta = from_json(attempt["meta"]) if attempt["meta"] else {}
    record = records_of(folder)
    out, err = shown(record / STDOUT), shown(record / STDERR)
    return Failure(
        attempt=attempt["attempt"],
        error=attempt["error"] or "",
        code=_text(folder / meta["script"]) if meta.get("script") else "",
        output=meta.get("output") or prompts.output(out, err, last_traceback(err)),
        suggestion=meta.get("suggestion", ""),
        comment=meta.get("comment", ""),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _answers(db: Database, run_id: str, stopped: Collection[str]) -> dict[tuple[str, str], Answer]:
    """Return the answers that were given, by node and moment.

    Whoever goes on with a run that somebody stopped at a gate is asked again there: ``stopped`` are the steps that
    ended as failed.
    """
    from cmbagent_nb.workflow.gates import Answer, fingerprint

    answers: dict[tuple[str, str], Answer] = {}
    for row in db.rows(
        "SELECT * FROM approval_requests WHERE run_id = :id AND status = 'resolved' ORDER BY created_at, id", id=run_id
    ):
        context = from_json(row["context"]) if row["context"] else {}
        answer = Answer(
            row["id"],
            row["resolution"],
            row["user_feedback"] or "",
            row["resolved_by"] or "you",
            str(context.get("hash") or fingerprint(context)),
        )
        refused = row["approval_type"] == "tool_call" and answer.resolution == "rejected"
        if row["node_id"] not in stopped or answer.resolution not in STOPPING or refused:
            answers[row["node_id"], str(context.get("moment", ""))] = answer
    return answers


def _decided(answers: Mapping[tuple[str, str], Answer], node_id: str) -> list[tuple[int, Answer]]:
    """Return the decisions to go on with a step, in the order of the attempts after which they were made."""
    found = []
    for (node, moment), answer in answers.items():
        number = moment.rpartition(":")[2]
        if node == node_id and answer.resolution in ("redo", "retry") and number.isdigit():
            found.append((int(number), answer))
    return sorted(found, key=lambda item: item[0])
