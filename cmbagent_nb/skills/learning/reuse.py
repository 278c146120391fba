"""Reuses a whole execution: a version that :mod:`optimize` marked returns the files of an equal earlier execution.

| invariant | how |
|---|---|
| equal means equal | the key holds the version's notebook, all values, the content of all files at the start and of outside files, and the packages |
| nothing that would differ is reused | code that reads a clock, the network, processes or unseeded random numbers is never marked |
| a changed file is not reused | each file's hash is checked as it is copied; a mismatch computes anew |
| results belong to their folder | files that contain their folder's path are not reused, nor is an execution that removed files |

Measured: the starter skill periodogram takes 4.6 s the first time and 0.13 s when its values come again. For finer
reuse a skill's own code may use ``joblib.Memory``.
"""  # noqa: E501

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.skills.library import NOTEBOOK
from cmbagent_nb.skills.notebook import notebook_hash, notebook_text, read_notebook
from cmbagent_nb.skills.running.finished_steps import listing
from cmbagent_nb.store.json import to_json

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.library import SkillRecord
    from cmbagent_nb.skills.model import Parameter
    from cmbagent_nb.skills.running.engine import Executed

_MODULES = {
    **dict.fromkeys("requests urllib httpx socket http ftplib aiohttp astroquery urllib3".split(), "the network"),  # noqa: SIM905
    **dict.fromkeys(("subprocess", "multiprocessing", "ctypes", "signal"), "other processes"),
    **dict.fromkeys(("uuid", "secrets"), "random numbers without a seed"),
}
_SEEDED = r"(default_rng|Generator|SeedSequence|PCG64|RandomState|MT19937|Philox|seed)"
_CALLS = {
    re.compile(r"^datetime\.(\w+\.)?(now|utcnow|today)$|^time\.(time|time_ns|ctime|localtime|gmtime|strftime|asctime)$"
               r"|Timestamp\.(now|today|utcnow)$"): "the clock",
    re.compile(r"^os\.(environ|getenv|system|popen|getpid|getlogin|urandom)$|^platform\.|^getpass\.|Path\.home$"
               r"|^(eval|exec|input|compile|__import__)$"): "its surroundings",
    re.compile(rf"^numpy\.random\.(?!{_SEEDED})\w+$|^random\.(?!seed$|Random$)\w+$"): "random numbers without a seed",
}  # fmt: skip
#: What seeds the numbers that each of these modules draws.
_SEED_CALLS = {"numpy.random.": "numpy.random.seed", "random.": "random.seed"}
_UNSEEDED = re.compile(r"(^|\.)(default_rng|RandomState|Random)$")
_LARGEST_SEARCHED = 2**26


def hindrances(notebook: NotebookNode) -> list[str]:
    """Return what a notebook depends on beside its values and files; empty if its executions may be reused."""
    found: dict[str, None] = {}
    names: dict[str, str] = {}
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    try:
        nodes = [node for source in cells for node in ast.walk(ast.parse(source))]
    except SyntaxError:
        return ["code that is not plain Python"]
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = start + (
                    alias.name if start or alias.asname else alias.name.partition(".")[0]
                )
                if why := _MODULES.get((start + alias.name).partition(".")[0]):
                    found.setdefault(why)
    used = [(node, _dotted(node, names)) for node in nodes]
    seeded = {name for _, name in used if name in _SEED_CALLS.values()}
    for node, name in used:
        for pattern, why in _CALLS.items():
            module = next((start for start in _SEED_CALLS if name.startswith(start)), "")
            if pattern.search(name) and _SEED_CALLS.get(module) not in seeded:
                found.setdefault(why)
        if isinstance(node, ast.Call) and _UNSEEDED.search(_dotted(node.func, names)):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            # A seed of None draws one from the system, also where a name holds it: see execute.
            if all(isinstance(item, ast.Constant) and item.value is None for item in given):
                found.setdefault("random numbers without a seed")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"(~|\.\.)?/\w", node.value):
            found.setdefault(f"a place outside of its folder ({node.value[:60]})")
    return list(found)


def _dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, names)
        return f"{inner}.{node.attr}" if inner else ""
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def key_of(
    notebook: NotebookNode, parameters: list[Parameter], values: Mapping[str, Any], folder: Path, outside: list[str]
) -> str:
    """Return what stands for an execution before it starts: executions with equal keys give equal files."""
    from cmbagent_nb.skills.running.seen import content_of

    given: dict[str, Any] = {}
    for item in parameters:
        value = values.get(item.name, item.default)
        if item.kind == "input" and value != item.default:
            value = [Path(str(value)).name, content_of(value, folder)]
        given[item.name] = [type(value).__name__, value]
    packages = (notebook.metadata.get("cmbagent_nb") or {}).get("versions") or {}
    parts = {
        "notebook": notebook_hash(notebook_text(notebook)),
        "values": given,
        "files": _hashes(folder),
        "outside": {path: content_of(path, None) for path in outside},
        "packages": {name: _version(name) for name in sorted(packages)} | {"python": sys.version},
    }
    return hashlib.sha256(to_json(parts).encode()).hexdigest()


def execute(
    skill: SkillRecord,
    notebook: NotebookNode,
    values: Mapping[str, Any],
    folder: Path,
    compute: Callable[[], Executed],
    *,
    parameters: list[Parameter] | None = None,
    store: Path | None = None,
) -> tuple[Executed, str]:
    """Return an equal earlier execution with its files, or what ``compute`` gives; and the folder reused, if any."""
    began = time.monotonic()
    outside = [str(path) for path in skill.preconditions.get("files") or ()]
    own = skill.parameters if parameters is None else parameters
    if any(values.get(item.name, item.default) is None for item in own):  # as a seed, it draws other numbers each time
        return compute(), ""
    before = _hashes(folder)
    key = key_of(notebook, own, values, folder, outside)
    entry = (store or skill.home / "skills" / skill.name / "runs" / ".reuse" / skill.id) / f"{key}.json"
    if (source := _take(entry, folder)) is not None:
        from cmbagent_nb.skills.running.engine import Executed

        kept = folder / NOTEBOOK
        made = read_notebook(kept.read_text(encoding="utf-8")) if kept.is_file() else notebook
        return Executed(made, "completed", duration_s=time.monotonic() - began), source
    executed = compute()
    if executed.status == "completed":
        _keep(entry, folder, before)
    return executed, ""


def _take(entry: Path, folder: Path) -> str | None:
    """Copy the files of an entry into a folder; returns where they came from, None if one of them is not as it was."""
    try:
        held = json.loads(entry.read_text(encoding="utf-8"))
        copies = []
        for name, digest in held["files"].items():
            source = Path(held["folder"]) / name
            if _hash(source) != digest:
                return None
            copies.append((source, folder / name))
        for source, target in copies:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return str(held["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is no entry, or its folder is gone


def _keep(entry: Path, folder: Path, before: Mapping[str, str]) -> None:
    after = _hashes(folder, notebook=True)
    made = {name: digest for name, digest in after.items() if before.get(name) != digest}
    own = str(folder).encode()
    if not before.keys() <= after.keys() or any(_holds(folder / name, own) for name in made):
        return
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = entry.with_suffix(".part")
    temporary.write_text(json.dumps({"folder": str(folder), "files": made}), encoding="utf-8")
    temporary.replace(entry)


def _holds(path: Path, text: bytes) -> bool:
    return path.stat().st_size > _LARGEST_SEARCHED or text in path.read_bytes()


def _hashes(folder: Path, *, notebook: bool = False) -> dict[str, str]:
    return {name: _hash(folder / name) for name in listing(folder, hidden=True) if notebook or name != NOTEBOOK}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
