"""Literals in the midst of code that speak for themselves: dates, steps of time, what the task counts or lists."""

from __future__ import annotations

from typing import Any

import libcst as cst
from libcst.metadata import FunctionScope

from cmbagent_nb.skills.extracting import vocabulary as words
from cmbagent_nb.skills.extracting.candidate import Finder, is_numbers, is_texts
from cmbagent_nb.skills.extracting.source import dotted, draws, is_number, trivial, try_literal

#: Functions that make an array or a table column of a list.
_ARRAYS = frozenset({"array", "asarray", "Series", "Index", "tuple", "list", "set", "arange"})
#: Functions whose first argument, a text, is a step of time.
_STEPS = {"resample": "freq", "asfreq": "freq", "to_period": "freq", "rolling": "window", "Timedelta": "duration"}
#: Functions whose numbers shape, round, index or repeat.
_SHAPES = words.listed(
    """
    zeros ones empty reshape full round around format range enumerate zip len int float str sum pow power max min abs
    print write subplots subplot figure sleep seek read iloc head_ sqrt log log10 exp array asarray list tuple roll eye
    repeat tile transpose swapaxes append insert split join replace strip moveaxis expand_dims arange clip where
    """
)


class Inline(Finder):
    """Collects literals that the task or their form speak for."""

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        value = try_literal(node)
        if not isinstance(value, str) or not words.DATE.fullmatch(value) or id(node) in self.taken_nodes:
            return
        parent = self.source.parents.get(node)
        whole = len(value) > 4 or self.task.names_value(value)
        if whole and isinstance(parent, (cst.Arg, cst.ComparisonTarget, cst.Slice, cst.Index)):
            name = parent.keyword.value if isinstance(parent, cst.Arg) and parent.keyword else ""
            if isinstance(parent, cst.Slice):
                name = "start_date" if parent.lower is node else "end_date"
            self.add(name if name in words.CHOICES else name or "date", value, node, "value", source="date")

    def visit_Call(self, node: cst.Call) -> None:
        function = dotted(node.func)[-1]
        if draws(node) or not node.args:
            return
        first = try_literal(node.args[0].value) if node.args[0].keyword is None else None
        if isinstance(first, str) and function in _STEPS and words.CHOICE.fullmatch(first):
            self.add(_STEPS[function], first, node.args[0].value, "value", source=f"{function}({first!r})")
        elif (
            function == "isin"
            and first is not None
            and is_texts(first)
            and any(self.task.names_value(item) for item in first)
        ):
            base = dotted(node.func)[-2] if len(dotted(node.func)) > 1 else ""
            self.add(base or "chosen", first, node.args[0].value, "value", source="isin")
        elif function not in _SHAPES:
            for argument in node.args:
                if argument.keyword is None and not argument.star:
                    self._number(argument.value, function)

    def _number(self, node: cst.BaseExpression, function: str) -> None:
        """A number with a fraction, or of two digits, bare in a call, that the task names with a word of its own."""
        value = try_literal(node)
        if not is_number(value) or trivial(value) or words.is_constant("", value):
            return
        telling = (isinstance(value, float) and not value.is_integer()) or abs(value) >= 10
        if telling and self.task.names_value(value):
            word = self.task.word_for(value)
            if word and not words.is_cosmetic(word) and not words.is_constant(word, value):
                self.add(word, value, node, "value", source=f"{function}({value!r})")

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:
        """``3 * sigma``, where the task says 3 sigma."""
        if not isinstance(node.operator, cst.Multiply):
            return
        for number, other in ((node.left, node.right), (node.right, node.left)):
            value, thing = try_literal(number), dotted(other)[-1]
            if is_number(value) and thing and self.task.counts(value, thing):
                self.add(f"n_{thing.lower()}", value, number, "value", source="product")

    def visit_For(self, node: cst.For) -> None:
        self._listed(node.target, node.iter)

    def visit_CompFor(self, node: cst.CompFor) -> None:
        self._listed(node.target, node.iter)

    def _listed(self, target: cst.BaseExpression, node: cst.BaseExpression) -> None:
        """``for z in [0.5, 1.0, 2.0]``, where the task lists them."""
        value = try_literal(node)
        if isinstance(target, cst.Name) and not is_texts(value) and self._is_listed(value):
            self.add(f"{target.value}_values", value, node, "value", source="loop")

    def _is_listed(self, value: Any) -> bool:
        if is_texts(value):
            return all(self.task.names_value(item) for item in value) and not set(value) & self.files.columns
        return is_numbers(value) and len(value) > 1 and self.task.names_values(value)

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        if len(node.body) != 1 or not isinstance(node.body[0], cst.Assign) or len(node.body[0].targets) != 1:
            return
        target, value = node.body[0].targets[0].target, node.body[0].value
        if not isinstance(target, cst.Name) or words.is_cosmetic(target.value):
            return
        if isinstance(value, cst.Call) and dotted(value.func)[-1] in _ARRAYS and value.args:
            first = try_literal(value.args[0].value)
            if self._is_listed(first) or (is_numbers(first) and target.value.isupper()):
                self.add(target.value, first, value.args[0].value, "value", source="constant")
        elif isinstance(self.source.scopes.get(target), FunctionScope):
            self._inner(node, target, value)

    def _inner(self, line: cst.SimpleStatementLine, target: cst.Name, node: cst.BaseExpression) -> None:
        """A constant within a function, that the task names with its name."""
        value, name = try_literal(node), target.value
        scope = self.source.scopes.get(target)
        if scope is None or len(scope[name]) != 1 or name in self.source.augmented:
            return
        wanted = is_number(value) and not trivial(value) and not words.is_working(name, value)
        if wanted and not words.is_constant(name, value):
            named = self.task.names_value(value) and (self.task.names_word(name) or abs(value) >= 10)
            if named or (name.lower() in words.KNOBS and bool(self.comment(line)[0])):
                help_, unit = self.comment(line)
                self.add(name, value, node, "value", help=help_, unit=unit, source="constant in a function")
