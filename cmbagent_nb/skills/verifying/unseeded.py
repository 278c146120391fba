"""Finds the calls by which two runs of the same code differ: random numbers without a seed, the clock, made-up names.

| kind | found |
|---|---|
| ``random`` | a generator made without a seed, or a global one that nothing seeds; ``secrets``, ``os.urandom`` |
| ``clock`` | the date or the time of day |
| ``name`` | UUIDs, temporary names, process ids |

Nothing is run: the calls are read from the code, so one in a library that the code calls is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

#: Functions that seed a global generator, by the module whose functions draw from it.
_SEEDS = {
    "numpy.random": ("numpy.random.seed", "numpy.random.set_state"),
    "random": ("random.seed", "random.setstate"),
    "torch": ("torch.manual_seed", "torch.random.manual_seed", "lightning.seed_everything"),
    "tensorflow.random": ("tensorflow.random.set_seed", "tensorflow.keras.utils.set_random_seed"),
}
#: Constructors whose first argument, or one of these keywords, is the seed.
_GENERATORS = frozenset(
    {
        "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.SeedSequence", "numpy.random.PCG64",
        "numpy.random.PCG64DXSM", "numpy.random.MT19937", "numpy.random.Philox", "numpy.random.SFC64", "random.Random",
        "torch.Generator",
    }
)  # fmt: skip
_ALWAYS = frozenset({"os.urandom", "random.SystemRandom", "os.getrandom"})
#: Functions of ``numpy.random`` and ``random`` that draw nothing themselves.
_DRAWS_NOTHING = frozenset(
    {"Generator", "BitGenerator", "seed", "get_state", "set_state", "setstate", "getstate", "bit_generator", "test"}
)
_TORCH_DRAWS = frozenset(
    {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like", "poisson"}
)
#: Functions and classes that draw from numpy's global generator unless they are given ``random_state``.
_STATEFUL = frozenset(
    {
        "train_test_split", "KMeans", "MiniBatchKMeans", "RandomForestClassifier", "RandomForestRegressor",
        "ExtraTreesClassifier", "ExtraTreesRegressor", "GradientBoostingClassifier", "GradientBoostingRegressor",
        "MLPClassifier", "MLPRegressor", "SGDClassifier", "SGDRegressor", "GaussianMixture", "BayesianGaussianMixture",
        "TSNE", "FastICA", "NMF", "IsolationForest", "ShuffleSplit", "StratifiedShuffleSplit", "make_blobs",
        "make_classification", "make_regression", "make_moons", "make_circles", "shuffle", "resample", "UMAP",
        "RandomizedSearchCV", "EnsembleSampler", "rvs",
    }
)  # fmt: skip
_STATEFUL_OPTIMIZERS = frozenset({"differential_evolution", "dual_annealing", "basinhopping"})
_SEED_KEYWORDS = frozenset({"random_state", "seed", "rng", "entropy", "generator", "key"})
_CLOCK = frozenset(
    {
        "time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.asctime", "time.strftime",
        "time.perf_counter", "time.perf_counter_ns", "time.monotonic", "time.monotonic_ns", "time.process_time",
        "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
        "pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow", "pandas.to_datetime.now",
        "astropy.time.Time.now",
    }
)  # fmt: skip
_NAMES = frozenset({"uuid.uuid1", "uuid.uuid4", "uuid.uuid7", "os.getpid", "threading.get_ident", "os.getppid"})
_NAMES_BELOW = ("tempfile.", "secrets.")


@dataclass(frozen=True)
class Finding:
    """One call, and where it stands."""

    cell: str
    line: int
    call: str
    kind: str  #: random, clock or name

    def __str__(self) -> str:
        what = {"random": "has no seed", "clock": "differs with the time", "name": "makes another name each time"}
        return f"{self.cell}, line {self.line}: {self.call} {what[self.kind]}"


def find(cells: Iterable[tuple[str, str]]) -> list[Finding]:
    """Return the calls, in the order of the code; ``cells`` are labels with their sources.

    >>> [found] = find([("cell 1", "import numpy as np"), ("cell 2", "x = np.random.default_rng().normal(size=3)")])
    >>> str(found)
    'cell 2, line 1: np.random.default_rng() has no seed'
    """
    trees = [(label, tree) for label, source in cells if (tree := parsed(source)) is not None]
    names = _imported(tree for _, tree in trees)
    called: list[tuple[str, ast.Call, str]] = []
    for label, tree in trees:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called += [(label, node, _full(node.func, names)) for node in sorted(calls, key=_place)]
    seeded = {
        module for module, seeds in _SEEDS.items() if any(name in seeds and _has_seed(node) for _, node, name in called)
    }
    found = []
    for label, node, name in called:
        kind = _kind(node, name, seeded)
        if kind:
            found.append(Finding(label, node.lineno, _shown(node), kind))
    return found


def parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        pass
    # IPython's own syntax: what a magic says is no Python, the lines around it are
    plain = [
        line if not line.lstrip().startswith(("%", "!", "?")) else " " * (len(line) - len(line.lstrip())) + "pass"
        for line in source.splitlines()
    ]
    try:
        return ast.parse("\n".join(plain))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _place(node: ast.Call) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _imported(trees: Iterable[ast.Module]) -> dict[str, str]:
    """Return what each imported name stands for, as a dotted name."""
    names: dict[str, str] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _full(node: ast.expr, names: dict[str, str]) -> str:
    """Return the dotted name of what is called; a call's own result counts by the method's name alone."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return "." + ".".join(reversed(parts))
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _has_seed(node: ast.Call) -> bool:
    """Tell whether a call is given a seed that is not None."""
    values = [item.value for item in node.keywords if item.arg in _SEED_KEYWORDS or item.arg is None]
    values += node.args[:1]
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in values)


def _is_given(node: ast.Call) -> bool:
    return any(
        item.arg is None
        or (item.arg in _SEED_KEYWORDS and not (isinstance(item.value, ast.Constant) and item.value.value is None))
        for item in node.keywords
    )


def _kind(node: ast.Call, name: str, seeded: set[str]) -> str:
    """Return the kind of a call by which two runs differ, or nothing."""
    module, _, last = name.rpartition(".")
    if name in _CLOCK:
        # a given moment is no clock: time.strftime(form, moment), time.ctime(seconds)
        given = {"time.strftime": 2, "time.ctime": 1, "time.localtime": 1, "time.gmtime": 1, "time.asctime": 1}
        return "" if name in given and len(node.args) >= given[name] else "clock"
    if name in _NAMES or name.startswith(_NAMES_BELOW):
        return "name"
    if name in _ALWAYS or (name in _GENERATORS and not _has_seed(node)):
        return "random"
    if name in _GENERATORS or last in _DRAWS_NOTHING:
        return ""
    if module == "numpy.random" and "numpy.random" not in seeded:
        return "random"
    if module == "random" and "random" not in seeded and last[:1].islower():
        return "random"
    if module == "torch" and last in _TORCH_DRAWS and "torch" not in seeded and not _is_given(node):
        return "random"
    if module == "tensorflow.random" and "tensorflow.random" not in seeded:
        return "random"
    if "numpy.random" not in seeded and not _is_given(node):
        if last in _STATEFUL and module != "random":
            return "random"
        if last in _STATEFUL_OPTIMIZERS or (last == "sample" and _samples_a_frame(node)):
            return "random"
    return ""


def _samples_a_frame(node: ast.Call) -> bool:
    """Tell a table's ``sample(n=…)`` or ``sample(frac=…)`` from other methods of that name."""
    return any(item.arg in {"n", "frac"} for item in node.keywords)


def _shown(node: ast.Call) -> str:
    text = ast.unparse(node.func)
    inside = "" if not (node.args or node.keywords) else "…"
    text = text if len(text) <= 60 else f"…{text[-59:]}"
    return f"{text}({inside})"
