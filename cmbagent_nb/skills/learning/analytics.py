"""Makes frames of the executions of the whole library, for tables and charts.

What counts as an execution, a success and a time is as in :mod:`performance`. Days are days of UTC.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import UsageError
from cmbagent_nb.skills.learning.performance import FIGURES, ended, figures

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

#: Measures by which skills can be ranked: column, and whether much is good.
METRICS = {
    "usage": ("executions", False),
    "success_rate": ("success_rate", False),
    "speed": ("median_s", True),
    "cost": ("cost_usd", False),
    "adaptations": ("adapted", False),
    "saved": ("saved_s", False),
}


@dataclass(frozen=True)
class SkillAnalytics:
    """The library's executions, looked at together."""

    db: Database
    writer: Writer
    home: Path

    def top(self, metric: str = "usage", limit: int = 10) -> pd.DataFrame:
        """Return the skills with most usage, success, speed, cost, adaptations or time saved, all versions together."""
        if metric not in METRICS:
            raise UsageError(f"{metric!r} is no measure of skills", f"Take one of {', '.join(METRICS)}.")
        column, ascending = METRICS[metric]
        table = self.cost() if metric == "saved" else self._by_name()
        known = table[table[column].notna()]
        ordered = known.sort_values([column, "name"], ascending=[ascending, True], kind="stable")
        return ordered.head(limit).reset_index(drop=True)

    def usage(self, days: int = 30, until: date | None = None) -> pd.DataFrame:
        """Return a row for each of the last days, also those without any execution."""
        import pandas as pd

        last = until or datetime.now(UTC).date()
        dates = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
        own: dict[date, list[dict[str, Any]]] = {day: [] for day in dates}
        for row in self._rows():
            day = datetime.fromtimestamp(row["started_at"], UTC).date()
            if day in own:
                own[day].append(row)
        table = []
        for day in dates:
            found = figures(own[day])
            table.append(
                {
                    "day": pd.Timestamp(day),
                    "executions": found["executions"],
                    "successes": found["successes"],
                    "failures": found["failures"],
                    "adapted": found["adapted"],
                    "cost_usd": found["cost_usd"] or 0.0,
                    "skills": len({row["name"] for row in ended(own[day])}),
                }
            )
        columns = ["day", "executions", "successes", "failures", "adapted", "cost_usd", "skills"]
        return pd.DataFrame(table, columns=columns)

    def cost(self) -> pd.DataFrame:
        """Return what each skill has cost, and what it saved against its source run once for each success."""
        frame = self._by_name()
        sources = {row["name"]: row for row in self._sources()}
        for column in ("source_cost_usd", "source_duration_s"):
            frame[column] = [sources.get(name, {}).get(column) for name in frame["name"]]
            frame[column] = frame[column].astype(float)
        frame["saved_usd"] = frame["source_cost_usd"] * frame["successes"] - frame["cost_usd"].astype(float)
        frame["saved_s"] = (frame["source_duration_s"] - frame["mean_s"].astype(float)) * frame["successes"]
        columns = ["name", "executions", "successes", "cost_usd", "mean_cost_usd", "source_cost_usd", "saved_usd"]
        return frame[[*columns, "mean_s", "source_duration_s", "saved_s"]]

    def adaptations(self, by: str = "kind") -> pd.DataFrame:
        """Return how often each skill was adapted, by ``kind`` or by ``node``: skills down, kinds or nodes across."""
        import pandas as pd

        if by not in ("kind", "node"):
            raise UsageError(f"adaptations cannot be by {by!r}", "Take kind or node.")
        key = "kind" if by == "kind" else "node_id"
        counts: dict[str, dict[str, int]] = {}
        for row in ended(self._rows()):
            for item in row["adaptations"] or []:
                own = counts.setdefault(row["name"], {})
                own[str(item.get(key) or "")] = own.get(str(item.get(key) or ""), 0) + 1
        kinds = ["parameter", "code", "agent", "graph"] if by == "kind" else []
        across = [*kinds, *sorted({name for own in counts.values() for name in own} - set(kinds))]
        table = [[own.get(name, 0) for name in across] for _, own in sorted(counts.items())]
        return pd.DataFrame(
            table, index=pd.Index(sorted(counts), name="skill"), columns=pd.Index(across, name=by), dtype=int
        )

    def consolidation(self, min_similarity: float = 0.6) -> pd.DataFrame:
        """Return pairs of skills with the same code but for names and values, the most alike first."""
        import pandas as pd

        from cmbagent_nb.skills.learning.suggest import code_hash
        from cmbagent_nb.skills.library import list_skills
        from cmbagent_nb.skills.notebook import NO_STEPS, read_notebook

        newest: dict[str, Any] = {}
        for skill in list_skills(self.db, self.writer, self.home, status="active"):
            newest.setdefault(skill.name, skill)
        prints = {}
        for name, skill in sorted(newest.items()):
            try:
                cells = read_notebook(skill.notebook.read_text(encoding="utf-8")).cells
            except (OSError, ValueError):
                continue  # its notebook is gone: nothing to compare
            steps = [c for c in cells if c.cell_type == "code" and not NO_STEPS & set(c.metadata.get("tags", []))]
            prints[name] = code_hash("\n".join(c.source for c in steps)), frozenset(_outputs(skill.output_schema))
        used = {row["name"]: row["executions"] for row in self._by_name().to_dict("records")}
        table: list[tuple[Any, ...]] = []
        for first, second in combinations(prints, 2):
            (code, made), (other, others) = prints[first], prints[second]
            same, shared = float(bool(code) and code == other), len(made & others) / max(1, len(made | others))
            score = 0.7 * same + 0.3 * shared
            if score >= min_similarity:
                table.append((first, second, score, same, shared, used.get(first, 0), used.get(second, 0)))
        columns = ["skill", "other", "similarity", "code", "outputs", "executions", "executions_other"]
        frame = pd.DataFrame(table, columns=columns)
        return frame.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)

    def as_dict(self, days: int = 30, limit: int = 10) -> dict[str, Any]:
        """Return all of it as JSON shows it."""
        heat = self.adaptations()
        frames = {
            "top": self.top(limit=limit),
            "usage": self.usage(days),
            "cost": self.cost(),
            "consolidation": self.consolidation(),
        }
        found = {name: json.loads(frame.to_json(orient="records", date_format="iso")) for name, frame in frames.items()}
        found["adaptations"] = {
            "skills": list(heat.index),
            "kinds": list(heat.columns),
            "counts": heat.to_numpy().tolist(),
        }
        return found

    def __str__(self) -> str:
        top = self.top()
        if top.empty:
            return "no skill has been run yet"
        lines = [
            f"{row['name']}: {row['executions']} executions, {row['success_rate']:.0%} succeeded"
            for row in top.to_dict("records")
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.top().to_html(escape=True, index=False, na_rep="")
        return f'<div class="cmbagent-analytics"><b>{html.escape("Skills by usage")}</b>{table}</div>'

    def _rows(self) -> list[dict[str, Any]]:
        from cmbagent_nb.store.lookup import parsed

        found = self.db.rows(
            "SELECT e.skill_id, e.status, e.adapted, e.adaptations, e.duration_s, e.cost_usd, e.started_at, e.mode,"
            " s.name FROM skill_executions AS e JOIN skills AS s ON s.id = e.skill_id ORDER BY e.started_at, e.id"
        )
        return [parsed(row) for row in found if row["mode"] != "verification"]

    def _by_name(self) -> pd.DataFrame:
        import pandas as pd

        own: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows():
            own.setdefault(row["name"], []).append(row)
        table = [
            {"name": name, **figures(rows), "last_used_at": max(row["started_at"] for row in rows)}
            for name, rows in sorted(own.items())
        ]
        frame = pd.DataFrame(table, columns=["name", *FIGURES, "last_used_at"])
        frame["last_used_at"] = pd.to_datetime(frame["last_used_at"].astype(float), unit="s", utc=True)
        return frame

    def _sources(self) -> list[dict[str, Any]]:
        """Return what the runs took that the newest version of each name with a run came from."""
        return self.db.rows(
            "SELECT s.name, r.ended_at - r.started_at AS source_duration_s,"
            " (SELECT SUM(c.cost_usd) FROM cost_records AS c WHERE c.run_id = r.id) AS source_cost_usd"
            " FROM skills AS s JOIN workflow_runs AS r ON r.id = s.source_run_id ORDER BY s.name, s.version"
        )


def _outputs(schema: dict[str, Any]) -> list[str]:
    """Return what a skill makes, as one compares it: kind and columns or keys, whatever the file is called."""
    found = []
    for path, item in schema.items():
        inside = sorted(item.get("columns") or item.get("arrays") or item.get("keys") or ())
        found.append(f"{path.rpartition('.')[2]}:{item.get('kind')}:{','.join(map(str, inside))}")
    return found
