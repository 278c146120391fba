"""A run in which everything happens that a kill can fall into, and the kernel that carries it out or goes on with it.

Two plan gates (changes, then a yes), a step gate before and gates after each step, one of which asks for a redo; three
steps side by side: one that fails first and looks at files with a tool, one that publishes many files, one by an agent
of the user's own, whose tool leaves a trace; a step that uses up its attempts and is tried once more at its error
gate; a report. Checkpoints are made all the time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from cmbagent_nb.errors import GateError
from cmbagent_nb.run import Run
from cmbagent_nb.workspace import Workspace
from tests.openai_server import Reply, tool_results
from tests.team import CHANGES, Team, code, plan

NAME = "rich"
TASK = "Add two numbers, and say what came out."
#: How long a model thinks, and a person.
THINKING = 0.04
DECIDING = 0.05
FILES = 25
WANTED = "Say what came out in a report."
ONCE_MORE = "Once more with the table."
BOTH = "Use both numbers."

#: Code that leaves a trace of each start, and notices when it runs twice at once: the lock goes with the process.
TRACED = """
import fcntl, json, os, time
trace = '../../../../../../trace'
with open(os.path.join(trace, 'starts.log'), 'a') as log:
    log.write({name!r} + '\\n')
lock = open(os.path.join(trace, {name!r} + '.lock'), 'w')
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    open(os.path.join(trace, {name!r} + '.twice'), 'w').close()
"""
BROKEN = "json.loads('{')\n"
LEFT = "time.sleep(0.1)\njson.dump({'n': 1}, open('data/left.json', 'w'))\nprint('left')\n"
RIGHT = (
    "time.sleep(0.05)\njson.dump({'n': 2}, open('data/right.json', 'w'))\n"
    f"for n in range({FILES}):\n    open(f'data/part_{{n}}.csv', 'w').write(f'{{n}}\\n' * 20000)\nprint('right')\n"
)
TABLE = "open('data/table.csv', 'w').write('a,b\\n1,2\\n')\n"
SUM = (
    "n = [json.load(open(f'data/{name}.json'))['n'] for name in ('left', 'right')]\n"
    "time.sleep(0.05)\njson.dump({'sum': sum(n)}, open('data/sum.json', 'w'))\n"
)


class RichTeam(Team):
    """Answers by what stands in a prompt, not by how often it was asked: a call in flight may be made again."""

    def __init__(self, thinking: float = THINKING) -> None:
        self.thinking = thinking

        def script(name: str, body: str) -> Any:
            return code(TRACED.format(name=name) + body, f"{name}.py")

        steps = [
            {"title": "Left", "expected_outputs": ["data/left.json"]},
            {"title": "Right", "expected_outputs": ["data/right.json"], "needs_approval": True},
            {"title": "Measure", "agent": "surveyor"},
            {"title": "Sum", "depends_on": [1, 2], "expected_outputs": ["data/sum.json"]},
        ]
        report = {"title": "Report", "agent": "researcher", "depends_on": [3, 4]}

        def planned(request: dict[str, Any]) -> Any:
            return plan(*steps, *([report] if WANTED in str(request) else []))

        def left(request: dict[str, Any]) -> Any:
            if not tool_results(request):
                return Reply(tool_calls=[("search_files", {"pattern": "**/*"}), ("list_packages", {"prefix": "sci"})])
            return script("left", LEFT if "failed" in asked(request) else BROKEN)

        def right(request: dict[str, Any]) -> Any:
            return script("right", RIGHT + (TABLE if ONCE_MORE in asked(request) else ""))

        def measure(request: dict[str, Any]) -> Any:
            done = len(tool_results(request))
            if done < 2:
                return Reply(tool_calls=[("measure", {"what": ("height", "width")[done]})])
            return "Both were measured: " + ", ".join(tool_results(request))

        def total(request: dict[str, Any]) -> Any:
            return script("sum", SUM if BOTH in asked(request) else BROKEN)

        def reported(request: dict[str, Any]) -> Any:
            if not tool_results(request):
                return Reply(tool_calls=[("inspect_data", {"path": "data/sum.json"})])
            return {"title": "Sum", "markdown": "The sum is {{ data/sum.json#sum }}."}

        super().__init__(
            plan=planned,
            review=CHANGES,
            report=reported,
            steps={"Left": left, "Right": right, "Measure": measure, "Sum": total},
        )

    def __call__(self, request: dict[str, Any]) -> Any:
        threading.Event().wait(self.thinking)
        return super().__call__(request)


def asked(request: dict[str, Any]) -> str:
    """Return the prompt of a conversation: its first message by the workflow."""
    return str(next(item["content"] for item in request["messages"] if item["role"] == "user"))


def decision(gate: dict[str, Any]) -> tuple[str, str]:
    """Say what the person answers at a gate."""
    moment = gate["context"]["moment"]
    if moment == "plan:1":
        return "modified", WANTED
    if moment.startswith("error:"):
        return "retry", BOTH
    if moment == "after:1" and gate["node_id"] == "step_2":
        return "redo", ONCE_MORE
    return "approved", ""


def decide(run: Run, done: threading.Event) -> None:
    """Be the person: answer each gate a moment after it has opened."""
    changed = threading.Event()
    run.subscribe(changed.set)
    while not run.finished and not done.is_set():
        for gate in run.approvals():
            done.wait(DECIDING)
            try:
                run.approve(gate["id"], *decision(gate))
            except GateError:
                continue  # it is answered, and the answer is on its way to the database
        changed.wait(0.1)
        changed.clear()


def surveyor(trace: Path) -> Any:
    """Return an agent of the user's own, whose tool changes something in the world."""
    from ag2 import Agent, tool

    def measure(what: str) -> str:
        """Measure something, once."""
        with (trace / "measured.log").open("a") as log:
            log.write(f"{what}\n")
        threading.Event().wait(0.03)
        return f"{what} is {len(what)}"

    return Agent("surveyor", ["You measure things."], tools=[tool(measure)])


def main(home: str, trace: str, mode: str, moment: str = "") -> None:
    """Run (``start``) or go on (``resume``).

    Die after so many seconds (``t1.5``), or at the n-th event of the stream and so many seconds (``n12+0.01``).
    """
    (Path(trace) / "pid").write_text(str(os.getpid()))
    workspace = Workspace(home)
    workspace.register(surveyor(Path(trace)))
    done = threading.Event()
    if mode == "start":
        run = workspace.planning_and_control(
            TASK, model="openai:test-model", approve="plan,after_step,error", max_attempts=2, name=NAME
        )
    else:
        run = workspace.run(NAME)
        if run.status not in ("completed", "failed"):  # it may have died after the end
            run = workspace.resume(NAME)
    if moment.startswith("t"):
        threading.Timer(float(moment[1:]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    if moment.startswith("n") and not run.finished:
        number, _, pause = moment[1:].partition("+")
        left = int(number)

        def die(event: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                threading.Timer(float(pause or 0), os.kill, (os.getpid(), signal.SIGKILL)).start()

        run.on("*", die)
    person = threading.Thread(target=decide, args=(run, done), daemon=True)
    person.start()

    def mark() -> None:
        while not run.finished and not done.is_set():
            run.checkpoint()
            done.wait(0.02)

    threading.Thread(target=mark, daemon=True).start()
    run.wait(90)
    done.set()
    person.join(5)
    print(run.status, flush=True)
    workspace.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
