"""What past use says of a skill: how often it worked, and what was decided when it was offered for such a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmbagent_nb.skills.matching.lexical import stem, words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cmbagent_nb.store.database import Database

#: The share of their words that two tasks have in common when what was decided for one counts for the other.
_ALIKE = 0.6
#: Decisions that are looked at, newest first.
_MOST = 500


@dataclass(frozen=True)
class Feedback:
    """How a skill did: its share of successes (1/2 when unknown), and the last decision for a task like this."""

    succeeded: int = 0
    failed: int = 0
    decided: str = ""

    @property
    def rate(self) -> float:
        """The share of executions that succeeded, drawn towards 1/2 when they are few.

        >>> Feedback(8, 0).rate, Feedback().rate
        (0.9, 0.5)
        """
        return (self.succeeded + 1) / (self.succeeded + self.failed + 2)

    @property
    def weight(self) -> float:
        """What it adds to the logarithm of the odds."""
        told = {"refused": -1.5, "accepted": 0.5}.get(self.decided, 0.0)
        return told + 1.2 * (self.rate - 0.5)

    def text(self) -> str:
        """Return it in words; empty when there is nothing to say."""
        said = []
        runs = self.succeeded + self.failed
        if runs:
            said.append(f"{self.succeeded} of {runs} execution{'s' if runs != 1 else ''} succeeded")
        if self.decided:
            said.append(f"{self.decided} the last time for such a task")
        return "; ".join(said)


def decisions(db: Database, task: str, names: Iterable[str]) -> dict[str, str]:
    """Return what was last decided when skills of these names were offered for a task like this one."""
    wanted = list(names)
    if not wanted:
        return {}
    marks = ", ".join(f":name_{place}" for place in range(len(wanted)))
    rows = db.rows(
        "SELECT s.name AS name, m.status AS status, m.task_description AS task FROM skill_matches m"
        " JOIN skills s ON s.id = m.skill_id"
        f" WHERE s.name IN ({marks}) AND m.status IN ('refused', 'accepted')"
        f" ORDER BY m.created_at DESC LIMIT {_MOST}",
        **{f"name_{place}": name for place, name in enumerate(wanted)},
    )
    found: dict[str, str] = {}
    for row in rows:
        if row["name"] not in found and alike(task, row["task"] or "") >= _ALIKE:
            found[row["name"]] = row["status"]
    return found


def alike(first: str, second: str) -> float:
    """Return the share of their words that two tasks have in common.

    >>> alike("Plot the TT spectra", "plot a TT spectrum"), alike("Fit H0", "Fit H0!")
    (0.5, 1.0)
    """
    a, b = ({stem(word) for word in words(text)} for text in (first, second))
    return len(a & b) / len(a | b) if a | b else float(first == second)
