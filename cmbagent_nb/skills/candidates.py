"""Finding, in one step's code, the literals that a user would vary.

Precision first: a literal is taken only where its place and its name speak for it (a constant
with a name of its own, a keyword that such code is varied by, the default of an option, a
number that the task names, a file that was read). What draws, indexes, shapes or names a column
is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import libcst as cst
from libcst.metadata import FunctionScope, GlobalScope

from cmbagent_nb.skills import vocabulary as words
from cmbagent_nb.skills.model import Kind
from cmbagent_nb.skills.source import Source, dotted, draws, is_main_guard, is_number, trivial, try_literal
from cmbagent_nb.skills.wording import Task, unit_in

How = Literal["assign", "tuple", "value"]
_MAIN = re.compile(r"^(main|_main|run|run_\w+|analy[sz]e\w*|analysis)$")
_SETTINGS = re.compile(r"(param|conf|setting|cosmo|option|planck|fiducial|opts|hyper|theta|truth|true_)", re.IGNORECASE)
_DATA_NAMES = words.listed(
    """
    x y z t xs ys data values points rows table records samples xdata ydata x_data y_data xerr yerr
    """
)


@dataclass
class Candidate:
    """A literal that may become a parameter, and how the code is to be changed for it."""

    name: str
    value: Any
    node: cst.CSTNode
    how: How
    kind: Kind = "value"
    help: str = ""
    unit: str = ""
    source: str = ""
    line: int = 0
    #: Names that mean something else where the literal stands, so that the parameter needs another name.
    taken: frozenset[str] = frozenset()
    #: The variable that is assigned, for ``assign`` and ``tuple``.
    target: str = ""


@dataclass(frozen=True)
class Files:
    """Which of a step's files are inputs of the skill and which are made by it."""

    #: Path as the code writes it → path in the skill's folder of inputs.
    inputs: dict[str, str]
    outputs: frozenset[str]

    def input_for(self, text: str) -> str | None:
        return self.inputs.get(clean_path(text))


def clean_path(text: str) -> str:
    """Return a path as the record writes it.

    >>> clean_path("./data//x.csv"), clean_path("/abs/x.csv")
    ('data/x.csv', '/abs/x.csv')
    """
    return str(PurePosixPath(text)) if text else ""


class Finder(cst.CSTVisitor):
    """Visits a step's code once and collects its candidates."""

    def __init__(self, source: Source, task: Task, files: Files) -> None:
        self.source, self.task, self.files = source, task, files
        self.found: list[Candidate] = []
        self.taken_nodes: set[int] = set()

    # -- constants with a name ------------------------------------------------------------------

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

    def _assignment(
        self, line: cst.SimpleStatementLine, target: cst.Name, node: cst.BaseExpression, annotated: bool
    ) -> None:
        name, place = target.value, self._place(line)
        if place == "field":
            self._field(line, name, node)
            return
        if place == "" or not self._bound_once(line, name):
            return
        self._path_call(name, node)
        self._table(name, node)
        value = try_literal(node)
        if value is None or not self._is_knob(name, value, target, annotated):
            return
        kind = self._file_kind(value)
        if kind == "input":
            value = self.files.input_for(value)
        if (
            isinstance(value, str)
            and kind == "value"
            and not (self.task.names_value(value) and not self._is_key(target))
        ):
            return
        help_, unit = self._comment(line)
        how: How = "tuple" if isinstance(value, tuple) else "assign"
        value = list(value) if isinstance(value, tuple) else value
        self._add(
            name, value, line, how, kind=kind, help=help_, unit=unit, source="constant", target=name, literal_node=node
        )

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

    def _bound_once(self, line: cst.SimpleStatementLine, name: str) -> bool:
        scope = self.source.scopes.get(line.body[0]) or self.source.scopes.get(line)
        target = line.body[0].targets[0].target if isinstance(line.body[0], cst.Assign) else line.body[0]
        scope = scope or self.source.scopes.get(target)
        if scope is None or name in self.source.augmented or name in self.source.globals_declared:
            return False
        return len(scope[name]) == 1 if isinstance(scope, (GlobalScope, FunctionScope)) else False

    def _is_knob(self, name: str, value: Any, target: cst.Name, annotated: bool) -> bool:
        """Decide whether a named constant is something that a user would vary."""
        lower, loud = name.lower(), name.isupper() or annotated
        known = lower in words.KNOBS
        if name.startswith("_"):
            return False
        if self._file_kind(value) != "value":
            return True
        if lower in words.WORKING or words.is_constant(name, value):
            return False
        if (words.is_cosmetic(name) and not known) or self._only_draws(target):
            return False
        if isinstance(value, bool):
            return loud
        if isinstance(value, (list, tuple)):
            return self._is_knob_list(name, value, loud or known)
        named = loud or known or self.task.speaks_of(name, value)
        return isinstance(value, str) or ((named or not trivial(value)) and not self._only_indexes(target))

    def _is_knob_list(self, name: str, value: list[Any] | tuple[Any, ...], wanted: bool) -> bool:
        if not value or len(value) > 20 or name.lower() in _DATA_NAMES:
            return False
        return wanted and all(is_number(item) for item in value)

    def _references(self, target: cst.Name) -> list[cst.CSTNode]:
        scope = self.source.scopes.get(target)
        if scope is None:
            return []
        return [access.node for item in scope[target.value] for access in item.references]

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
            isinstance(item, (cst.Index, cst.SubscriptElement))
            for node in self._references(target)
            for item in [self.source.parents.get(node)]
        )

    def _comment(self, line: cst.SimpleStatementLine) -> tuple[str, str]:
        """Return help and unit from the comment beside or above a line."""
        beside = line.trailing_whitespace.comment
        text = beside.value.lstrip("# ").strip() if beside else ""
        if not text and line.leading_lines and line.leading_lines[-1].comment is not None:
            above = line.leading_lines[-1].comment.value.lstrip("#").strip(" -=")
            heading = line.leading_lines[-1].comment.value.rstrip().endswith(("--", "==", "##"))
            text = "" if heading or self._heads_a_group(line) else above
        if len(text) > 160 or re.match(r"(noqa|type:|pylint|fmt:|nosec)", text):
            text = ""
        return text, unit_in(text)

    def _heads_a_group(self, line: cst.SimpleStatementLine) -> bool:
        """Tell whether the comment above a line is the heading of several lines."""
        parent = self.source.parents.get(line)
        body = list(getattr(parent, "body", ()))
        position = next((number for number, item in enumerate(body) if item is line), len(body))
        after = body[position + 1] if position + 1 < len(body) else None
        return (
            isinstance(after, cst.SimpleStatementLine)
            and not after.leading_lines
            and isinstance(after.body[0], (cst.Assign, cst.AnnAssign))
        )

    def _field(self, line: cst.SimpleStatementLine, name: str, node: cst.BaseExpression) -> None:
        value = try_literal(node)
        if is_number(value) and not words.is_cosmetic(name) and not words.is_constant(name, value):
            help_, unit = self._comment(line)
            self._add(name, value, node, "value", help=help_, unit=unit, source="field", target=name)

    def _path_call(self, name: str, node: cst.BaseExpression) -> None:
        """``DATA = Path("input/df.parquet")``: the file is the parameter, named by its variable."""
        if isinstance(node, cst.Call) and dotted(node.func)[-1] in {"Path", "PurePath"} and len(node.args) == 1:
            value = try_literal(node.args[0].value)
            kind = self._file_kind(value)
            if kind != "value":
                better = name.lower() if re.search("file|path", name, re.IGNORECASE) else f"{name.lower()}_file"
                value = self.files.input_for(value) if kind == "input" else value
                if better != name:
                    self._add(better, value, node.args[0].value, "value", kind=kind, source="constant")

    def _table(self, name: str, node: cst.BaseExpression) -> None:
        """``PARAMS = {"H0": 67.36, …}`` or ``dict(H0=67.36, …)``: each entry is a parameter."""
        if not _SETTINGS.search(name) or words.COSMETIC_PART.search(name):
            return
        entries: list[tuple[Any, cst.BaseExpression]] = []
        if isinstance(node, cst.Dict):
            entries = [
                (try_literal(item.key), item.value) for item in node.elements if isinstance(item, cst.DictElement)
            ]
        elif isinstance(node, cst.Call) and dotted(node.func) == ["dict"]:
            entries = [(item.keyword.value, item.value) for item in node.args if item.keyword is not None]
        for key, item in entries:
            value = try_literal(item)
            wanted = isinstance(key, str) and key.isidentifier() and is_number(value)
            if wanted and not words.is_cosmetic(key) and not (trivial(value) and key.lower() not in words.KNOBS):
                self._add(key, value, item, "value", source=f"entry of {name}")

    # -- calls -----------------------------------------------------------------------------------

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
        if not is_number(value) or (words.is_cosmetic(name) and not known) or words.is_constant(name, value):
            return
        if trivial(value) and "seed" not in name and name != "random_state":
            return
        if known or self.task.speaks_of(name, value):
            self._add(name, value, node, "value", source=f"{function}({name}=…)")

    def _positional(self, function: str, node: cst.BaseExpression) -> None:
        value = try_literal(node)
        _, name, help_ = words.POSITIONS[function]
        if is_number(value) and (function in words.ALWAYS or self.task.speaks_of(name, value)):
            self._add(name, value, node, "value", help=help_, source=f"{function}({value!r})")

    def _option(self, node: cst.Call) -> None:
        """``parser.add_argument("--lmax", default=2508, help=…)``"""
        flags = [try_literal(item.value) for item in node.args if item.keyword is None]
        given = {item.keyword.value: item.value for item in node.args if item.keyword is not None}
        names = [flag.lstrip("-").replace("-", "_") for flag in flags if isinstance(flag, str)]
        if not names or "default" not in given:
            return
        name, value = max(names, key=len), try_literal(given["default"])
        kind = self._file_kind(value)
        if kind == "input":
            value = self.files.input_for(value)
        if kind == "value" and (not is_number(value) or words.is_cosmetic(name)):
            return
        help_ = try_literal(given["help"]) if "help" in given else ""
        text = re.sub(r"\s*\(default.*?\)", "", help_ or "", flags=re.IGNORECASE).strip()
        self._add(name, value, given["default"], "value", kind=kind, help=text, unit=unit_in(text), source="option")

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        if self.source.enclosing(node):
            return
        for position, parameter in enumerate([*node.params.params, *node.params.kwonly_params]):
            name = parameter.name.value
            value = try_literal(parameter.default) if parameter.default is not None else None
            if not is_number(value) or words.is_cosmetic(name) or words.is_constant(name, value) or trivial(value):
                continue
            wanted = name.lower() in words.KNOBS or self.task.speaks_of(name, value)
            if wanted and parameter.default is not None and self._left_out(node, position, name):
                self._add(name, value, parameter.default, "value", source=f"default of {node.name.value}")

    def _left_out(self, function: cst.FunctionDef, position: int, name: str) -> bool:
        """Tell whether some call leaves an argument to its default."""
        calls = [call for call in self.source.calls if dotted(call.func) == [function.name.value]]
        return any(
            not any(item.star or (item.keyword is not None and item.keyword.value == name) for item in call.args)
            and sum(item.keyword is None for item in call.args) <= position
            for call in calls
        )

    # -- values that the task names --------------------------------------------------------------

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
            wanted = wanted and base != "__name__"
        else:
            wanted = is_number(value) and self.task.speaks_of(base, value) and not trivial(value)
        if wanted:
            self._add(name, value, right, "value", source="comparison")

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        value = try_literal(node)
        if not isinstance(value, str) or id(node) in self.taken_nodes:
            return
        place = self.files.input_for(value)
        parent = self.source.parents.get(node)
        piece = None
        if place is None and "/" not in value and words.FILE_SUFFIX.search(value) and self._is_piece(node, parent):
            matches = [
                path for path in self.files.inputs if PurePosixPath(path).name == value and not path.startswith("/")
            ]
            piece = value if len(matches) == 1 else None
        if place is not None or piece is not None:
            stem = re.sub(r"\W+", "_", PurePosixPath(value).stem).strip("_").lower() or "input"
            stem = f"file_{stem}" if stem[0].isdigit() else stem
            self._add(f"{stem}_file", place or piece, node, "value", kind="input", source="file read")

    def _is_piece(self, node: cst.CSTNode, parent: cst.CSTNode | None) -> bool:
        if isinstance(parent, cst.BinaryOperation):
            return isinstance(parent.operator, cst.Divide) and parent.right is node
        call = self.source.parents.get(parent) if isinstance(parent, cst.Arg) else None
        return isinstance(call, cst.Call) and dotted(call.func)[-2:] == ["path", "join"] and call.args[-1] is parent

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
            self._add(name, value, node, "value", source="named in the task")

    # -- bookkeeping -----------------------------------------------------------------------------

    def _file_kind(self, value: Any) -> Kind:
        if isinstance(value, str):
            if self.files.input_for(value) is not None:
                return "input"
            if clean_path(value) in self.files.outputs:
                return "output"
        return "value"

    def _add(
        self,
        name: str,
        value: Any,
        node: cst.CSTNode,
        how: How,
        *,
        kind: Kind = "value",
        help: str = "",
        unit: str = "",
        source: str = "",
        target: str = "",
        literal_node: cst.CSTNode | None = None,
    ) -> None:
        key = literal_node if literal_node is not None else node
        if id(key) in self.taken_nodes:
            return
        self.taken_nodes.update({id(key), *(id(item) for item in getattr(key, "children", ()))})
        local = self.source.shadowed(node) - ({target} if target and how != "tuple" else set())
        line = self.source.line(node)
        self.found.append(Candidate(name, value, node, how, kind, help, unit, source, line, local, target))


def _is_settings_class(node: cst.ClassDef) -> bool:
    decorated = any(
        dotted(item.decorator.func if isinstance(item.decorator, cst.Call) else item.decorator)[-1] == "dataclass"
        for item in node.decorators
    )
    return decorated or re.search(r"(Config|Settings|Params|Parameters|Options)$", node.name.value) is not None


def _thing(node: cst.BaseExpression) -> str:
    """Return the name of what is compared: a column, an attribute or a variable."""
    if isinstance(node, cst.Subscript) and len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index):
        value = try_literal(node.slice[0].slice.value)
        name = value if isinstance(value, str) else ""
    else:
        name = dotted(node)[-1]
    return name if name.isidentifier() else re.sub(r"\W+", "_", name).strip("_")


def find(source: Source, task: Task, files: Files) -> list[Candidate]:
    """Return the candidates of one step, in the order of the code."""
    finder = Finder(source, task, files)
    source.module.visit(finder)
    return sorted(finder.found, key=lambda item: item.line)
