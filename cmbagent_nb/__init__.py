"""cmbagent_nb: a notebook-native research toolkit.

Run a multi-agent research workflow from a notebook cell, watch it, decide at its gates, query
everything it did with pandas, and keep what worked as a skill.

Nothing heavy is imported until it is used: ``import cmbagent_nb`` costs a few milliseconds.
"""

from __future__ import annotations

import importlib
from typing import Any

from cmbagent_nb._version import __version__ as __version__

_HOMES = {
    "Workspace": "cmbagent_nb.workspace",
    "one_shot": "cmbagent_nb.workspace",
    "planning_and_control": "cmbagent_nb.workspace",
    "deep_research": "cmbagent_nb.workspace",
    "Run": "cmbagent_nb.run",
    "Result": "cmbagent_nb.run",
    "Skill": "cmbagent_nb.skills.handle",
    "CMBAgentError": "cmbagent_nb.errors",
}
__all__ = [
    "CMBAgentError",
    "Result",
    "Run",
    "Skill",
    "Workspace",
    "deep_research",
    "errors",
    "one_shot",
    "planning_and_control",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "errors":
        return importlib.import_module("cmbagent_nb.errors")
    raise AttributeError(f"module 'cmbagent_nb' has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """Load the magics: ``%load_ext cmbagent_nb``."""
    from cmbagent_nb.notebook import load

    load(shell)
