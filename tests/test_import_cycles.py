"""Finds import cycles among the modules of the package, counting imports inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cmbagent_nb

ROOT = Path(cmbagent_nb.__file__).parent


def _group(names: str) -> frozenset[str]:
    return frozenset("cmbagent_nb" if name == "cmbagent_nb" else f"cmbagent_nb.{name}" for name in names.split())


#: Groups of modules that still import each other, in a circle. Only shorten this list: break a cycle, then remove it.
ALLOWED: tuple[frozenset[str], ...] = (
    _group(
        """
        store.database store.migrate
        """
    ),
    _group(
        """
        workflow.ownership workflow.states
        """
    ),
    _group(
        """
        skills.verifying.by_text skills.verifying.compare skills.verifying.shown
        """
    ),
    _group(
        """
        verbs.follow verbs.run verbs.text
        """
    ),
    _group(
        """
        skills.composing.compose skills.composing.fitting
        """
    ),
    _group(
        """
        skills.sharing.export skills.verifying.again
        """
    ),
    _group(
        """
        notebook.loading notebook.magics
        """
    ),
    _group(
        """
        store.frames store.listings
        """
    ),
)
_SKIPPED = ("llm/playbooks/", "skills/starter/", "store/migrations/versions/", "execution/hook/")


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        inner = path.relative_to(ROOT)
        if inner.as_posix().startswith(_SKIPPED) and inner.name != "install.py":
            continue
        parts = inner.with_suffix("").parts
        found[".".join(("cmbagent_nb", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def _imports(node: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that are imported below ``node``, except for those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in child.orelse:
                yield from _imports(other, known)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in known)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                if inner in known or child.module in known:
                    yield inner if inner in known else child.module
        else:
            yield from _imports(child, known)


def cycles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Return the strongly connected components of more than one module (Tarjan's algorithm).

    >>> [sorted(group) for group in cycles({"a": {"b"}, "b": {"a"}, "c": {"a"}})]
    [['a', 'b']]
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = frozenset(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_import_cycles_but_those_that_are_listed() -> None:
    known = _modules()
    graph = {
        name: set(_imports(ast.parse(path.read_text(encoding="utf-8")), known)) - {name} for name, path in known.items()
    }
    found = cycles(graph)
    new = [sorted(group) for group in found if not any(group <= allowed for allowed in ALLOWED)]
    assert not new, f"these modules import each other: {new}"
    gone = [sorted(allowed) for allowed in ALLOWED if not any(group <= allowed for group in found)]
    assert not gone, f"these cycles are gone: remove them from ALLOWED: {gone}"
