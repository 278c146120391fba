"""What a skill offers of learning: its figures, recommendations, the next version, comparisons, versions.

A base of :class:`~cmbagent_nb.skills.library.Skill`, so that the library stays about where skills are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.learning.ab import Comparison
    from cmbagent_nb.skills.learning.diff import NotebookDiff
    from cmbagent_nb.skills.learning.optimize import Optimization
    from cmbagent_nb.skills.learning.recommend import Recommendation
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.skills.running.engine import OnProgress


class Learned:
    """The methods of a skill that look back at its executions and versions."""

    def executions(self: Skill) -> pd.DataFrame:  # type: ignore[misc] # a base of Skill only
        """Return the executions of all versions of this skill's name, oldest first."""
        from cmbagent_nb.skills.running.executions import executions

        return executions(self.db, self.writer, self.name)

    def compare_runs(self: Skill, *executions: str) -> pd.DataFrame:  # type: ignore[misc]
        """Put executions beside each other, by their ids; the newest ten if none is named."""
        from cmbagent_nb.skills.running.executions import compare

        return compare(self.db, self.writer, self.name, executions)

    def performance(self: Skill, by: str = "version") -> pd.DataFrame:  # type: ignore[misc]
        """Return success, time, cost and adaptations of each version.

        By ``parameters``, ``cells`` or ``errors`` it is about this version.
        """
        from cmbagent_nb.skills.learning.performance import performance

        return performance(self, by)

    def recommendations(self: Skill) -> list[Recommendation]:  # type: ignore[misc]
        """Return what this version's executions suggest, each with its evidence; nothing is changed."""
        from cmbagent_nb.skills.learning.recommend import recommendations

        return recommendations(self)

    def optimize(  # type: ignore[misc]
        self: Skill, apply: bool = False, reason: str = "", *, sample: int = 5, on_progress: OnProgress | None = None
    ) -> Optimization:
        """Propose a better version from ten or more executions; with ``apply``, make it and verify it against them.

        The new version becomes active only if it reproduces what this one made.
        """
        from cmbagent_nb.skills.learning.optimize import optimize

        return optimize(self, apply=apply, reason=reason, sample=sample, on_progress=on_progress)

    def compare(self: Skill, other: int | str, *, last: int = 10, on_progress: OnProgress | None = None) -> Comparison:  # type: ignore[misc]
        """Run this version and another with the inputs of the last executions, and return how both did."""
        from cmbagent_nb.skills.learning.ab import compare
        from cmbagent_nb.skills.versions import version_of

        return compare(self, version_of(self, other), last=last, on_progress=on_progress)

    def versions(self: Skill) -> pd.DataFrame:  # type: ignore[misc]
        """Return the versions of this skill's name, oldest first."""
        from cmbagent_nb.skills.versions import versions

        return versions(self)

    def rollback(self: Skill, version: int | str, reason: str = "") -> Skill:  # type: ignore[misc]
        """Let the name mean an older version again; newer ones are deprecated with the reason."""
        from cmbagent_nb.skills.versions import rollback

        return rollback(self, version, reason)

    def diff(self: Skill, other: int | str) -> NotebookDiff:  # type: ignore[misc]
        """Return how another version's notebook and parameters differ from this one's."""
        from cmbagent_nb.skills.learning.diff import diff
        from cmbagent_nb.skills.versions import version_of

        return diff(self, version_of(self, other))
