"""Defines the magics: parse, call the verbs or the public Python API, show.

What they do can be called from Python alike; the options of ``%%cmbagent`` are those of the verb ``run``.
"""

from __future__ import annotations

import asyncio
import difflib
import shlex
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import StateError, UsageError
from cmbagent_nb.notebook.task_variables import fill
from cmbagent_nb.redaction import scrub
from cmbagent_nb.render.text import visible

if TYPE_CHECKING:
    from cmbagent_nb.run import Run


def cell(line: str, body: str | None = None) -> Any:
    """Talk to cmbagent: ``%cmbagent VERB …``, or ``%%cmbagent [one_shot|plan|deep] [options]`` above a task.

    ``%cmbagent help`` lists the verbs, ``%%cmbagent --help`` the options of a run.
    """
    if body is None:
        return verb(line)
    run = start(line, body)
    if run is not None and "--wait" in shlex.split(line):
        run.wait()
    return None


async def wait(line: str, body: str) -> None:
    """Start a run and wait for its end; interrupting the cell does not stop the run."""
    run = start(line, body)
    if run is None:
        return
    try:
        await run
    except asyncio.CancelledError:
        raise StateError(
            f"stopped waiting; run {run.name} goes on", f"`await run` waits again, %cmbagent cancel {run.name} ends it."
        ) from None


def start(line: str, body: str) -> Run | None:
    """Start the run that a cell describes, bind it to its variable and show it."""
    from cmbagent_nb import verbs
    from cmbagent_nb.notebook.loading import cells
    from cmbagent_nb.notebook.view import RunView

    words = _words(line)
    mode = words.pop(0) if words and not words[0].startswith("-") else ""
    options = verbs.parser("%cmbagent").parse_args(["run", *words])
    if options.verb is None:
        print(options.help)
        return None
    if options.task:
        raise UsageError(
            f"%%cmbagent: {options.task[0]!r} is neither an option nor belongs to one",
            "The mode comes first, then options; the task goes below.",
        )
    options.mode = _mode(mode or options.mode or "one_shot")
    if not body.strip():
        raise UsageError("there is no task", "Write what is to be done below the %%cmbagent line.")
    namespace = _namespace()
    options.task = [fill(body.strip(), namespace)]
    output = verbs.execute(None, options, front="magic", namespace=namespace)
    run: Run = output.display
    namespace[output.bind or "run"] = run
    RunView(run).show()
    cells.end()
    return run


def _mode(word: str) -> str:
    from cmbagent_nb.workflow.run_options import MODES

    if word not in MODES:
        close = difflib.get_close_matches(word, MODES, 1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(f"there is no mode {word!r}", f"{hint}Modes are one_shot, plan and deep.", mode=word)
    return MODES[word]


def verb(line: str) -> Any:
    """Do what ``%cmbagent VERB …`` asks for, by the verbs that the command line has too."""
    from cmbagent_nb import verbs

    namespace = _namespace()
    output = verbs.execute(None, line, front="magic", namespace=namespace, say=lambda text: print(visible(scrub(text))))
    if output.bind:
        namespace[output.bind] = output.display
    if output.display is None or output.as_json:
        print(output.text if output.as_json else visible(output.text))
        return None
    return output.display


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%%cmbagent: {str(error).lower()}", "Close the quotation mark.") from None


def _namespace() -> dict[str, Any]:
    from IPython import get_ipython

    shell: Any = get_ipython()
    found: dict[str, Any] = shell.user_ns
    return found
