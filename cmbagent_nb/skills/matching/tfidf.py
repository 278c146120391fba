"""Rank texts by the character n-grams that they share with a task, rare ones counting more than common ones.

N-grams have 3 to 5 characters and stay within words, as scikit-learn's ``char_wb`` makes them. Their weights are
(1 + log(count)) * (log((1 + n) / (1 + n with it)) + 1), each text of length 1: they depend on the library, so they
decide which skill comes first, never whether one fits.

It is written by hand because of these figures (2026-12-01, top-1 of ``live_multiple`` with words alone and with
vectors, CPU of building an index of 10,000 skills and of one match):

| | words | hybrid | build | match |
|---|---|---|---|---|
| this module | 0.712 | 0.794 | 1.1 s | 2 ms |
| SQLite FTS5, ``trigram``, bm25 | 0.663 | 0.777 | 0.5 s | 44 ms |
| scikit-learn's TfidfVectorizer, whose import takes 1 s and more | 0.703 | 0.788 | 4.0 s | 18 ms |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.skills.matching.lexical import plain

#: Bits of the number that stands for an n-gram; two n-grams that share one are taken for the same.
_BITS = 22
_MASK = np.uint64(2**_BITS - 1)
#: Texts are read by so many at once: as many as the other bits of 32 can count.
_BLOCK = 2 ** (32 - _BITS)
_SPACE = 32
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

Numbers = NDArray[np.uint32]
Scores = NDArray[np.float32]


def _grams(texts: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Return the n-grams of plain texts: for each the number of its text and the number that stands for it."""
    padded = [f" {text} " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(padded), dtype=np.uint32), [len(text) for text in padded])
    letters = codes != _SPACE
    owners, terms = [], []
    for size in (3, 4, 5):
        count = len(codes) - size + 1
        if count <= 0:
            continue
        inside = np.ones(count, dtype=bool)
        for place in range(1, size - 1):
            inside &= letters[place : place + count]
        # a text ends with a space and the next begins with one: no n-gram lies in two
        number = np.full(count, size, dtype=np.uint64)
        for place in range(size):
            number = (number ^ codes[place : place + count]) * _MULTIPLIER
            number ^= number >> np.uint64(29)
        owners.append(owner[:count][inside])
        terms.append((number[inside] & _MASK).astype(np.uint32))
    if not owners:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint32)
    return np.concatenate(owners), np.concatenate(terms)


def _counted(texts: Sequence[str]) -> tuple[Numbers, Numbers, Scores]:
    """Return each n-gram of each text once, with how often it has it."""
    parts: list[tuple[Any, Any, Any]] = [(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.float32))]
    for first in range(0, len(texts), _BLOCK):
        owners, terms = _grams(texts[first : first + _BLOCK])
        pairs = np.sort((owners << np.uint32(_BITS)) | terms)
        if not len(pairs):
            continue
        new = np.flatnonzero(np.r_[True, pairs[1:] != pairs[:-1]])
        counts = np.diff(np.r_[new, len(pairs)]).astype(np.float32)
        pairs = pairs[new]
        parts.append(((pairs >> np.uint32(_BITS)) + np.uint32(first), pairs & np.uint32(_MASK), counts))
    owners, terms, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return owners, terms, counts


class Index:
    """Texts to which others are compared.

    >>> index = Index(["fit the Hubble diagram", "plot the power spectrum"])
    >>> index.scores("a fit to a Hubble diagram").round(1).tolist()
    [1.0, 0.0]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.size = len(texts)
        owners, terms, counts = _counted([plain(text) for text in texts])
        order = np.argsort(terms, kind="stable")
        owners, terms, counts = owners[order], terms[order], counts[order]
        self._terms, self._starts, having = np.unique(terms, return_index=True, return_counts=True)
        self._having = having.astype(np.int64)
        self._idf = (np.log((1 + self.size) / (1 + having)) + 1).astype(np.float32)
        weights = (1 + np.log(counts)) * np.repeat(self._idf, having)
        lengths = np.sqrt(np.bincount(owners, weights=weights.astype(np.float64) ** 2, minlength=self.size))
        self._owners = owners.astype(np.intp)
        self._weights = (weights / np.maximum(lengths, 1e-9)[owners]).astype(np.float32)

    def scores(self, task: str) -> Scores:
        """Return how much each text shares with a task, from 0 to 1.

        It is the mean of the cosine of the two and of the share of the task's known n-grams that the text has.
        """
        found, counts = np.unique(_grams([plain(task)])[1], return_counts=True)
        place = np.searchsorted(self._terms, found)
        place[place == len(self._terms)] = 0
        known = self._terms[place] == found if len(self._terms) else np.zeros(len(found), bool)
        terms = place[known]
        if not len(terms):
            return np.zeros(self.size, np.float32)
        rarity = self._idf[terms]
        weights = (1 + np.log(counts[known])) * rarity
        weights /= np.linalg.norm(weights)
        having = self._having[terms]
        ends = np.cumsum(having)
        where = np.arange(ends[-1]) + np.repeat(self._starts[terms] - (ends - having), having)
        summed = np.repeat(weights, having) * self._weights[where] + np.repeat(rarity / rarity.sum(), having)
        return (np.bincount(self._owners[where], weights=summed, minlength=self.size) / 2).astype(np.float32)
