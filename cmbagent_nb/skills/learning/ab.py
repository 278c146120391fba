"""Compares two versions of a skill: both run the inputs of the last executions, and a table shows how each did."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.learning import performance
from cmbagent_nb.skills.learning.replay import Replays, differences

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.running.engine import OnProgress

COLUMNS = (
    "execution_id", "parameters", "status_a", "status_b", "seconds_a", "seconds_b", "reused_a", "reused_b", "equal",
    "difference",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two versions and, for each replayed execution, how both did."""

    name: str
    version_a: int
    version_b: int
    rows: list[dict[str, Any]]

    def frame(self) -> pd.DataFrame:
        """Return a row for each replayed execution."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def summary(self) -> dict[str, Any]:
        """Return successes and median seconds of both, how many results are equal, and p-values where scipy is."""
        found: dict[str, Any] = {"executions": len(self.rows), "equal": sum(bool(row["equal"]) for row in self.rows)}
        both = [row for row in self.rows if row["status_a"] == row["status_b"] == "completed"]
        for side in "ab":
            good = [row for row in self.rows if row[f"status_{side}"] == "completed"]
            times = [row[f"seconds_{side}"] for row in good]
            found |= {f"successes_{side}": len(good), f"median_s_{side}": performance.quantile(times, 0.5)}
        only_a, only_b = found["successes_a"] - len(both), found["successes_b"] - len(both)
        try:
            from scipy import stats
        except ImportError:  # the extra is not installed: a table without p-values
            return {**found, "p_success": None, "p_time": None}
        by_time = [row["seconds_a"] - row["seconds_b"] for row in both]
        return {
            **found,
            "p_success": float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else None,
            "p_time": float(stats.wilcoxon(by_time).pvalue) if any(by_time) else None,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON shows it."""
        versions = {"a": self.version_a, "b": self.version_b}
        return {"name": self.name, "versions": versions, "summary": self.summary(), "executions": self.rows}

    def __str__(self) -> str:
        found = self.summary()

        def side(letter: str, version: int) -> str:
            median = found[f"median_s_{letter}"]
            text = f"v{version}: {found[f'successes_{letter}']} of {found['executions']} succeeded"
            return text if median is None else f"{text}, median {median:.3g} s"

        p = f", p = {found['p_time']:.2g} for the time" if found["p_time"] is not None else ""
        equal = f"{found['equal']} of {found['executions']} with equal results{p}"
        return f"{self.name}: {side('a', self.version_a)}; {side('b', self.version_b)}; {equal}"

    def _repr_html_(self) -> str:
        table = self.frame().to_html(escape=True, index=False, na_rep="")
        return f'<div class="cmbagent-comparison"><b>{html.escape(str(self))}</b>{table}</div>'


def compare(
    skill: SkillRecord, other: SkillRecord, *, last: int = 10, on_progress: OnProgress | None = None
) -> Comparison:
    """Run both versions with the inputs of the name's last executions, or with the defaults if there are none.

    Raises
    ------
    SkillError
        They are not two trusted versions of one skill.
    """
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.sharing.trust import require_trust
    from cmbagent_nb.skills.source_hash import check_notebook
    from cmbagent_nb.store.lookup import parsed

    if skill.name != other.name or skill.id == other.id:
        raise SkillError(
            "a comparison needs two versions of one skill",
            f"See the versions with %cmbagent skill versions {skill.name}.",
            skill=skill.name,
        )
    for version in (skill, other):
        require_trust(version)
    skill.writer.caught_up()
    rows = skill.db.rows(
        "SELECT e.id, e.status, e.mode, e.parameters, e.outputs, e.work_dir FROM skill_executions AS e"
        " JOIN skills AS s ON s.id = e.skill_id WHERE s.name = :name ORDER BY e.started_at, e.id",
        name=skill.name,
    )
    rows = performance.ended(parsed(row) for row in rows if row["mode"] != "verification")
    sides = [(version, read_notebook(check_notebook(version))) for version in (skill, other)]
    replays = Replays(skill, on_progress)
    try:
        past = [(row["id"], values) for row, values in replays.usable(rows)[-last:]] or [(None, {})]
        replays.total = 2 * len(past)
        table = []
        for execution_id, values in past:
            done = []
            for version, notebook in sides:
                known = {item.name for item in version.parameters}
                done.append(
                    replays.run(
                        notebook,
                        {name: value for name, value in values.items() if name in known},
                        f"v{version.version}",
                        parameters=version.parameters,
                        assets=version.assets,
                        store=replays.folder / version.id if version.meta.get("reuse") else None,
                    )
                )
            table.append(_row(execution_id, values, done, set(skill.output_schema) | set(other.output_schema)))
    finally:
        replays.close()
    return Comparison(skill.name, skill.version, other.version, table)


def _row(execution_id: str | None, values: dict[str, Any], done: list[Any], declared: set[str]) -> dict[str, Any]:
    from cmbagent_nb.skills.running.finished_steps import listing

    first, second = done
    there = {name for item in done for name in listing(item.folder)} | declared
    outputs = sorted(name for name in there if any((item.folder / name).is_file() for item in done))
    completed = first.executed.status == second.executed.status == "completed"
    different, _ = differences(outputs, first.folder, second.folder) if completed else ({}, [])
    why = "; ".join(f"{name}: {detail}" for name, detail in different.items())
    return {
        "execution_id": execution_id,
        "parameters": values,
        "status_a": first.executed.status,
        "status_b": second.executed.status,
        "seconds_a": round(first.executed.duration_s, 3),
        "seconds_b": round(second.executed.duration_s, 3),
        "reused_a": first.reused,
        "reused_b": second.reused,
        "equal": completed and not different,
        "difference": why or first.executed.error or second.executed.error,
    }
