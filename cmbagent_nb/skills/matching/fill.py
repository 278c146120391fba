"""Reads values of a skill's parameters from a task: ``lmax of 1500`` is a value for ``lmax``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError

if TYPE_CHECKING:
    from cmbagent_nb.skills.model import Parameter

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_QUOTED = r"'[^']*'|\"[^\"]*\""
_LINK = r"\s*(=|:|==|\bof\b|\bis\b|\bto\b|\bat\b|\bup to\b|\bset to\b)?\s*"
#: What stands before a name that is given a value with "to" or "at"; "fit H0 to 32 points" gives none.
_SETS = re.compile(
    r"\b(?:set|change|raise|lower|increase|decrease|reduce|limit|extend|cut|fix|keep|hold)\w*\s+(?:\w+\s+)?$",
    re.IGNORECASE,
)


def named_values(task: str, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values that a task gives by a parameter's name; what does not fit its type is passed over.

    >>> from cmbagent_nb.skills.model import Parameter
    >>> known = [Parameter("lmax", "int", 2508), Parameter("H0", "float", 67.4), Parameter("n", "int", 1)]
    >>> named_values("Plot the spectrum up to lmax = 1500 with H0 of 70", known)
    {'lmax': 1500, 'H0': 70.0}
    """
    found: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind != "value" or parameter.type not in ("int", "float", "str"):
            continue
        name = r"[\s_-]*".join(re.escape(part) for part in parameter.name.split("_") if part)
        value = _QUOTED if parameter.type == "str" else _NUMBER
        # a name of one letter is a word like any other unless an equals sign follows
        link = r"\s*(==?)\s*" if len(parameter.name) < 2 else _LINK
        match = re.search(rf"(?<![\w.]){name}(?!\w){link}({value})(?![\w%])", task, re.IGNORECASE)
        if match is None:
            continue
        if (match[1] or "").lower() in ("to", "at") and not _SETS.search(task[: match.start()]):
            continue
        text = match[2].strip("'\"") if parameter.type == "str" else match[2]
        try:
            given = parameter.check(text)
        except SkillError:
            continue
        if given != parameter.default and (not parameter.choices or given in parameter.choices):
            found[parameter.name] = given
    return found


def stored_value(path: Path) -> Any:
    """Return an input as it was stored with a run: a table as a DataFrame, anything else as the path of its file."""
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path)
    return str(path)


def taken_values(taken: Mapping[str, str], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs by the names of the parameters that take them."""
    return {parameter: inputs[name] for parameter, name in taken.items() if name in inputs}
