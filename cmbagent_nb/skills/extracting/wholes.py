"""Tells whole numbers from quantities: ``n = 1`` in ``range(n)`` is whole, ``T = 1`` in ``exp(-E / T)`` is not.

| whole | |
|---|---|
| by use | a size, an index, a range, a repetition, what ``len`` is compared with, the argument of such a function |
| by its keyword | ``size=``, ``num=``, ``bins=``, ``random_state=`` and the like |
| by its name | ``n_bins``, ``lmax``, ``seed``, ``order``, ``year`` and the like |

Any other number may have a fraction, whatever its default: code that cannot take one says so when it gets one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from cmbagent_nb.skills.extracting.vocabulary import listed

_NAME = re.compile(
    r"^(n|num|number|count|size|len|length|ndim|dims?|i|j|idx|index|seed|random_state|rng_seed|k_clusters|k_neighbors|"
    r"(n|num|number|count|max|min|max_num|no)_?(of_)?(\w*(s|iter|it|eval|fev|step|sample|point|bin|walker|burn|boot|sim|draw|"
    r"fold|split|estimator|component|cluster|neighbor|neighbour|term|dim|row|col|epoch|depth|leaf|jobs|lag|grid|x|y|z|side|"
    r"order|degree|batch|thread|worker|tries|attempts|retries|level|cpu|core)s?)|n[a-z]*s|n[xyz]|nside|nwalkers|nburn|niter|"
    r"l_?max|l_?min|ell_?max|ell_?min|mmax|lens_potential_accuracy|nbins?|nsteps?|nsamples?|nsim|nfft|nperseg|noverlap|"
    r"order|degree|deg_poly|poly_?order|polyorder|year\w*|\w*_year|month|day_of_year|hour|epochs?|batch_size|"
    r"\w*_(size|count|index|idx|seed|order|degree|epochs|iters?|iterations|steps|samples|bins|points|walkers|folds|rows|cols|"
    r"dims?|ndim|neighbors|clusters|components|lags?|nside|lmax|lmin|depth)|burn_?in|thin|thinning|warmup|window_size|"
    r"max_?depth|max_?iter|maxfev|top_?[nk]?|skip_?rows|stride|padding|kernel_size|downsample|decimals|precision|digits|"
    r"multiples?|chunk_?size|buffer_?size|port|version|rank|generation)$",
    re.IGNORECASE,
)
#: Options that are whole numbers wherever they occur.
_KEYWORDS = listed(
    """
    size num n bins nbins random_state seed shape ndim axis n_iter max_iter maxiter maxfev n_estimators n_clusters
    n_components n_neighbors n_splits n_init max_depth min_samples_leaf min_samples_split min_samples k order deg degree
    polyorder window_length nperseg noverlap nfft n_samples n_features n_points nsteps n_steps nwalkers ndraws draws
    chains tune cores n_jobs periods min_periods window lmax lmin nside max_nfev maxcor maxfun popsize n_bins n_grid
    npoints lens_potential_accuracy steps iterations epochs batch_size length repeat decimals ddof indent
    """
)
#: Functions whose positional arguments are whole numbers: name → places; all of them where it is empty.
_ARGUMENTS: dict[str, tuple[int, ...]] = {
    "range": (), "zeros": (0,), "ones": (0,), "empty": (0,), "full": (0,), "eye": (), "identity": (0,), "reshape": (),
    "randint": (), "permutation": (0,), "choice": (1,), "linspace": (2,), "logspace": (2,), "geomspace": (2,),
    "default_rng": (0,), "seed": (0,), "RandomState": (0,), "PRNGKey": (0,), "polyfit": (2,), "head": (0,),
    "tail": (0,),
    "rolling": (0,), "nlargest": (0,), "nsmallest": (0,), "islice": (), "combinations": (1,), "permutations": (1,),
    "split": (1,), "array_split": (1,), "roll": (1,), "shift": (0,), "diff": (1,), "round": (1,),
    "histogram": (1,), "digitize": (), "repeat": (1,), "tile": (1,), "factorial": (0,), "comb": (), "bincount": (),
    "run_mcmc": (1,), "resample": (1,), "standard_normal": (0,), "random": (0,), "rand": (), "randn": (), "hist": (1,),
    "set_for_lmax": (0,), "getrandbits": (0,), "chr": (0,), "bin": (0,), "hex": (0,), "KFold": (0,), "KMeans": (0,),
    "jv": (0,), "legendre": (0,), "hermite": (0,), "expand_dims": (1,), "subplots": (), "savgol_filter": (1, 2),
}  # fmt: skip


class Wholes:
    """Knows how the code of some cells uses names."""

    def __init__(self, codes: Iterable[str]) -> None:
        from cmbagent_nb.skills.verifying.unseeded import parsed

        self.trees = [tree for code in codes if (tree := parsed(code)) is not None]
        self.parents = {
            id(child): node for tree in self.trees for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self.classes = {node.name for tree in self.trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self.functions = {
            node.name: node
            for tree in self.trees
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }

    def is_whole(self, name: str) -> bool:
        """Tell whether a name holds a whole number: by its name, or by a use that takes no other.

        >>> code = ["x = np.exp(-E / T) * np.zeros(m)", "def f(a):\\n    return x[a]\\nf(i0)"]
        >>> [Wholes(code).is_whole(name) for name in ("T", "E", "m", "i0", "n_bins")]
        [False, False, True, True, True]
        """
        return _NAME.match(name) is not None or any(self._used(tree, name, frozenset()) for tree in self.trees)

    def is_used(self, name: str) -> bool:
        """Tell whether anything comes of a name: arithmetic whose value nobody takes is no use."""
        for tree in self.trees:
            for statement in tree.body:
                idle = isinstance(statement, ast.Expr) and isinstance(statement.value, (ast.BinOp, ast.Name))
                if idle and statement is not tree.body[-1]:
                    continue
                names = [node for node in ast.walk(statement) if isinstance(node, ast.Name) and node.id == name]
                if any(isinstance(node.ctx, ast.Load) for node in names):
                    return True
        return False

    def _used(self, tree: ast.AST, name: str, been: frozenset[tuple[str, str]]) -> bool:
        return any(
            self._is_whole_use(node, name, been)
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        )

    def _entry_used(self, key: str, been: frozenset[tuple[str, str]]) -> bool:
        """Tell whether an entry of a table of settings, or a field of an object, is used as a whole number."""
        if not key or (".", key) in been:
            return False
        been |= {(".", key)}
        return _NAME.match(key) is not None or any(
            self._is_whole_use(node, key, been)
            for tree in self.trees
            for node in ast.walk(tree)
            if isinstance(node, ast.expr) and _reads_entry(node, key)
        )

    def _is_whole_use(self, node: ast.expr, name: str, been: frozenset[tuple[str, str]]) -> bool:
        parent = self.parents.get(id(node))
        while isinstance(parent, (ast.Tuple, ast.List, ast.UnaryOp)) or (
            isinstance(parent, ast.BinOp) and isinstance(parent.op, (ast.Add, ast.Sub, ast.Mult)) and _plain(parent)
        ):
            node, parent = parent, self.parents.get(id(parent))
        if isinstance(parent, ast.Slice) or (isinstance(parent, ast.Subscript) and parent.slice is node):
            return True
        if isinstance(parent, ast.BinOp):
            other = parent.right if parent.left is node else parent.left
            if isinstance(parent.op, (ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor)):
                return True
            return (isinstance(parent.op, ast.Mult) and isinstance(other, (ast.List, ast.JoinedStr))) or _is_text(other)
        if isinstance(parent, ast.Compare):  # with a number of things
            return any(
                isinstance(item, ast.Call) and _called(item) == "len" for item in (parent.left, *parent.comparators)
            )
        if isinstance(parent, ast.keyword):
            call = self.parents.get(id(parent))
            own = isinstance(call, ast.Call) and self._goes_into(call, parent.arg or "", None, been)
            return parent.arg in _KEYWORDS or own or self._field(call, parent.arg or "", been)
        if isinstance(parent, ast.Dict):
            keys = [key for key, value in zip(parent.keys, parent.values, strict=True) if value is node]
            return any(isinstance(key, ast.Constant) and self._entry_used(str(key.value), been) for key in keys)
        if isinstance(parent, ast.AnnAssign) and isinstance(self.parents.get(id(parent)), ast.ClassDef):
            return isinstance(parent.target, ast.Name) and self._entry_used(parent.target.id, been)
        if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Attribute):
            return self._entry_used(parent.targets[0].attr, been)
        if isinstance(parent, ast.Call) and node in parent.args:
            place = parent.args.index(node)
            places = _ARGUMENTS.get(_called(parent))
            if places is not None and (not places or place in places):
                return True
            return self._goes_into(parent, "", place, been)
        if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and isinstance(parent.targets[0], ast.Name):
            other_name = parent.targets[0].id
            if other_name != name and ("", other_name) not in been and parent.value is node:
                return any(self._used(tree, other_name, been | {("", other_name)}) for tree in self.trees)
        return False

    def _field(self, call: ast.AST | None, keyword: str, been: frozenset[tuple[str, str]]) -> bool:
        """Tell whether a keyword makes an entry or a field of an object that the code defines."""
        if not isinstance(call, ast.Call):
            return False
        called = _called(call)
        made_here = called in self.classes or called in ("dict", "SimpleNamespace", "Namespace", "update", "replace")
        return made_here and self._entry_used(keyword, been)

    def _goes_into(self, call: ast.Call, keyword: str, place: int | None, been: frozenset[tuple[str, str]]) -> bool:
        """Tell whether a function of the code uses its argument as a whole number."""
        function = self.functions.get(_called(call))
        if function is None:
            return False
        names = [item.arg for item in [*function.args.posonlyargs, *function.args.args]]
        if place is not None:
            if place >= len(names):
                return False
            keyword = names[place]
        key = (function.name, keyword)
        return key not in been and self._used(function, keyword, been | {key})


def _reads_entry(node: ast.expr, key: str) -> bool:
    """Tell whether an expression reads an entry or a field of this name."""
    if isinstance(node, ast.Attribute):
        return node.attr == key and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Call):
        first = node.args[0] if node.args else None
        return _called(node) in ("get", "getattr", "pop") and isinstance(first, ast.Constant) and first.value == key
    if not isinstance(node, ast.Subscript):
        return False
    return isinstance(node.slice, ast.Constant) and node.slice.value == key and isinstance(node.ctx, ast.Load)


def _plain(node: ast.BinOp) -> bool:
    """Tell whether arithmetic keeps a whole number whole: with another one that stands there."""
    other = [item for item in (node.left, node.right) if isinstance(item, ast.Constant)]
    return any(isinstance(item.value, int) for item in other)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
