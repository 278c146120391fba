"""Texts as weighted character n-grams and words: what two texts share, rare things counting more than common ones.

| | |
|---|---|
| n-grams | 3 to 5 characters, within words, as scikit-learn's ``char_wb`` makes them |
| words | single ones and pairs, without those that say nothing (the, of, calculate) |
| weights | 1 + log(count), times log((1 + n) / (1 + n with it)) + 1, each text of length 1 |

An index is made from all texts at once, by numpy; asking it costs what the question's own n-grams cost.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bits of the number that stands for an n-gram or a word; two that share one are taken for the same.
_BITS = 22
_MASK = np.uint64(2**_BITS - 1)
#: Texts are taken in by so many at once: as many as the other bits of 32 can count.
_BLOCK = 2 ** (32 - _BITS)
#: Characters of a text that are looked at.
LONGEST = 4000

_SPACE = 32
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

#: Words that nearly every task has, and that tell none from another.
STOP = frozenset(
    {
        "a", "about", "above", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "before",
        "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "down",
        "during", "each", "few", "for", "from", "further", "had", "has", "have", "having", "he", "her", "here",
        "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "itself", "just", "me", "more",
        "most", "my", "no", "nor", "not", "now", "of", "off", "on", "once", "only", "or", "other", "our", "out",
        "over", "own", "same", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them", "then",
        "there", "these", "they", "this", "those", "through", "to", "too", "under", "until", "up", "very", "was",
        "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will", "with", "would",
        "you", "your", "please", "want", "need", "know", "like", "give", "tell", "find", "get", "show", "make",
        "using", "use", "used", "given", "let", "s", "t", "d", "ll", "m", "re", "ve",
    }
)  # fmt: skip

_WORD = re.compile(r"[^\W\d_]{2,}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_OTHER = re.compile(r"[\W_]+")
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("s", ""))

Terms = NDArray[np.uint32]
Scores = NDArray[np.float32]


def plain(text: str) -> str:
    """Return a text in lower case, its words with a space between them.

    >>> plain("planck_tt-Chi2  fitH0")
    'planck tt chi2 fit h0'
    """
    text = text[:LONGEST]
    if not text.islower():
        text = _CAMEL.sub(" ", text)
    return _OTHER.sub(" ", text).strip().casefold()


def words(text: str) -> list[str]:
    """Return the words of a text that say something.

    >>> words("Plot the TT spectra of the two files")
    ['plot', 'tt', 'spectra', 'two', 'files']
    """
    return [word for word in _WORD.findall(plain(text)) if word not in STOP]


def stem(word: str) -> str:
    """Return a word without the ending that a plural or a tense gives it.

    >>> [stem(word) for word in ("spectra", "fits", "fitting", "galaxies", "bias", "classes")]
    ['spectra', 'fit', 'fit', 'galaxy', 'bias', 'class']
    """
    if len(word) < 5 or word.endswith(("ss", "us", "is", "as")):
        return word[:-1] if len(word) == 4 and word.endswith("s") and word[-2] not in "siua" else word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            short = word[: -len(ending)] + instead
            doubled = not instead and ending != "s" and short[-1] == short[-2] and short[-1] not in "ls"
            return short[:-1] if doubled else short
    return word


def _grams(texts: Sequence[str]) -> tuple[NDArray[np.uint32], Terms]:
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


@lru_cache(maxsize=65_536)
def _number(word: str) -> int:
    """Return what stands for a word in all its forms; 0 for one that says nothing."""
    return 0 if word in STOP else zlib.crc32(stem(word).encode("utf-8", "replace")) or 1


def _word_numbers(texts: Sequence[str]) -> tuple[NDArray[np.uint32], Terms]:
    owners: list[int] = []
    terms: list[int] = []
    for place, text in enumerate(texts):
        found = [number for word in _WORD.findall(text) if (number := _number(word))]
        pairs = [(first * 0x9E3779B1 ^ second) & 0xFFFFFFFF for first, second in pairwise(found)]
        owners += [place] * (len(found) + len(pairs))
        terms += found
        terms += pairs
    return np.asarray(owners, np.uint32), np.asarray(terms, np.uint32) & np.uint32(_MASK)


#: The two ways to take a text apart.
KINDS: dict[str, Callable[[Sequence[str]], tuple[NDArray[np.uint32], Terms]]] = {
    "characters": _grams,
    "words": _word_numbers,
}


@dataclass(frozen=True)
class Query:
    """A question to an index: the places of the terms that it knows, their weights, and how rare they are."""

    terms: NDArray[np.int64]
    weights: Scores
    rarity: Scores


class Index:
    """Texts to which others are compared.

    >>> index = Index(["fit the Hubble diagram", "plot the power spectrum"])
    >>> index.scores("a fit to a Hubble diagram").round(1).tolist()
    [1.0, 0.0]
    """

    def __init__(self, texts: Sequence[str], kind: str = "characters", *, are_plain: bool = False) -> None:
        self.size = len(texts)
        if not are_plain:
            texts = [plain(text) for text in texts]
        self._take_apart = KINDS[kind]
        owners, terms, counts = self._counted(texts)
        order = np.argsort(terms, kind="stable")
        owners, terms, counts = owners[order], terms[order], counts[order]
        self._terms, self._starts, having = np.unique(terms, return_index=True, return_counts=True)
        self._having = having.astype(np.int64)
        self._idf = (np.log((1 + self.size) / (1 + having)) + 1).astype(np.float32)
        place = np.repeat(np.arange(len(self._terms)), having)
        weights = (1 + np.log(counts)).astype(np.float32) * self._idf[place]
        lengths = np.sqrt(np.bincount(owners, weights=weights.astype(np.float64) ** 2, minlength=self.size))
        self._owners = owners.astype(np.intp)
        self._weights = (weights / np.maximum(lengths, 1e-9)[owners]).astype(np.float32)

    def _counted(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], Terms, Scores]:
        """Return each term of each text once, with how often it has it."""
        parts: list[tuple[Any, Any, Any]] = [(np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.float32))]
        for first in range(0, len(texts), _BLOCK):
            owners, terms = self._take_apart(texts[first : first + _BLOCK])
            keys = np.sort((owners << np.uint32(_BITS)) | terms)
            if not len(keys):
                continue
            new = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
            counts = np.diff(np.r_[new, len(keys)]).astype(np.float32)
            keys = keys[new]
            parts.append(((keys >> np.uint32(_BITS)) + np.uint32(first), keys & np.uint32(_MASK), counts))
        owners, terms, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        return owners, terms, counts

    def query(self, text: str) -> Query:
        """Take a question apart."""
        _, terms = self._take_apart([plain(text)])
        found, counts = np.unique(terms, return_counts=True)
        if not len(self._terms) or not len(found):
            return Query(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
        place = np.searchsorted(self._terms, found)
        place[place == len(self._terms)] = 0
        known = self._terms[place] == found
        rarity = self._idf[place[known]]
        weights = (1 + np.log(counts[known])).astype(np.float32) * rarity
        length = float(np.sqrt(np.sum(weights.astype(np.float64) ** 2)))
        return Query(place[known], (weights / max(length, 1e-9)).astype(np.float32), rarity)

    def scores(self, text: str | Query) -> Scores:
        """Return how similar each text is to a question, from 0 to 1: the cosine of the two."""
        query = self.query(text) if isinstance(text, str) else text
        return self._sum(query, query.weights, self._places(query), cosine=True)

    def coverage(self, text: str | Query) -> Scores:
        """Return the share of a question's known terms that each text has, rare ones counting more."""
        query = self.query(text) if isinstance(text, str) else text
        return self._sum(query, self._shares(query), self._places(query), cosine=False)

    def both(self, query: Query) -> Scores:
        """Return the sum of :meth:`scores` and :meth:`coverage`; the texts are gone through once."""
        places = self._places(query)
        cosine = self._sum(query, query.weights, places, cosine=True)
        return cosine + self._sum(query, self._shares(query), places, cosine=False)

    def _shares(self, query: Query) -> Scores:
        return query.rarity / np.float32(max(float(query.rarity.sum()), 1e-9))

    def _places(self, query: Query) -> NDArray[np.int64]:
        """Return where in the index the texts are that have the terms of a question."""
        having = self._having[query.terms]
        ends = np.cumsum(having)
        total = int(ends[-1]) if len(ends) else 0
        first = np.repeat(self._starts[query.terms] - (ends - having), having)
        return np.asarray(np.arange(total) + first, np.int64)

    def _sum(self, query: Query, weights: Scores, places: NDArray[np.int64], *, cosine: bool) -> Scores:
        summed = np.repeat(weights, self._having[query.terms])
        if cosine:
            summed *= self._weights[places]
        return np.bincount(self._owners[places], weights=summed, minlength=self.size).astype(np.float32)
