"""What a workspace offers of learning and composing: a base of :class:`~cmbagent_nb.workspace.Workspace`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.skills.composing.composable import Proposal
    from cmbagent_nb.skills.learning.analytics import SkillAnalytics
    from cmbagent_nb.skills.learning.suggest import Suggestion
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.skills.matching.finder import Place


class Workshop:
    """The methods of a workspace that look over all skills, and make new ones of them."""

    def compose(
        self: Place,
        name: str | None,
        skills: Iterable[str | Skill],
        pattern: str = "sequential",
        *,
        when: str | None = None,
        connect: Mapping[str, str] | None = None,
        share: Iterable[str] = (),
        **options: Any,
    ) -> Skill:
        """Make one skill of several and verify it; all that does not fit is told before anything is made.

        Parameters
        ----------
        pattern
            ``sequential`` (outputs to inputs, by name and content), ``parallel``, or ``conditional``: the second
            skill where ``when`` holds for what the first makes, a third one otherwise.
        when
            Such as ``chi2 < 1.5`` or ``"data/fit.csv" in outputs``.
        connect
            Which input is which output, where that is not clear: ``{"second.table_file": "first:data/a.csv"}``.
        share
            Parameters of one name that are one parameter; else each is written with its skill's name.
        options
            ``version_of`` (the skill of which it is the next version), ``description``, ``tags``, ``on_progress``,
            ``timeout_s``.

        Raises
        ------
        SkillError
            They do not fit together; ``problems`` has each reason.
        """
        from cmbagent_nb.skills.composing.compose import compose

        self.open_library()
        found = [self.skill(item) if isinstance(item, str) else item for item in skills]
        return compose(name, found, pattern, when=when, connect=connect, share=share, **options)

    def find_composable(self: Place, task: str, *, k: int = 3, min_similarity: float | None = None) -> list[Proposal]:
        """Return skills that together may do a task of several parts, with the call that composes them."""
        from cmbagent_nb.skills.composing.composable import find_composable
        from cmbagent_nb.skills.matching.match import match

        self.open_library()
        settings = self.settings
        least = settings.skill_min_similarity if min_similarity is None else min_similarity

        def one(part: str) -> Any:
            found = match(
                self.db, self.writer, self.home, part, k=k, min_similarity=least, embeddings=settings.embeddings
            )
            return found.fitting

        return find_composable(task, one, k=k)

    def suggest_skills(self: Place, *, min_runs: int = 3) -> list[Suggestion]:
        """Return sequences of steps that succeeded in several runs and are no skill yet, each with its call."""
        from cmbagent_nb.skills.learning.suggest import suggest

        self.writer.caught_up()
        return suggest(self.db, min_runs=min_runs)

    def skill_analytics(self: Place) -> SkillAnalytics:
        """Return the figures of all skills: ``top``, ``usage``, ``cost``, ``adaptations``, ``consolidation``."""
        from cmbagent_nb.skills.learning.analytics import SkillAnalytics

        self.writer.caught_up()
        return SkillAnalytics(self.db, self.writer, self.home)

    def skills(self: Place) -> pd.DataFrame:
        """Return the skills of the workspace."""
        from cmbagent_nb.skills.rows import interrupt_executions
        from cmbagent_nb.store import frames

        self.open_library()
        interrupt_executions(self.db, self.writer)
        return frames.skills(self.db)

    def skill_executions(self: Place) -> pd.DataFrame:
        """Return the executions of all skills, oldest first."""
        from cmbagent_nb.skills.running.executions import executions

        return executions(self.db, self.writer)

    def skill(self: Place, reference: str) -> Skill:
        """Return a skill by its name or id; the newest version of a name."""
        from cmbagent_nb.skills.library import find

        self.open_library()
        return find(self.db, self.writer, self.home, reference)
