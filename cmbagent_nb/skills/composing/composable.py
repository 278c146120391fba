"""Finds skills that could be composed for a task: matches its parts one by one and proposes those that fit together."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.matching.match import Match

_SPLIT = re.compile(
    r"\s*(?:;|\n+|(?<=[a-z\d)])\.\s+(?=[A-Z])|,?\s+(?:and\s+)?then\s+|,\s+and\s+|,?\s+followed by\s+|"
    r",?\s+after which\s+|(?:^|\s)\d+[.)]\s+|"
    r"\s+and\s+(?=(?:plot|fit|compare|compute|calculate|find|make|draw|write|save|test|estimate|measure)\b))\s*",
    re.IGNORECASE,
)
_SHORTEST = 8
_MOST_PARTS = 6


@dataclass(frozen=True)
class Proposal:
    """Skills that together may do a task: how they go together, and the call that makes the composition."""

    skills: list[SkillRecord]
    pattern: str
    score: float
    parts: list[str]
    links: list[dict[str, str]]
    reason: str
    call: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "skills": [{"name": skill.name, "version": skill.version} for skill in self.skills],
            "pattern": self.pattern,
            "score": self.score,
            "parts": self.parts,
            "links": self.links,
            "reason": self.reason,
            "call": self.call,
        }

    def __str__(self) -> str:
        return f"{' + '.join(skill.name for skill in self.skills)} ({self.pattern}): {self.reason}; {self.call}"

    def _repr_html_(self) -> str:
        return f'<div class="cmbagent-proposal">{html.escape(str(self))}</div>'


def parts_of(task: str) -> list[str]:
    """Return the parts of a task that are done one after the other.

    >>> parts_of("Compute the TT spectrum and then fit its first peak; plot the residuals")
    ['Compute the TT spectrum', 'fit its first peak', 'plot the residuals']
    """
    found = [part.strip(" .,\n") for part in _SPLIT.split(task)]
    return [part for part in found if len(part) >= _SHORTEST][:_MOST_PARTS]


def find_composable(task: str, match: Callable[[str], Sequence[Match]], *, k: int = 3) -> list[Proposal]:
    """Return compositions that may do a task, the best first; none where its parts do not have a skill each.

    Parameters
    ----------
    match
        How a part finds its skills, best first: :meth:`Workspace.match` with its limit.
    """
    parts = parts_of(task)
    if len(parts) < 2:
        return []
    found = [list(match(part)) for part in parts]
    if not all(found):
        return []
    proposals: dict[tuple[str, ...], Proposal] = {}
    for choice in _choices(found, k * 4):
        skills = [item.skill for item in choice]
        key = tuple(skill.id for skill in skills)
        if len(set(key)) < 2 or key in proposals:
            continue
        score = min(item.score for item in choice)
        proposal = _proposal(skills, parts, score)
        if proposal is not None:
            proposals[key] = proposal
    # skills whose files fit together belong together more than ones that merely match
    ordered = sorted(proposals.values(), key=lambda item: (-(item.score + 0.05 * len(item.links)), str(item)))
    return ordered[:k]


def _choices(found: list[list[Match]], most: int) -> list[list[Match]]:
    """Return choices of one skill for each part, those of the best skills first."""
    choices: list[list[Match]] = [[]]
    for matches in found:
        choices = [[*choice, item] for choice in choices for item in matches]
        choices.sort(key=lambda choice: -sum(item.score for item in choice))
        choices = choices[:most]
    return choices


def _proposal(skills: list[SkillRecord], parts: list[str], score: float) -> Proposal | None:
    from cmbagent_nb.skills.composing.compose import plan

    distinct = list({skill.id: skill for skill in skills}.values())
    why = ""
    names = ", ".join(repr(skill.name) for skill in distinct)
    for pattern in ("sequential", "parallel"):
        try:
            planned = plan("composed", distinct, pattern)
        except SkillError as error:
            why = error.what
            continue
        links = [link.as_dict() for part in planned.components for link in part.links]
        fed = "; ".join(f"{item['from']} → {item['to']}" for item in links)
        reason = (
            f"what one makes is what the next reads ({fed})"
            if links
            else f"each part has its skill, and they do not feed one another ({why})"
        )
        call = f"ws.skills.compose(NAME, skills=[{names}], pattern={pattern!r})"
        return Proposal(distinct, pattern, score, parts, links, reason, call)
    return None
