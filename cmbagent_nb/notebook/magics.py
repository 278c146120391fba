"""The magics: parse, call the public Python API, show. What they do can be called from Python alike."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from cmbagent_nb.errors import CMBAgentError, InputError, UsageError
from cmbagent_nb.notebook.fill import fill

if TYPE_CHECKING:
    from cmbagent_nb.run import Run
    from cmbagent_nb.workspace import Workspace

_MODES = {
    "one_shot": "one_shot",
    "one-shot": "one_shot",
    "plan": "planning_and_control",
    "planning_and_control": "planning_and_control",
    "deep": "deep_research",
    "deep_research": "deep_research",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%%cmbagent: {message}", "See the options with %%cmbagent --help.")


def cell_parser() -> argparse.ArgumentParser:
    """The options of ``%%cmbagent``."""
    parser = _Parser(
        prog="%%cmbagent",
        description="Start a run whose task is the body of the cell. The cell returns at once with a live view.",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("mode", nargs="?", default="one_shot", help="one_shot (the default), plan, or deep")
    add("--model", metavar="M", help="provider:name, playbook:NAME or auto")
    add("--approve", metavar="GATES", help="gates that open, such as plan,error, or a preset such as copilot")
    add("--in", dest="inputs", metavar="VAR", nargs="+", action="extend", default=[], help="variables the run may read")
    add("--out", metavar="VAR", default="run", help="the variable that the run is bound to (run)")
    add("--max-cost", type=_amount, metavar="USD", help="stop before a model call that would cost more in all")
    add("--max-attempts", type=_whole, metavar="N", help="attempts at a step before it fails")
    add("--name", metavar="N", help="a name for the run")
    add("--agent", metavar="A", help="the agent of a one_shot (engineer)")
    add("--work-dir", metavar="DIR", help="the folder of the run")
    add("--session", metavar="S", help="the session that the run belongs to")
    add("--wait", action="store_true", help="end the cell when the run ends; buttons work meanwhile")
    add("--no-view", action="store_true", help="show one line instead of the live view")
    add("-h", "--help", action="store_true", help="show these options")
    return parser


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def _amount(text: str) -> float:
    try:
        value = float(text.lstrip("$"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in US dollars")
    return value


def one_line(error: CMBAgentError) -> CMBAgentError:
    """Make an error show as one line in the cell, without a traceback; it stays the error that it is."""
    error.__dict__["_render_traceback_"] = lambda: [f"{type(error).__name__}: {error}"]
    return error


def cell(line: str, body: str | None = None) -> Any:
    """``%cmbagent VERB …`` and ``%%cmbagent [mode] [options]`` with the task as the cell's body."""
    try:
        if body is None:
            return verb(line)
        run = start(line, body)
        if run is not None and _parse(line).wait:
            run.wait(None)
    except CMBAgentError as error:
        raise one_line(error) from None
    return None


async def wait(line: str, body: str) -> None:
    """Start a run and wait for its end; interrupting the cell does not stop the run."""
    try:
        run = start(line, body)
        if run is not None:
            await asyncio.shield(_ended(run))
    except CMBAgentError as error:
        raise one_line(error) from None


async def _ended(run: Run) -> None:
    await run


def _parse(line: str) -> argparse.Namespace:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%%cmbagent: {error} in the options", "Close the quotation mark.") from None
    return cell_parser().parse_args(words)


def start(line: str, body: str) -> Run | None:
    """Start the run that a cell describes, bind it to its variable and show it."""
    from IPython import get_ipython

    from cmbagent_nb.notebook.home import workspace

    shell: Any = get_ipython()
    options = _parse(line)
    if options.help:
        print(cell_parser().format_help())
        return None
    if options.mode not in _MODES:
        close = difflib.get_close_matches(options.mode, _MODES, 1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"there is no mode {options.mode!r}", f"{hint}Modes are one_shot, plan and deep.", mode=options.mode
        )
    mode = _MODES[options.mode]
    if mode == "deep_research":
        raise UsageError("the mode deep is not there yet", "Use plan.", mode=mode)
    if not options.out.isidentifier():
        raise UsageError(f"--out needs the name of a variable, not {options.out!r}", "For example: --out run2.")
    if not body.strip():
        raise UsageError("there is no task", "Write what is to be done below the %%cmbagent line.")
    task = fill(body.strip(), shell.user_ns)
    run = _begin(workspace(options.session), task, mode, options, _inputs(options.inputs, shell.user_ns))
    shell.user_ns[options.out] = run
    if options.no_view:
        print(f"Run {run.name} has started; it is bound to {options.out}.")
    else:
        from cmbagent_nb.notebook.view import RunView

        RunView(run).show()
    return run


def _begin(ws: Workspace, task: str, mode: str, options: argparse.Namespace, inputs: dict[str, Any]) -> Run:
    asked = {
        "model": options.model,
        "approve": options.approve,
        "name": options.name,
        "work_dir": options.work_dir,
        "agent": options.agent,
        "max_cost_usd": options.max_cost,
        "max_attempts": options.max_attempts,
        "inputs": inputs or None,
    }
    return ws.start(task, mode=mode, **{name: value for name, value in asked.items() if value is not None})


def _inputs(names: list[str], namespace: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (part for word in names for part in word.split(",") if part):
        if name not in namespace:
            close = difflib.get_close_matches(name, [key for key in namespace if not key.startswith("_")], 1)
            hint = f"Did you mean {close[0]}?" if close else "Run the cell that defines it first."
            raise InputError(f"--in names {name!r} and there is no such variable", hint, variable=name)
        found[name] = namespace[name]
    return found


def verb(line: str) -> Any:
    """Do what ``%cmbagent VERB …`` asks for, by the verbs that the command line has too."""
    from cmbagent_nb import verbs
    from cmbagent_nb.notebook.home import workspace

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%cmbagent: {error}", "Close the quotation mark.") from None
    args = verbs.parser("%cmbagent").parse_args(words)
    output = verbs.execute(workspace(getattr(args, "session", None)), args)
    if output.display is None:
        print(output.text)
        return None
    return output.display
