"""From scripts that each ran in a process of their own to cells that share one kernel.

| a script may rely on | in the notebook |
|---|---|
| its own imports | the plain ones stand in one cell, each once; what they must come after stays in the step |
| ``__file__``, ``sys.argv``, ``__doc__`` | set at the top of its cell, where it uses them |
| ``sys.exit()`` ending it | ends the cell, and fails it if the status is not 0 |
| no figure, style or folder of another script | closed, reset and restored between cells, where it matters |
| a built-in name that an earlier script shadowed | the earlier cell's name is deleted first |
| ``asyncio.run(main())`` | ``await main()``, since a kernel has a loop; in a function, a thread with its own loop |

>>> made = make_cells([Script("step_1", "codebase/a.py", "import sys\\nprint('hello')\\nsys.exit(0)\\n")])
>>> made.imports, made.steps
('import sys', ["print('hello')"])
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from dataclasses import dataclass
from typing import Any

import libcst as cst

from cmbagent_nb.skills.source import dotted, is_main_guard, try_literal

_BUILTINS = frozenset(dir(builtins))
_CLEAN_FIGURES = """\
import matplotlib.pyplot

matplotlib.pyplot.close("all")  # figures and styles of earlier steps are not this one's
matplotlib.rc_file_defaults()"""
_RUN_APART = "_run_in_a_thread"
_APART = f"""\
def {_RUN_APART}(work):
    \"\"\"asyncio.run, where a loop runs already.\"\"\"
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()"""
_REFUSAL = 'raise RuntimeError(f"the code ended with status {{{name}!r}}")'


@dataclass(frozen=True)
class Script:
    """The code of one step: where its script stood in its folder, and modules of the run that it may import."""

    node_id: str
    path: str
    code: str
    local_modules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cells:
    """The cell of imports and the cells of the steps."""

    imports: str
    steps: list[str]


@dataclass
class _Parts:
    script: Script
    imports: list[cst.SimpleStatementLine]
    module: cst.Module
    docstring: str


def make_cells(scripts: list[Script]) -> Cells:
    """Return one cell of imports and one cell for each script."""
    parts = [_take_apart(script) for script in scripts]
    keep = _shared_imports(parts)
    lines: list[str] = []
    cells: list[str] = []
    bound_before: set[str] = set()
    blank = cst.Module([])
    for part in parts:
        stay: list[cst.SimpleStatementLine] = []
        for line in part.imports:
            text = _statement_text(blank, line)
            if text in keep:
                lines.extend([text] if text not in lines else [])
            else:
                stay.append(line)
        body = part.module.with_changes(body=[*stay, *part.module.body], header=[])
        code, needs_argv = _end_quietly(body)
        cells.append(_dress(part, code, needs_argv, bound_before, first=not cells))
        bound_before |= _bound_names(ast.parse(part.script.code))
    return Cells("\n".join(_merged(lines)), cells)


# -- imports -----------------------------------------------------------------------------------


def _take_apart(script: Script) -> _Parts:
    """Take the leading imports off a script: those that nothing but imports and constants stands before."""
    module = cst.parse_module(script.code)
    docstring = module.get_docstring() or ""
    imports: list[cst.SimpleStatementLine] = []
    body: list[Any] = []
    leading = True
    for position, statement in enumerate(module.body):
        if position == 0 and docstring:
            continue
        if leading and isinstance(statement, cst.SimpleStatementLine):
            if all(_is_plain_import(item, script) or _chooses_backend(item) for item in statement.body):
                imports += [_alone(item) for item in statement.body]
                continue
            if not all(_is_harmless(item) for item in statement.body):
                leading = False
        elif not isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
            leading = False
        body.append(statement)
    return _Parts(script, imports, module.with_changes(body=body), docstring)


def _alone(item: Any) -> cst.SimpleStatementLine:
    return cst.SimpleStatementLine([item.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)])


def _statement_text(module: cst.Module, line: cst.SimpleStatementLine) -> str:
    return module.code_for_node(
        line.with_changes(leading_lines=[], trailing_whitespace=cst.TrailingWhitespace())
    ).strip()


def _is_plain_import(item: cst.BaseSmallStatement, script: Script) -> bool:
    if isinstance(item, cst.ImportFrom):
        if item.relative or isinstance(item.names, cst.ImportStar) or item.module is None:
            return False
        return dotted(item.module)[0] not in script.local_modules
    if isinstance(item, cst.Import):
        return all(dotted(alias.name)[0] not in script.local_modules for alias in item.names)
    return False


def _chooses_backend(item: cst.BaseSmallStatement) -> bool:
    """``matplotlib.use("Agg")`` stands between imports and belongs there."""
    return (
        isinstance(item, cst.Expr)
        and isinstance(item.value, cst.Call)
        and dotted(item.value.func) in (["matplotlib", "use"], ["mpl", "use"])
        and all(try_literal(argument.value) is not None for argument in item.value.args)
    )


def _is_harmless(item: cst.BaseSmallStatement) -> bool:
    """Tell whether a statement can change nothing that an import after it sees: a constant, a text."""
    if isinstance(item, cst.Assign):
        plain = all(isinstance(target.target, cst.Name) for target in item.targets)
        return plain and not any(isinstance(node, (cst.Call, cst.Await)) for node in _nodes(item.value))
    if isinstance(item, cst.AnnAssign):
        return item.value is None or not any(isinstance(node, (cst.Call, cst.Await)) for node in _nodes(item.value))
    return isinstance(item, cst.Expr) and isinstance(item.value, (cst.SimpleString, cst.ConcatenatedString))


def _nodes(node: cst.CSTNode) -> list[cst.CSTNode]:
    found = [node]
    for child in node.children:
        found += _nodes(child)
    return found


def _shared_imports(parts: list[_Parts]) -> set[str]:
    """Return the import lines that can stand in one cell: each of their names means one thing everywhere."""
    blank = cst.Module([])
    lines: dict[str, set[str]] = {}
    meanings: dict[str, set[str]] = {}
    rebound: set[str] = set()
    for part in parts:
        for line in part.imports:
            text = _statement_text(blank, line)
            names = _imported(text)
            lines[text] = set(names)
            for name, meaning in names.items():
                meanings.setdefault(name, set()).add(meaning)
        rebound |= _bound_names(ast.parse(part.module.code))
    fine = {
        text for text, names in lines.items() if all(name not in rebound and len(meanings[name]) == 1 for name in names)
    }
    # A backend is chosen after the import of its module: with that import, or not at all.
    return {
        text for text in fine if lines[text] or text.split(".")[0] in {name for other in fine for name in lines[other]}
    }


def _merged(lines: list[str]) -> list[str]:
    """Put what is imported from one module into one line, where it stands first; ``__future__`` before all."""
    names: dict[str, list[str]] = {}
    for line in lines:
        for statement in ast.parse(line).body:
            if isinstance(statement, ast.ImportFrom):
                known = names.setdefault(statement.module or "", [])
                known += [name for name in map(ast.unparse, statement.names) if name not in known]
    merged = []
    for line in lines:
        statement = ast.parse(line).body[0]
        if not isinstance(statement, ast.ImportFrom):
            merged.append(line)
        elif imported := names.pop(statement.module or "", []):
            merged.append(f"from {statement.module} import {', '.join(imported)}")
    future = [line for line in merged if line.startswith("from __future__")]
    return [*future, *(line for line in merged if line not in future)]


def _imported(text: str) -> dict[str, str]:
    """Return what an import line binds: name → what it stands for."""
    names: dict[str, str] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                # "import a.b" and "import a.c" both bind the package a
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                names[alias.asname or alias.name] = f"{statement.module}:{alias.name}"
    return names


# -- names -------------------------------------------------------------------------------------


def _bound_names(tree: ast.AST) -> set[str]:
    """Return the names that a module binds at its top level, and those its functions declare global."""
    found: set[str] = set()
    stack: list[ast.AST] = [tree]
    while stack:
        for child in ast.iter_child_nodes(stack.pop()):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(child.name)
                found.update(name for item in ast.walk(child) if isinstance(item, ast.Global) for name in item.names)
                continue
            if isinstance(child, ast.Lambda):
                continue
            if isinstance(child, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
                continue
            if isinstance(child, ast.Name) and isinstance(child.ctx, (ast.Store, ast.Del)):
                found.add(child.id)
            elif isinstance(child, (ast.Import, ast.ImportFrom)):
                found.update((alias.asname or alias.name).partition(".")[0] for alias in child.names)
            elif isinstance(child, ast.ExceptHandler) and child.name:
                found.add(child.name)
            stack.append(child)
    return found


def _used_names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


# -- a script's end ----------------------------------------------------------------------------


def _end_quietly(module: cst.Module) -> tuple[str, bool]:
    """Return a script's code such that its ``sys.exit`` does not end the kernel, and whether it reads ``sys.argv``."""
    module = module.visit(_Awaiter())
    body = list(module.body)
    if body:
        last = body[-1]
        if isinstance(last, cst.If) and is_main_guard(last) and isinstance(last.body, cst.IndentedBlock):
            inner = list(last.body.body)
            inner[-1:] = _without_exit(inner[-1])
            inner = inner or [cst.SimpleStatementLine([cst.Pass()])]
            body[-1] = last.with_changes(body=last.body.with_changes(body=inner))
        else:
            body[-1:] = _without_exit(last)
    module = module.with_changes(body=body)
    tree = ast.parse(module.code)
    code = module.code.strip("\n")
    if _exits(tree):
        code = _catch_exit(module)
    used = _used_names(tree) | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return code, bool(used & {"argv", "argparse", "parse_args", "ArgumentParser", "optparse", "fire", "click"})


def _exit_call(node: cst.CSTNode) -> cst.Call | None:
    if isinstance(node, cst.Call) and dotted(node.func) in (["sys", "exit"], ["exit"], ["quit"], ["os", "_exit"]):
        return node
    if isinstance(node, cst.Call) and dotted(node.func) == ["SystemExit"]:
        return node
    return None


def _without_exit(statement: Any) -> list[Any]:
    """Return a script's last statement such that its ``sys.exit`` does not end the kernel."""
    if not (isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1):
        return [statement]
    item = statement.body[0]
    value = item.value if isinstance(item, cst.Expr) else item.exc if isinstance(item, cst.Raise) else None
    call = _exit_call(value) if value is not None else None
    if call is None or (call.args and call.args[0].star):
        return [statement]
    argument = call.args[0].value if call.args else None
    if argument is None or (isinstance(argument, cst.Name) and argument.value == "None"):
        return []
    status = try_literal(argument)
    if status is not None and not isinstance(status, (str, bool)) and status == 0:
        return []
    lines = cst.parse_module(f"_status = 0\nif _status:\n    {_REFUSAL.format(name='_status')}\n").body
    assignment = cst.ensure_type(lines[0], cst.SimpleStatementLine)
    set_status = cst.ensure_type(assignment.body[0], cst.Assign).with_changes(value=argument)
    return [statement.with_changes(body=[set_status]), lines[1]]


def _exits(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in {"exit", "quit", "SystemExit"} and isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.exit":
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "sys"
            and any(item.name == "exit" for item in node.names)
        ):
            return True
    return False


def _catch_exit(module: cst.Module) -> str:
    """Put a cell into ``try``: its exit with status 0 is its end, any other is an error."""
    guarded = cst.Try(
        body=cst.IndentedBlock(list(module.body) or [cst.SimpleStatementLine([cst.Pass()])]),
        handlers=[
            cst.ExceptHandler(
                type=cst.Name("SystemExit"),
                name=cst.AsName(cst.Name("_ended")),
                body=cst.IndentedBlock(
                    list(
                        cst.parse_module(f"if _ended.code:\n    {_REFUSAL.format(name='_ended.code')} from None\n").body
                    )
                ),
            )
        ],
    )
    return module.with_changes(body=[guarded]).code.strip("\n")


class _Awaiter(cst.CSTTransformer):
    """``asyncio.run(x)`` becomes ``await x`` at the top of a script; in a function it runs in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.depth += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        self.depth -= 1
        return updated_node

    def visit_Lambda(self, node: cst.Lambda) -> None:
        self.depth += 1

    def leave_Lambda(self, original_node: cst.Lambda, updated_node: cst.Lambda) -> cst.Lambda:
        self.depth -= 1
        return updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        if dotted(original_node.func) == ["asyncio", "run"] and updated_node.args:
            if self.depth:
                return updated_node.with_changes(func=cst.Name(_RUN_APART))
            return cst.Await(updated_node.args[0].value, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        return updated_node


# -- what a cell begins with -------------------------------------------------------------------


def _dress(part: _Parts, code: str, needs_argv: bool, bound_before: set[str], *, first: bool) -> str:
    """Add the lines before a step's code by which it finds what a script of its own would find."""
    tree = ast.parse(part.script.code)
    used = _used_names(tree)
    head: list[str] = []
    free = (used - _bound_names(tree)) & _BUILTINS & bound_before
    if free:
        lines = [f"globals().pop({name!r}, None)  # an earlier step's; built in here" for name in sorted(free)]
        head.append("\n".join(lines))
    if not first and re.search(r"\b(matplotlib|pyplot|plt|seaborn)\b", part.script.code):
        head.append(_CLEAN_FIGURES)
    if f"{_RUN_APART}(" in code:
        head.append(_APART)
    if "__file__" in used:
        head.append(f"import os\n\n__file__ = os.path.abspath({part.script.path!r})")
    if needs_argv:
        head.append(f"import sys\n\nsys.argv = [{part.script.path!r}]")
    if "__doc__" in used and part.docstring:
        head.append(f"__doc__ = {part.docstring!r}")
    about = [f"# {line}" if line else "#" for line in textwrap.dedent(part.docstring).strip().splitlines()]
    pieces = ["\n".join(about), *head, code]
    return "\n\n".join(piece for piece in pieces if piece)
