"""Gives agents tools to look at the files of their folder, local documentation and installed packages.

| invariant | how |
|---|---|
| nothing outside of the folder is seen | paths are resolved, links and all, before they are opened |
| an answer is short | each is cut at ``ANSWER`` characters and says so |
| a mistake is an answer | what goes wrong is told in words; nothing is raised into the turn |
| nothing is changed | every tool only reads |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from cmbagent_nb.agents.docs import find_docs, packages
from cmbagent_nb.agents.inspection import inspect_file
from cmbagent_nb.execution.attempt_folder import RESERVED
from cmbagent_nb.tool_files import is_tool_file

#: Characters of an answer.
ANSWER = 8000
#: Matches that a search lists, files that it looks at, and the largest file that it reads.
MATCHES = 60
FILES = 5000
LARGEST = 5 * 2**20

#: What belongs to the run and its launcher: it grows and changes while agents look. The input is to be seen.
_NOT_LISTED = RESERVED - {"input"}

#: Bytes of each file in which a text is looked for.
_LARGEST_SEARCHED = 16 * 2**20


class ToolBox:
    """The tools of an agent that works in ``folder``.

    Parameters
    ----------
    folder
        The only place whose files are seen: the folder of an attempt, or the work dir.
    docs
        Folders with documentation of the user's own, as Markdown or text, which is searched too.
    """

    def __init__(self, folder: Path, docs: Sequence[Path] = ()) -> None:
        self.folder = Path(folder)
        self.docs = tuple(docs)

    def functions(self) -> dict[str, Callable[..., str]]:
        """Return the tools by their names; their docstrings are what the model reads."""
        return {
            "search_files": self.search_files,
            "search_docs": self.search_docs,
            "inspect_data": self.inspect_data,
            "list_packages": self.list_packages,
        }

    def search_files(self, pattern: str = "**/*", text: str = "") -> str:
        """List the files of the working directory, or search them for a text.

        pattern: which files, such as "data/*.json" or "**/*.py".
        text: if given, the lines that hold it (upper and lower case alike) are listed instead of the files.
        """
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            return f"The pattern {pattern!r} leads out of the working directory."
        try:
            files = list(self._files(pattern))
        except (ValueError, NotImplementedError) as error:
            return f"The pattern {pattern!r} cannot be used: {error}."
        if not files:
            return f"No file matches {pattern!r}."
        if not text:
            return _cut("\n".join(f"{name} ({size:,} bytes)" for name, size, _ in files))
        found = [line for name, size, path in files if size <= LARGEST for line in _matches(name, path, text)]
        if not found:
            return f"No line of {len(files)} files has {text!r}."
        more = f"\n[… and {len(found) - MATCHES} more]" if len(found) > MATCHES else ""
        return _cut("\n".join(found[:MATCHES])) + more

    def search_docs(self, query: str) -> str:
        """Search the documentation that is installed here: docstrings and descriptions of packages.

        query: the full name of a function, class or module ("scipy.optimize.curve_fit"), or a few words,
        with the name of the package among them if it is known ("camb lensed power spectrum").
        """
        if not query.strip():
            return "Say what to look for."
        return _cut(find_docs(query.strip(), self.docs))

    def inspect_data(self, path: str) -> str:
        """Look into a data file of the working directory: columns, types, shape, range and first rows.

        path: relative to the working directory; CSV, text tables, Parquet, JSON, .npy and .npz are understood.
        """
        file = self.inside(path)
        if file is None:
            return f"{path!r} is not in the working directory."
        if not file.is_file():
            near = [name for name, _, _ in self._files("**/*") if PurePosixPath(name).name == PurePosixPath(path).name]
            hint = f" There is {', '.join(near[:5])}." if near else " List the files with search_files."
            return f"There is no file {path!r}.{hint}"
        return _cut(inspect_file(file, path))

    def list_packages(self, prefix: str = "") -> str:
        """List the installed packages with their versions.

        prefix: only those whose names begin with it, such as "sci"; all if it is left out.
        """
        found = packages(prefix)
        return _cut("\n".join(found)) if found else f"No installed package begins with {prefix!r}."

    def inside(self, path: str) -> Path | None:
        """Return the file at ``path`` if it is in the folder, followed through links; else None."""
        root = self.folder.resolve()
        try:
            file = (root / path).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return file if file.is_relative_to(root) else None

    def _files(self, pattern: str) -> Iterator[tuple[str, int, Path]]:
        root = self.folder.resolve()
        count = 0
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            parts = PurePosixPath(name).parts
            hidden = any(part.startswith(".") for part in parts) or is_tool_file(name)
            if hidden or _NOT_LISTED.intersection(parts[:1]):
                continue
            if not path.is_file() or not path.resolve().is_relative_to(root):
                continue
            count += 1
            if count > FILES:
                return
            yield name, path.stat().st_size, path


def _matches(name: str, path: Path, text: str) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_SEARCHED)
    except OSError:
        return
    if b"\0" in content[:4096]:
        return
    wanted = re.compile(re.escape(text), re.IGNORECASE)
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if wanted.search(line):
            yield f"{name}:{number}: {line.strip()[:200]}"


def _cut(text: str) -> str:
    return text if len(text) <= ANSWER else f"{text[:ANSWER]}\n[… {len(text) - ANSWER} more characters]"
