"""Literals without a name of their own: keywords of calls, defaults, limits, seeds, numbers of the task."""

from __future__ import annotations

import re
from typing import Any

import libcst as cst

from cmbagent_nb.skills.extracting import vocabulary as words
from cmbagent_nb.skills.extracting.candidate import Finder, as_value, is_numbers, is_texts
from cmbagent_nb.skills.extracting.source import dotted, draws, is_number, trivial, try_literal
from cmbagent_nb.skills.extracting.wording import unit_in


def documented(docstring: str, name: str) -> str:
    """Return what a docstring says of an argument, in the form of Sphinx, Google or NumPy.

    >>> documented("Fit.\\n\\n:param lmax: highest multipole", "lmax")
    'highest multipole'
    >>> documented("Fit.\\n\\nArgs:\\n    lmax (int): highest\\n        multipole\\n    n: how many", "lmax")
    'highest multipole'
    >>> documented("Fit.\\n\\nParameters\\n----------\\nlmax : int\\n    Highest multipole.\\nn : int", "lmax")
    'Highest multipole'
    """
    word = re.escape(name)
    sphinx = re.search(rf":param\s+(?:[\w.\[\]]+\s+)?{word}:\s*([^:]+?)(?=\n\s*:|\n\s*\n|\Z)", docstring)
    google = re.search(rf"^([ \t]+){word}\s*(?:\([^)]*\))?:[ \t]+(\S.*(?:\n\1[ \t]+\S.*)*)", docstring, re.MULTILINE)
    numpy = re.search(rf"^([ \t]*){word}[ \t]*(?::[^\n]*)?\n((?:\1[ \t]+\S.*(?:\n|\Z))+)", docstring, re.MULTILINE)
    text = sphinx[1] if sphinx else google[2] if google else numpy[2] if numpy else ""
    text = " ".join(text.split()).removesuffix(".")
    return text if len(text) <= 160 else f"{text[:157]}…"


class Calls(Finder):
    """Collects the literals within calls, defaults and comparisons."""

    def visit_Call(self, node: cst.Call) -> None:
        function = dotted(node.func)[-1]
        if function == "add_argument":
            self._option(node)
            return
        if draws(node):
            return
        for position, argument in enumerate(node.args):
            if argument.star:
                return
            if argument.keyword is not None:
                self._keyword(function, argument.keyword.value, argument.value)
            elif function in words.POSITIONS and words.POSITIONS[function][0] == position:
                self._positional(function, argument.value)

    def _keyword(self, function: str, name: str, node: cst.BaseExpression) -> None:
        value, known = try_literal(node), name.lower() in words.KNOBS
        if value is None or (words.is_cosmetic(name) and not known) or words.is_constant(name, value):
            return
        if isinstance(value, (list, tuple)):
            wanted = is_numbers(value) and (self.task.names_values(value) or name in words.KNOB_LISTS)
        elif isinstance(value, str):
            wanted = self.files.kind_of(value) == "value" and self._is_named_text(name, value)
        elif trivial(value) or isinstance(value, bool):
            wanted = is_number(value) and ("seed" in name or name == "random_state")
        else:
            wanted = known or self.task.speaks_of(name, value)
        if wanted:
            self.add(name, value, node, "value", source=f"{function}({name}=…)")

    def _is_named_text(self, name: str, value: str) -> bool:
        if value in self.files.columns or words.is_folder(value) or words.FILE_SUFFIX.search(value):
            return False
        if name.lower() in words.METHODS and words.CHOICE.fullmatch(value):
            return True
        return name.lower() in words.CHOICES and (self.task.names_value(value) or bool(words.DATE.fullmatch(value)))

    def _positional(self, function: str, node: cst.BaseExpression) -> None:
        value = try_literal(node)
        _, name, help_ = words.POSITIONS[function]
        if is_number(value) and (function in words.ALWAYS or self.task.speaks_of(name, value)):
            self.add(name, value, node, "value", help=help_, source=f"{function}({value!r})")

    def _option(self, node: cst.Call) -> None:
        """``parser.add_argument("--lmax", default=2508, help=…)``"""
        flags = [try_literal(item.value) for item in node.args if item.keyword is None]
        given = {item.keyword.value: item.value for item in node.args if item.keyword is not None}
        names = [flag.lstrip("-").replace("-", "_") for flag in flags if isinstance(flag, str)]
        if not names:
            return
        name = max(names, key=len)
        if "default" not in given:
            action = try_literal(given["action"]) if "action" in given else None
            if action in ("store_true", "store_false") and not words.is_cosmetic(name):
                self._add_switch(name, action == "store_false", node, given)
            return
        value = try_literal(given["default"])
        kind = self.files.kind_of(value)
        if kind == "input":
            value = self.files.input_for(value)
        if kind == "value" and (not self._is_option(value) or (words.is_cosmetic(name) and name not in words.KNOBS)):
            return
        help_ = try_literal(given["help"]) if "help" in given else ""
        text = re.sub(r"\s*\(default.*?\)", "", help_ or "", flags=re.IGNORECASE).strip()
        choices = try_literal(given["choices"]) if "choices" in given else None
        self.add(
            name, value, given["default"], "value", kind=kind, help=text, unit=unit_in(text), source="option",
            choices=choices if isinstance(choices, (list, tuple)) and value in choices else (),
        )  # fmt: skip

    def _add_switch(self, name: str, value: bool, node: cst.Call, given: dict[str, cst.BaseExpression]) -> None:
        """``parser.add_argument("--no-plot", action="store_true")``: its default stands in no literal."""
        help_ = try_literal(given["help"]) if "help" in given else ""
        self.add(name, value, node, "default", help=help_ or "", source="option")

    def _is_option(self, value: Any) -> bool:
        if isinstance(value, str):
            return words.CHOICE.fullmatch(value) is not None and not words.is_folder(value)
        return is_number(value) or is_numbers(value) or is_texts(value)

    # -- defaults of functions -------------------------------------------------------------------

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        around = self.source.enclosing(node)
        if len(around) > 1 or (around and not isinstance(around[0], cst.ClassDef)):
            return
        called = node.name.value
        skipped = 0
        if around and isinstance(around[0], cst.ClassDef):
            static = any(dotted(item.decorator)[-1] == "staticmethod" for item in node.decorators)
            skipped = 0 if static else 1
            called = around[0].name.value if called == "__init__" else called
        for position, parameter in enumerate([*node.params.params, *node.params.kwonly_params]):
            name = parameter.name.value
            value = try_literal(parameter.default) if parameter.default is not None else None
            if value is None or parameter.default is None or not self._is_wanted_default(name, value):
                continue
            if self._left_out(called, position - skipped, name):
                help_ = documented(node.get_docstring() or "", name)
                self.add(
                    name, value, parameter.default, "value", help=help_, unit=unit_in(help_),
                    source=f"default of {node.name.value}",
                )  # fmt: skip

    def _is_wanted_default(self, name: str, value: Any) -> bool:
        """Tell whether a default is a choice: of the method, of the task; not of looks, and no neutral 0, 1 or flag."""
        known = name.lower() in words.KNOBS
        if (words.is_cosmetic(name) and not known) or words.is_constant(name, value) or name.startswith("_"):
            return False
        if self.files.kind_of(value) != "value" or isinstance(value, bool):
            return False
        if isinstance(value, str):
            return self._is_named_text(name, value) or self.task.names_value(value)
        if isinstance(value, (list, tuple)):
            return is_numbers(value) and (known or self.task.names_values(value) or name in words.KNOB_LISTS)
        if trivial(value):
            said = isinstance(value, float) and self.task.names_value(value)
            return said or self.task.speaks_of(name, value)
        return known or self.task.speaks_of(name, value) or name.lower() not in words.WORKING

    def _left_out(self, called: str, position: int, name: str) -> bool:
        """Tell whether some call leaves an argument to its default."""
        calls = [call for call in self.source.calls if dotted(call.func)[-1] == called]
        return any(
            not any(item.star or (item.keyword is not None and item.keyword.value == name) for item in call.args)
            and sum(item.keyword is None for item in call.args) <= position
            for call in calls
        )

    # -- what the task names ---------------------------------------------------------------------

    def visit_Comparison(self, node: cst.Comparison) -> None:
        if len(node.comparisons) != 1:
            return
        operator, right = node.comparisons[0].operator, node.comparisons[0].comparator
        value, base = try_literal(right), _thing(node.left)
        if value is None or isinstance(value, bool) or not base or words.is_cosmetic(base):
            return
        ending = {
            cst.GreaterThan: "_min",
            cst.GreaterThanEqual: "_min",
            cst.LessThan: "_max",
            cst.LessThanEqual: "_max",
        }
        name = base + ending.get(type(operator), "")
        if isinstance(value, str):
            wanted = isinstance(operator, (cst.Equal, cst.NotEqual)) and self.task.names_value(value)
            wanted = wanted and base != "__name__" and not self._is_argument(node.left)
        else:
            wanted = is_number(value) and self.task.speaks_of(base, value) and not trivial(value)
        if wanted:
            self.add(name, value, right, "value", source="comparison")

    def _is_argument(self, node: cst.BaseExpression) -> bool:
        """Tell whether a name is an argument of the function around it: who calls it decides."""
        functions = [item for item in self.source.enclosing(node) if isinstance(item, cst.FunctionDef)]
        names = {item.name.value for function in functions for item in [*function.params.params,
                 *function.params.kwonly_params]}  # fmt: skip
        return isinstance(node, cst.Name) and node.value in names

    def visit_Integer(self, node: cst.Integer) -> None:
        self._named_number(node)

    def visit_Float(self, node: cst.Float) -> None:
        self._named_number(node)

    def _named_number(self, node: cst.Integer | cst.Float) -> None:
        """A number of three digits or more, bare in a call's arguments, that the task introduces by a word."""
        value, parent = node.evaluated_value, self.source.parents.get(node)
        digits = len(node.value.replace(".", "").replace("_", "").lstrip("0"))
        if (
            digits < 3
            or not isinstance(parent, cst.Arg)
            or parent.keyword is not None
            or not self.task.names_value(value)
        ):
            return
        call = self.source.parents.get(parent)
        name = self.task.word_for(value)
        drawn = any(isinstance(item, cst.Call) and draws(item) for item in self.source.ancestors(node))
        shapes = isinstance(call, cst.Call) and dotted(call.func)[-1] in {"zeros", "ones", "empty", "reshape", "full"}
        if name and not drawn and not shapes and not words.is_cosmetic(name) and not words.is_constant(name, value):
            self.add(name, as_value(value), node, "value", source="named in the task")


def _thing(node: cst.BaseExpression) -> str:
    """Return the name of what is compared: a column, an attribute or a variable."""
    if isinstance(node, cst.Subscript) and len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index):
        value = try_literal(node.slice[0].slice.value)
        name = value if isinstance(value, str) else ""
    else:
        name = dotted(node)[-1]
    return name if name.isidentifier() else re.sub(r"\W+", "_", name).strip("_")
