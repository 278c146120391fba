"""Match a task with the library: the skills that fit, best first, with reasons; none where none fits.

The score is the fit of a skill's texts to the task (``hybrid.py``), moved by what else is known of the skill. It does
not depend on the other skills; they decide only the order (``rank``), and :meth:`Found.alike` whether to ask which.
Only the newest active version of a trusted skill is offered, and nothing here starts anything.

| known | the odds are multiplied by |
|---|---|
| the task names one of the skill's tags | 1.35, at most twice |
| it makes the kinds of files that are asked for, or none of them; its steps are those of a plan | 1.65 to 0.6 |
| it worked when it was used, or failed; it was accepted or refused for such a task | 1.8 to 0.55; 1.65 or 0.2 |

A skill that cannot run here, or cannot take the data that is given, keeps 0.6 of its score: it is below the limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cmbagent_nb.errors import UsageError
from cmbagent_nb.skills.matching import embedder as models
from cmbagent_nb.skills.matching.evidence import Feedback, check_conditions, compare_structure, decisions
from cmbagent_nb.skills.matching.hybrid import fit, rank
from cmbagent_nb.skills.matching.index import library
from cmbagent_nb.skills.matching.lexical import key, plain, stem, weight, words

if TYPE_CHECKING:
    from pathlib import Path

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.matching.index import Compared
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer

_TAG = 0.3
_MOST_TAGS = 2
#: Tags of commoner words (plot, data, fit) say nothing of the subject.
_LEAST_TAG_WEIGHT = 0.3
#: What moves the odds moves the rank by this share.
_RANK_SHARE = 0.1
#: Skills that fit and whose ranks differ by less are alike: a person is asked which.
_ALIKE = 0.1
#: What is left of the score of a skill that cannot run on what is at hand: less than any sensible limit.
_UNMET = 0.6
#: Skills whose rows are read at once, and how many are looked at, at most, when others are left out.
_AT_ONCE, _AT_MOST = 12, 400
_SHOWN_WORDS = 5


@dataclass(frozen=True, repr=False)
class Match:
    """A skill that may fit a task, and why."""

    skill: SkillRecord
    score: float
    semantic: float | None
    lexical: float
    tags: list[str]
    structure: float | None
    feedback: float
    conditions: list[str]
    reason: str
    #: Which of the inputs at hand each of the skill's input parameters takes.
    taken: dict[str, str] = field(default_factory=dict)
    #: By what the skills that fit are ordered.
    rank: float = 0.0

    @property
    def id(self) -> str:
        """The skill's id."""
        return self.skill.id

    @property
    def name(self) -> str:
        """The skill's name."""
        return self.skill.name

    @property
    def version(self) -> int:
        """The skill's version."""
        return self.skill.version

    def as_dict(self) -> dict[str, Any]:
        """Return the match as JSON shows it."""
        return {
            "skill_id": self.id,
            "name": self.name,
            "version": self.version,
            "score": self.score,
            "semantic": self.semantic,
            "lexical": self.lexical,
            "tags": self.tags,
            "structure": self.structure,
            "feedback": self.feedback,
            "conditions": self.conditions,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        return f"{self.name} v{self.version}: {round(self.score * 100)} % match · {self.reason}"

    def __repr__(self) -> str:
        return f"<Match {self}>"


@dataclass(frozen=True)
class Found:
    """Result of a look at the library: the skills that were looked at, best first, and the time it took."""

    matches: list[Match]
    min_similarity: float
    model: str
    duration_ms: float

    @property
    def fitting(self) -> list[Match]:
        """Those that are trusted and at or above the limit."""
        return [item for item in self.matches if item.skill.trusted and item.score >= self.min_similarity]

    def alike(self) -> list[Match]:
        """Return the best skill that fits, and those that fit about as well: a person has to say which."""
        fitting = self.fitting
        return [item for item in fitting if fitting[0].rank - item.rank < _ALIKE]


def match(
    db: Database,
    writer: Writer,
    home: Path,
    task: str,
    *,
    k: int = 5,
    min_similarity: float = 0.7,
    required_tags: Iterable[str] = (),
    exclude_failed: bool = False,
    inputs: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    only: str | None = None,
    embeddings: str = "auto",
) -> Found:
    """Compare a task with the library.

    Parameters
    ----------
    k
        How many skills to look at closely.
    required_tags
        Only skills that have all of them.
    exclude_failed
        Leave out skills whose last execution failed.
    inputs
        The data at hand, by name: a skill must be able to take it.
    plan
        The plan of the task, if there is one: its steps and agents are compared with the skill's.
    only
        The name of the one skill to look at.

    Raises
    ------
    UsageError
        There is no such limit.
    """
    if k < 1 or not 0 <= min_similarity <= 1:
        wrong = f"k cannot be {k}" if k < 1 else f"min_similarity cannot be {min_similarity}"
        raise UsageError(wrong, "Give k from 1 on, and min_similarity from 0 to 1, as in 0.7.")
    started = time.perf_counter()
    embedder = models.choose(embeddings)
    compared = library(db).compare(db, writer, task, embedder)
    scores, ranks = fit(compared.semantic, compared.lexical), rank(compared.semantic, compared.ngrams)
    idle = {row["id"] for row in db.rows("SELECT id FROM skills WHERE status IN ('draft', 'deprecated')")}
    order = [place for place in map(int, np.argsort(-ranks, kind="stable")) if compared.ids[place] not in idle]
    if only is not None:
        order = [place for place in order if compared.names[place] == only]
    wanted = {tag.casefold() for tag in tags_of(required_tags)}
    asked = {stem(word): word for word in words(task)}
    chosen: list[tuple[int, SkillRecord, list[str]]] = []
    untrusted: list[tuple[int, SkillRecord, list[str]]] = []
    for place, skill, agents in _skills(db, writer, home, order, compared):
        if not wanted <= {tag.casefold() for tag in skill.tags}:
            continue
        if exclude_failed and _failed_last(db, skill.id):
            continue
        (chosen if skill.trusted else untrusted).append((place, skill, agents))
        if len(chosen) >= k + _AT_ONCE:  # what is known beside the texts may change the order
            break
    chosen += untrusted[:k]
    decided = decisions(db, task, [skill.name for _, skill, _ in chosen])
    found: list[Match] = []
    for place, skill, agents in chosen:
        semantic = None if compared.semantic is None else float(compared.semantic[place])
        seen = _Seen(task, asked, float(scores[place]), float(ranks[place]), semantic, float(compared.lexical[place]))
        found.append(_judge(skill, agents, seen, inputs, plan, decided))
    found.sort(key=lambda item: (item.score < min_similarity, not item.skill.trusted, -item.rank))
    spent = (time.perf_counter() - started) * 1e3
    return Found(found[:k], min_similarity, models.NONE if embedder is None else embedder.name, round(spent, 2))


def tags_of(tags: Iterable[str]) -> list[str]:
    """Return tags as a list; a text is one tag, or several with commas between them.

    >>> tags_of("cmb, planck"), tags_of(["cmb"])
    (['cmb', 'planck'], ['cmb'])
    """
    return [tag.strip() for tag in tags.split(",") if tag.strip()] if isinstance(tags, str) else list(tags)


@dataclass(frozen=True)
class _Seen:
    """Similarity of the texts of a skill and a task."""

    task: str
    asked: dict[str, str]
    score: float
    rank: float
    semantic: float | None
    lexical: float


def _skills(
    db: Database, writer: Writer, home: Path, order: Sequence[int], compared: Compared
) -> Iterator[tuple[int, SkillRecord, list[str]]]:
    """Yield the newest active version of each name, as it is in the database now."""
    from cmbagent_nb.skills.library import from_row
    from cmbagent_nb.store.lookup import parsed

    places = {compared.ids[place]: place for place in order}
    names = list(dict.fromkeys(compared.names[place] for place in order))
    for first in range(0, min(len(names), _AT_MOST), _AT_ONCE):
        some = names[first : first + _AT_ONCE]
        marks = ", ".join(f":name_{number}" for number in range(len(some)))
        # By their names alone: nearly all are active, and looking for those first would read the whole library.
        rows = db.rows(
            f"SELECT * FROM skills WHERE name IN ({marks})",
            **{f"name_{number}": name for number, name in enumerate(some)},
        )
        active = sorted((row for row in rows if row["status"] == "active"), key=lambda row: int(row["version"]))
        newest = {row["name"]: row for row in active}
        for name in some:
            if name in newest and newest[name]["id"] in places:
                row = parsed(newest[name])
                agents = [str(agent) for agent in row["agent_sequence"] or []]
                yield places[row["id"]], from_row(row, db, writer, home), agents


def _failed_last(db: Database, skill_id: str) -> bool:
    rows = db.rows(
        "SELECT success FROM skill_executions WHERE skill_id = :id AND status IN ('completed', 'failed', 'timeout')"
        " ORDER BY ended_at DESC LIMIT 1",
        id=skill_id,
    )
    return bool(rows) and not rows[0]["success"]


def _judge(
    skill: SkillRecord,
    agents: list[str],
    seen: _Seen,
    inputs: Mapping[str, Any] | None,
    plan: Mapping[str, Any] | None,
    decided: Mapping[str, str],
) -> Match:
    """Move the score by what is known beside the texts, and say why it is what it is."""
    feedback = Feedback(skill.success_count, skill.failure_count, decided.get(skill.name, ""))
    structure = compare_structure(seen.task, list(skill.output_schema), skill.dag_template, agents, plan)
    conditions = check_conditions(skill, inputs)
    named = [tag for tag in skill.tags if _names(seen.asked, tag)]
    moved = _TAG * min(len(named), _MOST_TAGS) + structure.weight + feedback.weight
    score = _moved(seen.score, moved) * (_UNMET if conditions.unmet else 1.0)
    said = [_about_texts(skill, seen)]
    if named:
        said.append(f"tagged {', '.join(named)}")
    said += [part for part in (structure.said, feedback.text()) if part]
    said.append("verified" if skill.verified else "not verified")
    if not skill.trusted:
        said.append("not trusted yet")
    if conditions.unmet:
        said.append(f"but {'; '.join(conditions.unmet)}")
    return Match(
        skill=skill,
        score=round(score, 4),
        semantic=None if seen.semantic is None else round(seen.semantic, 4),
        lexical=round(seen.lexical, 4),
        tags=list(skill.tags),
        structure=None if structure.share is None else round(structure.share, 4),
        feedback=round(feedback.rate, 4),
        conditions=conditions.unmet,
        reason="; ".join(said),
        taken=conditions.taken,
        rank=round(seen.rank + _RANK_SHARE * moved, 4),
    )


def _names(asked: Mapping[str, str], tag: str) -> bool:
    """Tell whether a task names a tag that says something of its subject."""
    own = words(tag)
    return (
        all(stem(word) in asked for word in own)
        and max((weight(key(word)) for word in own), default=0.0) >= _LEAST_TAG_WEIGHT
    )


def _moved(score: float, by: float) -> float:
    """Return a score whose logarithm of the odds is moved.

    >>> round(_moved(0.5, 0.7), 2), _moved(0.0, 1.0)
    (0.67, 0.0)
    """
    if not 0 < score < 1:
        return score
    return float(1 / (1 + np.exp(-(np.log(score / (1 - score)) + by))))


def _about_texts(skill: SkillRecord, seen: _Seen) -> str:
    """Say in words what the task and the skill have in common."""
    own = {stem(word) for word in words(f"{plain(skill.name)} {skill.description} {skill.task}")}
    shared = [word for stemmed, word in seen.asked.items() if stemmed in own]
    if not shared:
        return "shares no word" if seen.semantic is None else "similar in meaning"
    more = f" and {len(shared) - _SHOWN_WORDS} more" if len(shared) > _SHOWN_WORDS else ""
    return f"shares: {', '.join(shared[:_SHOWN_WORDS])}{more}"
