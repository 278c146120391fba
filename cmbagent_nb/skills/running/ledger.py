"""The row of an execution, and the skill's counters: opened before anything runs, closed whatever happens."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills import rows
from cmbagent_nb.skills.library import NOTEBOOK, SkillRecord

if TYPE_CHECKING:
    from cmbagent_nb.store.connection import Connection

_MOST_METRICS = 200
#: Ends that count as failures of the skill; an execution that was cancelled says nothing of it and is not counted.
_FAILED = ("failed", "timeout")


@dataclass(frozen=True)
class Belongs:
    """Origin of an execution: the run and session it is a part of, and its trigger."""

    run_id: str | None = None
    session_id: str | None = None
    mode: str = "direct"
    sweep_id: str | None = None


@dataclass
class Ended:
    """End of an execution."""

    status: str
    duration_s: float = 0.0
    error: str = ""
    outputs: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    cost_usd: float | None = 0.0
    model_calls: int = 0
    cells: Mapping[str, float] = field(default_factory=dict)
    deviations: list[dict[str, Any]] = field(default_factory=list)
    adaptations: list[dict[str, Any]] = field(default_factory=list)
    adaptation_reason: str = ""
    context_diff: Any = None


class Ledger:
    """Writes an execution into the record, and the skill's counters with it."""

    def __init__(
        self,
        skill: SkillRecord,
        execution_id: str,
        folder: Path,
        values: dict[str, Any],
        belongs: Belongs,
        *,
        timeout_s: float | None = None,
        notes: list[str] | None = None,
    ) -> None:
        self.skill, self.id, self.folder, self.values, self.belongs = skill, execution_id, folder, values, belongs
        self.meta: dict[str, Any] = rows.belongs(skill.db, timeout_s)
        if notes:
            self.meta["notes"] = notes
        self.started_at = time.time()
        #: Whether the execution had begun before and was resumed.
        self.resumed = False
        #: Seconds that the execution took before it was gone on with.
        self.seconds_before = 0.0
        #: Whether the skill's counters hold a failure of it, from before it was gone on with.
        self._counted = False

    def open(self) -> None:
        """Insert the row: the execution is running."""
        self.skill.writer.insert(
            "skill_executions",
            {
                "id": self.id,
                "skill_id": self.skill.id,
                "run_id": self.belongs.run_id,
                "session_id": self.belongs.session_id,
                "mode": self.belongs.mode,
                "sweep_id": self.belongs.sweep_id,
                "status": "running",
                "started_at": self.started_at,
                "parameters": self.values,
                "adapted": False,
                "task_description": self.skill.task,
                "work_dir": str(self.folder),
                "notebook": str(self.folder / NOTEBOOK),
                "cost_usd": 0.0,
                "meta": self.meta,
            },
        )

    def reopen(self, row: Mapping[str, Any]) -> None:
        """Take an execution that had stopped: of two that try at once, one is refused.

        Raises
        ------
        SkillError
            It goes on, or it is complete.
        """
        before: dict[str, Any] = row["meta"] or {}
        self.resumed = True
        self.started_at = row["started_at"]
        self.seconds_before = row["duration_s"] or 0.0
        self._counted = row["status"] in _FAILED
        self.meta = {**before, **self.meta, "resumed": [*before.get("resumed", []), time.time()]}
        mark = rows.mark(self.skill.db)

        def take(connection: Connection) -> bool:
            statement = (
                f"UPDATE skill_executions SET status = 'running', ended_at = NULL, error = NULL, meta = {mark}"
                f" WHERE id = {mark} AND status NOT IN ('running', 'completed')"
            )
            from cmbagent_nb.store.json import to_json

            return connection.exec_driver_sql(statement, (to_json(self.meta), self.id)).rowcount == 1

        if not self.skill.writer.call(take).result():
            raise SkillError(
                f"the execution {self.id} goes on or is complete",
                "Look at it with %cmbagent skill executions.",
                execution_id=self.id,
            )

    def note(self, **more: Any) -> None:
        """Keep something with the execution while it runs."""
        self.meta |= more
        self.skill.writer.update("skill_executions", self.id, {"meta": self.meta})

    def interrupted(self) -> None:
        """Say that the process ends before the execution does: it can be gone on with."""
        now = time.time()
        values = {"status": "interrupted", "ended_at": now, "duration_s": round(now - self.started_at, 3)}
        self.skill.writer.update("skill_executions", self.id, values)

    def close(self, ended: Ended) -> None:
        """Write the end, and wait until it is stored."""
        now, success = time.time(), ended.status == "completed"
        writer, skill = self.skill.writer, self.skill
        meta = {**self.meta, "cells": dict(ended.cells), "model_calls": ended.model_calls}
        if ended.deviations:
            meta["deviations"] = ended.deviations
        writer.update(
            "skill_executions",
            self.id,
            {
                "status": ended.status,
                "ended_at": now,
                "duration_s": round(ended.duration_s, 3),
                "cost_usd": ended.cost_usd,
                "success": success,
                "error": ended.error or None,
                "outputs": ended.outputs,
                "metrics": ended.metrics,
                "adapted": bool(ended.adaptations),
                "adaptations": ended.adaptations or None,
                "adaptation_reason": ended.adaptation_reason or None,
                "context_diff": ended.context_diff,
                "meta": meta,
            },
        )
        mark = rows.mark(skill.db)

        def count(connection: Connection) -> None:
            if success:
                average = "(COALESCE({0}, 0) * success_count + {1}) / (success_count + 1)"
                connection.exec_driver_sql(
                    f"UPDATE skills SET avg_execution_time_s = {average.format('avg_execution_time_s', mark)},"
                    f" avg_cost_usd = {average.format('avg_cost_usd', mark)} WHERE id = {mark}",
                    (ended.duration_s, ended.cost_usd or 0.0, skill.id),
                )
            # an execution that is gone on with is one, and counts as it ends last
            failed = int(ended.status in _FAILED) - int(self._counted)
            used = int(success) + failed
            connection.exec_driver_sql(
                f"UPDATE skills SET usage_count = usage_count + {mark}, success_count = success_count + {mark},"
                f" failure_count = failure_count + {mark}, last_used_at = {mark} WHERE id = {mark}",
                (used, int(success), failed, now, skill.id),
            )

        writer.call(count).result()
        if self.belongs.run_id is not None:
            from cmbagent_nb.skills.events import note

            note(
                skill.db,
                writer,
                self.belongs.run_id,
                "complete",
                inputs={"skill_id": skill.id, "name": skill.name, "version": skill.version, "parameters": self.values},
                outputs={"execution_id": self.id, "status": ended.status, "outputs": ended.outputs},
                error=ended.error,
                started_at=self.started_at,
            )


def find_metrics(folder: Path, outputs: list[str]) -> dict[str, float]:
    """Return the single numbers in the JSON files that were made, by name; by file and name where two share one."""
    return {name: number for name, (_, number) in numbers_in(folder, outputs).items()}


def numbers_in(folder: Path, outputs: list[str]) -> dict[str, tuple[str, float]]:
    """Return the numbers of :func:`find_metrics` with the files that they stand in."""
    found: list[tuple[str, str, float]] = []
    for name in outputs:
        path = folder / name
        if path.suffix.lower() != ".json" or path.stat().st_size > 2**20:
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            continue  # a file of the user's that is not JSON in spite of its name
        found += [(name, key, number) for key, number in _numbers(value, "", 0)]
    keys = [key for _, key, _ in found]
    named = {
        (key if keys.count(key) == 1 else f"{PurePosixPath(name).stem}.{key}"): (name, number)
        for name, key, number in found
    }
    return dict(list(named.items())[:_MOST_METRICS])


def _numbers(value: Any, prefix: str, depth: int) -> list[tuple[str, float]]:
    if isinstance(value, bool) or depth > 4:
        return []
    if isinstance(value, (int, float)):
        return [(prefix or "value", value)] if math.isfinite(value) else []
    if isinstance(value, dict):
        return [
            item
            for key, inner in value.items()
            for item in _numbers(inner, f"{prefix}.{key}" if prefix else str(key), depth + 1)
        ]
    return []
