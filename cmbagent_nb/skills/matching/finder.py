"""What a workspace offers of finding skills: a base of :class:`~cmbagent_nb.workspace.Workspace`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.skills.matching.match import Match
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


class Place(Protocol):
    """Where skills are looked for: a workspace, as far as it is needed here."""

    home: Path

    @property
    def db(self) -> Database: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def settings(self) -> Settings: ...

    def open_library(self) -> None: ...

    def skill(self, reference: str) -> Skill: ...


class Finder:
    """The methods of a workspace that find skills; none of them starts one."""

    def match(
        self: Place,
        task: str,
        *,
        k: int = 5,
        min_similarity: float | None = None,
        required_tags: Iterable[str] = (),
        exclude_failed: bool = False,
        inputs: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> list[Match]:
        """Return the skills that fit a task, best first, each with its reasons; none where none fits.

        Drafts and skills that are not trusted yet are left out; :meth:`explain_match` shows the latter, too.

        Parameters
        ----------
        k
            How many at most.
        min_similarity
            The score, from 0 to 1, from which a skill counts as fitting; the setting ``skill_min_similarity`` (0.7)
            when not given. It depends on the task and on the skill, not on the other skills of the library.
        required_tags
            Only skills that have all of them.
        exclude_failed
            Leave out skills whose last execution failed.
        inputs
            The data at hand, by name, as for :meth:`start`: skills that cannot take it fall below the limit.
        plan
            A plan of the task: skills with such steps and agents come first.
        """
        from cmbagent_nb.skills.matching.match import match

        self.open_library()
        settings = self.settings
        found = match(
            self.db,
            self.writer,
            self.home,
            task,
            k=k,
            min_similarity=settings.skill_min_similarity if min_similarity is None else min_similarity,
            required_tags=required_tags,
            exclude_failed=exclude_failed,
            inputs=inputs,
            plan=plan,
            embeddings=settings.embeddings,
        )
        return found.fitting

    def explain_match(
        self: Place,
        task: str,
        skill: str | None = None,
        *,
        k: int = 10,
        inputs: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return how a task compares with one skill, or with the likeliest: those below the limit, too.

        The column ``fits`` says which are above it. The frame's ``attrs`` name the limit and what compared the texts.
        """
        import pandas as pd

        from cmbagent_nb.skills.matching.match import match

        self.open_library()
        settings = self.settings
        found = match(
            self.db,
            self.writer,
            self.home,
            task,
            k=k,
            min_similarity=settings.skill_min_similarity,
            inputs=inputs,
            plan=plan,
            only=None if skill is None else self.skill(skill).name,
            embeddings=settings.embeddings,
        )
        columns = [
            "name", "version", "score", "fits", "semantic", "lexical", "tags", "structure", "feedback", "conditions",
            "reason", "skill_id",
        ]  # fmt: skip
        rows = [{**item.as_dict(), "fits": item in found.fitting} for item in found.matches]
        frame = pd.DataFrame(rows, columns=columns)
        frame.attrs = {"min_similarity": found.min_similarity, "model": found.model}
        return frame

    def search_skills(
        self: Place, text: str = "", *, tags: Iterable[str] = (), status: str | None = None
    ) -> pd.DataFrame:
        """Return the skills in which every word of a text is found, best first.

        Names, descriptions, tags, tasks, parameters and code are searched; ``found_in`` says where the words are.
        """
        from cmbagent_nb.skills.matching.search import search

        self.open_library()
        return search(self.db, self.home, text, tags=tags, status=status)
