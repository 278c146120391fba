"""Whether a skill can be run on what is at hand: packages, files, and the columns of the data that is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import Skill


@dataclass(frozen=True)
class Conditions:
    """What does not hold (empty when the skill can be run), and which of the inputs each parameter takes."""

    unmet: list[str] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)


def check(skill: Skill, inputs: Mapping[str, Any] | None) -> Conditions:
    """Check a skill's preconditions against this machine and, where data is given, against the data.

    Each parameter for an input file takes the first of the inputs that fits it: one of its own name before others. Any
    other parameter takes the input of its name. Where data is given that no parameter can take, the skill would not
    look at it, which is a condition unmet.
    """
    from cmbagent_nb.skills.running.check import check_conditions

    unmet: list[str] = []
    try:
        check_conditions(skill)
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


def _problem(skill: Skill, parameter: str, value: Any) -> str:
    from cmbagent_nb.skills.running.check import check_parameters

    try:
        check_parameters(skill, {parameter: value})
    except SkillError as error:
        return error.what
    return ""
