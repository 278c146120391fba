"""Combine meaning and words into the fit of a skill and into its rank.

| | made of | depends on other skills |
|---|---|---|
| fit | the best cosine of the skill's texts with the task, plus the weighted words that they share | no |
| rank | the same cosine, plus the character n-grams that they share, rare ones of the library counting more | yes |

The fit decides whether a skill is offered; the rank only which of those that fit comes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

#: What the n-grams count beside the meaning in the rank.
_NGRAMS = 0.7


#: The logarithm of the odds that texts alone can give: what was decided and how it worked still counts.
_HIGHEST = 3.5
_AT_LIMIT = math.log(0.7 / 0.3)


@dataclass(frozen=True)
class Fit:
    """Map a sum of meaning and words to a score from 0 to 1; the sum ``limit`` gets the score 0.7."""

    words: float
    limit: float
    slope: float

    def score(self, semantic: Scores | None, lexical: Scores) -> Scores:
        """Return the scores."""
        total = (0 if semantic is None else semantic) + self.words * lexical
        odds = np.minimum(self.slope * (total - self.limit) + _AT_LIMIT, _HIGHEST)
        return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


#: With vectors, and with words alone; ``python -m tests.benchmarks matching_limits`` fits them.
HYBRID = Fit(words=0.4, limit=0.54, slope=16.0)
WORDS = Fit(words=1.0, limit=0.43, slope=14.0)


def fit(semantic: Scores | None, lexical: Scores) -> Scores:
    """Return how well each skill fits a task, from 0 to 1.

    >>> [round(float(score), 1) for score in fit(np.float32([1.0, 0.2]), np.float32([0.9, 0.1]))]
    [1.0, 0.0]
    """
    return (WORDS if semantic is None else HYBRID).score(semantic, lexical)


def rank(semantic: Scores | None, ngrams: Scores) -> Scores:
    """Return the sum by which skills are ordered."""
    return np.asarray((0 if semantic is None else semantic) + np.float32(_NGRAMS) * ngrams, np.float32)
