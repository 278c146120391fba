"""What a notebook's cells hand to one another: names that a cell needs, and names that later cells need of it.

Read from the code, without running it, and on the safe side: what cannot be seen counts as needed. A
cell is *plain* when nothing in it depends on more than its names, the folder's files and the packages:
no clock, no chance without a seed, no network, no other process, no state of the interpreter.

>>> flows = flow([Cell("p", "n = 3", "parameters"), Cell("a", "x = n\\ny = 2"), Cell("b", "y = 3\\nprint(x, y)")])
>>> flows[1].leaves, flows[2].needs, sorted(flows[2].depends)
(('x',), ('x',), ['n'])
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cmbagent_nb.skills.notebook import PARAMETERS, SHOWS

if TYPE_CHECKING:
    from nbformat import NotebookNode

_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__"}
_NETWORK = frozenset(
    {"requests", "urllib", "httpx", "httpx2", "socket", "http", "ftplib", "aiohttp", "astroquery", "urllib3"}
)
_PROCESSES = frozenset({"subprocess", "multiprocessing", "ctypes", "signal"})
_CHANCE = frozenset({"uuid", "secrets"})
#: Dotted ends of calls and attributes that make a cell's result depend on more than its inputs.
_OUTSIDE = re.compile(
    r"(^|\.)(datetime\.(now|utcnow|today)|date\.today|time\.(time|time_ns|ctime|localtime|gmtime|strftime|asctime)|"
    r"os\.(urandom|environ|getenv|putenv|system|popen|chdir|fork|getpid|getlogin)|"
    r"sys\.(path|modules|settrace|setrecursionlimit)|Path\.home|platform\.\w+|getpass\.\w+|locale\.\w+|"
    r"warnings\.(filterwarnings|simplefilter)|seterr|set_option|set_printoptions|get_ipython|tempfile\.\w+|"
    r"Timestamp\.(now|today|utcnow)|atexit\.\w+)$"
)
_GLOBAL_CHANCE = re.compile(
    r"^(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence|PCG64|RandomState|MT19937|Philox)\w+$"
)
_SEEDS = frozenset({"np.random.seed", "numpy.random.seed", "random.seed"})
_UNSEEN = frozenset(
    {"eval", "exec", "globals", "locals", "vars", "input", "compile", "__import__", "setattr", "delattr"}
)
_DRAWS = re.compile(r"\b(matplotlib|pyplot|plt|seaborn|sns)\b")
_CLEANS = re.compile(r"matplotlib\.rc_file_defaults\(\)|rcdefaults\(\)")
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Cell:
    """A code cell by its id; what it is for: ``parameters``, ``preamble`` (imports and folders) or ``code``."""

    id: str
    code: str
    role: str = "code"


@dataclass(frozen=True)
class Flow:
    """What one cell needs and leaves, and why its results cannot be kept, if they cannot."""

    id: str
    #: Names whose values it takes: parameters, and what earlier cells have computed.
    needs: tuple[str, ...] = ()
    #: A hash of the functions, classes and imports of earlier cells that it uses.
    code: str = ""
    #: The parameters that it depends on, directly, by names or by files of earlier cells.
    depends: frozenset[str] = frozenset()
    #: Names of its own that later cells use.
    leaves: tuple[str, ...] = ()
    #: Needed names that it binds anew, which is no change of what it was given.
    rebinds: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether its results follow from its code, names and files."""
        return not self.hindrances


@dataclass
class _Scan:
    """What is seen in one cell."""

    exposed: dict[str, None] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    sure: set[str] = field(default_factory=set)
    functions: dict[str, set[str]] = field(default_factory=dict)
    #: Names that only definitions and imports bind, with their source.
    defined: dict[str, list[str]] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)


def of_notebook(notebook: NotebookNode) -> list[Flow]:
    """Return the flows of a notebook's code cells."""
    cells = []
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and cell.source.strip() and SHOWS not in tags:
            role = "parameters" if tags & PARAMETERS else "code"
            cells.append(Cell(cell.get("id", ""), cell.source, "preamble" if tags & {"imports", "setup"} else role))
    return flow(cells)


def flow(cells: list[Cell]) -> list[Flow]:
    """Return what the cells need and leave, in their order."""
    scans: list[_Scan | None] = []
    for cell in cells:
        try:
            scans.append(_scan(ast.parse(cell.code)))
        except SyntaxError:
            scans.append(None)
    imported = frozenset().union(*(scan.imported for scan in scans if scan is not None))
    flows: list[Flow] = []
    for place, (cell, scan) in enumerate(zip(cells, scans, strict=True)):
        if scan is None:
            flows.append(Flow(cell.id, hindrances=("it is not plain Python",)))
            continue
        leaves = _leaves(scan, scans[place + 1 :])
        found = _resolve(scan, cells[:place], scans[:place], flows, imported)
        later = [item.code for item in cells[place + 1 :] if item.role == "code"]
        hindrances = [*found.hindrances, *_hindrances(cell.code, later, imported)]
        defined = [name for name in leaves if name in scan.defined]
        if defined:
            hindrances.append(f"later cells use what it defines or imports ({', '.join(defined[:3])})")
        rebinds = tuple(name for name in found.needs if name in scan.bound)
        hindered = tuple(dict.fromkeys(hindrances))
        flows.append(replace(found, id=cell.id, leaves=leaves, rebinds=rebinds, hindrances=hindered))
    return flows


def _resolve(
    scan: _Scan, cells: list[Cell], scans: list[_Scan | None], flows: list[Flow], imported: frozenset[str]
) -> Flow:
    """Tell by what earlier cells the names that a cell takes are bound: as values, or by definitions."""
    needs: dict[str, None] = {}
    definitions: dict[str, None] = {}
    hindrances: list[str] = []
    # files of earlier cells are in the folder, so what those cells depend on matters, too
    depends = {name for cell, own in zip(cells, flows, strict=True) if cell.role == "code" for name in own.depends}
    waiting, seen = list(scan.exposed), set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        binders = [(cell, own) for cell, own in zip(cells, scans, strict=True) if own is not None and name in own.bound]
        if not binders:
            continue
        last, _ = binders[-1]
        if any(name in own.bound - own.defined.keys() for _, own in binders):
            needs.setdefault(name)
            if last.role == "parameters":
                depends.add(name)
            continue
        for cell, own in binders:
            for text in own.defined[name] if cell.role != "preamble" else ():
                definitions.setdefault(text)
                hindrances += _hindrances(text, [], imported)
            waiting += sorted(own.functions.get(name, ()))
    if any(own is None for own in scans):
        hindrances.append("an earlier cell is not plain Python")
    text = "\n".join(definitions)
    code = hashlib.sha256(text.encode()).hexdigest() if text else ""
    return Flow("", tuple(sorted(needs)), code, frozenset(depends), hindrances=tuple(hindrances))


def _leaves(scan: _Scan, later: list[_Scan | None]) -> tuple[str, ...]:
    wanted, found = set(scan.bound), []
    for following in later:
        if following is None:
            return tuple(sorted(scan.bound))
        found += [name for name in following.exposed if name in wanted and name not in found]
        wanted -= following.sure
    return tuple(sorted(found))


def _scan(tree: ast.Module) -> _Scan:
    scan = _Scan()
    values: set[str] = set()
    for statement in tree.body:
        inner = _Names(scan)
        inner.visit(statement)
        for name in _closure(scan, inner.loads):
            if name not in scan.sure and name not in _BUILTINS:
                scan.exposed.setdefault(name)
        scan.bound |= inner.stores
        scan.sure |= _sure(statement)
        for name in inner.stores:
            if isinstance(statement, _DEFINES):
                scan.defined.setdefault(name, []).append(ast.unparse(statement))
            else:
                values.add(name)
    scan.imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    }
    scan.defined = {name: texts for name, texts in scan.defined.items() if name not in values}
    return scan


def _closure(scan: _Scan, loads: set[str]) -> list[str]:
    """Return the names that are loaded, and those that functions of this cell among them load when called."""
    found: dict[str, None] = {}
    waiting = sorted(loads)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += sorted(scan.functions.get(name, ()))
    return sorted(found)


class _Names(ast.NodeVisitor):
    """Collects what a statement loads and binds at the top; what functions load is kept by their names."""

    def __init__(self, scan: _Scan) -> None:
        self.scan = scan
        self.loads: set[str] = set()
        self.stores: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        (self.loads if isinstance(node.ctx, ast.Load) else self.stores).add(node.id)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            self.loads.add(node.target.id)

    def visit_Import(self, node: ast.Import) -> None:
        self.stores |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.stores |= {alias.asname or alias.name for alias in node.names}

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.stores.add(node.name)
        for part in (*node.decorator_list, *node.args.defaults, *[item for item in node.args.kw_defaults if item]):
            self.visit(part)
        self.scan.functions.setdefault(node.name, set()).update(free_names(node))
        self.stores |= {name for item in ast.walk(node) if isinstance(item, ast.Global) for name in item.names}

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.stores.add(node.name)
        for part in (*node.decorator_list, *node.bases, *[item.value for item in node.keywords]):
            self.visit(part)
        own = free_names(node)
        self.scan.functions.setdefault(node.name, set()).update(own)
        self.loads |= own  # its body runs now

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.loads |= free_names(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self.loads |= free_names(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self.loads |= free_names(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self.loads |= free_names(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self.loads |= free_names(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.stores.add(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self.stores.add(node.name)
        self.generic_visit(node)


def free_names(node: ast.AST) -> set[str]:
    """Return the names that a function, class, lambda or comprehension takes from outside, on the safe side."""
    loads = {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)}
    declared = {name for item in ast.walk(node) if isinstance(item, ast.Global) for name in item.names}
    local: set[str] = set()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        every = node.args
        local |= {item.arg for item in (*every.posonlyargs, *every.args, *every.kwonlyargs)}
        local |= {item.arg for item in (every.vararg, every.kwarg) if item is not None}
        local |= {
            item.id for item in _own_nodes(node) if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load)
        }
        local |= {item.name for item in _own_nodes(node) if isinstance(item, (ast.FunctionDef, ast.ClassDef))}
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        first = node.generators[0].iter
        local |= {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
        local -= {item.id for item in ast.walk(first) if isinstance(item, ast.Name)}
    return (loads - (local - declared)) | declared


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function that are in its own scope: not those of functions and comprehensions within."""
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
             ast.GeneratorExp)  # fmt: skip
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, inner):
            yield from _own_nodes(child)


def _sure(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds whatever happens."""
    if isinstance(statement, ast.Assign):
        return {name for target in statement.targets for name in _stored(target)}
    if isinstance(statement, ast.AnnAssign):
        return {statement.target.id} if statement.value and isinstance(statement.target, ast.Name) else set()
    if isinstance(statement, ast.Import):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        found = {name for each in statement.items for name in _stored(each)}
        return found.union(*map(_sure, statement.body))
    if isinstance(statement, ast.If) and statement.orelse:
        return set().union(*map(_sure, statement.body)) & set().union(*map(_sure, statement.orelse))
    return set()


def _stored(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}


# -- what stands in the way of keeping results --------------------------------------------------


def _hindrances(code: str, later: list[str], imported: frozenset[str]) -> list[str]:
    tree = ast.parse(code)
    found: dict[str, None] = {}
    seeded = any(name in _SEEDS for name in _calls(tree))
    for node in ast.walk(tree):
        for why in _why(node, seeded, imported):
            found.setdefault(why)
    if seeded and any(
        _GLOBAL_CHANCE.match(name) or name.startswith("random.") for text in later for name in _names_in(text)
    ):
        found.setdefault("a later cell goes on with its random numbers")
    if _DRAWS.search(code) and any(_DRAWS.search(text) and not _CLEANS.search(text) for text in later):
        found.setdefault("a later cell may go on with its figures")
    return list(found)


def _why(node: ast.AST, seeded: bool, imported: frozenset[str]) -> Iterator[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in {name.partition(".")[0] for name in modules}:
            if module in _NETWORK:
                yield f"it uses the network ({module})"
            elif module in _PROCESSES:
                yield f"it uses other processes ({module})"
            elif module in _CHANCE:
                yield f"it uses chance ({module})"
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield "it imports all names of a module"
    elif isinstance(node, (ast.Attribute, ast.Name)):
        name = dotted(node)
        # a variable may be called like a module: signal.mean()
        is_module = name.partition(".")[0] in imported
        if is_module and name.partition(".")[0] in _NETWORK | _PROCESSES | _CHANCE and isinstance(node, ast.Attribute):
            yield f"it uses {name.partition('.')[0]}"
        elif _OUTSIDE.search(name):
            yield f"it uses {name}"
        elif (not seeded and _GLOBAL_CHANCE.match(name)) or (
            is_module and not seeded and name.startswith("random.") and name.count(".") == 1 and name != "random.Random"
        ):
            yield f"it uses chance without a seed ({name})"
        elif isinstance(node, ast.Name) and node.id in _UNSEEN:
            yield f"it uses {node.id}()"
    elif isinstance(node, ast.Call):
        if dotted(node.func).endswith(("default_rng", "RandomState", "random.Random")) and not (
            node.args or node.keywords
        ):
            yield "it uses chance without a seed"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"(/|~/)[\w.-]+/", node.value):
        yield f"it names a place outside its folder ({node.value[:40]})"


def dotted(node: ast.AST) -> str:
    """Return a dotted name as written; a part that is no name is left out."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else node.attr
    return ""


def _calls(tree: ast.AST) -> set[str]:
    return {dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def _names_in(code: str) -> set[str]:
    try:
        return {dotted(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    except SyntaxError:
        return {"random.unknown"}
