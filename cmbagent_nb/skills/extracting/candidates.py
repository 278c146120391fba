"""Finding, in one step's code, the literals that a user would vary.

Precision first: a literal is taken only where its place and its name speak for it (a constant
with a name of its own, a keyword that such code is varied by, the default of an option, a
number that the task names, a file that is read or made). What draws, indexes, shapes or names a
column is passed over. Whether a parameter has an effect is not decided here: it is tried
(:mod:`cmbagent_nb.skills.verifying.liveness`).
"""

from __future__ import annotations

from cmbagent_nb.skills.extracting.calls import Calls
from cmbagent_nb.skills.extracting.candidate import Candidate, Files
from cmbagent_nb.skills.extracting.constants import Constants
from cmbagent_nb.skills.extracting.inline import Inline
from cmbagent_nb.skills.extracting.paths import Paths
from cmbagent_nb.skills.extracting.source import Source
from cmbagent_nb.skills.extracting.wording import Task


def find(source: Source, task: Task, files: Files) -> list[Candidate]:
    """Return the candidates of one step, in the order of the code."""
    found: list[Candidate] = []
    taken: set[int] = set()
    for finder in (Constants, Calls, Paths, Inline):
        source.module.visit(finder(source, task, files, found, taken))
    # A word that is compared with what an option, a default or a constant says is no choice of its own.
    said = {item.value for item in found if item.source != "comparison" and isinstance(item.value, str)}
    chosen = [item for item in found if item.source != "comparison" or item.value not in said]
    return sorted(chosen, key=lambda item: item.line)
