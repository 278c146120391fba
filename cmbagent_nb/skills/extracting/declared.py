"""Reads what a notebook's parameters cell declares: parameters, their types, and the values derived from them.

| in the cell | in the skill |
|---|---|
| ``n = 10**6``, ``x, y = 1, 2``, ``a = b = 3``, ``label = None`` | parameters, as they stand |
| ``start = date(2024, 1, 1)``, ``shape = (3, 4)``, ``Path("a")`` | parameters that are given as text, list or number; |
|  | the cell of derived values turns them into what they were |
| ``nbins = lmax // 10`` | a derived value: computed after the parameters, in that cell |
| ``seed = draw()`` | no parameter; the reason is told |

No text is evaluated: values are read from the syntax tree, converted by ``ast.literal_eval`` and named constructors.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cmbagent_nb.errors import SkillError
from cmbagent_nb.skills.extracting.wording import unit_in
from cmbagent_nb.skills.extracting.written import Context, NotPlain, Written, declared_type, read_value, written
from cmbagent_nb.skills.magics import plain_python
from cmbagent_nb.skills.model import Parameter
from cmbagent_nb.skills.running.names import needed

#: How infinity is written where it is read as code.
INFINITY = "float('inf')"
_STAY = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass
class Declared:
    """Declarations of a parameters cell."""

    #: The cell, without what is derived.
    source: str
    #: The cell that comes after the parameters: conversions, and what is computed from them; empty if there is none.
    derived: str = ""
    parameters: list[Parameter] = field(default_factory=list)
    #: What is told: values moved, names that are no parameters with the reason.
    notes: list[str] = field(default_factory=list)


@dataclass
class _Entry:
    """A statement of the cell: the parameters that it sets, and what becomes of its lines."""

    statement: ast.stmt
    #: Name and value of each parameter that it sets.
    found: dict[str, tuple[Written, ast.expr | None]] = field(default_factory=dict)
    #: Names that it sets to something that is no plain value: with the value's source and the reason.
    others: dict[str, tuple[str, str]] = field(default_factory=dict)
    moved: bool = False

    @property
    def rewritten(self) -> bool:
        """Tell whether its lines are written anew."""
        return bool(self.found) and (bool(self.others) or any(item.convert for item, _ in self.found.values()))


def read_declared(source: str, known: Iterable[Parameter] = (), other_cells: Iterable[str] = ()) -> Declared:
    """Return what a parameters cell declares.

    Parameters
    ----------
    known
        Parameters of an earlier version, whose help and choices are kept.
    other_cells
        The code of the other cells: classes and imports that the parameters may use.

    >>> found = read_declared("lmax: int = 100  # highest multipole\\nnbins = lmax // 10\\nx, y = 1, None")
    >>> [(item.name, item.type, item.default) for item in found.parameters]
    [('lmax', 'int', 100), ('x', 'int', 1), ('y', 'any', None)]
    >>> found.derived, found.notes
    ('nbins = lmax // 10', ['nbins is computed from the parameters, after them'])
    """
    plain = plain_python(source)
    tree = _parsed(plain)
    lines = source.splitlines() if _same_lines(source, plain) else plain.splitlines()
    others = [_quietly(plain_python(item)) for item in other_cells]
    context = Context.of([tree, *others])
    entries = [_entry(statement, context) for statement in tree.body]
    _only_bound_once(entries)
    _move(entries, _bodies([*others, tree]))
    notes = _notes(entries)
    before = {item.name: item for item in known}
    parameters = []
    for number, entry in enumerate(entries):
        help_ = _help(entries, number, lines)
        for name, (value, annotation) in entry.found.items():
            own = help_ if len(entry.found) == 1 else ""
            parameters.append(_parameter(name, value, annotation, own, before.get(name)))
    own, derived = _written(entries, lines)
    return Declared(own, derived, parameters, notes)


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise SkillError(
            f"the cell of parameters cannot be read as Python ({why})", "Put plain assignments into it."
        ) from None


def _quietly(code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _same_lines(source: str, plain: str) -> bool:
    return len(source.splitlines()) == len(plain.splitlines())


# -- what the statements are ---------------------------------------------------------------------


def _entry(statement: ast.stmt, context: Context) -> _Entry:
    entry = _Entry(statement)
    for name, node, annotation in _pairs(statement):
        if name.startswith("_"):
            continue
        if node is None:
            entry.others[name] = ("", "it has no value")
            continue
        try:
            entry.found[name] = (read_value(node, annotation, context), annotation)
        except NotPlain as reason:
            entry.others[name] = (ast.unparse(node), str(reason))
    return entry


def _pairs(statement: ast.stmt) -> list[tuple[str, ast.expr | None, ast.expr | None]]:
    """Return what a statement assigns: name, value, annotation; nothing for a statement that is no plain assignment."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [(statement.target.id, statement.value, statement.annotation)]
    found: list[tuple[str, ast.expr | None, ast.expr | None]] = []
    if not isinstance(statement, ast.Assign):
        return found
    for target in statement.targets:
        if isinstance(target, ast.Name):
            found.append((target.id, statement.value, None))
        elif (
            isinstance(target, (ast.Tuple, ast.List))
            and isinstance(statement.value, (ast.Tuple, ast.List))
            and len(target.elts) == len(statement.value.elts)
            and all(isinstance(item, ast.Name) for item in target.elts)
            and not any(isinstance(item, ast.Starred) for item in statement.value.elts)
        ):
            names = [item.id for item in target.elts if isinstance(item, ast.Name)]
            found += [(name, node, None) for name, node in zip(names, statement.value.elts, strict=True)]
        else:
            return []
    return found


def _only_bound_once(entries: list[_Entry]) -> None:
    """Let the last of several assignments of one name be the parameter, if nothing between reads an earlier one."""
    last: dict[str, int] = {}
    for number, entry in enumerate(entries):
        for name in list(entry.found):
            if name not in last:
                last[name] = number
                continue
            between = entries[last[name] + 1 : number]
            old = entries[last[name]]
            if any(name in _reads(item.statement) for item in between):
                value = entry.found.pop(name)
                entry.others[name] = (ast.unparse(_value_node(entry, name)), "it is set twice")
                del value
            else:
                old.found.pop(name)
                last[name] = number


def _value_node(entry: _Entry, name: str) -> ast.expr:
    node = next(node for other, node, _ in _pairs(entry.statement) if other == name)
    assert node is not None
    return node


def _reads(statement: ast.stmt) -> set[str]:
    return needed([ast.Module([statement], [])])


def _move(entries: list[_Entry], bodies: dict[str, set[str]]) -> None:
    """Find what has to come after the parameters: what reads one, and from there on everything that computes.

    ``bodies`` are the names of which functions and objects of the notebook are made: they may read them when called.
    """
    names = {name for entry in entries for name in entry.found}
    moving = False
    for entry in entries:
        statement = entry.statement
        if entry.found and not entry.others:
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or _says(statement):
            continue
        depends = (
            bool(_reached(_at_definition(statement), bodies) & names)
            or _reads_by_text(statement, names)
            or bool(_bound(statement) & names - set(entry.found))
        )
        if isinstance(statement, _STAY) and not depends:
            continue
        if moving or depends:
            entry.moved = moving = True
            names |= _bound(statement)


def _bodies(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Return what each name of the notebook is made of: a function reads or sets its globals when it is called."""
    found: dict[str, set[str]] = {}
    for statement in (statement for tree in trees for statement in tree.body):
        shared = {name for node in ast.walk(statement) if isinstance(node, ast.Global) for name in node.names}
        for name in _bound(statement):
            found[name] = found.get(name, set()) | _reads(statement) | shared
    return found


def _reached(names: set[str], bodies: dict[str, set[str]]) -> set[str]:
    """Return some names and all that the functions among them read, and those that they call."""
    found, waiting = set(names), list(names)
    while waiting:
        new = bodies.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _reads_by_text(statement: ast.stmt, names: set[str]) -> bool:
    """Tell whether a statement may read a name that stands in a text of it: code as a text, magics, shell commands."""
    for node in ast.walk(statement):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in {"exec", "eval", "globals", "locals", "vars"}:
            return True
        if called.startswith("get_ipython()."):
            texts = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            if texts[:1] == ["run"] or names & {word for text in texts for word in re.findall(r"\w+", text)}:
                return True
    return False


def _says(statement: ast.stmt) -> bool:
    """Tell whether a statement is a text that stands for itself: a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _at_definition(statement: ast.stmt) -> set[str]:
    """Return the names that a statement reads when it is run: not those in the body of a function."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        arguments = statement.args
        inner = [*statement.decorator_list, *arguments.defaults, *(item for item in arguments.kw_defaults if item)]
        return needed([ast.Module([ast.Expr(item) for item in inner], [])])
    return _reads(statement)


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    return {
        node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }


def _notes(entries: list[_Entry]) -> list[str]:
    parameters = {name for entry in entries for name in entry.found}
    derived, notes = [], []
    for entry in entries:
        for name, (_, reason) in entry.others.items():
            if name in parameters and entry.moved:
                notes.append(f"{name} is changed after it is set: the change is made after the parameters")
            elif entry.moved and reason != "it has no value":
                derived.append(name)
            else:
                notes.append(f"{name} is no parameter: {reason}")
    if derived:
        names = ", ".join(dict.fromkeys(derived))
        verb = "is" if len(set(derived)) == 1 else "are"
        notes.insert(0, f"{names} {verb} computed from the parameters, after them")
    return notes


# -- parameters ----------------------------------------------------------------------------------


def _parameter(name: str, value: Written, annotation: ast.expr | None, help_: str, old: Parameter | None) -> Parameter:
    said = declared_type(annotation)
    help_ = help_ or said.help
    found = Parameter(
        name, value.type, value.value, help_, unit=unit_in(help_), source="parameters cell", choices=value.choices,
        optional=value.optional, form=value.form,
    )  # fmt: skip
    if old is None or (old.type, old.form) != (found.type, found.form):
        return found
    return replace(
        old, default=value.value, help=help_ or old.help, choices=value.choices or old.choices, optional=value.optional
    )


def _help(entries: list[_Entry], number: int, lines: list[str]) -> str:
    """Return what is said of a parameter: the comment beside it, the text under it, or the comment above it alone."""
    statement = entries[number].statement
    end = (statement.end_lineno or statement.lineno) - 1
    beside = _comment(lines[end], statement.end_col_offset or 0)
    if beside:
        return beside
    following = entries[number + 1].statement if number + 1 < len(entries) else None
    if following is not None and _says(following):
        return " ".join(str(ast.literal_eval(following.value)).split())  # type: ignore[attr-defined]
    # A comment above several assignments in a row is their heading.
    if following is not None and following.lineno == end + 2 and entries[number + 1].found:
        own = _comment(lines[(following.end_lineno or following.lineno) - 1], following.end_col_offset or 0)
        if not own:
            return ""
    if number and (entries[number - 1].statement.end_lineno or 0) == statement.lineno - 1:
        return ""
    above = [lines[place].strip() for place in _comments_above(lines, statement.lineno - 1)]
    text = " ".join(line.lstrip("#").strip() for line in above)
    return (
        ""
        if re.fullmatch(r"(notebook |papermill )?(parameters?|params?|settings|config(uration)?)\W*", text, re.I)
        else text
    )


def _comment(line: str, end: int) -> str:
    """Return the comment after a statement that ends at a place in bytes of its line."""
    rest = line.encode()[end:].decode(errors="replace").strip().lstrip(";").strip()
    return rest.lstrip("#").strip() if rest.startswith("#") else ""


def _comments_above(lines: list[str], place: int) -> range:
    first = place
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return range(first, place)


# -- the two cells -------------------------------------------------------------------------------


def _written(entries: list[_Entry], lines: list[str]) -> tuple[str, str]:
    """Return the source of the parameters cell and of the cell of derived values."""
    changed = [entry for entry in entries if entry.moved or entry.rewritten]
    if not changed:
        return "\n".join(lines), ""
    crowded = _crowded(entries)
    own: dict[int, list[str]] = {}
    gone: set[int] = set()
    conversions: list[str] = []
    moved: list[str] = []
    for entry in entries:
        statement = entry.statement
        span = range(statement.lineno - 1, statement.end_lineno or statement.lineno)
        shared = any(place in crowded for place in span)
        if not (entry.moved or entry.rewritten or shared):
            continue
        gone |= set(span)
        if entry.found or not entry.moved:
            said, turned, later = _split(entry, shared, lines)
            own.setdefault(span.start, []).extend(said)
            conversions += turned
            moved += later
        else:
            above = [] if shared else list(_comments_above(lines, span.start))
            gone |= set(above)
            text = [ast.unparse(statement)] if shared else [lines[place] for place in (*above, *span)]
            moved += text
    kept = [
        line for place, old in enumerate(lines) for line in ([*own.get(place, ())] + ([] if place in gone else [old]))
    ]
    if any("ast.literal_eval(" in line for line in conversions):
        conversions.insert(0, "import ast\n")
    return "\n".join(kept).strip("\n"), "\n".join([*conversions, *moved]).strip("\n")


def _crowded(entries: list[_Entry]) -> set[int]:
    """Return the lines on which several statements stand, one of which changes its place."""
    on: dict[int, list[_Entry]] = {}
    for entry in entries:
        for place in range(entry.statement.lineno - 1, entry.statement.end_lineno or entry.statement.lineno):
            on.setdefault(place, []).append(entry)
    return {
        place
        for place, found in on.items()
        if len(found) > 1 and any(entry.moved or entry.rewritten for entry in found)
    }


def _split(entry: _Entry, shared: bool, lines: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return a statement as the lines that set its parameters, those that convert them, and those that come later."""
    statement = entry.statement
    if not entry.rewritten:
        return [ast.unparse(statement)], [], []
    end = (statement.end_lineno or statement.lineno) - 1
    comment = "" if shared else _comment(lines[end], statement.end_col_offset or 0)
    said, turned = [], []
    for name, (value, annotation) in entry.found.items():
        if value.convert:
            said.append(f"{name} = {written(value.value, INFINITY)}" + (f"  # {comment}" if comment else ""))
            turned.append(value.conversion(name))
        else:
            hint = f": {ast.unparse(annotation)}" if annotation is not None else ""
            said.append(
                f"{name}{hint} = {ast.unparse(_value_node(entry, name))}" + (f"  # {comment}" if comment else "")
            )
        comment = ""
    later = [f"{name} = {text}" for name, (text, _) in entry.others.items() if text]
    return said, turned, later


def set_default(source: str, name: str, value: object) -> str:
    """Return a parameters cell with another value for a parameter.

    >>> set_default("a = 1; table = '../x.csv'  # data", "table", "data/x.csv")
    "a = 1; table = 'data/x.csv'  # data"
    """
    plain = plain_python(source)
    text = source if _same_lines(source, plain) else plain
    node: ast.expr | None = None
    for statement in _parsed(plain).body:
        for other, found, _ in _pairs(statement):
            node = found if other == name and found is not None else node
    if node is None:
        return source
    lines = text.encode().splitlines(keepends=True)
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: (node.end_lineno or node.lineno) - 1])) + (node.end_col_offset or 0)
    whole = text.encode()
    return (whole[:begin] + written(value, INFINITY).encode() + whole[end:]).decode()
