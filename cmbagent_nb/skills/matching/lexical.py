"""Compare texts by their words, each weighted by how rare it is in English.

The weight of a word comes from its rank in the vocabulary of the embedding model's tokenizer, which is sorted by
frequency and shipped with this package. It never comes from the library, so that how well a skill fits a task does
not depend on the other skills.

Words are compared by :func:`key`: the first six letters of the stem, so that ``periods``, ``periodic`` and
``periodogram`` are one word, and so are British and American spellings.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.skills.matching.weights import TOKENIZER

Scores = NDArray[np.float32]

#: Characters of a text that are read.
LONGEST = 4000
#: Words without meaning of their own; they never count.
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
#: Words that tasks of any subject have; they count little.
_COMMON = (
    "plot draw compute calculate fit list report write determine measure estimate analyse figure picture table data"
    " value number result compare test create run search model function set help change error file code program work"
    " script"
)
_COMMON_SHARE = 0.15
_NUMBER_WEIGHT = 0.1
#: The vocabulary's first whole word is the commonest; ranks below this one hardly differ in weight.
_FIRST, _SCALE = 1996, 30
_KEY_LETTERS = 6
#: The weight that is added to a task's, so that a single word is no full agreement, and the shared weight that is much.
_LEAST_TASK, _ENOUGH = 0.5, 1.5

_TOKEN = re.compile(r"[^\W_]{2,}")
_WORD = re.compile(r"[^\W\d_]{2,}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_OTHER = re.compile(r"[\W_]+")
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("s", ""))


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
    """Return the words of a text that have a meaning of their own.

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


@lru_cache(maxsize=65_536)
def key(word: str) -> str:
    """Return what stands for a word in all its forms and spellings.

    >>> [key(word) for word in ("periodogram", "periodicity", "modelling", "modeled", "colours", "analyze", "centre")]
    ['period', 'period', 'model', 'model', 'color', 'analys', 'center']
    """
    short = stem(word)
    if len(short) > 4:
        short = short.replace("our", "or").replace("yz", "ys").replace("ll", "l")
        short = short[:-2] + "er" if short.endswith("re") else short
    return short[:_KEY_LETTERS]


@cache
def _weights() -> dict[str, float]:
    """Return the weight of each word of the vocabulary, by its key; the commonest form counts."""
    vocabulary: dict[str, int] = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]
    most = math.log1p((len(vocabulary) - _FIRST) / _SCALE)
    found: dict[str, float] = {}
    for word, place in vocabulary.items():
        if place >= _FIRST and word.isalpha():
            found.setdefault(key(word), math.log1p((place - _FIRST) / _SCALE) / most)
    for word in _COMMON.split():
        found[key(word)] = _COMMON_SHARE * found.get(key(word), 1.0)
    return found


def weight(word_key: str) -> float:
    """Return how much a word counts, from 0 to 1, by its key.

    >>> weight(key("new")) < weight(key("star")) < weight(key("chronometer"))
    True
    """
    return _NUMBER_WEIGHT if word_key.isdigit() else _weights().get(word_key, 1.0)


def keys(text: str) -> frozenset[str]:
    """Return the keys of a text's words."""
    return frozenset(key(word) for word in _TOKEN.findall(plain(text)) if word not in STOP)


class Lexicon:
    """Texts as words, to be compared with a task.

    >>> lexicon = Lexicon(["fit the Hubble diagram of supernovae", "plot the acoustic peaks"])
    >>> [round(float(score), 1) for score in lexicon.scores("draw a supernova's Hubble diagram")]
    [0.8, 0.0]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        places: dict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(texts):
            for word in keys(text):
                places[word].append(place)
        self._places = {word: np.array(found, np.intp) for word, found in places.items()}
        self._size = len(texts)

    def scores(self, task: str) -> Scores:
        """Return how much of a task's words each text has, from 0 to 1.

        It is the mean of the share of the task's words, by weight, and of what their number says: one common word says
        little, three rare ones say nearly all. A task of few words never has the whole of the share.
        """
        weights = {word: weight(word) for word in keys(task)}
        shared = np.zeros(self._size)
        for word, value in weights.items():
            if word in self._places:
                shared[self._places[word]] += value
        share = shared / (sum(weights.values()) + _LEAST_TASK)
        return np.asarray((share - np.expm1(-shared / _ENOUGH)) / 2, np.float32)
