"""Constants with a name: assignments, fields of settings, entries of tables of settings.

A constant is a parameter where its name, its comment, the task or its use speak for it. What is
bound twice, counts, accumulates, draws, indexes or names a column is passed over.
"""

from __future__ import annotations

import re
from typing import Any

import libcst as cst
from libcst.metadata import FunctionScope, GlobalScope

from cmbagent_nb.skills.extracting import vocabulary as words
from cmbagent_nb.skills.extracting.candidate import Finder, is_numbers, is_texts
from cmbagent_nb.skills.extracting.source import dotted, draws, is_main_guard, is_number, trivial, try_literal
from cmbagent_nb.skills.extracting.wording import gives_unit

_MAIN = re.compile(r"^(main|_main|run|run_\w+|analy[sz]e\w*|analysis)$")
_SETTINGS = re.compile(
    r"(param|conf|setting|cosmo|option|planck|fiducial|opts|hyper|theta|truth|true_|limits?$|cuts?$|bounds?$)", re.I
)
_PATHS = re.compile(r"(out|path|file|save|result)", re.IGNORECASE)
_DATA_NAMES = words.listed(
    """
    x y z t xs ys data values points rows table records samples xdata ydata x_data y_data xerr yerr
    """
)


class Constants(Finder):
    """Collects the constants of a step's code."""

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        if len(node.body) != 1:
            return
        statement = node.body[0]
        if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
            target, value, annotated = statement.targets[0].target, statement.value, False
        elif isinstance(statement, cst.AnnAssign) and statement.value is not None:
            target, value, annotated = statement.target, statement.value, True
        else:
            return
        if isinstance(target, cst.Name):
            self._assignment(node, target, value, annotated)
        elif isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple):
            self._unpacked(node, target, value)

    def _assignment(
        self, line: cst.SimpleStatementLine, target: cst.Name, node: cst.BaseExpression, annotated: bool
    ) -> None:
        name, place = target.value, self._place(line)
        if place == "field":
            self._field(line, name, node)
            return
        if place == "" or not self._bound_once(target):
            return
        self._path_call(name, node)
        self._table(name, node)
        value = try_literal(node)
        if value is None or not self._is_knob(target, value, annotated, line):
            return
        kind = self.files.kind_of(value)
        if kind == "input":
            value = self.files.input_for(value)
        help_, unit = self.comment(line)
        self.add(
            name, value, line, "assign", kind=kind, help=help_, unit=unit, source="constant", target=name,
            literal_node=node,
        )  # fmt: skip

    def _unpacked(self, line: cst.SimpleStatementLine, targets: cst.Tuple, values: cst.Tuple) -> None:
        """``P_MIN, P_MAX = 0.2, 10.0``: each is a constant of its own."""
        if len(targets.elements) != len(values.elements) or self._place(line) != "module":
            return
        for target, item in zip(targets.elements, values.elements, strict=True):
            value = try_literal(item.value)
            if not isinstance(target.value, cst.Name) or value is None or not self._bound_once(target.value):
                continue
            if self._is_knob(target.value, value, False, line):
                name, kind = target.value.value, self.files.kind_of(value)
                value = self.files.input_for(value) if kind == "input" else value
                _, unit = self.comment(line)
                self.add(name, value, item.value, "value", kind=kind, unit=unit, source="constant", target=name)

    def _place(self, line: cst.SimpleStatementLine) -> str:
        """Say where a statement stands: ``module``, ``main``, ``field`` of a settings class, or nowhere of interest."""
        around = list(self.source.ancestors(line))
        blocks = [item for item in around if not isinstance(item, (cst.IndentedBlock, cst.Module))]
        if not blocks:
            return "module"
        if len(blocks) > 1:
            return ""
        if isinstance(blocks[0], cst.If) and is_main_guard(blocks[0]):
            return "module"
        if isinstance(blocks[0], cst.FunctionDef) and self._runs_once(blocks[0]):
            return "main"
        if isinstance(blocks[0], cst.ClassDef) and _is_settings_class(blocks[0]):
            return "field"
        return ""

    def _runs_once(self, function: cst.FunctionDef) -> bool:
        name = function.name.value
        calls = [call for call in self.source.calls if dotted(call.func) == [name]]
        bare = len(calls) == 1 and not calls[0].args and not self.source.enclosing(calls[0])
        return len(calls) == 1 and (bare or _MAIN.match(name) is not None)

    def _bound_once(self, target: cst.Name) -> bool:
        name, scope = target.value, self.source.scopes.get(target)
        if scope is None or name in self.source.augmented or name in self.source.globals_declared:
            return False
        return len(scope[name]) == 1 if isinstance(scope, (GlobalScope, FunctionScope)) else False

    # -- which of them a user would vary ---------------------------------------------------------

    def _is_knob(self, target: cst.Name, value: Any, annotated: bool, line: cst.SimpleStatementLine) -> bool:
        """Decide whether a named constant is something that a user would vary."""
        name, lower = target.value, target.value.lower()
        loud, known = name.isupper() or annotated, lower in words.KNOBS
        if name.startswith("_"):
            return False
        if self.files.kind_of(value) != "value":
            return True
        spoken = self._is_spoken(name, value, line)
        if (words.is_working(name, value) and not spoken) or words.is_constant(name, value, spoken=spoken):
            return False
        cosmetic = words.is_cosmetic(name) and not known and not (loud and lower in words.AMBIGUOUS)
        if (cosmetic and not spoken) or self._only_draws(target):
            return False
        if isinstance(value, bool):
            return loud or self._decides(target)
        if isinstance(value, str):
            return self._is_knob_text(target, value, loud)
        if isinstance(value, (list, tuple)):
            return self._is_knob_list(target, value, loud or known, line)
        named = loud or known or spoken or self.task.speaks_of(name, value) or self._is_said(value, line)
        return (named or not trivial(value)) and not self._only_indexes(target)

    def _is_spoken(self, name: str, value: Any, line: cst.SimpleStatementLine) -> bool:
        """Tell whether the task names a quantity, or its comment gives a unit: that beats every list of words."""
        if isinstance(value, (bool, str)):
            return False
        return gives_unit(self.comment(line)[0]) or self.task.names_quantity(name)

    def _is_said(self, value: float, line: cst.SimpleStatementLine) -> bool:
        """Tell whether a number such as 1.0 is a choice: it has a comment, or the task names it."""
        return isinstance(value, float) and (bool(self.comment(line)[0]) or self.task.names_value(value))

    def _is_knob_text(self, target: cst.Name, value: str, loud: bool) -> bool:
        """A word that the task names, a date, or a choice with a name of its own; no key, label or pattern."""
        if self._is_key(target) or value in self.files.columns:
            return False
        if self.task.names_value(value) or words.DATE.fullmatch(value):
            return True
        choice = words.CHOICE.fullmatch(value) is not None and words.FILE_SUFFIX.search(value) is None
        return choice and (loud or target.value.lower() in words.CHOICES) and not words.is_folder(value)

    def _is_knob_list(
        self, target: cst.Name, value: list[Any] | tuple[Any, ...], wanted: bool, line: cst.SimpleStatementLine
    ) -> bool:
        if target.value.lower() in _DATA_NAMES:
            return False
        if is_texts(value):
            return any(self.task.names_value(item) for item in value) and not set(value) & self.files.columns
        named = wanted or self.task.names_values(value) or self.task.names_word(target.value)
        return is_numbers(value) and (named or (len(value) <= 6 and bool(self.comment(line)[0])))

    def _references(self, target: cst.Name) -> list[cst.CSTNode]:
        scope = self.source.scopes.get(target)
        if scope is None:
            return []
        return [access.node for item in scope[target.value] for access in item.references]

    def _decides(self, target: cst.Name) -> bool:
        """Tell whether a name is asked in an ``if``."""
        places = {id(node) for node in self._references(target)}
        return any(
            id(item) in places
            for test in self.source.decisions
            for item in [test, *test.children, *(deep for child in test.children for deep in child.children)]
        )

    def _only_draws(self, target: cst.Name) -> bool:
        """Tell whether a name is used in drawing calls alone, or not at all."""
        return all(
            any(isinstance(item, cst.Call) and draws(item) for item in self.source.ancestors(node))
            for node in self._references(target)
        )

    def _only_indexes(self, target: cst.Name) -> bool:
        return all(isinstance(self.source.parents.get(node), cst.Index) for node in self._references(target))

    def _is_key(self, target: cst.Name) -> bool:
        """Tell whether a text is used to pick a column."""
        return any(
            isinstance(self.source.parents.get(node), (cst.Index, cst.SubscriptElement))
            for node in self._references(target)
        )

    # -- fields, tables, paths -------------------------------------------------------------------

    def _field(self, line: cst.SimpleStatementLine, name: str, node: cst.BaseExpression) -> None:
        node = _factory(node)
        value = try_literal(node)
        if self._is_setting(name, value):
            help_, unit = self.comment(line)
            self.add(name, value, node, "value", help=help_, unit=unit, source="field", target=name)

    def _is_setting(self, name: str, value: Any) -> bool:
        """Tell whether a field or an entry of settings is something to vary: it has been collected to be."""
        known = name.lower() in words.KNOBS
        if value is None or name.startswith("_") or words.is_constant(name, value):
            return False
        if words.is_cosmetic(name) and not known:
            return False
        if isinstance(value, str):
            choice = words.CHOICE.fullmatch(value) is not None and words.FILE_SUFFIX.search(value) is None
            return (choice or self.task.names_value(value)) and not words.is_folder(value)
        return isinstance(value, bool) or is_number(value) or is_numbers(value)

    def _path_call(self, name: str, node: cst.BaseExpression) -> None:
        """``DATA = Path("input/df.parquet")``: the file is the parameter, named by its variable."""
        if isinstance(node, cst.Call) and dotted(node.func)[-1] in {"Path", "PurePath"} and len(node.args) == 1:
            value = try_literal(node.args[0].value)
            kind = self.files.kind_of(value)
            if kind != "value":
                better = name.lower() if re.search("file|path", name, re.IGNORECASE) else f"{name.lower()}_file"
                value = self.files.input_for(value) if kind == "input" else value
                if better != name:
                    self.add(better, value, node.args[0].value, "value", kind=kind, source="constant")

    def _table(self, name: str, node: cst.BaseExpression, prefix: str = "") -> None:
        """``PARAMS = {"H0": 67.36, …}`` or ``dict(H0=67.36, …)``: each entry is a parameter, also of tables in it."""
        entries: list[tuple[Any, cst.BaseExpression]] = []
        if isinstance(node, cst.Dict):
            entries = [
                (try_literal(item.key), item.value) for item in node.elements if isinstance(item, cst.DictElement)
            ]
        elif isinstance(node, cst.Call) and dotted(node.func) == ["dict"]:
            entries = [(item.keyword.value, item.value) for item in node.args if item.keyword is not None]
        settings = _SETTINGS.search(name) is not None and not words.COSMETIC_PART.search(name)
        for key, item in entries:
            value, word = try_literal(item), _identifier(key)
            kind = self.files.kind_of(value)
            if kind != "value" and (settings or _PATHS.search(name)):
                value = self.files.input_for(value) if kind == "input" else value
                better = word if re.search("file|path", word) else f"{word}_file"
                self.add(f"{prefix}{better}", value, item, "value", kind=kind, source=f"entry of {name}")
            elif settings and isinstance(item, (cst.Dict, cst.Call)):
                self._table(name, item, f"{prefix}{word}_")
            elif settings and isinstance(key, str) and key.isidentifier() and self._is_entry(key, value):
                self.add(f"{prefix}{key}", value, item, "value", source=f"entry of {name}")

    def _is_entry(self, key: str, value: Any) -> bool:
        return self._is_setting(key, value) and not (trivial(value) and key.lower() not in words.KNOBS)


def _factory(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return what a field holds at first: ``field(default_factory=lambda: [1, 2])`` holds ``[1, 2]``."""
    if not isinstance(node, cst.Call) or dotted(node.func)[-1] != "field":
        return node
    given = {item.keyword.value: item.value for item in node.args if item.keyword is not None}
    made = given.get("default_factory")
    return made.body if isinstance(made, cst.Lambda) else given.get("default", node)


def _identifier(key: Any) -> str:
    name = re.sub(r"\W+", "_", str(key)).strip("_").lower() or "output"
    return name if name.isidentifier() else f"file_{name}"


def _is_settings_class(node: cst.ClassDef) -> bool:
    decorated = any(
        dotted(item.decorator.func if isinstance(item.decorator, cst.Call) else item.decorator)[-1] == "dataclass"
        for item in node.decorators
    )
    return decorated or re.search(r"(Config|Settings|Params|Parameters|Options)$", node.name.value) is not None
