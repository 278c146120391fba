"""The names of a kernel, kept between cells: what of them can be put back, and what a later cell needs.

The kernel keeps plain values, arrays, frames and random generators itself (:mod:`~cmbagent_nb.skills.running.kept`,
whose text is sent to it). What is code is not kept but said again: imports, definitions of functions and classes,
and settings of modules (``plt.rcParams[…] = …``, ``warnings.filterwarnings(…)``) of the cells that are not run
again.
"""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmbagent_nb.skills.magics import plain_python

STATE = "names.json"
#: What the kernel says of a name that cannot be kept.
LOST = "lost"
#: Calls of a module that set something for all that follows.
_SETTERS = frozenset(
    {
        "use", "filterwarnings", "simplefilter", "rc", "rc_file_defaults", "rcdefaults", "seterr", "chdir", "insert",
        "append", "setlocale", "basicConfig", "captureWarnings", "register_matplotlib_converters", "update",
        "set_option", "set_printoptions", "set_theme", "set_style", "set_palette", "set_context",
    }
)  # fmt: skip
#: Magics that set something for all that follows.
_SETTING_MAGICS = frozenset({"matplotlib", "load_ext", "autoreload", "config", "env", "precision", "cd", "pylab"})
#: Functions of pyplot that begin a figure, or that need none.
_BEGINS = frozenset(
    {
        "figure",
        "subplots",
        "subplot_mosaic",
        "close",
        "style",
        "rcParams",
        "rc",
        "get_cmap",
        "cm",
        "colormaps",
        "Figure",
    }
)


@dataclass(frozen=True)
class Names:
    """What a kernel had after a cell: name → how it was kept."""

    folder: Path
    kept: dict[str, dict[str, Any]]
    #: Whether figures were open: pyplot draws on the newest one unasked.
    figures: bool = False

    @classmethod
    def read(cls, folder: Path) -> Names | None:
        """Read what a kernel kept; None where it did not come to that."""
        try:
            found = json.loads((folder / STATE).read_text(encoding="utf-8"))
            return cls(folder, found["names"], bool(found["figures"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def suffice(self, finished: list[str], left: list[str]) -> bool:
        """Tell whether the cells that are left can run with what was kept of the ``finished`` ones."""
        try:
            code = said_again(finished)
            trees = [ast.parse(plain_python(source)) for source in left]
            again = ast.parse(code)
        except SyntaxError:
            return False  # code of another language: nothing can be said about it
        wanted = needed(trees) & self.kept.keys()
        defined = {item.name: item for item in again.body if isinstance(item, _DEFINITIONS)}
        imported = set().union(*(_binds(item) for item in again.body if isinstance(item, (ast.Import, ast.ImportFrom))))
        looked: set[str] = set()
        while wanted - looked:
            name = (wanted - looked).pop()
            looked.add(name)
            if name in defined:
                wanted |= _free(defined[name]) & self.kept.keys()
            elif name not in imported and self.kept[name]["kind"] in (LOST, "code", "module"):
                return False  # a lambda, a module under another name: no statement that can be said again
        # a setting is said again as it stands: what it uses has to be there, too
        for statement in again.body:
            if not isinstance(statement, (*_DEFINITIONS, ast.Import, ast.ImportFrom)) and any(
                self.kept.get(name, {}).get("kind") == LOST for name in _free(statement)
            ):
                return False
        return not (self.figures and draws_on(trees, {n for n, item in self.kept.items() if item.get("pyplot")}))

    def code(self, finished: list[str]) -> str:
        """Return what the kernel runs to have the names again: imports and settings, values, definitions."""
        return f"{said_again(finished, definitions=False)}\n{kernel_call('load', self.folder)}\n" + said_again(
            finished, others=False
        )


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def kernel_call(function: str, folder: Path) -> str:
    """Return code that calls ``save`` or ``load`` of :mod:`~cmbagent_nb.skills.running.kept` and leaves no name.

    The text of the module is sent along: the kernel need not be able to import this package.
    """
    text = (Path(__file__).parent / "kept.py").read_text(encoding="utf-8")
    return (
        f"(lambda scope: (exec(compile({text!r}, 'kept.py', 'exec'), scope),"
        f" scope[{function!r}](globals(), {str(folder)!r})))({{'__name__': 'kept'}})"
    )


def said_again(sources: Iterable[str], *, definitions: bool = True, others: bool = True) -> str:
    """Return the statements of finished cells that are repeated: imports, settings, definitions.

    >>> print(said_again(["import numpy as np\\nx = slow()\\nnp.seterr(all='ignore')", "def f():\\n    return x"]))
    import numpy as np
    np.seterr(all='ignore')
    def f():
        return x
    """
    found: list[str] = []
    modules: set[str] = set()
    for source in sources:
        for statement in ast.parse(plain_python(source)).body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                modules |= {(item.asname or item.name).partition(".")[0] for item in statement.names}
                wanted = others
            elif isinstance(statement, _DEFINITIONS):
                wanted = definitions
            else:
                wanted = others and _sets(statement, modules)
            if wanted:
                found.append(ast.unparse(statement))
    return "\n".join(found)


def _sets(statement: ast.stmt, modules: set[str]) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        if isinstance(function, ast.Attribute) and function.attr == "run_line_magic":
            first = statement.value.args[0] if statement.value.args else None
            return isinstance(first, ast.Constant) and first.value in _SETTING_MAGICS
        return isinstance(function, ast.Attribute) and function.attr in _SETTERS and _root(function) in modules
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [statement.target]
        if isinstance(statement, ast.AugAssign)
        else []
    )
    return any(isinstance(item, (ast.Attribute, ast.Subscript)) and _root(item) in modules for item in targets)


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


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


def draws_on(trees: Iterable[ast.Module], pyplot: set[str]) -> bool:
    """Tell whether code draws by pyplot before it has begun a figure of its own."""
    for tree in trees:
        calls = sorted(
            (item for item in ast.walk(tree) if isinstance(item, ast.Attribute) and _root(item) in pyplot),
            key=lambda item: (item.lineno, item.col_offset),
        )
        for call in calls:
            first: ast.Attribute = call
            while isinstance(first.value, ast.Attribute):
                first = first.value
            if first.attr not in _BEGINS:
                return True
            if first.attr in ("figure", "subplots", "subplot_mosaic"):
                return False
    return False
