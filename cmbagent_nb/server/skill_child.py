"""Runs a long job on a skill in a child process of the server.

``python -m cmbagent_nb.server.skill_child`` reads one JSON object from stdin, ``{home, what, skill, arguments}``, and
writes JSON lines to stdout: ``{"progress": [done, total, label]}`` any number of times, then ``{"result": …}`` or
``{"error": {kind, what, next_step}}``. SIGTERM stops the work: an execution is then cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.workspace import Workspace

Progress = Callable[[int, int, str], None]


def extract(ws: Workspace, arguments: dict[str, Any], progress: Progress, _: threading.Event) -> Any:
    """Make a skill of a run."""
    run = ws.run(arguments.pop("run"))
    return run.extract_skill(**arguments, on_progress=progress).info.as_dict()


def verify(ws: Workspace, arguments: dict[str, Any], progress: Progress, _: threading.Event) -> Any:
    """Verify a skill again."""
    return ws.skills.get(arguments["skill"]).verify(on_progress=progress).info.as_dict()


def execute(ws: Workspace, arguments: dict[str, Any], progress: Progress, stop: threading.Event) -> Any:
    """Execute a skill under an id that the server knows already."""
    from cmbagent_nb.skills.running.run import run_skill

    skill = ws.skills.get(arguments.pop("skill"))
    given = arguments.pop("parameters")
    return run_skill(skill.info, given, **arguments, on_progress=progress, stop=stop).as_dict()


def compose(ws: Workspace, arguments: dict[str, Any], progress: Progress, _: threading.Event) -> Any:
    """Make one skill of several."""
    name, skills = arguments.pop("name"), arguments.pop("skills")
    return ws.skills.compose(name, skills, **arguments, on_progress=progress).info.as_dict()


def optimize(ws: Workspace, arguments: dict[str, Any], progress: Progress, _: threading.Event) -> Any:
    """Make the next version of a skill from its executions."""
    skill = ws.skills.get(arguments.pop("skill"))
    return skill.optimize(apply=True, **arguments, on_progress=progress).as_dict()


WORK: dict[str, Callable[[Workspace, dict[str, Any], Progress, threading.Event], Any]] = {
    "extract": extract,
    "verify": verify,
    "execute": execute,
    "compose": compose,
    "optimize": optimize,
}


def main() -> int:
    """Do what stdin asks for."""
    from cmbagent_nb.verbs.output import plain

    asked = json.loads(sys.stdin.read())
    # What code in this process prints must not stand between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**line: Any) -> None:
        answers.write(json.dumps(line, default=str) + "\n")
        answers.flush()

    stop = threading.Event()

    def end(number: int, frame: Any) -> None:
        stop.set()
        if asked["what"] != "execute":
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    workspace = Workspace(asked["home"])
    try:
        work = WORK[asked["what"]]
        result = work(workspace, asked["arguments"], lambda *at: say(progress=list(at)), stop)
        workspace._core.writer.barrier().result()
        say(result=plain(result))
    except CMBAgentError as error:
        say(error={"kind": type(error).__name__, "what": error.what, "next_step": error.next_step})
    except KeyboardInterrupt:
        say(error={"kind": "StateError", "what": "the work was stopped", "next_step": "Ask for it again."})
    finally:
        workspace.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
