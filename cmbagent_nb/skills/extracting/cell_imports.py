"""The imports of scripts: which of them can stand in one cell, each of their names meaning one thing everywhere."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import libcst as cst

from cmbagent_nb.skills.extracting.source import dotted, try_literal


@dataclass(frozen=True)
class Script:
    """The code of one step: where its script stood in its folder, and modules of the run that it may import."""

    node_id: str
    path: str
    code: str
    local_modules: frozenset[str] = frozenset()


@dataclass
class Parts:
    """A script in parts: its leading imports, what comes after them, and what it says of itself."""

    script: Script
    imports: list[cst.SimpleStatementLine]
    module: cst.Module
    docstring: str


def take_apart(script: Script) -> Parts:
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
    return Parts(script, imports, module.with_changes(body=body), docstring)


def _alone(item: Any) -> cst.SimpleStatementLine:
    return cst.SimpleStatementLine([item.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)])


def statement_text(module: cst.Module, line: cst.SimpleStatementLine) -> str:
    """Return a statement as text, without the comments around it."""
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


def shared_imports(parts: list[Parts]) -> set[str]:
    """Return the import lines that can stand in one cell: each of their names means one thing everywhere."""
    blank = cst.Module([])
    lines: dict[str, set[str]] = {}
    meanings: dict[str, set[str]] = {}
    rebound: set[str] = set()
    for part in parts:
        for line in part.imports:
            text = statement_text(blank, line)
            names = _imported(text)
            lines[text] = set(names)
            for name, meaning in names.items():
                meanings.setdefault(name, set()).add(meaning)
        rebound |= bound_names(ast.parse(part.module.code))
    fine = {
        text for text, names in lines.items() if all(name not in rebound and len(meanings[name]) == 1 for name in names)
    }
    # A backend is chosen after the import of its module: with that import, or not at all.
    return {
        text for text in fine if lines[text] or text.split(".")[0] in {name for other in fine for name in lines[other]}
    }


def merged(lines: list[str]) -> list[str]:
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


def bound_names(tree: ast.AST) -> set[str]:
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


def used_names(tree: ast.AST) -> set[str]:
    """Return the names that stand in code."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
