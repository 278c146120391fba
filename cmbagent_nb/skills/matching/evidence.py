"""Weighs what is known of a skill besides its texts: what it makes, how it did, whether it can run here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.matching.lexical import stem, words

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.store.database import Database

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
#: The share of their words that two tasks have in common when what was decided for one counts for the other.
_ALIKE = 0.6
#: Decisions that are looked at, newest first.
_MOST = 500


@dataclass(frozen=True)
class Structure:
    """The share of a skill's outputs, steps and agents are those that are asked for; None where nothing is known."""

    share: float | None = None
    said: str = ""

    @property
    def weight(self) -> float:
        """Weight: the amount it adds to the logarithm of the odds."""
        return 0.0 if self.share is None else self.share - 0.5


def compare_structure(
    task: str, outputs: Sequence[str], graph: Mapping[str, Any], agents: Sequence[str], plan: Mapping[str, Any] | None
) -> Structure:
    """Compare a task, and a plan if there is one, with what a skill makes and how.

    >>> compare_structure("Plot the residuals", ["residuals.png"], {}, [], None)
    Structure(share=1.0, said='makes a picture, as asked')
    >>> compare_structure("Write a table", ["residuals.png"], {}, [], None)
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


@dataclass(frozen=True)
class Feedback:
    """The past of a skill: its share of successes (1/2 when unknown), and the last decision for a task like this."""

    succeeded: int = 0
    failed: int = 0
    decided: str = ""

    @property
    def rate(self) -> float:
        """The share of executions that succeeded, drawn towards 1/2 when they are few.

        >>> Feedback(8, 0).rate, Feedback().rate
        (0.9, 0.5)
        """
        return (self.succeeded + 1) / (self.succeeded + self.failed + 2)

    @property
    def weight(self) -> float:
        """Weight: the amount it adds to the logarithm of the odds."""
        told = {"refused": -1.5, "accepted": 0.5}.get(self.decided, 0.0)
        return told + 1.2 * (self.rate - 0.5)

    def text(self) -> str:
        """Return it in words; empty when there is nothing to say."""
        said = []
        runs = self.succeeded + self.failed
        if runs:
            said.append(f"{self.succeeded} of {runs} execution{'s' if runs != 1 else ''} succeeded")
        if self.decided:
            said.append(f"{self.decided} the last time for such a task")
        return "; ".join(said)


def decisions(db: Database, task: str, names: Iterable[str]) -> dict[str, str]:
    """Return what was last decided when skills of these names were offered for a task like this one."""
    wanted = list(names)
    if not wanted:
        return {}
    marks = ", ".join(f":name_{place}" for place in range(len(wanted)))
    rows = db.rows(
        "SELECT s.name AS name, m.status AS status, m.task_description AS task FROM skill_matches m"
        " JOIN skills s ON s.id = m.skill_id"
        f" WHERE s.name IN ({marks}) AND m.status IN ('refused', 'accepted')"
        f" ORDER BY m.created_at DESC LIMIT {_MOST}",
        **{f"name_{place}": name for place, name in enumerate(wanted)},
    )
    found: dict[str, str] = {}
    for row in rows:
        if row["name"] not in found and alike(task, row["task"] or "") >= _ALIKE:
            found[row["name"]] = row["status"]
    return found


def alike(first: str, second: str) -> float:
    """Return the share of their words that two tasks have in common.

    >>> alike("Plot the TT spectra", "plot a TT spectrum"), alike("Fit H0", "Fit H0!")
    (0.5, 1.0)
    """
    a, b = ({stem(word) for word in words(text)} for text in (first, second))
    return len(a & b) / len(a | b) if a | b else float(first == second)


@dataclass(frozen=True)
class Conditions:
    """The conditions that do not hold (none when the skill can be run), and the input that each parameter takes."""

    unmet: list[str] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)


def check_conditions(skill: SkillRecord, inputs: Mapping[str, Any] | None) -> Conditions:
    """Check a skill's preconditions against this machine and, where data is given, against the data.

    Each parameter for an input file takes the first of the inputs that fits it: one of its own name before others. Any
    other parameter takes the input of its name. Where data is given that no parameter can take, the skill would not
    look at it, which is a condition unmet.
    """
    from cmbagent_nb.skills import conditions

    unmet: list[str] = []
    try:
        conditions.check_conditions(skill)
    except SkillError as error:
        unmet.append(error.what)
    if not inputs:
        return Conditions(unmet)
    taken: dict[str, str] = {}
    reasons: list[str] = []
    for parameter in (item for item in skill.parameters if item.kind != "output"):
        own = parameter.name.casefold()
        own = own.removesuffix("_file") if parameter.kind == "input" else own
        free = [name for name in inputs if name not in taken.values()]
        names = sorted(free, key=lambda name: name.casefold() != own)
        if parameter.kind == "value":
            names = [name for name in names if name.casefold() == own]
        for name in names:
            problem = _problem(skill, parameter.name, inputs[name])
            if not problem:
                taken[parameter.name] = name
                break
            reasons.append(f"{name}: {problem}")
    unused = [name for name in inputs if name not in taken.values()]
    if unused:
        why = f" ({'; '.join(reasons)})" if reasons else ""
        unmet.append(f"it does not take {', '.join(unused)}{why}")
    return Conditions(unmet, taken)


def _problem(skill: SkillRecord, parameter: str, value: Any) -> str:
    from cmbagent_nb.skills.running.check import check_parameters

    try:
        check_parameters(skill, {parameter: value})
    except SkillError as error:
        return error.what
    return ""
