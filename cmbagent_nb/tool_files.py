"""Tells files that tools leave in a folder, such as caches, from the user's own: one rule for all that read folders."""

from __future__ import annotations

from pathlib import Path, PurePath

_FOLDERS = frozenset(
    {
        "__pycache__", ".ipynb_checkpoints", "__MACOSX", ".git", ".hg", ".svn", ".mypy_cache", ".ruff_cache",
        ".pytest_cache", ".idea", ".vscode", ".virtual_documents", ".Trashes", ".Spotlight-V100", ".fseventsd",
    }
)  # fmt: skip
_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".directory", ".localized"})
_BEGINNINGS = ("._", ".nfs", ".~lock.", ".#", ".fuse_hidden")
_ENDINGS = (".pyc", ".pyo", ".swp", ".swo", "~")


def is_tool_file(path: str | PurePath) -> bool:
    """Tell whether a file was left by Python, Jupyter, an editor, a version control or an operating system.

    >>> is_tool_file("scripts/__pycache__/run.cpython-311.pyc"), is_tool_file("assets/.DS_Store")
    (True, True)
    >>> is_tool_file("assets/input/df.parquet"), is_tool_file(".env")
    (False, False)
    """
    *folders, name = PurePath(path).parts or ("",)
    return (
        not _FOLDERS.isdisjoint(folders)
        or name in _NAMES
        or name in _FOLDERS
        or name.startswith(_BEGINNINGS)
        or name.endswith(_ENDINGS)
    )


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder in their order, without those that tools left; none where there is no folder."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_tool_file(path.relative_to(folder))]
