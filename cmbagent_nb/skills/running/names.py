"""Finds the names that code uses before it binds them, and whether cells share names."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from cmbagent_nb.skills.magics import plain_python

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def needed(trees: Iterable[ast.Module]) -> set[str]:
    """Return the names that code uses before it has certainly bound them.

    >>> sorted(needed([ast.parse("y = x + 1\\nif y:\\n    z = 2"), ast.parse("print(y, z)")]))
    ['x', 'z']
    """
    return _free_in([statement for tree in trees for statement in tree.body]) - {*dir(builtins), "get_ipython"}


def _free_in(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names that statements in a row read before one of them has certainly bound them."""
    bound: set[str] = set()
    found: set[str] = set()
    for statement in statements:
        found |= _free(statement) - bound
        bound |= _binds(statement)
    return found


def share_names(sources: list[str]) -> bool:
    """Tell whether a cell may use a name that another one binds.

    >>> share_names(["x = 1\\nprint(x)", "x = 2"]), share_names(["x = 1", "print(x)"])
    (False, True)
    """
    try:
        trees = [ast.parse(plain_python(source)) for source in sources]
    except SyntaxError:
        return True
    bound = [
        {item.id for item in ast.walk(tree) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
        | {item.name for item in ast.walk(tree) if isinstance(item, _DEFINITIONS)}
        for tree in trees
    ]
    return any(needed([tree]) & set().union(*bound[:number]) for number, tree in enumerate(trees))


def _free(node: ast.AST) -> set[str]:
    """Return the names that a statement or expression reads from outside, also within its functions.

    >>> sorted(_free(ast.parse("def f(x):\\n    y = x\\n    return y + z").body[0]))
    ['z']
    """
    if isinstance(node, ast.Name):
        return set() if isinstance(node.ctx, ast.Store) else {node.id}
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return _free_of_function(node)
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return _free_of_children(node) - _stored(item.target for item in node.generators)
    if isinstance(node, (ast.With, ast.AsyncWith)):
        given = set().union(*(_free(item.context_expr) for item in node.items))
        return given | (_free_in(node.body) - _stored(item.optional_vars for item in node.items if item.optional_vars))
    if isinstance(node, (ast.For, ast.AsyncFor)):
        return _free(node.iter) | (_free_in([*node.body, *node.orelse]) - _stored([node.target]))
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return {node.target.id} | _free(node.value)  # x += 1 reads what it writes
    return _free_of_children(node)


def _free_of_children(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            found |= _free_in(value)
        elif isinstance(value, list):
            found = found.union(*(_free(item) for item in value if isinstance(item, ast.AST)))
        elif isinstance(value, ast.AST):
            found |= _free(value)
    return found


def _free_of_function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    arguments = node.args
    names = {
        item.arg
        for item in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        if item is not None
    }
    outside = [*arguments.defaults, *arguments.kw_defaults, *getattr(node, "decorator_list", [])]
    given = set().union(*(_free(item) for item in outside if item is not None))
    body = node.body if isinstance(node.body, list) else [node.body]
    declared = {name for item in ast.walk(node) if isinstance(item, (ast.Global, ast.Nonlocal)) for name in item.names}
    read = set().union(*(_free(item) for item in body))
    return given | (read - (names | _stored(body)) | (read & declared))


def _binds(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds in any case."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {(item.asname or item.name).partition(".")[0] for item in statement.names}
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    targets: list[ast.AST] = []
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    elif isinstance(statement, (ast.With, ast.AsyncWith)):
        targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
        return _stored(targets).union(*(_binds(inner) for inner in statement.body))
    return _stored(targets)


def _stored(targets: Iterable[ast.AST]) -> set[str]:
    return {
        item.id
        for target in targets
        for item in ast.walk(target)
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
    }
