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
from collections.abc import Iterator, Sequence
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
    """What is taken of one part, by kind."""

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


def split(items: Sequence[Item], budget: int, keep: int) -> int:
    """Return how many of the newest parts stay as they are: all if they fit, else at most ``keep``."""
    if tokens(join(item.whole() for item in items)) <= budget:
        return len(items)
    for number in range(min(keep, len(items)), 0, -1):
        room = budget if number == len(items) else int(budget * VERBATIM_SHARE)
        if tokens(join(item.whole() for item in items[-number:])) <= room:
            return number
    return 0


def condense(items: Sequence[Item], *, budget: int, keep: int) -> Condensed:
    """Bring parts, the oldest first, into a budget of tokens; the newest ``keep`` stay as they are where they fit."""
    kept = split(items, budget, keep)
    newest = [item.whole() for item in items[len(items) - kept :]]
    if kept == len(items):
        return Condensed(join(newest), kept)
    room = budget * BYTES - sum(_length(text) + 2 for text in newest)
    summary, left_out = extract(items[: len(items) - kept], max(0, room) // BYTES)
    return Condensed(join([summary, *newest]), kept, left_out)


def extract(items: Sequence[Item], budget: int, *, known: str = "") -> tuple[str, int]:
    """Return what must not be lost of these parts, within a budget, and how many facts did not fit.

    What stands in ``known`` already is not said again.
    """
    note = "[{} more facts are left out; the files have them.]"
    room = budget * BYTES - _length(note) - 4
    digests = [_Digest(item.title) for item in items]
    found = [list(facts_of(item)) for item in items]
    seen: set[tuple[int, str]] = set()
    left_out, complete = 0, True
    for kind in range(len(_LABELS)):
        for digest, facts in zip(reversed(digests), reversed(found), strict=True):
            for fact in (text for of, text in facts if of == kind):
                if (id(digest), fact) in seen or (known and stands_in(fact, known, kind)):
                    continue
                seen.add((id(digest), fact))
                cost = digest.cost(kind, fact)
                if complete and cost <= room:
                    digest.facts[kind].append(fact)
                    room -= cost
                elif kind < WORDS:
                    left_out += 1
        complete = complete and not left_out
    text = join(digest.text() for digest in digests)
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
