"""From the code of a run's steps to typed parameters and code that uses them.

| invariant | how |
|---|---|
| with the defaults, the code computes what it computed | a literal is replaced by a name that holds the same value |
| a parameter means one thing | one value of one name; another value of that name gets another name |
| no parameter hides a name of the code | names that are bound, built in or local there are not used |
| the same code gives the same parameters | candidates are taken in the order of the steps and lines |

>>> found = find_parameters([StepSource("step_1", "LMAX = 2508  # highest multipole\\nprint(LMAX)\\n")])
>>> found.parameters[0].text(), found.codes[0]
('LMAX (int, 2508)', 'print(LMAX)\\n')
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import libcst as cst

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting import vocabulary as words
from cmbagent_nb.skills.extracting.candidate import Candidate, Files, as_value, clean_path
from cmbagent_nb.skills.extracting.candidates import find
from cmbagent_nb.skills.extracting.source import Source, try_literal
from cmbagent_nb.skills.extracting.wholes import Wholes
from cmbagent_nb.skills.extracting.wording import Task
from cmbagent_nb.skills.model import Parameter, type_of

_RESERVED = frozenset(dir(builtins)) | frozenset(keyword.kwlist) | frozenset(keyword.softkwlist)


@dataclass(frozen=True)
class StepSource:
    """The code of one step, with the files that it reads from outside and the files that it makes."""

    node_id: str
    code: str
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()
    #: Names of the inputs' columns, which are keys and no parameters.
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """The parameters, and the steps' code rewritten to use them."""

    parameters: list[Parameter]
    codes: list[str]


def find_parameters(
    steps: list[StepSource],
    task: str = "",
    *,
    kinds: tuple[str, ...] = ("value", "input", "output"),
    without: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> Found:
    """Find the parameters of the steps' code and rewrite the code so that it uses them.

    Parameters
    ----------
    steps
        The steps in the order in which their cells run.
    task
        The run's task: what it names is a parameter where the code has it.
    kinds
        Which kinds of parameters are wanted; code of other candidates stays as it is.
    without
        Names of parameters that are not wanted: their literals stay in the code.
    renamed
        Better names for some of them; one that is taken in the code, or that another parameter has, is passed over.
    """
    sources = []
    for step in steps:
        try:
            sources.append(Source(step.code))
        except cst.ParserSyntaxError as error:
            raise SkillError(
                f"the code of {step.node_id} cannot be read as Python ({error.message})",
                "Choose other steps with steps=.",
                node_id=step.node_id,
            ) from None
    named = Task(task)
    table = _Table(sources)
    better = _free_names(renamed or {}, steps)
    plans: list[_Plan] = []
    for place, (step, source) in enumerate(zip(steps, sources, strict=True)):
        plan = _Plan(source)
        for candidate in find(source, named, Files(step.inputs, step.outputs, step.columns)):
            if candidate.kind in kinds:
                name = table.name(candidate, step.node_id, place)
                if name not in without:
                    plan.use(candidate, better.get(name, name))
        plans.append(plan)
    _link_outputs(plans, table)
    codes = [plan.code() for plan in plans]
    rows = [row for row in table.parameters() if row.name not in without]
    rows = [replace(row, name=better.get(row.name, row.name)) for row in rows]
    return Found(with_number_types(rows, codes), codes)


def with_number_types(parameters: list[Parameter], codes: list[str], declared: Collection[str] = ()) -> list[Parameter]:
    """Return parameters whose whole defaults are floats where the code uses them as quantities.

    Parameters
    ----------
    declared
        Names whose type the code states.
    """
    open_ = [item for item in parameters if item.type == "int" and item.kind == "value" and not item.choices]
    open_ = [item for item in open_ if item.name not in declared]
    if not open_:
        return parameters
    wholes = Wholes(codes)
    floats = {item.name for item in open_ if wholes.is_used(item.name) and not wholes.is_whole(item.name)}
    return [replace(item, type="float") if item.name in floats else item for item in parameters]


def _free_names(renamed: Mapping[str, str], steps: list[StepSource]) -> dict[str, str]:
    """Return the names that can be used: identifiers that no code has, and that are not given twice."""
    words_ = set().union(*(set(re.findall(r"\w+", step.code)) for step in steps), renamed)
    found: dict[str, str] = {}
    for old, new in renamed.items():
        taken = new in words_ or new in _RESERVED or new.casefold() in {item.casefold() for item in found.values()}
        if new.isidentifier() and not new.startswith("_") and not taken:
            found[old] = new
    return found


class _Table:
    """The parameters found so far, by name, and the names that cannot be used."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.rows: dict[str, Parameter] = {}
        self.bound = [source.bound() for source in sources]
        self.first: dict[str, int] = {}

    def name(self, candidate: Candidate, node_id: str, place: int) -> str:
        """Return the name of the parameter for a candidate of step number ``place``, and note the parameter."""
        for name in self._names(candidate, node_id):
            known = self._known(name)
            if known is not None:
                if self._same(known, candidate) and self._clear(known.name, candidate, self.first[known.name], place):
                    self._join(known, candidate, node_id)
                    return known.name
            elif self._usable(name) and self._clear(name, candidate, 0, place):
                self._add(name, candidate, node_id)
                self.first[name] = place
                return name
        raise AssertionError("names are endless")

    def _add(self, name: str, candidate: Candidate, node_id: str) -> None:
        help_, unit = words.explain(candidate.name)
        self.rows[name] = Parameter(
            name=name,
            type=type_of(candidate.value),
            default=candidate.value,
            help=candidate.help or _file_help(candidate) or help_,
            kind=candidate.kind,
            unit=candidate.unit or unit,
            steps=(node_id,),
            source=candidate.source,
            seen=_seen(candidate),
            choices=candidate.choices,
        )

    def _names(self, candidate: Candidate, node_id: str) -> Iterator[str]:
        name = candidate.name
        if candidate.kind != "value":
            rows = self.rows.values()
            yield from [row.name for row in rows if row.kind != "value" and row.default == candidate.value]
        yield name
        if candidate.kind != "value" and name.endswith("_file") and "." in candidate.value:
            yield f"{name.removesuffix('_file')}_{candidate.value.rpartition('.')[2].lower()}_file"
        known = self._known(name)
        if known is not None and node_id not in known.steps:
            yield f"{name}_{node_id}"
        if candidate.kind == "value":
            yield f"{name}_value"
        yield f"{name}_{node_id}"
        number = 2
        while True:
            yield f"{name}_{number}"
            number += 1

    def _known(self, name: str) -> Parameter | None:
        """Return the parameter of this name; of this name but for its letters' case, since users write either."""
        return next((row for key, row in self.rows.items() if key.casefold() == name.casefold()), None)

    def _same(self, known: Parameter, candidate: Candidate) -> bool:
        kind = "value" if candidate.kind == "value" else "file"
        known_kind = "value" if known.kind == "value" else "file"
        return known.default == candidate.value and known.type == type_of(candidate.value) and kind == known_kind

    def _join(self, known: Parameter, candidate: Candidate, node_id: str) -> None:
        steps = known.steps if node_id in known.steps else (*known.steps, node_id)
        better = candidate.help and known.help == words.explain(known.name)[0]
        row = known.as_dict() | {
            "steps": steps,
            "help": candidate.help if better else known.help,
            "unit": known.unit or candidate.unit,
        }
        self.rows[known.name] = Parameter.from_dict(row)

    def _usable(self, name: str) -> bool:
        return name.isidentifier() and name not in _RESERVED and not name.startswith("__")

    def _clear(self, name: str, candidate: Candidate, first: int, place: int) -> bool:
        """Tell whether a name holds the parameter from step ``first`` to ``place``: no code binds it otherwise."""
        if name in candidate.taken:
            return False
        return all(
            name not in self.bound[number] or self._constant_here(self.sources[number], name, candidate)
            for number in range(first, place + 1)
        )

    def _constant_here(self, source: Source, name: str, candidate: Candidate) -> bool:
        """Tell whether a module binds a name to this very value and to nothing else."""
        if name in source.augmented or name in source.globals_declared:
            return False
        assignments = list(source.global_scope[name])
        if len(assignments) != 1:
            return False
        node = source.assigned(assignments[0].node) if hasattr(assignments[0], "node") else None
        if node is None:
            return False
        value = as_value(try_literal(node))
        same = value == candidate.value and type(value) is type(candidate.value)
        return same or (candidate.kind == "input" and isinstance(value, str) and candidate.target == name)

    def parameters(self) -> list[Parameter]:
        """Return values first, then inputs, then names of outputs, each in the order of the code."""
        kinds = {"value": 0, "input": 1, "output": 2}
        return sorted(self.rows.values(), key=lambda row: kinds[row.kind])


def _seen(candidate: Candidate) -> tuple[Any, ...]:
    """Return the range that the run has shown: its one value."""
    value = candidate.value
    if candidate.kind != "value" or isinstance(value, (bool, list)):
        return ()
    return (value,) if isinstance(value, str) else (value, value)


def _file_help(candidate: Candidate) -> str:
    if candidate.kind == "input":
        return f"file to read instead of {candidate.value}"
    return f"name of the file {candidate.value}" if candidate.kind == "output" else ""


class _Plan:
    """The changes to one step's code."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.replace: dict[int, cst.BaseExpression] = {}
        self.assign: dict[int, str] = {}
        self.remove: set[int] = set()
        self.defaults: dict[int, str] = {}
        self.outputs: dict[str, str] = {}

    def use(self, candidate: Candidate, name: str) -> None:
        """Let the code take a candidate's value from the parameter ``name``."""
        if candidate.kind == "output" and isinstance(candidate.value, str):
            self.outputs[clean_path(candidate.value)] = name
        text = candidate.wrap.format(name)
        if candidate.how == "default":
            self.defaults[id(candidate.node)] = name
        elif candidate.how == "value":
            self.replace[id(candidate.node)] = cst.parse_expression(text)
        elif text == candidate.target:
            self.remove.add(id(candidate.node))
        else:
            self.assign[id(candidate.node)] = text

    def code(self) -> str:
        """Return the code with the changes made."""
        if not (self.replace or self.assign or self.remove or self.defaults):
            return self.source.module.code
        return self.source.module.visit(_Rewriter(self)).code


class _Rewriter(cst.CSTTransformer):
    def __init__(self, plan: _Plan) -> None:
        self.plan = plan

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        replacement = self.plan.replace.get(id(original_node))
        name = self.plan.defaults.get(id(original_node))
        if name is not None and isinstance(updated_node, cst.Call):
            default = cst.parse_expression(f"f(default={name})")
            return updated_node.with_changes(args=[*updated_node.args, *cst.ensure_type(default, cst.Call).args])
        return replacement if replacement is not None else super().on_leave(original_node, updated_node)

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> Any:
        if id(original_node) in self.plan.remove:
            return cst.RemoveFromParent()
        text = self.plan.assign.get(id(original_node))
        if text is None:
            return cst.RemoveFromParent() if _assigns_itself(original_node, updated_node) else updated_node
        statement = updated_node.body[0]
        if isinstance(statement, (cst.Assign, cst.AnnAssign)):
            return updated_node.with_changes(body=[statement.with_changes(value=cst.parse_expression(text))])
        return updated_node

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        if updated_node.body:
            return updated_node
        return updated_node.with_changes(body=[cst.SimpleStatementLine([cst.Pass()])])


def _assigns_itself(before: cst.SimpleStatementLine, now: cst.SimpleStatementLine) -> bool:
    """Tell whether ``A, B = 1, 2`` has become ``A, B = A, B``."""
    if before is now or len(now.body) != 1:
        return False
    statement = now.body[0]
    if not isinstance(statement, cst.Assign) or len(statement.targets) != 1:
        return False
    target = statement.targets[0].target
    if not isinstance(target, cst.Tuple) or not isinstance(statement.value, cst.Tuple):
        return False
    blank = cst.Module([])
    names = [blank.code_for_node(item.value) for item in target.elements]
    return names == [blank.code_for_node(item.value) for item in statement.value.elements]


def _link_outputs(plans: list[_Plan], table: _Table) -> None:
    """Let the steps that read a file whose name became a parameter read it by that parameter."""
    named = {path: name for plan in plans for path, name in plan.outputs.items()}
    for plan in plans:
        if named:
            plan.source.module.visit(_OutputReader(plan, named))


class _OutputReader(cst.CSTVisitor):
    def __init__(self, plan: _Plan, named: dict[str, str]) -> None:
        self.plan, self.named = plan, named

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        return id(node) not in self.plan.remove and id(node) not in self.plan.assign

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        value = try_literal(node)
        name = self.named.get(clean_path(value)) if isinstance(value, str) else None
        if name is None or id(node) in self.plan.replace or name in self.plan.source.shadowed(node):
            return
        if isinstance(self.plan.source.parents.get(node), (cst.Expr, cst.ConcatenatedString, cst.DictElement)):
            return
        self.plan.replace[id(node)] = cst.Name(name)
