"""Leaving out code whose results reach no output: what can be told for certain; verification has the last word.

| left out | unless |
|---|---|
| a step that made no file and is not the last one | the steps were chosen one by one, or no step made a file |
| an import, a function, a class that nothing uses | it is for its effect: ``import a.b``, ``import *``, a style |
| a constant that nothing reads | it is annotated in a class, or says who made it (``__all__``) |
| a bare name, an attribute, ``df.head()`` | in a script nobody sees them |

Code that looks at its own names (``globals()``, ``eval``, ``exec``, ``locals()``) is left as it is. What a call gives
is never left out: it may have written a file.

>>> prune("import os\\nimport json\\nLIMIT = 3\\nUNUSED = 4\\ndef help_():\\n    return 1\\njson.dumps(LIMIT)\\n")
('import json\\nLIMIT = 3\\njson.dumps(LIMIT)\\n', ['import os', 'UNUSED', 'help_'])
"""

from __future__ import annotations

import ast

import libcst as cst

from cmbagent_nb.skills.model import StepCode

#: Names by which code can see any other name.
_LOOKS = frozenset({"globals", "locals", "vars", "eval", "exec", "dir", "__all__", "inspect", "sys.modules"})
#: Modules that are imported for what their import does.
_FOR_EFFECT = frozenset(
    {"mpl_toolkits", "scienceplots", "seaborn_image", "readline", "dotenv", "cmasher", "cmocean", "pint_pandas"}
)
#: Methods that only show something, as a statement of their own.
_SHOWS = frozenset({"head", "tail", "describe", "sample", "copy"})


def prune_steps(steps: list[StepCode]) -> tuple[list[StepCode], dict[str, str]]:
    """Return the steps without those that only looked at something, and why each was left out.

    A step is kept when it made a file, when a step that is kept needs what only it gives, or when it is the last.
    """
    if not any(step.made for step in steps):
        return steps, {}
    out = {step.node_id: "it made no file that the results need" for step in steps[:-1] if not step.made}
    return [step for step in steps if step.node_id not in out], out


def prune(code: str) -> tuple[str, list[str]]:
    """Return a script without what reaches no output, and what was left out."""
    left_out: list[str] = []
    module = cst.parse_module(code)
    while True:
        text = module.code
        names = _loaded(ast.parse(text))
        if names & _LOOKS:
            return text, left_out
        body = []
        gone: list[str] = []
        for position, statement in enumerate(module.body):
            kept, what = _kept(statement, text, names, first=position == 0)
            gone += what
            if kept is not None:
                body.append(kept)
        if not gone:
            return text, left_out
        left_out += gone
        module = module.with_changes(body=body)


def _loaded(tree: ast.AST) -> set[str]:
    """Return the names that code reads, says in a text annotation, or declares global."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Load, ast.Del)):
            found.add(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            found.update(node.names)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found.update(item.id for item in node.targets if isinstance(item, ast.Name) and item.id.startswith("__"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)  # getattr(module, "name"), an annotation in quotes
    return found


def _kept(
    statement: cst.BaseCompoundStatement | cst.SimpleStatementLine | cst.BaseStatement,
    text: str,
    names: set[str],
    *,
    first: bool,
) -> tuple[cst.BaseStatement | None, list[str]]:
    if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
        name = statement.name.value
        own = _loaded(ast.parse(cst.Module([statement]).code))
        # a function that only calls itself is used by nobody
        used = name in names and (name not in own or _uses(text, name) > _uses(cst.Module([statement]).code, name))
        return (statement, []) if used or statement.decorators else (None, [name])
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return statement, []
    item = statement.body[0]
    if isinstance(item, (cst.Import, cst.ImportFrom)):
        return _import(statement, item, names)
    if isinstance(item, cst.Assign) and len(item.targets) == 1 and isinstance(item.targets[0].target, cst.Name):
        name = item.targets[0].target.value
        dead = name not in names and not name.startswith("__") and _is_plain(item.value)
        return (None, [name]) if dead else (statement, [])
    if isinstance(item, cst.Expr) and not (first and isinstance(item.value, cst.SimpleString)):
        return (None, [cst.Module([]).code_for_node(item)]) if _only_shows(item.value) else (statement, [])
    return statement, []


def _uses(text: str, name: str) -> int:
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(ast.parse(text)))


def _import(
    statement: cst.SimpleStatementLine, item: cst.Import | cst.ImportFrom, names: set[str]
) -> tuple[cst.BaseStatement | None, list[str]]:
    if isinstance(item.names, cst.ImportStar):
        return statement, []
    blank = cst.Module([])
    module = blank.code_for_node(item.module) if isinstance(item, cst.ImportFrom) and item.module else ""
    if (
        module == "__future__"
        or module.partition(".")[0] in _FOR_EFFECT
        or (isinstance(item, cst.ImportFrom) and item.relative)
    ):
        return statement, []
    kept: list[cst.ImportAlias] = []
    gone: list[cst.ImportAlias] = []
    for alias in item.names:
        whole = blank.code_for_node(alias.name)
        bound = alias.asname.name.value if alias.asname and isinstance(alias.asname.name, cst.Name) else whole
        effect = isinstance(item, cst.Import) and ("." in bound or whole.partition(".")[0] in _FOR_EFFECT)
        (kept if effect or bound in names else gone).append(alias)
    if not gone:
        return statement, []
    said = [f"import {blank.code_for_node(alias.name)}" for alias in gone]
    if not kept:
        return None, said
    kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return statement.with_changes(body=[item.with_changes(names=kept)]), said


def _is_plain(node: cst.BaseExpression) -> bool:
    """Tell whether computing a value does nothing else: it holds literals and names alone."""
    plain = (
        cst.SimpleString, cst.ConcatenatedString, cst.Integer, cst.Float, cst.Name, cst.UnaryOperation,
        cst.BinaryOperation, cst.List, cst.Tuple, cst.Set, cst.Dict,
    )  # fmt: skip
    if not isinstance(node, plain):
        return False
    return all(_is_plain(child) for child in _expressions(node))


def _expressions(node: cst.CSTNode) -> list[cst.BaseExpression]:
    found: list[cst.BaseExpression] = []
    for child in node.children:
        if isinstance(child, cst.BaseExpression):
            found.append(child)
        else:
            found += _expressions(child)
    return found


def _only_shows(node: cst.BaseExpression) -> bool:
    if isinstance(node, (cst.Name, cst.SimpleString, cst.Integer, cst.Float)):
        return True
    if isinstance(node, cst.Attribute):
        return _only_shows(node.value)
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value in _SHOWS:
        return isinstance(node.func.value, cst.Name) and all(_is_plain(item.value) for item in node.args)
    return False
