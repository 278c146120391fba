"""Whether a skill is made like what is asked for: kinds of files that a task names, steps and agents of a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import Any

#: Words of a task that ask for a kind of file.
ASKED = {
    "picture": re.compile(r"\b(plots?|plotted|plotting|figures?|charts?|diagrams?|histograms?|png|svg|draw|maps?)\b"),
    "table": re.compile(r"\b(tables?|csv|tsv|parquet|spreadsheets?|columns?)\b"),
    "document": re.compile(r"\b(reports?|markdown|essays?|summary in words)\b"),
    "numbers": re.compile(r"\b(json)\b"),
}
_SUFFIXES = {
    "picture": {".png", ".jpg", ".jpeg", ".svg", ".pdf", ".gif", ".webp"},
    "table": {".csv", ".tsv", ".parquet", ".feather", ".xlsx"},
    "document": {".md", ".tex", ".html", ".rst"},
    "numbers": {".json"},
}


@dataclass(frozen=True)
class Structure:
    """How far a skill's outputs, steps and agents are those that are asked for; None where nothing is known."""

    share: float | None = None
    said: str = ""

    @property
    def weight(self) -> float:
        """What it adds to the logarithm of the odds."""
        return 0.0 if self.share is None else self.share - 0.5


def compare(
    task: str, outputs: Sequence[str], graph: Mapping[str, Any], agents: Sequence[str], plan: Mapping[str, Any] | None
) -> Structure:
    """Compare a task, and a plan if there is one, with what a skill makes and how.

    >>> compare("Plot the residuals", ["residuals.png"], {}, [], None)
    Structure(share=1.0, said='makes a picture, as asked')
    >>> compare("Write a table", ["residuals.png"], {}, [], None)
    Structure(share=0.0, said='makes no table')
    """
    shares: list[float] = []
    said: list[str] = []
    asked = [kind for kind, pattern in ASKED.items() if pattern.search(task.casefold())]
    made = {
        kind for kind, known in _SUFFIXES.items() for path in outputs if PurePosixPath(path).suffix.lower() in known
    }
    if asked and outputs:
        have = [kind for kind in asked if kind in made]
        lack = [kind for kind in asked if kind not in made]
        shares.append(len(have) / len(asked))
        if have:
            said.append(f"makes {_listed(have)}, as asked")
        if lack:
            said.append(f"makes no {' and no '.join(lack)}")
    steps = list((plan or {}).get("steps") or [])
    if steps:
        wanted = [str(step.get("agent") or "") for step in steps]
        shares.append(SequenceMatcher(None, wanted, list(agents), autojunk=False).ratio())
        said.append(f"{len(agents)} steps by {', '.join(dict.fromkeys(agents)) or '?'} against {len(steps)} planned")
        links = sum(len(step.get("depends_on") or []) for step in steps)
        known = len(graph.get("edges") or [])
        if links or known:
            shares.append(min(links, known) / max(links, known))
    if not shares:
        return Structure()
    return Structure(sum(shares) / len(shares), "; ".join(said))


def _listed(kinds: list[str]) -> str:
    return " and ".join("numbers" if kind == "numbers" else f"a {kind}" for kind in kinds)
