"""Makes the next version of a skill from what its executions showed, and verified against them. No model is asked.

| invariant | how |
|---|---|
| it computes what the old one computed | past parameter sets are run again and compared, file by file |
| when it reuses results, too | at least one of the runs compared is reused |
| nothing that worked is refused | every past success is held against the new conditions |
| better is measured, not supposed | both run the same past executions; what had failed is tried again |
| only what is verified becomes active | one that differs, or is not better, is a draft with the reason |

A past execution is replayed in the order in which it happened, so that results come again as often as they did.
"""

from __future__ import annotations

import html
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.learning import performance
from cmbagent_nb.skills.learning.performance import ended, quantile
from cmbagent_nb.skills.learning.recommend import MANY, Recommendation, recommendations
from cmbagent_nb.skills.learning.replay import Replays, differences

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.learning.change import Changed
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.running.engine import Executed, OnProgress

#: What the row says of this version alone: why it was made, where it came from, who trusted its files.
_NOT_PASSED_ON = frozenset({"deprecated", "reason", "origin", "trust"})
#: From how much less time, or failures, a version counts as better.
_BETTER = 0.05


@dataclass
class Optimization:
    """Changes that are possible, and, once applied, the new version and its comparison with the old one."""

    skill: SkillRecord
    recommendations: list[Recommendation]
    executions: int
    applied: list[Recommendation] = field(default_factory=list)
    new: SkillRecord | None = None
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def verified(self) -> bool:
        """Whether the new version reproduces what the old one made."""
        return bool(self.report.get("verified"))

    @property
    def time_saved(self) -> float | None:
        """The part of the time that the replayed executions took less."""
        return self.report.get("time_saved")

    @property
    def failures_saved(self) -> float | None:
        """The part of the past failures that do not fail any more, or are told before the start."""
        return self.report.get("failures_saved")

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "skill": self.skill.name,
            "version": self.skill.version,
            "executions": self.executions,
            "recommendations": [item.as_dict() for item in self.recommendations],
            "applied": [item.as_dict() for item in self.applied],
            "new_version": self.new.version if self.new else None,
            "status": self.new.status if self.new else None,
            "report": self.report,
        }

    def __str__(self) -> str:
        head = f"{self.skill.name} v{self.skill.version}, from {self.executions} executions: "
        if self.new is None:
            can = [item.text for item in self.recommendations if item.change]
            return head + ("; ".join(can) if can else "nothing can be made better without a model")
        parts = [f"v{self.new.version} is {self.new.status}: {self.report['summary']}"]
        return head + "; ".join(parts)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(item.text)}</li>" for item in self.applied or self.recommendations)
        return f'<div class="cmbagent-optimization">{html.escape(str(self))}<ul>{items}</ul></div>'


def optimize(
    skill: SkillRecord,
    *,
    apply: bool = False,
    reason: str = "",
    sample: int = 5,
    on_progress: OnProgress | None = None,
) -> Optimization:
    """Tell what can be made better, and with ``apply`` make the next version and verify it.

    Parameters
    ----------
    reason
        Why, kept with the version; what was changed otherwise.
    sample
        How many past executions are run again, with both versions.
    on_progress
        Called as ``on_progress(done, total, label)`` in this thread.

    Raises
    ------
    SkillError
        Fewer than ten executions have ended, the skill is not trusted, or nothing can be changed.
    """
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.sharing.trust import require_trust
    from cmbagent_nb.skills.source_hash import check_notebook

    skill.writer.barrier().result()
    rows = ended(performance.executions(skill.db, skill.id))
    if len(rows) < MANY:
        raise SkillError(
            f"skill {skill.name} v{skill.version} has {len(rows)} executions that ended",
            f"It takes {MANY} to learn from them: run it more often first.",
            skill=skill.name,
        )
    found = Optimization(skill, recommendations(skill), len(rows))
    if not apply:
        return found
    require_trust(skill)
    changes = [item for item in found.recommendations if item.change]
    if not changes:
        raise SkillError(
            f"nothing of skill {skill.name} v{skill.version} can be made better without a model",
            "See what was noticed: ws.skills.recommendations(skill).",
            skill=skill.name,
        )
    notebook = read_notebook(check_notebook(skill))
    bench = Bench(skill, notebook, rows, sample, on_progress)
    try:
        changed, report = _best(skill, notebook, changes, bench)
        found.applied, found.report = changed.applied, report
        found.new = _add(skill, changed, report, reason)
    finally:
        bench.close()
    return found


def _best(
    skill: SkillRecord, notebook: NotebookNode, changes: list[Recommendation], bench: Bench
) -> tuple[Changed, dict[str, Any]]:
    """Make the changes, and without reuse where that does not help; returns the best of them."""
    from cmbagent_nb.skills.learning.change import make

    tried: list[tuple[Changed, dict[str, Any]]] = []
    others = [item for item in changes if "reuse" not in (item.change or {})]
    for wanted in (changes, others):
        changed = make(skill, notebook, wanted)
        if not changed.applied or any(changed.applied == other.applied for other, _ in tried):
            continue
        report = bench.compare(changed)
        report["notes"] += [f"tried before: {earlier['summary']}" for _, earlier in tried]
        tried.append((changed, report))
        if report["verified"] and report["better"]:
            break
    if not tried:
        raise SkillError(
            f"what was noticed of skill {skill.name} v{skill.version} cannot be changed in its notebook",
            "See what was noticed: ws.skills.recommendations(skill).",
            skill=skill.name,
        )
    good = [item for item in tried if item[1]["verified"] and item[1]["better"]]
    return (good or [item for item in tried if item[1]["verified"]] or tried)[-1]


def _add(skill: SkillRecord, changed: Changed, report: dict[str, Any], reason: str) -> SkillRecord:
    """Put the new version into the library: active if it is verified and better, else a draft."""
    from cmbagent_nb.skills import library
    from cmbagent_nb.skills.notebook import notebook_hash, notebook_text
    from cmbagent_nb.skills.versions import artifacts_of

    making = skill.home / "skills" / ".making"
    making.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{skill.name}-", dir=making))
    try:
        shutil.copytree(skill.folder, folder, dirs_exist_ok=True)
        text = notebook_text(changed.notebook)
        (folder / library.NOTEBOOK).write_text(text, encoding="utf-8")
        library.write_verification(folder, report)
        from cmbagent_nb.store.lookup import parsed

        old = parsed(skill.db.rows("SELECT * FROM skills WHERE id = :id", id=skill.id)[0])
        own = {
            "id", "version", "notebook", "created_at", "success_count", "failure_count", "usage_count",
            "avg_execution_time_s", "avg_cost_usd", "last_used_at",
        }  # fmt: skip
        why = reason or "; ".join(item.text for item in changed.applied)
        row = {name: value for name, value in old.items() if name not in own} | {
            "parent_skill_id": skill.id,
            "notebook_hash": notebook_hash(text),
            "parameters": [item.as_dict() for item in changed.parameters],
            "preconditions": changed.preconditions,
            "status": "active" if report["verified"] and report["better"] else "draft",
            "verification": report,
            "meta": {
                **{key: value for key, value in (old["meta"] or {}).items() if key not in _NOT_PASSED_ON},
                "reason": why,
                "optimized_from": {"skill_id": skill.id, "version": skill.version},
                "changes": [item.as_dict() for item in changed.applied],
                **({"reuse": True} if changed.reuse else {}),
            },
            "artifacts": artifacts_of(
                changed.notebook,
                changed.parameters,
                {**skill.input_schema, **skill.output_schema},
                folder / library.ASSETS,
                skill.output_schema,
            ),
        }
        return library.add(skill.db, skill.writer, skill.home, folder, row)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Past:
    """An execution of the past, as it can be run again: every value said, also those that were defaults."""

    id: str
    values: dict[str, Any]
    place: Path
    outputs: list[str]
    #: How the old version ran it again; None before that.
    old: Executed | None = None
    #: Files that the old version does not make again either.
    varying: dict[str, str] = field(default_factory=dict)


class Bench(Replays):
    """Runs past executions again, with the old version and a new one, and compares what they make."""

    def __init__(
        self,
        skill: SkillRecord,
        notebook: NotebookNode,
        rows: list[dict[str, Any]],
        sample: int,
        on_progress: OnProgress | None,
    ) -> None:
        super().__init__(skill, on_progress, 2 * max(2, sample))
        self.notebook, self.sample = notebook, max(2, sample)
        self.good = [row for row in rows if row["status"] == "completed" and not row["adapted"]]
        self.bad = [row for row in rows if row["status"] != "completed"]
        try:
            self.past = self._choose()
        except SkillError:
            self.close()
            raise

    def _choose(self) -> list[_Past]:
        """Return the newest successes whose inputs are still there, in the order in which they happened."""
        usable = self.usable(self.good)
        if not usable:
            raise SkillError(
                f"no success of skill {self.skill.name} can be run again: there is none, or their inputs are gone",
                "Run it with inputs that stay.",
                skill=self.skill.name,
            )
        return [
            _Past(row["id"], values, Path(row["work_dir"] or ""), row["outputs"] or [])
            for row, values in usable[-self.sample :]
        ]

    def _run_old(self, past: _Past) -> Executed:
        """Run a past execution with the old version: what that makes again is what the new one must make."""
        if past.old is not None:
            return past.old
        store = self.folder / "reuse-old" if self.skill.meta.get("reuse") else None
        done = self.run(self.notebook, past.values, f"v{self.skill.version} again", store=store)
        folder, executed = done.folder, done.executed
        if executed.status != "completed":
            raise SkillError(
                f"skill {self.skill.name} v{self.skill.version} does not run any more: {executed.error}",
                "Verify it again before it is made better.",
                skill=self.skill.name,
            )
        there = past.place.is_dir() and all((past.place / name).is_file() for name in past.outputs)
        past.varying, _ = differences(past.outputs, past.place, folder) if there else ({}, [])
        if not there or past.varying:
            past.place = folder
        past.old = executed
        return executed

    def compare(self, changed: Changed) -> dict[str, Any]:
        """Run the sample with a new version, compare, and count what became better; returns the report."""
        from cmbagent_nb.skills.conditions import unmet

        conditions = changed.preconditions.get("parameters")
        report: dict[str, Any] = {
            "verified": False,
            "better": False,
            "reason": "",
            "files": [],
            "notes": [],
            "time_saved": None,
        }
        wrong = [row["id"] for row in self.good if unmet(conditions, changed.parameters, self.values(row))]
        if wrong:
            report["reason"] = f"its conditions would have refused {len(wrong)} executions that succeeded"
            return self._summed(report)
        store = self.folder / f"reuse-{self.count}" if changed.reuse else None
        runs: list[tuple[Executed, Executed]] = []
        reused = 0
        again = [self.past[-1]] if changed.reuse else []  # one that is reused, whatever the sample is
        for number, past in enumerate([*self.past, *again]):
            old = self._run_old(past)
            if changed.reuse and past.varying:
                report["reason"] = f"{next(iter(past.varying))} is another one each time: it is not reused"
                return self._summed(report)
            values = {name: past.values[name] for name in past.values if name in changed.names} | changed.constants
            done = self.run(changed.notebook, values, "the new version", parameters=changed.parameters, store=store)
            folder, executed = done.folder, done.executed
            if executed.status != "completed":
                report["reason"] = f"it fails where v{self.skill.version} succeeded: {executed.error}"
                return self._summed(report)
            different, files = differences(past.outputs, past.place, folder)
            report["files"] += [{**item, "execution_id": past.id, "reused": done.reused} for item in files]
            serious = {name: why for name, why in different.items() if name not in past.varying}
            for name in sorted(different.keys() & past.varying.keys()):
                report["notes"].append(
                    f"{name} is not reproduced by v{self.skill.version} either: {past.varying[name]}"
                )
            if serious:
                name, why = next(iter(serious.items()))
                report["reason"] = f"{name}: {why}" + (" (reused)" if done.reused else "")
                return self._summed(report)
            reused += done.reused
            if number < len(self.past):
                runs.append((old, executed))
        report["verified"] = bool(report["files"]) or not any(past.outputs for past in self.past)
        report["notes"] = sorted(set(report["notes"]))
        if changed.reuse and not reused:
            report["verified"], report["reason"] = False, "its results cannot be reused"
        report |= {
            "replayed": len(self.past),
            "reused": reused,
            **_times(runs),
        }
        report |= self._failures(changed, conditions)
        report["asked_for"] = [item.target for item in changed.applied if item.kind in ("default", "parameter")]
        return self._summed(report)

    def _failures(self, changed: Changed, conditions: Any) -> dict[str, Any]:
        """Replay the parameters of past failures, each once: refused before the start, or run."""
        from cmbagent_nb.skills.conditions import unmet

        outcomes: dict[str, str] = {}
        before: dict[str, int] = {}
        for row in self.bad:
            given = self.given(row)
            key = json.dumps(given, sort_keys=True, default=str)
            before[key] = before.get(key, 0) + 1
            if key in outcomes:
                continue
            if unmet(conditions, changed.parameters, given):
                outcomes[key] = "told before"
            elif len([item for item in outcomes.values() if item != "told before"]) >= self.sample:
                outcomes[key] = "failed"  # not tried: counted against the new version
            else:
                executed = self.run(changed.notebook, given, "what failed", parameters=changed.parameters).executed
                outcomes[key] = "succeeded" if executed.status == "completed" else "failed"
        left = sum(count for key, count in before.items() if outcomes[key] == "failed")
        counted = {
            kind: sum(n for key, n in before.items() if outcomes[key] == kind) for kind in set(outcomes.values())
        }
        return {
            "failures": {"before": len(self.bad), "after": left, "outcomes": counted},
            "failures_saved": 1 - left / len(self.bad) if self.bad else None,
        }

    def _summed(self, report: dict[str, Any]) -> dict[str, Any]:
        saved, fewer = report.get("time_saved"), report.get("failures_saved")
        report["at"] = time.time()
        report["optimized_from"] = {"skill_id": self.skill.id, "version": self.skill.version}
        if not report["verified"]:
            report["reason"] = report["reason"] or "there is nothing to compare"
            report["summary"] = f"not verified: {report['reason']}"
            return report
        equal = sum(item["equal"] for item in report["files"])
        parts = [f"{equal} of {len(report['files'])} files of {report['replayed']} past executions reproduced"]
        if saved is not None:
            parts.append(f"{abs(saved):.0%} {'less' if saved >= 0 else 'more'} time")
        if fewer is not None:
            parts.append(f"{fewer:.0%} fewer failures")
        report["summary"] = ", ".join(parts)
        report["better"] = (saved or 0.0) >= _BETTER or (fewer or 0.0) >= _BETTER or bool(report.get("asked_for"))
        if not report["better"]:
            report["reason"] = "it is not better"
        return report


def _times(runs: list[tuple[Executed, Executed]]) -> dict[str, Any]:
    """Return what both versions took: whole executions with the start of their kernels, and their cells alone."""
    whole = [[pair[side].duration_s for pair in runs] for side in (0, 1)]
    cells = [[round(sum(pair[side].cells.values()), 3) for pair in runs] for side in (0, 1)]

    def saved(old: list[float], new: list[float]) -> float | None:
        return 1 - sum(new) / sum(old) if sum(old) else None

    return {
        "seconds": {
            "old": [round(value, 3) for value in whole[0]],
            "new": [round(value, 3) for value in whole[1]],
            "old_median": quantile(whole[0], 0.5),
            "new_median": quantile(whole[1], 0.5),
        },
        "cell_seconds": {"old": cells[0], "new": cells[1], "saved": saved(*cells)},
        "time_saved": saved(*whole),
    }
