"""Making a long story short without a model: the newest parts as they are, of the older ones what must not be lost.

What the older parts hold is taken in this order while the budget lasts; a kind is begun only when nothing of the kinds
before it was left out, and within a kind the newest part comes first:

1. decisions of people at gates,
2. paths of files, where the rest can be found,
3. named numbers: ``chi2 = 12.3``, ``"h0": 67.4``, a row of a table, a short sentence with a number,
4. other numbers, with the words around them,
5. the first sentences of each part.

Everything is quoted, nothing is reworded: what is in a summary was in the text. Tokens are estimated, on the high side.

>>> fit = "We fit. chi2 = 12.5 for 8 points. See data/fit.json." + " Then there is much to be said of the method." * 5
>>> print(condense([Item("Fit", fit), Item("Plot", "A figure was made.")], budget=80, keep=1).text)
## Fit
- files: data/fit.json
- numbers: chi2 = 12.5 for 8 points
- We fit. See data/fit.json. Then there is much to be said of the method.
<BLANKLINE>
## Plot
A figure was made.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

#: Bytes of a token, on the low side for prose, code and numbers alike.
BYTES = 3

#: How much of a budget the parts that are kept as they are may take, when there are older ones.
VERBATIM_SHARE = 0.75

#: Characters of a sentence that is taken whole, and of what is taken around a number in a longer one.
LONGEST = 160
AROUND = 60

DECISION, FILE, NUMBER, OTHER, WORDS = range(5)
_LABELS = ("decided: ", "files: ", "numbers: ", "", "")
_JOINTS = ("; ", ", ", "; ", " … ", " ")

_FIGURE = re.compile(r"(?<![\w./-])[-+−]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w/])")
_SUFFIXES = (
    "json|jsonl|csv|tsv|parquet|npy|npz|fits|png|jpe?g|svg|pdf|md|py|ipynb|txt|dat|log|h5|hdf5|nc|ya?ml|toml|tex|pkl|gz"
)
_PATH = re.compile(rf"(?<![\w/.:-])(?:(?:[\w.-]+/)+[\w.-]*\.[A-Za-z]\w{{0,7}}|[\w-][\w.-]*\.(?:{_SUFFIXES}))(?![\w/])")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=\S)")
_MARK = re.compile(r"^(?:#+|[*>-])\s+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Item:
    """One part of a story: a step, or a message."""

    title: str
    text: str
    decisions: Sequence[str] = ()
    numbers: Sequence[str] = ()  #: with their names, as they stand in files
    files: Sequence[str] = ()
    prose: str | None = None  #: the text without what ``numbers`` and ``files`` tell; all of it when not given

    def whole(self) -> str:
        """Return the part as it is."""
        decided = [f"- decided: {decision}" for decision in self.decisions]
        return "\n".join(line for line in (f"## {self.title}", *decided, self.text.strip()) if line)


@dataclass(frozen=True)
class Condensed:
    """A story within its budget."""

    text: str
    #: How many parts, the newest, are in it as they are.
    kept: int
    #: Facts that did not fit.
    left_out: int = 0


@dataclass
class _Digest:
    """Extract of one part, by kind."""

    title: str
    facts: list[list[str]] = field(default_factory=lambda: [[] for _ in _LABELS])

    def cost(self, kind: int, fact: str) -> int:
        """Return how many bytes longer the text becomes with one more fact."""
        heading = 0 if any(self.facts) else _length(f"## {self.title}\n\n")
        joint = _JOINTS[kind] if self.facts[kind] else f"- {_LABELS[kind]}\n"
        return heading + _length(joint) + _length(fact)

    def text(self) -> str:
        lines = [
            f"- {label}{joint.join(facts)}"
            for label, joint, facts in zip(_LABELS, _JOINTS, self.facts, strict=True)
            if facts
        ]
        return "\n".join([f"## {self.title}", *lines]) if lines else ""


def tokens(text: str) -> int:
    """Estimate how many tokens a text has."""
    return -(-_length(text) // BYTES)


def _length(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def split(items: Sequence[Item], budget: int, keep: int, *, older: bool = False) -> int:
    """Return how many of the newest parts stay as they are: all if they fit, else at most ``keep``.

    ``older`` tells that there are parts before these.
    """
    if not older and tokens(join(item.whole() for item in items)) <= budget:
        return len(items)
    for number in range(min(keep, len(items)), 0, -1):
        room = budget if number == len(items) and not older else int(budget * VERBATIM_SHARE)
        if tokens(join(item.whole() for item in items[-number:])) <= room:
            return number
    return 0


def condense(items: Iterable[Item], *, budget: int, keep: int) -> Condensed:
    """Bring parts, the oldest first, into a budget of tokens; the newest ``keep`` stay as they are where they fit.

    The parts are gone through once, and no more of them are held than the budget has room for.
    """
    collected = Collected(budget)
    held: deque[Item] = deque()
    size = 0
    for item in items:
        held.append(item)
        size += _length(item.whole()) + 2
        while len(held) > max(keep, 1) and (collected.parts or size > budget * BYTES + 2):
            size -= _length(held[0].whole()) + 2
            collected.add(held.popleft())
    newest = list(held)
    kept = split(newest, budget, keep, older=collected.parts > 0)
    for item in newest[: len(newest) - kept]:
        collected.add(item)
    shown = [item.whole() for item in newest[len(newest) - kept :]]
    if not collected.parts:
        return Condensed(join(shown), kept)
    room = budget * BYTES - sum(_length(text) + 2 for text in shown)
    summary, left_out = collected.text(max(0, room) // BYTES)
    return Condensed(join([summary, *shown]), kept, left_out)


def extract(items: Iterable[Item], budget: int, *, known: str = "") -> tuple[str, int]:
    """Return what must not be lost of these parts, within a budget, and how many facts did not fit.

    What stands in ``known`` already is not said again.
    """
    collected = Collected(budget)
    for item in items:
        collected.add(item, known)
    return collected.text(budget)


class Collected:
    """Facts of many parts: of each kind, the newest that can have a place in a budget."""

    def __init__(self, budget: int) -> None:
        #: How many parts have been added.
        self.parts = 0
        self._room = budget * BYTES
        self._facts: list[deque[tuple[int, str, str]]] = [deque() for _ in _LABELS]
        self._sizes = [0] * len(_LABELS)
        self._dropped = [0] * len(_LABELS)

    def add(self, item: Item, known: str = "") -> None:
        """Add the facts of a part that is newer than those before it."""
        for kind, fact in dict.fromkeys(facts_of(item)):
            if known and stands_in(fact, known, kind):
                continue
            self._facts[kind].append((self.parts, item.title, fact))
            self._sizes[kind] += _length(fact)
        for kind, facts in enumerate(self._facts):
            while facts and self._sizes[kind] > self._room and facts[0][0] < self.parts:
                self._sizes[kind] -= _length(facts.popleft()[2])
                self._dropped[kind] += 1
        self.parts += 1

    def text(self, budget: int) -> tuple[str, int]:
        """Return what fits, in the order of the parts, and how many facts do not."""
        note = "[{} more facts are left out; the files have them.]"
        room = budget * BYTES - _length(note) - 8
        digests: dict[int, _Digest] = {}
        left_out = 0
        for kind, facts in enumerate(self._facts):
            complete, left_out = left_out == 0, left_out + (self._dropped[kind] if kind < WORDS else 0)
            for place, title, fact in sorted(facts, key=lambda fact: -fact[0]):  # the newest first, each in its order
                digest = digests.setdefault(place, _Digest(title))
                cost = digest.cost(kind, fact)
                if complete and cost <= room:
                    digest.facts[kind].append(fact)
                    room -= cost
                elif kind < WORDS:
                    left_out += 1
        text = join(digests[place].text() for place in sorted(digests))
        return (join([text, note.format(left_out)]) if left_out else text), left_out


def facts_of(item: Item) -> Iterator[tuple[int, str]]:
    """Yield the facts of a part as (kind, text), each kind in the order of the text."""
    for decision in item.decisions:
        yield DECISION, _line(decision)
    for number in item.numbers:
        yield NUMBER, _line(number)
    text = item.text if item.prose is None else item.prose
    for path in dict.fromkeys([*item.files, *(found[0] for found in _PATH.finditer(text))]):
        yield FILE, path
    first = True
    for sentence in _sentences(text):
        figures = list(_FIGURE.finditer(sentence))
        if not figures:
            yield WORDS, sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1] + "…"
        elif len(sentence) <= LONGEST and _LETTER.search(sentence):
            yield NUMBER, sentence.rstrip(".;,")
        else:
            yield from ((OTHER, text) for text in _windows(sentence, figures))
            if first:
                yield WORDS, sentence[: LONGEST - 1] + "…"
        first = False


def stands_in(fact: str, text: str, kind: int) -> bool:
    """Tell whether a text says a fact: all its numbers with their digits, or else its words."""
    if kind in (NUMBER, OTHER):
        figures = [found[0] for found in _FIGURE.finditer(fact)]
        return bool(figures) and all(figure in text for figure in figures)
    return kind == WORDS or fact in text


def join(parts: Iterator[str] | Sequence[str]) -> str:
    """Put parts together with an empty line between them."""
    return "\n\n".join(part for part in parts if part)


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; the lines of JSON, of tables and of output each count as one."""
    for line in text.splitlines():
        for sentence in _SENTENCE.split(line.strip()):
            clean = _line(_MARK.sub("", sentence))
            if clean and not set(clean) <= set("|-:= `{}[],"):
                yield clean


def _windows(sentence: str, figures: Sequence[re.Match[str]]) -> Iterator[str]:
    """Yield the surroundings of the numbers in a long sentence; those that overlap become one."""
    begin = end = -1
    for figure in figures:
        left, right = max(0, figure.start() - AROUND), min(len(sentence), figure.end() + AROUND)
        left, right = _outward(sentence, left, -1), _outward(sentence, right, 1)
        if begin < 0:
            begin, end = left, right
        elif left <= end and right - begin <= 2 * LONGEST:
            end = right
        else:
            yield sentence[begin:end].strip()
            begin, end = left, right
    yield sentence[begin:end].strip()


def _outward(sentence: str, place: int, step: int) -> int:
    """Move a cut to the end of the word that it is in, so that no number is cut in two."""
    while 0 < place < len(sentence) and not (sentence[place - 1].isspace() or sentence[place].isspace()):
        place += step
    return place


def _line(text: str) -> str:
    return " ".join(text.split())
