"""Carrying a verb out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmbagent_nb.verbs.call import Call, silent
from cmbagent_nb.verbs.output import Output
from cmbagent_nb.verbs.parsing import parser

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace


def execute(
    ws: Workspace | None,
    line: str | Sequence[str] | argparse.Namespace,
    *,
    front: str = "",
    namespace: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = silent,
) -> Output:
    """Do what a line asks for and return the outcome.

    Parameters
    ----------
    ws
        The workspace; the default one when None.
    line
        The words after ``cmbagent`` or ``%cmbagent``, or what :func:`~cmbagent_nb.verbs.parser` made of them.
    front
        ``magic`` or ``cli`` (the default).
    namespace
        The variables that ``--in`` may name.
    say
        Is given lines of progress.

    Raises
    ------
    CMBAgentError
        Wrong use, or what the verb could not do.
    """
    if isinstance(line, argparse.Namespace):
        options = line
    else:
        options = parser("%cmbagent" if front == "magic" else "cmbagent").parse_args(line)
    if options.verb is None:
        return Output({"help": options.help}, options.help)
    call = Call(options, front=options.front, namespace=namespace, say=say, given=ws)
    output: Output = options.verb.function(call)
    output.as_json = bool(options.json)
    return output
