"""Recommends changes of a version from its executions: each recommendation with its evidence, and the change that follows.

| seen | becomes |
|---|---|
| agents gave a parameter the same other value again and again, or users did | a new default |
| agents changed the same constant in the code | a parameter |
| executions with some values of a parameter fail, and all others do not | a condition, checked before the start |
| failures that no parameter explains | named, for a person to look at |
| executions with the values of an earlier one | the earlier one is reused; if the code depends on more than values and files, that is named |
| a cell that takes most of the time | named |
| a parameter that nobody has ever varied | named |

A recommendation with a ``change`` is one that :mod:`optimize` can make without a model.
"""  # noqa: E501

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.learning import performance
from cmbagent_nb.skills.learning.performance import effective, ended, error_kind

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.model import Parameter

#: How often something has to be seen, and for what only a habit of many executions speaks.
OFTEN, MANY = 3, 10
#: The part of the executions that makes a habit; the part of the time, and the seconds, that make a cell slow.
_HABIT, _SLOW_SHARE, _SLOW_S = 0.6, 0.25, 0.25
#: Successes that have to stand against failures before a condition follows from them.
_AGAINST = 5
#: The part of the executions whose values must have come before for reuse to be worth it.
_COMES_AGAIN = 0.3


@dataclass(frozen=True)
class Recommendation:
    """One thing to change, why, and how often it was seen."""

    kind: str  #: default, parameter, precondition, failure, reuse, repeated, slow_cell, unused_parameter
    target: str
    text: str
    evidence: dict[str, Any] = field(default_factory=dict)
    change: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the recommendation as JSON shows it."""
        return asdict(self)

    def __str__(self) -> str:
        return self.text


def recommendations(skill: SkillRecord) -> list[Recommendation]:
    """Return what a version's executions suggest, the most effective first."""
    skill.writer.caught_up()
    rows = ended(performance.executions(skill.db, skill.id))
    found = [*_conditions(skill, rows), *_adapted(skill, rows), *_habits(skill, rows), *_slow(skill, rows)]
    found += _unused(skill, rows, {item.target for item in found})
    defaults: set[str] = set()
    kept = []
    for item in found:
        if item.kind == "default":
            if item.target in defaults:
                continue
            defaults.add(item.target)
        kept.append(item)
    return kept


# -- failures -----------------------------------------------------------------------------------


def _conditions(skill: SkillRecord, rows: list[dict[str, Any]]) -> Iterator[Recommendation]:
    good = [row for row in rows if row["status"] == "completed" and not row["adapted"]]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] != "completed":
            groups.setdefault(error_kind(row["error"] or row["status"]), []).append(row)
    refused: set[str] = set()
    for kind, bad in sorted(groups.items(), key=lambda item: -len(item[1])):
        if len(bad) < OFTEN:
            continue
        found = _separating(skill.parameters, bad, good, bad[-1]["error"] or "") if len(good) >= _AGAINST else None
        evidence = {
            "failures": len(bad),
            "successes": len(good),
            "error": kind,
            "executions": [row["id"] for row in bad],
        }
        if found is None:
            text = f"{len(bad)} of {len(rows)} executions fail with {kind!r}; no parameter explains it"
            yield Recommendation("failure", "", text, evidence)
            continue
        condition = {**found, "reason": f"{len(bad)} executions failed otherwise: {kind}"}
        said = f"{condition['parameter']} {condition['op']} {condition['value']!r}"
        text = f"{len(bad)} of {len(rows)} executions fail with {kind!r}, none of those with {said}: check that before"
        yield Recommendation("precondition", condition["parameter"], text, evidence, {"condition": condition})
        parameter = next(item for item in skill.parameters if item.name == condition["parameter"])
        from cmbagent_nb.skills.conditions import holds

        if parameter.name not in refused and not holds(condition, parameter.default):
            refused.add(parameter.name)
            yield _default(parameter, _commonest([effective(row, parameter) for row in good])[0], good, "succeeds")


def _separating(
    parameters: list[Parameter], bad: list[dict[str, Any]], good: list[dict[str, Any]], error: str
) -> dict[str, Any] | None:
    """Return the condition on one parameter that all successes meet and none of these failures does."""
    found = []
    for parameter in parameters:
        if parameter.kind != "value" or parameter.type == "list":
            continue
        failing = [effective(row, parameter) for row in bad]
        fine = [effective(row, parameter) for row in good]
        try:
            condition = _condition(parameter, failing, fine)
        except TypeError:
            continue  # values of several types: nothing follows from them
        if condition is not None:
            named = parameter.name.casefold() in error.casefold()
            found.append((named, len({json.dumps(value) for value in failing}), condition))
    return max(found, key=lambda item: (item[0], item[1]))[2] if found else None


def _condition(parameter: Parameter, failing: list[Any], fine: list[Any]) -> dict[str, Any] | None:
    distinct = sorted(set(failing))
    if set(distinct) & set(fine):
        return None
    name = {"parameter": parameter.name}
    if len(distinct) == 1:
        return {**name, "op": "!=", "value": distinct[0]}
    if parameter.type in ("int", "float"):
        if max(distinct) < min(fine):
            return {**name, "op": ">", "value": max(distinct)}
        if min(distinct) > max(fine):
            return {**name, "op": "<", "value": min(distinct)}
    if parameter.type in ("str", "bool") and len(distinct) * 2 <= len(failing):
        return {**name, "op": "not in", "value": distinct}
    return None


# -- what agents and users change ----------------------------------------------------------------


def _adapted(skill: SkillRecord, rows: list[dict[str, Any]]) -> Iterator[Recommendation]:
    parameters = {item.name: item for item in skill.parameters}
    given: dict[str, list[tuple[Any, str]]] = {}
    changed: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for row in rows:
        for item in row["adaptations"] or []:
            before, after = item.get("before"), item.get("after")
            if item.get("kind") == "parameter" and isinstance(after, dict):
                for name, value in after.items():
                    if name in parameters and value != parameters[name].default:
                        given.setdefault(name, []).append((value, row["id"]))
            elif item.get("kind") == "code" and isinstance(before, str) and isinstance(after, str):
                for constant in changed_constants(before, after):
                    place = json.dumps([item.get("node_id"), constant["path"], constant["before"]])
                    changed.setdefault(place, []).append(({**constant, "node_id": item.get("node_id")}, row["id"]))
    for name, values in given.items():
        value, count = _commonest([value for value, _ in values])
        if count >= OFTEN:
            text = f"agents set {name} to {value!r} in {count} of {len(rows)} executions: make it the default"
            evidence = {"times": count, "executions": [id for own, id in values if own == value]}
            yield Recommendation("default", name, text, evidence, {"default": {name: value}})
    for occurrences in changed.values():
        if len(occurrences) >= OFTEN:
            first = occurrences[0][0]
            value, _ = _commonest([item["after"] for item, _ in occurrences])
            name = first["name"] or "value"
            text = (
                f"agents changed {first['before']!r} in {first['node_id']} in {len(occurrences)} of {len(rows)} "
                f"executions: make it the parameter {name}, by default {value!r}"
            )
            evidence = {"times": len(occurrences), "executions": [id for _, id in occurrences]}
            change = {"parameter": {**first, "name": name, "default": value}}
            yield Recommendation("parameter", name, text, evidence, change)


def changed_constants(before: str, after: str) -> list[dict[str, Any]]:
    """Return the constants in which two codes differ, if they differ in nothing else.

    >>> changed_constants("fit(x, order=3)", "fit(x, order=5)")[0]["name"]
    'order'
    """
    try:
        old, new = ast.parse(before), ast.parse(after)
    except SyntaxError:
        return []
    found: list[dict[str, Any]] = []
    return found if _compare(old, new, "", "", found) else []


def _compare(old: Any, new: Any, path: str, name: str, found: list[dict[str, Any]]) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, ast.Constant):
        if old.value != new.value or type(old.value) is not type(new.value):
            if not isinstance(old.value, (int, float, str)) or type(old.value) is not type(new.value):
                return False
            found.append({"before": old.value, "after": new.value, "path": path, "name": name})
        return True
    if isinstance(old, ast.AST):
        inner = getattr(old, "arg", None) or _target(old) or (name if not isinstance(old, ast.stmt) else "")
        return all(
            _compare(getattr(old, part, None), getattr(new, part, None), f"{path}.{part}", inner, found)
            for part in old._fields
            if part not in ("kind", "ctx", "type_comment")
        )
    if isinstance(old, list):
        pairs = enumerate(zip(old, new, strict=False))
        return len(old) == len(new) and all(_compare(a, b, f"{path}[{n}]", name, found) for n, (a, b) in pairs)
    return bool(old == new)


def _target(node: ast.AST) -> str:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""


def _habits(skill: SkillRecord, rows: list[dict[str, Any]]) -> Iterator[Recommendation]:
    good = [row for row in rows if row["status"] == "completed"]
    if len(good) < MANY:
        return
    for parameter in skill.parameters:
        if parameter.kind != "value":
            continue
        value, count = _commonest([effective(row, parameter) for row in good])
        if value != parameter.default and count >= _HABIT * len(good):
            yield _default(parameter, value, good, "is given")


def _default(parameter: Parameter, value: Any, good: list[dict[str, Any]], why: str) -> Recommendation:
    count = sum(effective(row, parameter) == value for row in good)
    text = f"{parameter.name} {why} with {value!r} in {count} of {len(good)} successes: make it the default"
    evidence = {"times": count, "of": len(good), "before": parameter.default}
    return Recommendation("default", parameter.name, text, evidence, {"default": {parameter.name: value}})


def _unused(skill: SkillRecord, rows: list[dict[str, Any]], known: set[str]) -> Iterator[Recommendation]:
    if len(rows) < MANY:
        return
    for parameter in skill.parameters:
        varied = any(effective(row, parameter) != parameter.default for row in rows)
        if not varied and parameter.name not in known:
            text = f"{parameter.name} had its default in all {len(rows)} executions: nobody seems to need it"
            evidence = {"executions": len(rows), "kind": parameter.kind}
            yield Recommendation("unused_parameter", parameter.name, text, evidence)


def _commonest(values: list[Any]) -> tuple[Any, int]:
    counts = Counter(json.dumps(value, sort_keys=True, default=str) for value in values)
    text, count = counts.most_common(1)[0]
    return next(value for value in values if json.dumps(value, sort_keys=True, default=str) == text), count


# -- time ---------------------------------------------------------------------------------------


def _slow(skill: SkillRecord, rows: list[dict[str, Any]]) -> Iterator[Recommendation]:
    """Recommend that equal executions are reused, and name the cells that take most of the time."""
    from cmbagent_nb.skills.learning.reuse import hindrances
    from cmbagent_nb.skills.notebook import read_notebook
    from cmbagent_nb.skills.source_hash import check_notebook

    again, good = _comes_again(skill, rows), [row for row in rows if row["status"] == "completed"]
    if again >= _COMES_AGAIN and len(good) >= OFTEN and not skill.meta.get("reuse"):
        evidence: dict[str, Any] = {"comes_again": again, "executions": len(rows)}
        text = f"{again:.0%} of the executions had the values of an earlier one"
        if found := hindrances(read_notebook(check_notebook(skill))):
            text = f"{text}; it is not reused, since the code depends on {'; '.join(found[:2])}"
            yield Recommendation("repeated", "", text, evidence)
        else:
            yield Recommendation("reuse", "", f"{text}: reuse its results", evidence, {"reuse": True})
    for cell in performance.by_cell(skill, rows):
        if cell["executions"] >= OFTEN and cell["median_s"] >= _SLOW_S and cell["share"] >= _SLOW_SHARE:
            evidence = {name: cell[name] for name in ("median_s", "share", "executions")}
            text = f"{cell['label']!r} takes {cell['median_s']:.2g} s, {cell['share']:.0%} of the time"
            yield Recommendation("slow_cell", cell["cell"], text, evidence)


def _comes_again(skill: SkillRecord, rows: list[dict[str, Any]]) -> float:
    """Return the part of the executions whose values an earlier one had."""
    given = {json.dumps([effective(row, item) for item in skill.parameters], default=str) for row in rows}
    return 1 - len(given) / len(rows) if rows else 0.0
