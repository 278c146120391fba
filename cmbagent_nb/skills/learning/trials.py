"""Trials: two versions of a skill share its executions until one has shown that it is better.

* **Which version gets an execution?** ``sha256(trial, execution id)``, read as a number below 1: B if it is below
  B's share. The key, the number and the share at that time are kept with the execution, so that anyone can check it.
* **How large is B's share?** A tenth at first. It doubles with every five successes of B up to ``share``, goes
  beyond as the evidence for B grows, and falls back to a tenth when the evidence turns against it.
* **When does it stop?** When the evidence by success or by time reaches ``2/α``
  (:class:`~cmbagent_nb.skills.learning.statistics.Evidence`): α is halved between the two tests, and none of it is
  spent on looking, since that evidence is valid at every look. Or after ``max_executions`` without a finding.
* **What then?** The better version answers to the name: where the worse is newer, it is deprecated with the reason.

An execution that agents had to adapt counts as no success of its version.
"""

from __future__ import annotations

import hashlib
import html
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.ids import new_id
from cmbagent_nb.skills.learning.statistics import Evidence, fisher_exact, mann_whitney, quantile

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

ALPHA = 0.05
MOST = 200
#: The share of B that a trial begins with, and how many successes of B double it.
FIRST_SHARE, DOUBLED_BY = 0.1, 5
#: Evidence (as a factor) for B at which its share goes beyond what was asked for.
_BEYOND = ((20.0, 0.9), (5.0, 0.75))
#: Evidence against B at which its share falls back.
_DOUBT = 4.0


@dataclass(frozen=True)
class Observation:
    """One finished execution of a trial."""

    arm: str
    share: float
    success: bool
    duration_s: float | None


@dataclass
class Trial:
    """A comparison of two versions while it runs, and its outcome."""

    id: str
    name: str
    status: str  #: running, decided, stopped
    versions: dict[str, int]
    skill_ids: dict[str, str]
    arguments: dict[str, Any]
    share: float
    result: dict[str, Any] = field(default_factory=dict)
    db: Database = field(repr=False, kw_only=True)
    writer: Writer = field(repr=False, kw_only=True)

    def refresh(self) -> Trial:
        """Take in what has run since, decide if the evidence suffices, and return the trial as it stands."""
        found = update(self.db, self.writer, self.id)
        self.__dict__.update(found.__dict__)
        return self

    def stop(self, reason: str = "") -> Trial:
        """End the trial without a decision; the name means its newest active version again."""
        self.refresh()
        if self.status == "running":
            _close(self.db, self.writer, self, "stopped", {**self.result, "reason": reason or "it was stopped"}, None)
        return self.refresh()

    def as_dict(self) -> dict[str, Any]:
        """Return the trial as JSON shows it."""
        return {
            "trial_id": self.id,
            "name": self.name,
            "status": self.status,
            "versions": self.versions,
            "share": self.share,
            "arguments": self.arguments,
            "result": self.result,
        }

    def __str__(self) -> str:
        arms = self.result.get("arms", {})
        said = "; ".join(
            f"v{self.versions[arm]}: {own['successes']} of {own['executions']} succeeded"
            + (f", median {own['median_s']:.3g} s" if own["median_s"] is not None else "")
            for arm, own in arms.items()
        )
        end = self.result.get("reason") or f"v{self.versions['B']} gets {self.share:.0%}"
        which = f"{self.name} v{self.versions['A']} against v{self.versions['B']}"
        return f"{which} ({self.status}): {said or 'no executions yet'}; {end}"

    def _repr_html_(self) -> str:
        return f'<div class="cmbagent-trial">{html.escape(str(self))}</div>'


def start(
    skill: Skill,
    other: Skill,
    *,
    share: float = 0.5,
    gradual: bool = True,
    alpha: float = ALPHA,
    max_executions: int = MOST,
) -> Trial:
    """Begin a trial of ``skill`` (A) against ``other`` (B): from now on the name's executions are split.

    Raises
    ------
    SkillError
        They are not two versions of one skill that may run, or a trial of this skill runs already.
    """
    for version in (skill, other):
        if version.status == "draft" or not version.trusted:
            raise SkillError(
                f"skill {version.name} v{version.version} is {'a draft' if version.trusted else 'not trusted'}",
                "Compare versions that are verified and trusted.",
                skill=version.name,
            )
    if skill.name != other.name or skill.id == other.id:
        raise SkillError(
            "a trial compares two versions of one skill",
            f"See the versions with %cmbagent skill versions {skill.name}.",
            skill=skill.name,
        )
    if not (0 < share < 1 and 0 < alpha < 1 and max_executions >= 2):
        raise SkillError(
            "the trial's share and alpha lie between 0 and 1, and it takes 2 executions or more", "Give other values."
        )
    trial_id, now = new_id(), time.time()
    arguments = {"share": share, "gradual": gradual, "alpha": alpha, "max_executions": max_executions}
    first = min(FIRST_SHARE, share) if gradual else share
    from cmbagent_nb.skills import rows

    mark = rows.mark(skill.db)

    def store(connection: Any) -> str | None:
        query = f"SELECT id FROM skill_trials WHERE name = {mark} AND status = 'running'"
        running = connection.exec_driver_sql(query, (skill.name,)).fetchone()
        if running is not None:
            return str(running[0])
        row = {
            "id": trial_id, "name": skill.name, "skill_id": skill.id, "other_skill_id": other.id, "share": first,
            "status": "running", "arguments": arguments, "result": {}, "started_at": now,
        }  # fmt: skip
        rows.insert(connection, skill.db, skill.writer, "skill_trials", row)
        return None

    if (running := skill.writer.call(store).result()) is not None:
        raise SkillError(
            f"a trial of {skill.name} is running already ({running[-8:]})", "Stop it first.", trial_id=running
        )
    return update(skill.db, skill.writer, trial_id)


def trials(db: Database, writer: Writer, name: str | None = None) -> list[Trial]:
    """Return the trials, the newest first, each as it stands now."""
    found = db.rows("SELECT id, name, status FROM skill_trials ORDER BY started_at DESC, id DESC")
    return [update(db, writer, row["id"]) for row in found if name in (None, row["name"])]


def frame(db: Database, writer: Writer) -> pd.DataFrame:
    """Return the trials as a frame: a row each, with both versions' figures."""
    import pandas as pd

    columns = [
        "trial_id", "name", "version_a", "version_b", "status", "share", "executions_a", "executions_b",
        "success_rate_a", "success_rate_b", "median_s_a", "median_s_b", "evidence_success", "evidence_time",
        "needed", "winner", "reason",
    ]  # fmt: skip
    table = []
    for trial in trials(db, writer):
        arms, result = trial.result.get("arms", {}), trial.result
        row = {"trial_id": trial.id, "name": trial.name, "status": trial.status, "share": trial.share}
        for arm in "AB":
            own = arms.get(arm, {})
            row |= {
                f"version_{arm.lower()}": trial.versions[arm],
                f"executions_{arm.lower()}": own.get("executions", 0),
                f"success_rate_{arm.lower()}": own.get("success_rate"),
                f"median_s_{arm.lower()}": own.get("median_s"),
            }
        for key in ("evidence_success", "evidence_time", "needed", "winner", "reason"):
            row[key] = result.get(key)
        table.append(row)
    return pd.DataFrame(table, columns=columns)


def choose(skill: Skill, key: str, given: Any = ()) -> Skill:
    """Return the version that an execution with this key runs: the skill itself, unless its name is in a trial.

    A version that was asked for by number or id is never exchanged, nor one that lacks a parameter that is given.
    """
    if not skill.by_name:
        return skill
    running = skill.db.rows("SELECT id FROM skill_trials WHERE name = :name AND status = 'running'", name=skill.name)
    if not running:
        return skill
    trial = update(skill.db, skill.writer, running[0]["id"])
    from cmbagent_nb.skills.library import find

    if trial.status != "running":
        return find(skill.db, skill.writer, skill.home, skill.name)
    number = draw(trial.id, key)
    arm = "B" if number < trial.share else "A"
    note = {"trial_id": trial.id, "arm": arm, "key": key, "share": trial.share, "draw": number}
    versions = {name: find(skill.db, skill.writer, skill.home, trial.skill_ids[name]) for name in "AB"}
    known = [{item.name.casefold() for item in version.parameters} for version in versions.values()]
    names = {str(name).casefold() for name in given}
    if any(not (name in own or f"{name}_file" in own) for own in known for name in names):
        return skill
    return replace(versions[arm], trial=note)


def draw(trial_id: str, key: str) -> float:
    """Return a number in [0, 1) that anyone can compute again from the trial and the execution's key.

    >>> draw("t", "1") == draw("t", "1"), 0 <= draw("t", "2") < 1
    (True, True)
    """
    digest = hashlib.sha256(f"{trial_id}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def update(db: Database, writer: Writer, trial_id: str) -> Trial:
    """Return a trial with the executions so far taken in; one that has its answer is decided."""
    trial = _read(db, writer, trial_id)
    if trial.status != "running":
        return trial
    observations = _observations(db, trial)
    result, outcome, winner = judge(observations, trial.arguments, trial.versions)
    share = next_share(observations, trial.arguments)
    if outcome != "running":
        _close(db, writer, trial, outcome, result, winner)
        return _read(db, writer, trial_id)
    if share != trial.share or result != trial.result:
        writer.update("skill_trials", trial.id, {"share": share, "result": result})
        writer.barrier().result()
    return replace(trial, share=share, result=result)


def judge(
    observations: list[Observation], arguments: dict[str, Any], versions: dict[str, int]
) -> tuple[dict[str, Any], str, str | None]:
    """Return what the executions say: the figures, ``running`` or the outcome, and the better version."""
    evidence = Evidence()
    for item in observations:
        evidence.add(item.arm, item.share, item.success, item.duration_s)
    arms = {arm: _figures([item for item in observations if item.arm == arm]) for arm in "AB"}
    times = {
        arm: [item.duration_s for item in observations if item.arm == arm and item.success and item.duration_s]
        for arm in "AB"
    }
    needed = 2 / arguments["alpha"]
    by_success, by_time = math.exp(min(evidence.success, 700.0)), math.exp(min(evidence.time, 700.0))
    result: dict[str, Any] = {
        "arms": arms,
        "evidence_success": by_success,
        "evidence_time": by_time,
        "needed": needed,
        "rule": f"evidence of {needed:g} by success or by time, half of alpha {arguments['alpha']:g} each; "
        f"at most {arguments['max_executions']} executions",
        "fisher_p": fisher_exact(*evidence.counts["A"], *evidence.counts["B"]),
        "rank_p": mann_whitney(times["A"], times["B"]),
    }
    winner, why = None, ""
    if by_success >= needed:
        winner = evidence.surer
        why = "it succeeds more often"
    elif by_time >= needed and not (evidence.surer != evidence.faster and by_success >= _DOUBT):
        winner = evidence.faster
        why = "it is faster, and nothing says that it fails more often"
    if winner is not None:
        return {**result, "winner": winner, "reason": f"v{versions[winner]} is better: {why}"}, "decided", winner
    if len(observations) >= arguments["max_executions"]:
        reason = f"no difference was found in {len(observations)} executions"
        return {**result, "winner": None, "reason": reason}, "stopped", None
    return result, "running", None


def next_share(observations: list[Observation], arguments: dict[str, Any]) -> float:
    """Return B's share of the next executions."""
    most: float = arguments["share"]
    if not arguments["gradual"]:
        return most
    evidence = Evidence()
    for item in observations:
        evidence.add(item.arm, item.share, item.success, item.duration_s)
    strength, side = math.exp(min(evidence.success, 700.0)), evidence.surer
    if strength >= _DOUBT and side == "A":
        return min(FIRST_SHARE, most)
    if side == "B" and evidence.faster == "B":
        strength = max(strength, math.exp(min(evidence.time, 700.0)))
        for bar, share in _BEYOND:
            if strength >= bar:
                return max(share, most)
    return float(min(most, FIRST_SHARE * 2 ** (evidence.counts["B"][0] // DOUBLED_BY)))


def _figures(observations: list[Observation]) -> dict[str, Any]:
    times = [item.duration_s for item in observations if item.success and item.duration_s is not None]
    successes = sum(item.success for item in observations)
    return {
        "executions": len(observations),
        "successes": successes,
        "success_rate": successes / len(observations) if observations else None,
        "median_s": quantile(times, 0.5),
        "p90_s": quantile(times, 0.9),
    }


def _observations(db: Database, trial: Trial) -> list[Observation]:
    from cmbagent_nb.store.json import from_json

    found = db.rows(
        "SELECT skill_id, status, success, duration_s, adapted, meta FROM skill_executions"
        " WHERE trial_id = :trial AND status IN ('completed', 'failed', 'timeout') ORDER BY ended_at, id",
        trial=trial.id,
    )
    observations = []
    for row in found:
        note = (from_json(row["meta"]) or {}).get("trial") or {}
        if "share" not in note:
            continue
        arm = "B" if row["skill_id"] == trial.skill_ids["B"] else "A"
        success = row["status"] == "completed" and not row["adapted"]
        observations.append(Observation(arm, float(note["share"]), success, row["duration_s"]))
    return observations


def _read(db: Database, writer: Writer, trial_id: str) -> Trial:
    from cmbagent_nb.store.lookup import parsed

    found = db.rows(
        "SELECT t.*, a.version AS version_a, b.version AS version_b FROM skill_trials AS t"
        " JOIN skills AS a ON a.id = t.skill_id JOIN skills AS b ON b.id = t.other_skill_id WHERE t.id = :id",
        id=trial_id,
    )
    row = parsed(found[0])
    return Trial(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        versions={"A": row["version_a"], "B": row["version_b"]},
        skill_ids={"A": row["skill_id"], "B": row["other_skill_id"]},
        arguments=row["arguments"] or {},
        share=row["share"],
        result=row["result"] or {},
        db=db,
        writer=writer,
    )


def _close(db: Database, writer: Writer, trial: Trial, status: str, result: dict[str, Any], winner: str | None) -> None:
    """End a trial; the worse version gives up the name where it is the newer one."""
    from cmbagent_nb.skills import rows
    from cmbagent_nb.skills.versions import deprecate
    from cmbagent_nb.store.json import to_json

    mark = rows.mark(db)

    def store(connection: Any) -> None:
        change = f"status = {mark}, result = {mark}, ended_at = {mark}"
        sql = f"UPDATE skill_trials SET {change} WHERE id = {mark} AND status = 'running'"
        values = (status, writer.scrub(to_json(result)), time.time(), trial.id)
        if connection.exec_driver_sql(sql, values).rowcount != 1 or winner is None:
            return
        loser = "A" if winner == "B" else "B"
        if trial.versions[loser] > trial.versions[winner]:
            deprecate(connection, db, writer, trial.skill_ids[loser], f"a trial: {result['reason']}", trial_id=trial.id)

    writer.call(store).result()
