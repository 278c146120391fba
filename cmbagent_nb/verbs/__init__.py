"""The verbs: what ``cmbagent VERB …`` and ``%cmbagent VERB …`` do, defined once for both.

| rule | |
|---|---|
| a verb is one decorated function | its options, its help and its ``--json`` follow from the declaration |
| a verb only calls the Python API | what it does, ``Workspace`` and ``Run`` can do too |
| a verb prints nothing and never ends the process | it returns an :class:`Output` or raises a ``CMBAgentError`` |
| importing this is cheap | what a verb needs is imported when it is called |
"""

from __future__ import annotations

from importlib import import_module

from cmbagent_nb.verbs.declare import VERBS
from cmbagent_nb.verbs.execute import execute
from cmbagent_nb.verbs.output import Output
from cmbagent_nb.verbs.parsing import Parser, parser

__all__ = ["VERBS", "Output", "Parser", "execute", "parser"]

# Each of these declares its verbs, which the help shows in this order.
_SKILLS = ("skill", "skill_run", "skill_match", "skill_learn", "skill_share")
for _module in ("run", "record", "control", "gates", "keep", *_SKILLS, "about"):
    import_module(f"{__name__}.{_module}")
