"""How well a text fits a task: meaning and words together, as a number that says how often such a fit is right.

``semantic`` is the cosine of the two texts' vectors. ``lexical`` is the mean of three things: the cosine of their
character n-grams, that of their words, and the share of the task's n-grams that the text has. Their weighted sum is
compared with what the other texts of the library reach: in a library of a thousand some text always has something
in common with a task. The logistic function of the two is the ``score``.

The weights were fitted on the set ``multiple`` of bfcl-eval 2026.3.23 (200 tasks, 462 tools), in libraries of 3, 10,
30, 100 and all tools, with the right tool present and absent equally often: of the tasks at a score of 0.7, about
seven in ten had their tool in the library. ``tests/benchmarks/matching.py`` measures it, with the weights fitted
on the other half of the tasks, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.skills.matching.tfidf import Index, plain

Scores = NDArray[np.float32]

#: What the lexical part counts beside the semantic one.
LEXICAL = 1.5
#: Ranks of the library that say what a task reaches by chance: from here, or a fifth of a small library, to there.
_FROM, _TO = 5, 20
#: What is taken for it where the library has one text.
_ALONE = 0.25


@dataclass(frozen=True)
class Calibration:
    """Weights of the logistic function: of the sum, of what others reach, and the constant."""

    total: float
    others: float
    constant: float

    def probability(self, total: Scores | float, others: Scores | float) -> Scores:
        """Return the scores."""
        return np.asarray(1 / (1 + np.exp(-(self.total * total - self.others * others + self.constant))), np.float32)


#: With vectors, and with words alone.
HYBRID = Calibration(5.55, 4.83, -4.90)
WORDS = Calibration(8.15, 7.90, -4.40)


class Lexicon:
    """Texts as n-grams and as words, to be compared with a task."""

    def __init__(self, texts: list[str]) -> None:
        said = [plain(text) for text in texts]
        self._characters = Index(said, are_plain=True)
        self._words = Index(said, "words", are_plain=True)

    def scores(self, task: str) -> Scores:
        """Return how much of its words each text shares with a task, from 0 to 1."""
        same = self._characters.both(self._characters.query(task)) + self._words.scores(task)
        return np.asarray(same / np.float32(3), np.float32)


def combine(semantic: Scores | None, lexical: Scores) -> Scores:
    """Return the sum of both parts, by which texts are ranked."""
    return np.asarray((0 if semantic is None else semantic) + np.float32(LEXICAL) * lexical, np.float32)


def calibrate(totals: Scores, *, with_meaning: bool) -> Scores:
    """Return the score of each text in a library, from 0 to 1.

    >>> [round(float(score), 1) for score in calibrate(np.float32([1.6, 0.4, 0.3, 0.3]), with_meaning=True)]
    [0.9, 0.0, 0.0, 0.0]
    """
    calibration = HYBRID if with_meaning else WORDS
    return calibration.probability(totals, others(totals))


def others(totals: Scores) -> float:
    """Return what the texts of a library reach that do not fit: the mean of the ranks after the first few."""
    size = len(totals)
    first = max(1, min(_FROM, size // 5))
    if size <= first:
        return _ALONE
    last = min(_TO, size)
    best = np.partition(totals, size - last)[size - last :] if size > last else totals
    return float(np.sort(best)[::-1][first:last].mean())
