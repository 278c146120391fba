"""Conditions on parameters that a version learned from its failures; checked before anything starts.

A condition is data: ``{"parameter": "n", "op": ">=", "value": 1, "reason": "…"}`` in the version's
``preconditions["parameters"]``. What cannot be read as one is passed over, since a newer version may know more.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import SkillError

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import Skill

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "!=": operator.ne, "==": operator.eq,
    "not in": lambda value, among: value not in among,
}  # fmt: skip


def check(skill: Skill, values: dict[str, Any]) -> None:
    """Refuse values with which this skill is known to fail.

    Raises
    ------
    SkillError
        A condition does not hold; it says which, and how often the skill failed so.
    """
    unmet = unmet_conditions(skill.preconditions.get("parameters"), skill.parameters, values)
    if unmet:
        first = unmet[0]
        raise SkillError(
            f"skill {skill.name} v{skill.version} fails unless {text(first)} ({first.get('reason', 'learned')})",
            f"Give another value for {first['parameter']}, or run an older version of {skill.name}.",
            parameter=first["parameter"],
            conditions=unmet,
        )


def unmet_conditions(conditions: Any, parameters: list[Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions that do not hold for values, defaults where none is given."""
    defaults = {item.name: item.default for item in parameters}
    return [
        condition
        for condition in conditions or []
        if condition.get("parameter") in defaults
        and not holds(condition, values.get(condition["parameter"], defaults[condition["parameter"]]))
    ]


def holds(condition: dict[str, Any], value: Any) -> bool:
    """Tell whether a condition holds for a value; one that cannot be compared is not judged.

    >>> holds({"parameter": "n", "op": ">=", "value": 1}, 0), holds({"parameter": "n", "op": "!=", "value": "a"}, "b")
    (False, True)
    """
    test = OPERATORS.get(condition.get("op", ""))
    try:
        return test is None or bool(test(value, condition["value"]))
    except (TypeError, KeyError):
        return True


def text(condition: dict[str, Any]) -> str:
    """Return a condition as one reads it."""
    return f"{condition['parameter']} {condition['op']} {condition['value']!r}"
