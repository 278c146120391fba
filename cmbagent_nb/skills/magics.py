"""Turns a cell with IPython's own syntax (magics, ``!commands``, ``?help``) into plain Python, as the kernel does.

IPython's transformer is asked only where a cell is not Python already, since importing it takes time.
"""

from __future__ import annotations

import ast
import re
import warnings
from functools import lru_cache
from typing import Any

#: Lines that install packages: a skill states its packages and installs nothing.
_INSTALLS = re.compile(
    r"^[ \t]*(?:[!%]\s*(?:(?:\S*/)?(?:pip3?|conda|mamba|micromamba)|uv\s+pip)|!\s*\S*python[\d.]*\s+-m\s+pip)"
    r"\s+(?:un)?install\b.*$",
    re.MULTILINE,
)
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
#: Cell magics whose body is Python that runs in the kernel itself.
_PYTHON_BODIES = frozenset({"time", "timeit", "capture", "prun"})


def plain_python(source: str) -> str:
    """Return a cell's code as plain Python; what no transformer can read is returned as it is.

    >>> plain_python("%matplotlib inline\\nx = 1")
    "get_ipython().run_line_magic('matplotlib', 'inline')\\nx = 1\\n"
    """
    return source if _parses(source) else _transformed(source)


@lru_cache(maxsize=512)
def _transformed(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    magic = _CELL_MAGIC.match(source)
    if magic and magic[1] in _PYTHON_BODIES:
        # What it binds and reads is what its body binds and reads.
        first, _, body = source.lstrip().partition("\n")
        inner = plain_python(body)
        return f"# {first}\n{inner}" if _parses(inner) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            manager: Any = TransformerManager
            found = manager().transform_cell(source)
    except Exception:  # whatever a transformer says about text that is no code
        return source
    return str(found)


def parsed(source: str) -> ast.Module | None:
    """Return a cell's tree, magics included; None where it is no Python in any reading."""
    try:
        return ast.parse(plain_python(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _parses(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def without_installs(source: str) -> tuple[str, list[str]]:
    """Comment out the lines of a cell that install packages; return the cell and those lines.

    >>> without_installs("!pip install camb\\nimport camb")
    ('# !pip install camb\\nimport camb', ['!pip install camb'])
    """
    lines = [found.group().strip() for found in _INSTALLS.finditer(source)]
    return _INSTALLS.sub(_commented, source), lines


def _commented(found: re.Match[str]) -> str:
    line = found.group()
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}pass  # {line.strip()}" if indent else f"# {line.strip()}"
