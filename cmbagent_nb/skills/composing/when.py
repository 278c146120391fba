"""The condition of a composition: a comparison of numbers that the first skill makes, or of the files that it makes.

It is parsed and checked piece by piece, and nothing of it is ever evaluated as code: what goes into the
notebook is written anew from the parts that are known.

>>> condition = parse("chi2 / 2 < 1")  # doctest: +ELLIPSIS
Traceback (most recent call last):
cmbagent_nb.errors.SkillError: 'chi2 / 2' cannot be part of a condition. Write it as in: ...
>>> condition = parse('fit.chi2 < 1.5 and "data/fit.csv" in outputs')
>>> condition.metrics, condition.holds({"fit.chi2": 1.0}, {"data/fit.csv"}), condition.holds({"fit.chi2": 2.0}, set())
(('fit.chi2',), True, False)
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cmbagent_nb.errors import SkillError

_COMPARE: dict[type[ast.cmpop], tuple[str, Any]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne),
}  # fmt: skip
_OUTPUTS = "outputs"
_LONGEST = 500


@dataclass(frozen=True)
class Condition:
    """A condition that was read: its text, and the metrics and files that it names."""

    text: str
    tree: ast.expr
    metrics: tuple[str, ...]
    files: tuple[str, ...]

    def holds(self, metrics: Mapping[str, float], outputs: Collection[str]) -> bool:
        """Tell whether it holds for what an execution made.

        Raises
        ------
        SkillError
            It names a metric that was not made.
        """
        return _holds(self.tree, metrics, outputs)

    def code(self) -> str:
        """Return it as Python of our own making, on ``metric(name)`` and ``outputs``."""
        return _code(self.tree)


def parse(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    SkillError
        It is no comparison of metrics with numbers, and no question for a file.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        raise _refused(str(text)[:80])
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(text) from None
    metrics: dict[str, None] = {}
    files: dict[str, None] = {}
    _check(tree, metrics, files)
    return Condition(text.strip(), tree, tuple(metrics), tuple(files))


def _refused(part: str) -> SkillError:
    return SkillError(
        f"{part!r} cannot be part of a condition",
        'Write it as in: chi2 < 1.5 and "data/a.csv" in outputs.',
        condition=part,
    )


def _check(node: ast.expr, metrics: dict[str, None], files: dict[str, None]) -> None:
    if isinstance(node, ast.BoolOp):
        for item in node.values:
            _check(item, metrics, files)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, metrics, files)
    elif isinstance(node, ast.Compare) and _asks_for_file(node):
        files.setdefault(_text(node.left))
    elif isinstance(node, ast.Compare) and all(type(item) in _COMPARE for item in node.ops):
        sides = [node.left, *node.comparators]
        names = [name for name in map(_metric, sides) if name]
        if not names or any(_metric(item) is None and _number(item) is None for item in sides):
            raise _refused(
                next((ast.unparse(i) for i in sides if not _metric(i) and _number(i) is None), ast.unparse(node))
            )
        metrics.update(dict.fromkeys(names))
    else:
        raise _refused(ast.unparse(node))


def _asks_for_file(node: ast.Compare) -> bool:
    return (
        len(node.ops) == 1
        and isinstance(node.ops[0], (ast.In, ast.NotIn))
        and isinstance(node.left, ast.Constant)
        and isinstance(node.left.value, str)
        and isinstance(node.comparators[0], ast.Name)
        and node.comparators[0].id == _OUTPUTS
    )


def _text(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _metric(node: ast.expr) -> str | None:
    """Return the name of a metric: ``chi2``, ``fit.chi2``, or ``metrics["χ² per point"]`` for any other name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _metric(node.value)
        return f"{base}.{node.attr}" if base else None
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "metrics"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ):
        return node.slice.value
    return None


def _number(node: ast.expr) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _number(node.operand)
        return value if value is None or isinstance(node.op, ast.UAdd) else -value
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return node.value
    return None


def _holds(node: ast.expr, metrics: Mapping[str, float], outputs: Collection[str]) -> bool:
    if isinstance(node, ast.BoolOp):
        results = (_holds(item, metrics, outputs) for item in node.values)
        return all(results) if isinstance(node.op, ast.And) else any(results)
    if isinstance(node, ast.UnaryOp):
        return not _holds(node.operand, metrics, outputs)
    assert isinstance(node, ast.Compare)
    if _asks_for_file(node):
        return (_text(node.left) in outputs) == isinstance(node.ops[0], ast.In)
    values = [_value(item, metrics) for item in (node.left, *node.comparators)]
    pairs = zip(node.ops, values, values[1:], strict=False)
    return all(bool(_COMPARE[type(item)][1](left, right)) for item, left, right in pairs)


def _value(node: ast.expr, metrics: Mapping[str, float]) -> float:
    number, name = _number(node), _metric(node)
    if number is not None:
        return number
    if name is None or name not in metrics:
        raise SkillError(
            f"the condition names {name}, which the first skill does not make",
            f"It makes: {', '.join(metrics) or 'no numbers in JSON files'}.",
            metric=name,
        )
    return metrics[name]


def _code(node: ast.expr) -> str:
    if isinstance(node, ast.BoolOp):
        word = " and " if isinstance(node.op, ast.And) else " or "
        return f"({word.join(_code(item) for item in node.values)})"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return f"(not {_code(node.operand)})"
    assert isinstance(node, ast.Compare)
    if _asks_for_file(node):
        word = "in" if isinstance(node.ops[0], ast.In) else "not in"
        return f"({_text(node.left)!r} {word} outputs)"
    parts = [_operand(node.left)]
    for item, side in zip(node.ops, node.comparators, strict=True):
        parts += [_COMPARE[type(item)][0], _operand(side)]
    return f"({' '.join(parts)})"


def _operand(node: ast.expr) -> str:
    number = _number(node)
    return repr(number) if number is not None else f"metric({_metric(node)!r})"
