"""Tells whether what code prints or displays was computed, or only says what the code says itself.

``print("done")``, the echo of a parameter, a loop's counter, the time and the text of a caught exception are not
computed; the value of a call, of a column, of arithmetic is. Read from the code; nothing is run.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable

_WRITES = frozenset({"write", "write_text", "write_bytes", "writelines", "mkdir", "exists", "unlink", "savefig"})
_PRINTS = frozenset({"print", "display", "pprint", "pp", "write", "echo", "rprint"})
#: Calls that only write a value in another way.
_SAYS = frozenset({"str", "repr", "format", "int", "float", "round", "bool", "join", "upper", "title", "strip",
                   "center", "ljust", "rjust", "replace", "abspath", "resolve", "Path", "getcwd", "cwd"})  # fmt: skip
_CLOCK = frozenset({"time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "now", "utcnow", "today",
                    "process_time", "strftime", "ctime", "isoformat", "getpid", "uuid4", "gethostname"})  # fmt: skip
_COMPLAINT = re.compile(
    r"^\W*("
    r"traceback \(most recent call last\)"
    r"|((an?|some|the following|unknown|unexpected|fatal|critical)\s+)*(error|exception)\s*"
    r"(occurred|has occurred|was (raised|caught)|while|during|when|in |reading|loading|[:!-])"
    r"|(fatal|critical)\b|(\w+\s+){0,3}fail(ed|ure)\b|could(n't| not)\b|can(not|'t)\b|unable to\b|aborting\b"
    r"|(\w+\.)*\w*(Error|Exception)\b\s*[:(]"
    r"|(\w+\W+){0,4}(no such file|file not found|does not exist|is missing|not found))",
    re.IGNORECASE,
)


def complaint(text: str) -> str:
    """Return the first line of a text that says that something failed, or nothing.

    >>> complaint("reading\\nAn error occurred: [Errno 2] No such file"), complaint("standard error: 0.3")
    ('An error occurred: [Errno 2] No such file', '')
    """
    return next((line.strip()[:200] for line in text.splitlines() if _COMPLAINT.match(line)), "")


def words_said(sources: Iterable[str]) -> set[str]:
    """Return the words, in lower case, that stand in the strings of some code.

    >>> sorted(words_said(["print(f'All done, {name}')"]))
    ['all', 'done']
    """
    from cmbagent_nb.skills.verifying.unseeded import parsed

    strings = (
        node.value
        for source in sources
        if (tree := parsed(source)) is not None
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {word.casefold() for text in strings for word in re.findall(r"\w+", text)}


class Computed:
    """Knows which names of some cells are only given, and which were computed."""

    def __init__(self, sources: Iterable[str]) -> None:
        from cmbagent_nb.skills.verifying.unseeded import parsed

        trees = [tree for source in sources if (tree := parsed(source)) is not None]
        bindings = _Bindings()
        for tree in trees:
            bindings.visit(tree)
        self.modules = bindings.modules
        self.functions = {
            node.name: node
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        self.clocks: set[str] = set()
        self.given = {name for name, values in bindings.values.items() if None not in values}
        while True:
            clocks = {name for name in self.given if any(self._asks_clock(item) for item in bindings.of(name))}
            known = {name for name in self.given if not any(self.computes(item) for item in bindings.of(name))}
            if known == self.given and clocks <= self.clocks:
                return
            self.given, self.clocks = known, self.clocks | clocks

    def computes(self, node: ast.AST) -> bool:
        """Tell whether an expression is computed, rather than only given."""
        if isinstance(node, ast.Constant):
            return False
        if isinstance(node, ast.Name):
            return node.id not in self.given and node.id not in self.modules and not hasattr(builtins, node.id)
        if isinstance(node, ast.Attribute):
            return self.computes(node.value)
        if isinstance(node, ast.BinOp):
            texts = any(isinstance(item, (ast.Constant, ast.JoinedStr)) and _is_text(item) for item in ast.walk(node))
            if texts or self._asks_clock(node):
                return self.computes(node.left) or self.computes(node.right)
            return any(isinstance(item, (ast.Name, ast.Call)) for item in ast.walk(node))
        if isinstance(node, ast.Call):
            name = _called(node)
            inner = [*node.args, *(item.value for item in node.keywords)]
            inner += [node.func.value] if isinstance(node.func, ast.Attribute) else []
            if name in _SAYS or name in _CLOCK:
                return any(self.computes(item) for item in inner)
            return True
        if isinstance(node, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        return any(self.computes(item) for item in ast.iter_child_nodes(node))

    def shows(self, source: str) -> bool:
        """Tell whether a cell's last line has a value that is computed."""
        from cmbagent_nb.skills.verifying.unseeded import parsed

        tree = parsed(source)
        if tree is None or not tree.body or not isinstance(tree.body[-1], ast.Expr):
            return True  # it showed something by other means, such as display() in a function or a magic
        value = tree.body[-1].value
        # how many characters were written is not a result
        return not (isinstance(value, ast.Call) and _called(value) in _WRITES) and self.computes(value)

    def prints(self, source: str) -> bool:
        """Tell whether a cell prints something that is computed; so does one whose libraries print."""
        from cmbagent_nb.skills.verifying.unseeded import parsed

        tree = parsed(source)
        if tree is None:
            return True
        calls = self._prints(tree, set())
        return any(self.computes(item) for call in calls for item in call.args) if calls else True

    def _prints(self, tree: ast.AST, been: set[str]) -> list[ast.Call]:
        """Return the calls that print, those in functions that are called here among them."""
        found = []
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = _called(node)
            if name in _PRINTS:
                found.append(node)
            elif name in self.functions and name not in been:
                found += self._prints(self.functions[name], been | {name})
        return found

    def _asks_clock(self, node: ast.AST) -> bool:
        return any(
            (isinstance(item, ast.Call) and _called(item) in _CLOCK)
            or (isinstance(item, ast.Name) and item.id in self.clocks)
            for item in ast.walk(node)
        )


class _Bindings(ast.NodeVisitor):
    """Collects what each name is bound to; None for a binding whose value is not an expression here."""

    def __init__(self) -> None:
        self.values: dict[str, dict[ast.expr | None, bool]] = {}
        self.modules: set[str] = set()

    def of(self, name: str) -> list[ast.expr]:
        """Return the expressions that a name is bound to."""
        return [item for item in self.values[name] if item is not None]

    def _bind(self, target: ast.AST, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self.values.setdefault(target.id, {})[value] = True
        elif isinstance(target, (ast.Tuple, ast.List)):
            same = isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts)
            for position, item in enumerate(target.elts):
                inner = value.elts[position] if same and isinstance(value, (ast.Tuple, ast.List)) else None
                self._bind(item, inner)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, None)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, node.value)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._bind(node.target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._bind(node.target, None)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        counter = isinstance(node.iter, ast.Call) and _called(node.iter)
        if counter == "range":
            self._bind(node.target, ast.Constant(0))
        elif counter == "enumerate" and isinstance(node.target, ast.Tuple) and len(node.target.elts) == 2:
            self._bind(node.target.elts[0], ast.Constant(0))
            self._bind(node.target.elts[1], None)
        elif isinstance(node.iter, (ast.List, ast.Tuple, ast.Name, ast.Set)):
            self._bind(node.target, node.iter)
        else:
            self._bind(node.target, None)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.values.setdefault(node.name, {})[ast.Constant("")] = True
        self.generic_visit(node)

    def visit_withitem(self, node: ast.withitem) -> None:
        if node.optional_vars is not None:
            self._bind(node.optional_vars, None)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self.values.setdefault(node.arg, {})[None] = True

    def visit_Import(self, node: ast.Import) -> None:
        self.modules |= {(item.asname or item.name).partition(".")[0] for item in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.modules |= {item.asname or item.name for item in node.names}


def _called(node: ast.Call) -> str:
    function = node.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
