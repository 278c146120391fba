"""Results of slow cells, kept in the workspace and used again when everything that they follow from is the same.

A cell is kept only where an optimized version says so (its metadata, ``cmbagent_nb.cached``); the code
in the notebook stays as it is, and runs as it is anywhere else.

| invariant | how |
|---|---|
| a result is used only for what made it | its key (:meth:`Results._key`) |
| nothing is pickled | names are JSON, npy and parquet; files are copies, checked by their sha256 |
| what cannot come back as it was is not kept | functions, shared objects, deleted files, the folder's name |
| a damaged or half-written result harms nobody | written aside and renamed; one that does not check is removed |
| the disk does not fill | what was least recently used goes when all takes more than ``LARGEST`` bytes |
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb.tool_files import is_tool_file

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from cmbagent_nb.skills.learning.dataflow import Flow

FOLDER = "results"
LARGEST = 2 * 2**30
#: A result of one cell larger than this is not kept.
LARGEST_RESULT = 256 * 2**20
_FORMAT = 1
_PREAMBLE = frozenset({"imports", "setup"})
_PATIENCE_S = 120.0


def folder_of(home: Path) -> Path:
    """Return where a workspace keeps results of cells: beside the skills, since a backup can do without."""
    return Path(home) / FOLDER


#: Of each name: the digest of its value, and of the file that it is the path of, too; None where there is none.
Digests = dict[str, list[str] | None]


@dataclass(frozen=True)
class Known:
    """A file as it was last hashed."""

    size: int
    changed: int
    sha256: str


class Results:
    """Runs the cells of one execution, from kept results where there are."""

    def __init__(self, client: Any, notebook: NotebookNode, folder: Path, store: Path | None) -> None:
        self.client, self.notebook, self.folder, self.store = client, notebook, folder, store
        self.own = {cell.get("id", ""): cell.metadata.get("cmbagent_nb", {}).get("cached") for cell in notebook.cells}
        self.files: dict[str, Known] = {}
        self.packages = _packages(notebook) if store is not None and any(self.own.values()) else None

    async def run(self, cell: Any, index: int) -> None:
        """Run a cell, or bring back what it made; like the client's own call, it raises when the cell fails."""
        wanted = self.own.get(cell.get("id", "")) if self.store is not None else None
        if not wanted or self.store is None or self.packages is None:
            await self.client.async_execute_cell(cell, index)
            return
        needs, leaves = list(wanted.get("needs", ())), list(wanted.get("leaves", ()))
        before = self._listing()
        digests = await self._digests(needs)
        if None in digests.values():
            await self.client.async_execute_cell(cell, index)
            return
        key = self._key(cell, digests, before)
        place = self.store / key[:2] / key
        if await self._bring(cell, place, leaves):
            return
        began = time.monotonic()
        await self.client.async_execute_cell(cell, index)
        seconds = time.monotonic() - began
        try:
            given = {name: found for name, found in digests.items() if name not in wanted.get("rebinds", ())}
            await self._keep(cell, place, before, given, leaves, seconds)
        except OSError:
            return  # a full disk: the result is not kept, and the execution goes on

    # ---- the key

    def _key(self, cell: Any, digests: Digests, files: dict[str, Known]) -> str:
        """Return the hash of all that a cell's results follow from.

        Its code; the imports and folders before it; the definitions and the values that it takes (parameters
        and names of earlier cells); every file in the folder; the versions of Python, the machine and the packages.
        """
        before = []
        for other in self.notebook.cells:
            if other.get("id") == cell.get("id"):
                break
            if other.cell_type == "code" and _PREAMBLE & set(other.metadata.get("tags", [])):
                before.append(other.source)
        parts = {
            "format": _FORMAT,
            "code": cell.source,
            "before": before,
            "definitions": (self.own.get(cell.get("id", "")) or {}).get("code", ""),
            "needs": digests,
            "files": {name: known.sha256 for name, known in sorted(files.items())},
            "packages": self.packages,
            "python": sys.version,
            "machine": [platform.machine(), sys.platform],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _listing(self) -> dict[str, Known]:
        """Return the folder's files with their hashes; one whose size and time are the same is not read again."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if name.as_posix() == "notebook.ipynb" or name.parts[0].startswith(".") or is_tool_file(name):
                continue
            if not path.is_file():
                continue
            state, known = path.stat(), self.files.get(name.as_posix())
            if known is None or (known.size, known.changed) != (state.st_size, state.st_mtime_ns):
                known = Known(state.st_size, state.st_mtime_ns, _sha256(path))
            found[name.as_posix()] = known
        self.files = found
        return found

    # ---- bringing back

    async def _bring(self, cell: Any, place: Path, leaves: list[str]) -> bool:
        try:
            entry = json.loads((place / "entry.json").read_text(encoding="utf-8"))
            copies = [
                (place / "files" / str(number), self.folder / name, sha)
                for number, (name, sha) in enumerate(entry["files"])
            ]
            if entry["format"] != _FORMAT or any(_sha256(source) != sha for source, _, sha in copies):
                raise ValueError("it was changed")
            if leaves and not (await self._call("bring", str(place / "names")))[0]:
                raise ValueError("its names cannot be read")
            for source, target, _ in copies:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(place, ignore_errors=True)
            return False
        cell.outputs = _notebook_nodes(entry["outputs"])
        cell.metadata.setdefault("cmbagent_nb", {})["from_results"] = {"key": place.name, "seconds": entry["seconds"]}
        os.utime(place / "entry.json")
        return True

    # ---- keeping

    async def _keep(
        self,
        cell: Any,
        place: Path,
        before: dict[str, Known],
        digests: Digests,
        leaves: list[str],
        seconds: float,
    ) -> None:
        assert self.store is not None
        after = self._listing()
        if before.keys() - after.keys() or _values(await self._digests(list(digests))) != _values(digests):
            return  # it removed a file, or changed what it was given: that would not come back
        made = {
            name: known for name, known in after.items() if known.sha256 != getattr(before.get(name), "sha256", None)
        }
        outputs = json.loads(json.dumps(cell.outputs))
        if not self._may_keep(made, outputs):
            return
        self.store.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=self.store))
        try:
            (making / "names").mkdir()
            if leaves:
                done, why = await self._call("keep", leaves, str(making / "names"))
                if not done or why or self._names_folder(_read(making / "names" / "names.json")):
                    return
            self._finish(making, place, made, outputs, seconds)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        prune(self.store)

    def _may_keep(self, made: dict[str, Known], outputs: list[Any]) -> bool:
        """Tell whether what a cell made is small enough, and names no place that another execution does not have."""
        if sum(known.size for known in made.values()) > LARGEST_RESULT:
            return False
        contents = (json.dumps(outputs).encode(), *(_read(self.folder / name) for name in made))
        return not any(self._names_folder(content) for content in contents)

    def _finish(self, making: Path, place: Path, made: dict[str, Known], outputs: list[Any], seconds: float) -> None:
        (making / "files").mkdir()
        for number, name in enumerate(made):
            shutil.copyfile(self.folder / name, making / "files" / str(number))
        entry = {
            "format": _FORMAT,
            "files": [[name, known.sha256] for name, known in made.items()],
            "outputs": outputs,
            "seconds": round(seconds, 3),
            "made_at": time.time(),
            "size": sum(path.stat().st_size for path in making.rglob("*") if path.is_file()),
        }
        (making / "entry.json").write_text(json.dumps(entry), encoding="utf-8")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            making.rename(place)

    def _names_folder(self, content: bytes) -> bool:
        """Tell whether something names the execution's folder, which another execution does not have."""
        return any(str(path).encode() in content for path in {self.folder, self.folder.resolve()})

    # ---- the kernel

    async def _digests(self, names: list[str]) -> Digests:
        if not names:
            return {}
        done, found = await self._call("digests", names)
        return found if done and isinstance(found, dict) else dict.fromkeys(names)

    async def _call(self, function: str, *arguments: Any) -> tuple[bool, Any]:
        """Call a function of :mod:`in_kernel` in the kernel, with its names; what it returns comes by a file."""
        text = (Path(__file__).parent / "in_kernel.py").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="cmbagent-call-") as scratch:
            answer = Path(scratch) / "answer.json"
            code = (
                f"(lambda scope: (exec(compile({text!r}, 'in_kernel.py', 'exec'), scope), scope['answer']("
                f"{str(answer)!r}, scope[{function!r}](globals(), *{arguments!r}))))({{'__name__': 'in_kernel'}})"
            )
            channel = self.client.kc
            request = channel.execute(code, silent=True, store_history=False, allow_stdin=False)
            while True:
                reply = await channel.get_shell_msg(timeout=_PATIENCE_S)
                if reply["parent_header"].get("msg_id") == request:
                    break
            if reply["content"]["status"] != "ok":
                return False, None
            return True, json.loads(_read(answer))


def mark(cell: Any, flow: Flow) -> None:
    """Say of a cell that its results are to be kept."""
    about = {
        "needs": list(flow.needs),
        "leaves": list(flow.leaves),
        "rebinds": list(flow.rebinds),
        "code": flow.code,
    }
    cell.metadata.setdefault("cmbagent_nb", {})["cached"] = about


def prune(store: Path, largest: int = LARGEST) -> int:
    """Remove the results that were least recently used until the rest takes no more than ``largest`` bytes."""
    entries = []
    for path in store.glob("??/*/entry.json"):
        try:
            entries.append((path.stat().st_mtime, json.loads(path.read_text(encoding="utf-8"))["size"], path.parent))
        except (OSError, ValueError, KeyError):
            continue  # another process removes it
    whole, removed = sum(size for _, size, _ in entries), 0
    for _, size, place in sorted(entries):
        if whole <= largest:
            break
        shutil.rmtree(place, ignore_errors=True)
        whole -= size
        removed += 1
    return removed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _notebook_nodes(outputs: list[Any]) -> list[Any]:
    import nbformat

    convert: Any = nbformat.from_dict
    return [convert(item) for item in outputs]


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _values(digests: Digests) -> dict[str, str]:
    """Return the digests of the values alone: a file that a name is the path of may have been made meanwhile."""
    return {name: found[0] if found else "" for name, found in digests.items()}


def _packages(notebook: NotebookNode) -> dict[str, str] | None:
    """Return the versions of the packages that a notebook uses, as they are here; None where that cannot be told."""
    from importlib.metadata import PackageNotFoundError, version

    from cmbagent_nb.skills.notebook import package_versions

    names = set(notebook.metadata.get("cmbagent_nb", {}).get("versions", {})) - {"python"}
    found: dict[str, str] = {}
    try:
        if not names:
            return package_versions([cell.source for cell in notebook.cells if cell.cell_type == "code"])
        for name in sorted(names):
            found[name] = version(name)
    except (SyntaxError, PackageNotFoundError):
        return None
    return found
