"""Tells from code and what it printed whether it caught an error and went on without its result."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

_SAYS = frozenset({"print", "error", "exception", "warning", "warn", "critical", "write", "print_exc", "display"})
#: Exceptions that are caught to choose another way, not to hide a failure.
_CHOICES = frozenset({"ImportError", "ModuleNotFoundError", "StopIteration", "KeyboardInterrupt"})
_LEAST = 4


def caught(codes: Iterable[str], printed: str) -> str:
    """Return the line by which a handler of exceptions said that it ran; nothing if none did.

    >>> caught(["try:\\n    run()\\nexcept OSError as error:\\n    print(f'It failed: {error}')"], "It failed: no file")
    'It failed: no file'
    """
    for code in codes:
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError):
            continue
        said_elsewhere = _texts(node for node in _outside_handlers(tree))
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
            if _chooses(handler):
                continue
            for text in _texts(ast.walk(handler)) - said_elsewhere:
                line = next((line for line in printed.splitlines() if text in line), "")
                if line:
                    return line.strip()[:200]
    return ""


def _chooses(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler takes only exceptions that choose another way, or raises again."""
    if any(isinstance(node, ast.Raise) for node in ast.walk(handler)):
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
    names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in kinds}
    return bool(names) and names <= _CHOICES


def _outside_handlers(tree: ast.AST) -> Iterable[ast.AST]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.ExceptHandler):
            yield node
            waiting += ast.iter_child_nodes(node)


def _texts(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the constant pieces of what calls among some nodes say."""
    found: set[str] = set()
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _SAYS:
            for argument in node.args:
                found |= {
                    piece
                    for item in ast.walk(argument)
                    if isinstance(item, ast.Constant) and isinstance(item.value, str)
                    for piece in re.split(r"[\n%{}]", item.value)
                    if len(piece.strip()) >= _LEAST
                }
    return found
