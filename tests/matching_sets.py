"""Reads the sets on which matching is tuned and tested, and compares their tasks with their libraries.

``matching/tuning.yaml`` and ``matching/held_out.yaml`` hold subject libraries of twelve skills with their tasks, two
paraphrases of each, ordinary questions for the starter skills, and foreign tasks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cmbagent_nb.skills.matching.embedder import Embedder
from cmbagent_nb.skills.matching.hybrid import HYBRID, WORDS, Fit, rank
from cmbagent_nb.skills.matching.index import texts, wording
from cmbagent_nb.skills.matching.lexical import Lexicon
from cmbagent_nb.skills.matching.tfidf import Index
from cmbagent_nb.skills.starter.install import FOLDER, shipped

#: Subjects that a starter skill serves in part: their tasks are not foreign to the starter skills.
RELATED = {"cmb", "stars", "exoplanets"}


@dataclass(frozen=True)
class Subject:
    """A library, the tasks that belong to its skills (with the skill's place), and tasks that belong to none."""

    name: str
    rows: list[dict[str, Any]]
    verbatim: list[tuple[str, int]] = field(default_factory=list)
    paraphrases: list[tuple[str, int]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def part(self, places: Sequence[int]) -> Subject:
        """Return the library of some of the skills, with their tasks and the same foreign tasks."""
        kept = {place: number for number, place in enumerate(places)}
        return Subject(
            self.name,
            [self.rows[place] for place in places],
            [(task, kept[place]) for task, place in self.verbatim if place in kept],
            [(task, kept[place]) for task, place in self.paraphrases if place in kept],
            self.foreign,
        )


@cache
def subjects(name: str) -> dict[str, Subject]:
    """Return the libraries of ``tuning`` or ``held_out`` by subject, and that of the starter skills."""
    data = yaml.safe_load((Path(__file__).parent / "matching" / f"{name}.yaml").read_text(encoding="utf-8"))
    said = {key: [task for item in skills for task in item[2:]] for key, skills in data["subjects"].items()}
    found = {}
    for key, skills in data["subjects"].items():
        found[key] = Subject(
            key,
            [
                {
                    "name": item[0],
                    "description": item[1] or item[2],
                    "task_pattern": item[2],
                    "tags": [],
                    "parameters": [],
                }
                for item in skills
            ],
            [(item[2], place) for place, item in enumerate(skills)],
            [(task, place) for place, item in enumerate(skills) for task in item[3:]],
            data["foreign"] + [task for other, tasks in said.items() if other != key for task in tasks],
        )
    rows = [json.loads((FOLDER / folder.name / "skill.json").read_text(encoding="utf-8")) for folder in shipped()]
    names = [row["name"] for row in rows]
    found["starter"] = Subject(
        "starter",
        rows,
        [(row["task_pattern"], place) for place, row in enumerate(rows)],
        [(question, names.index(skill)) for skill, questions in data["starter"].items() for question in questions],
        data["foreign"] + [task for other, tasks in said.items() if other not in RELATED for task in tasks],
    )
    return found


class Comparer:
    """Compares tasks with libraries as matching does, each text embedded once."""

    def __init__(self, embedder: Embedder | None) -> None:
        self.embedder = embedder
        self.fit: Fit = WORDS if embedder is None else HYBRID
        self._known: dict[str, np.ndarray] = {}

    def vectors(self, said: Sequence[str]) -> np.ndarray:
        assert self.embedder is not None
        new = sorted({text for text in said if text not in self._known}, key=len)
        for first in range(0, len(new), 64):
            some = new[first : first + 64]
            self._known.update(zip(some, self.embedder.encode(some), strict=True))
        return np.array([self._known[text] for text in said])

    def semantic(self, rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> np.ndarray | None:
        """Return the best cosine of each skill's texts with each task: a row a task."""
        if self.embedder is None:
            return None
        own = [texts(row) for row in rows]
        starts = np.cumsum([0, *map(len, own)])[:-1]
        products = self.vectors(tasks) @ self.vectors([text for some in own for text in some]).T
        return np.asarray(np.maximum.reduceat(products, starts, axis=1))

    def totals(self, rows: Sequence[dict[str, Any]], tasks: Sequence[str], words: float | None = None) -> np.ndarray:
        """Return the sum that decides whether a skill fits: a row a task."""
        lexicon = Lexicon([wording(row) for row in rows])
        lexical = np.array([lexicon.scores(task) for task in tasks])
        semantic = self.semantic(rows, tasks)
        return (0 if semantic is None else semantic) + (self.fit.words if words is None else words) * lexical

    def ranks(self, rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> np.ndarray:
        """Return what orders the skills: a row a task."""
        ngrams = Index([wording(row) for row in rows])
        semantic = self.semantic(rows, tasks)
        return np.array(
            [
                rank(None if semantic is None else semantic[place], ngrams.scores(task))
                for place, task in enumerate(tasks)
            ]
        )

    def offered(self, subject: Subject, limit: float | None = None, words: float | None = None) -> dict[str, float]:
        """Return the shares of tasks that are offered their own skill, and of foreign tasks that are offered any."""
        least = self.fit.limit if limit is None else limit
        found = {}
        for kind, tasks in (("verbatim", subject.verbatim), ("paraphrases", subject.paraphrases)):
            totals = self.totals(subject.rows, [task for task, _ in tasks], words)
            found[kind] = float(np.mean([own[place] >= least for own, (_, place) in zip(totals, tasks, strict=True)]))
        found["foreign"] = float(np.mean(self.totals(subject.rows, subject.foreign, words).max(axis=1) >= least))
        return found
