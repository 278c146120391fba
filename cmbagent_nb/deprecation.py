"""Resolves old names of the public API for one release, with one warning for each name."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from typing import Any

_warned: set[str] = set()


def warn_once(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that a name will be removed, the first time that it is used in this process."""
    if old not in _warned:
        _warned.add(old)
        warnings.warn(f"{old} will be removed in the next release; use {new}", DeprecationWarning, stacklevel)


def renamed(holder: Any, name: str, aliases: Mapping[str, str], shown: str) -> Any:
    """Return the attribute that an old name stands for; called by ``__getattr__`` of a public class.

    Parameters
    ----------
    aliases
        The path of each new name, such as ``{"archive": "admin.archive"}``; a private one has no successor.
    shown
        What a user calls the object in a program: ``ws``, ``run``, ``skill``.

    Raises
    ------
    AttributeError
        There never was such a name.
    """
    path = aliases.get(name)
    if path is None:
        raise AttributeError(f"{type(holder).__name__!r} object has no attribute {name!r}")
    private = path.startswith("_")
    warn_once(f"{shown}.{name}", "the public methods" if private else f"{shown}.{path}", stacklevel=4)
    return operator.attrgetter(path)(holder)
