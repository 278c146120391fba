"""Declares verbs: one function with one decorator.

A new verb is this and nothing else; the magic, the command line, the help and ``--json`` follow::

    @verb("tags", RUN, arg("--limit", type=count, metavar="N", help="at most so many"), group="runs")
    def tags(call: Call) -> Output:
        \"\"\"List the tags of a run.\"\"\"
        return table(call.run().tags(), "tag at", limit=call.options.limit)
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmbagent_nb.verbs.call import Call
    from cmbagent_nb.verbs.output import Output

#: The groups of verbs in the order in which the help shows them.
GROUPS = ("runs", "control", "skills", "the rest")


@dataclass(frozen=True)
class Option:
    """An argument or option of a verb, in the words of ``argparse``."""

    flags: tuple[str, ...]
    keywords: dict[str, Any]
    front: str = ""  #: ``cli`` or ``magic``, when only one of them has it


@dataclass(frozen=True)
class Verb:
    """A verb: its name (two words for one such as ``skill run``), what it takes and what it does."""

    name: str
    function: Callable[[Call], Output]
    options: tuple[Option, ...]
    group: str
    help: str
    more: str = ""  #: what ``--help`` says beyond the first line
    needs_workspace: bool = True


#: All verbs by name.
VERBS: dict[str, Verb] = {}
#: Hidden names: each stands for the words that it is replaced with.
ALIASES: dict[str, tuple[str, ...]] = {}


def verb(
    name: str,
    *options: Option,
    group: str,
    aliases: dict[str, tuple[str, ...]] | tuple[str, ...] = (),
    needs_workspace: bool = True,
) -> Callable[[Callable[[Call], Output]], Callable[[Call], Output]]:
    """Declare a verb; the first line of the function's docstring is its help.

    Parameters
    ----------
    aliases
        Hidden names, or hidden names with the words that they stand for.
    needs_workspace
        Whether the workspace must be usable before the verb is called.
    """

    def declare(function: Callable[[Call], Output]) -> Callable[[Call], Output]:
        first, _, more = (function.__doc__ or "").strip().partition("\n")
        more = "\n".join(line.strip() for line in more.strip().splitlines())
        VERBS[name] = Verb(name, function, options, group, first, more, needs_workspace)
        words = aliases if isinstance(aliases, dict) else {alias: tuple(name.split()) for alias in aliases}
        ALIASES.update(words)
        return function

    return declare


def arg(*flags: str, front: str = "", **keywords: Any) -> Option:
    """Declare an argument or option: the parameters of ``ArgumentParser.add_argument``."""
    return Option(flags, keywords, front)


# ---- what many verbs take

RUN = arg("run", nargs="?", metavar="RUN", help="a run: its name, its id or a part of it; the newest if left out")
NODE = arg("--node", metavar="NODE", help="only this node, such as step_2")


def count(text: str) -> int:
    """Read a whole number of 1 or more."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def amount(text: str) -> float:
    """Read an amount in US dollars."""
    try:
        value = float(text.strip().lstrip("$"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in US dollars")
    return value


_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_SECONDS = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def moment(text: str) -> float:
    """Read a moment: ``30m``, ``2h``, ``7d``, or a date with or without a time.

    >>> moment("1970-01-02T00:00:00Z")
    86400.0
    """
    found = _AGO.fullmatch(text.strip())
    if found:
        return time.time() - float(found[1]) * _SECONDS[found[2]]
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        msg = f"{text!r} is no time: write 30m, 2h, 7d or a date such as {datetime.now(UTC):%Y-%m-%d}"
        raise argparse.ArgumentTypeError(msg) from None
    return value.timestamp()


LIMIT = arg("--limit", type=count, metavar="N", help="at most so many, the newest")
