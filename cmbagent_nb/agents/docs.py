"""The documentation that is on this machine: docstrings, packages' descriptions, and our own data sets'.

A dotted name is looked up by ``pydoc`` in a process of its own, with the environment of generated
code, so that nothing is imported into the kernel. Words are looked up in the sources, which are read
and never run.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cmbagent_nb.execution.environment import child_environment

#: Seconds that a look-up may take, and what of the sources is read.
PATIENCE = 20.0
SEARCH_TIME = 3.0
SOURCES = 3000
PARSED = 40
LARGEST = 2**20
RESULTS = 5
EXCERPT = 1400

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
_LOOK_UP = """
import pydoc, sys
for name in sys.argv[1:]:
    try:
        print(pydoc.plaintext.document(*pydoc.resolve(name)))
    except ImportError as error:
        print("There is no", name, file=sys.stderr)
"""


@dataclass(frozen=True)
class _Entry:
    place: str
    text: str


def packages(prefix: str = "") -> list[str]:
    """Return the installed packages whose names begin with ``prefix``, with their versions.

    >>> any(line.startswith("numpy ") for line in packages("num"))
    True
    """
    wanted = _canonical(prefix)
    found = {
        f"{item.name} {item.version}"
        for item in importlib.metadata.distributions()
        if item.name and _canonical(item.name).startswith(wanted)
    }
    return sorted(found, key=str.lower)


def find_docs(query: str, roots: Sequence[Path] = ()) -> str:
    """Return what the local documentation says about a name or some words."""
    names = _DOTTED.findall(query)
    if names:
        text = _pydoc(names[:3])
        if text:
            return text
    words = [word.lower() for word in _WORD.findall(query.replace(".", " "))]
    if not words:
        return f"Nothing is known about {query!r}."
    if len(words) == 1 and _package_folder(words[0]) is not None:
        text = _pydoc([words[0]])
        if text:
            return text
    entries = [*_own_docs(roots), *_descriptions(), *_docstrings(words)]
    enough = (len(set(words)) + 1) // 2
    ranked = sorted(((_score(entry, words, enough), entry) for entry in entries), key=lambda pair: -pair[0])
    best = [entry for score, entry in ranked[:RESULTS] if score > 0]
    if not best:
        return f"The documentation that is installed here says nothing about {query!r}."
    return "\n\n".join(f"## {entry.place}\n{_excerpt(entry.text, words)}" for entry in best)


def _pydoc(names: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", _LOOK_UP, *names],
            env=child_environment({"MPLBACKEND": "Agg", "PYTHONUTF8": "1"}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _own_docs(roots: Sequence[Path]) -> Iterator[_Entry]:
    own = Path(__file__).parent.parent / "datasets"
    for root in (own, *roots):
        for path in sorted([*root.rglob("*.md"), *root.rglob("*.rst"), *root.rglob("readme.txt")])[:200]:
            try:
                text = path.read_text(encoding="utf-8", errors="replace")[:LARGEST]
            except OSError:
                continue
            name = path.relative_to(root.parent).as_posix()
            for number, part in enumerate(re.split(r"\n(?=#)", text)):
                yield _Entry(f"{name}, part {number + 1}", part)
    for path in sorted(own.glob("*.py")):
        yield from _of_source(path, f"cmbagent_nb.datasets.{path.stem}")


@lru_cache(maxsize=1)
def _descriptions() -> tuple[_Entry, ...]:
    found = {}
    for item in importlib.metadata.distributions():
        metadata: Any = item.metadata
        if metadata is None or not item.name:
            continue
        text = f"{metadata.get('Summary') or ''}\n\n{metadata.get_payload() or ''}"
        found[item.name] = _Entry(f"package {item.name} {item.version}", f"{item.name}: {text[:20_000]}")
    return tuple(found.values())


def _docstrings(words: Sequence[str]) -> Iterator[_Entry]:
    """Read the docstrings of the packages that are named among ``words``."""
    deadline = time.monotonic() + SEARCH_TIME
    for name in words:
        folder = _package_folder(name)
        if folder is None:
            continue
        others = [word for word in words if word != name] or list(words)
        promising: list[tuple[int, Path]] = []
        paths = [folder] if folder.is_file() else sorted(folder.rglob("*.py"), key=lambda path: len(path.parts))
        for path in paths[:SOURCES]:
            if time.monotonic() > deadline:
                break
            if "tests" not in path.parts and (promise := _promise(path, others)):
                promising.append((promise, path))
        for _, path in sorted(promising, key=lambda pair: -pair[0])[:PARSED]:
            inner = () if folder.is_file() else path.relative_to(folder).with_suffix("").parts
            yield from _of_source(path, ".".join((name, *(part for part in inner if part != "__init__"))))


def _promise(path: Path, words: Sequence[str]) -> int:
    """Tell at a glance how much a source has to do with some words, most of all by what it defines."""
    try:
        if path.stat().st_size > LARGEST:
            return 0
        text = path.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        return 0
    return sum((word in text) + 3 * (f"def {word}(" in text or f"class {word}" in text) for word in words)


def _of_source(path: Path, module: str) -> Iterator[_Entry]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    text = ast.get_docstring(tree)
    if text:
        yield _Entry(module, f"{module}\n{text}")
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for item in (node, *inner):
            if not isinstance(item, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) or item.name.startswith("_"):
                continue
            text = ast.get_docstring(item)
            if text:
                owner = f"{module}.{node.name}" if item is not node and isinstance(node, ast.ClassDef) else module
                yield _Entry(f"{owner}.{item.name}", f"{owner}.{item.name}{_signature(item)}\n{text}")


def _signature(node: ast.AST) -> str:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    return f"({ast.unparse(node.args)})"


def _package_folder(name: str) -> Path | None:
    """Return where the sources of a top-level package are, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _score(entry: _Entry, words: Sequence[str], enough: int) -> float:
    place, text = entry.place.lower(), entry.text.lower()
    counts = [count for word in set(words) if (count := text.count(word))]
    if len(counts) < enough:
        return 0.0
    hits = sum(min(count, 3) / 3 + 1 for count in counts)
    named = sum(2 for word in set(words) if word in place) + 4 * (place.rpartition(".")[2] in words)
    return (hits + named) / (1 + len(text) / 40_000)


def _excerpt(text: str, words: Sequence[str]) -> str:
    text = text.strip()
    if len(text) <= EXCERPT:
        return text
    lower = text.lower()
    first = min((position for word in words if (position := lower.find(word)) >= 0), default=0)
    start = 0 if first < EXCERPT // 2 else text.rfind("\n", 0, first - 200) + 1
    return f"{'… ' if start else ''}{text[start : start + EXCERPT]} …"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
